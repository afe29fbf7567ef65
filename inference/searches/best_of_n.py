"""Best-of-N samples n solutions of a question in one request; the answer is chosen among them afterwards.

Majority vote, RM-Max and RM-Vote (OpenR, arXiv 2410.09671, section 4) choose among the same samples, so they are rules
of `openr_data/metrics/aggregation.py` and not separate searches. Every budget below n is a subset of the samples, so
one run gives the whole curve. A reward model, if given, scores each solution once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from openr_data.engine.protocols import Policy, RewardModel
from openr_data.ids import derive_seed
from openr_data.types import Budget, Candidate, Completion, Prefix, Sampling, SearchResult


@dataclass(frozen=True, slots=True)
class BestOfNConfig:
    """`n` solutions per question."""

    n: int = 16

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError("n is at least 1")


class BestOfN:
    """The search. `sampling` gives temperature, limits and the job's seed."""

    method = "best-of-n"
    independent = True
    config_type = BestOfNConfig

    def __init__(self, config: BestOfNConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    def budget(self) -> Budget:
        """Return the budget of n solutions of the full length."""
        return Budget(1, self.config.n, self.config.n * self.sampling.max_tokens)

    async def solve(self, question: str, policy: Policy, reward: RewardModel | None = None) -> SearchResult:
        """Return n candidates in the order in which they were drawn."""
        seed = derive_seed(self.sampling.seed, question)
        drawn = await policy.sample(Prefix(question), self.config.n, replace(self.sampling, seed=seed))
        steps = [policy.steps_of(completion.text) for completion in drawn]
        scores = await _scores(question, steps, reward)
        return SearchResult(
            tuple(
                _candidate(completion, seed, index, path, path_scores)
                for index, (completion, path, path_scores) in enumerate(zip(drawn, steps, scores, strict=True))
            ),
            calls=len(drawn),
            tokens=sum(completion.n_tokens for completion in drawn),
        )


async def _scores(
    question: str, steps: Sequence[tuple[str, ...]], reward: RewardModel | None
) -> list[tuple[float, ...]]:
    if reward is None:
        return [()] * len(steps)
    # A text without steps has nothing to score.
    distinct = {path: None for path in steps if path}
    scores = await asyncio.gather(*(reward.score(question, path) for path in distinct))
    by_path = dict(zip(distinct, scores, strict=True))
    return [tuple(by_path.get(path, ())) for path in steps]


def _candidate(
    completion: Completion, seed: int, index: int, steps: tuple[str, ...], scores: tuple[float, ...]
) -> Candidate:
    draw = completion.draw or (seed, index)
    return Candidate(
        completion.text, steps, completion.finish_reason, completion.n_tokens, completion.logprob, draw, scores
    )
