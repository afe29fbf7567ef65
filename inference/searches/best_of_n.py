"""Best-of-N: n solutions of a question in one request; which of them is the answer is decided afterwards.

Majority vote, RM-Max and RM-Vote (OpenR, arXiv 2410.09671, section 4) are ways to choose among the same samples, so
they are no searches of their own: `openr_data/metrics/aggregation.py`. Every budget below n is a subset of the
samples, so that one run gives the whole curve. A reward model, where one is given, scores each solution once.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from openr_data.engine.protocols import Policy, RewardModel
from openr_data.ids import derive_seed
from openr_data.types import Budget, Candidate, Completion, Prefix, Sampling, SearchResult


@dataclass(frozen=True, slots=True)
class BestOfNConfig:
    """`n` solutions a question."""

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
        """n solutions of the full length."""
        return Budget(1, self.config.n, self.config.n * self.sampling.max_tokens)

    async def solve(self, question: str, policy: Policy, reward: RewardModel | None = None) -> SearchResult:
        """n candidates in the order in which they were drawn."""
        seed = derive_seed(self.sampling.seed, question)
        drawn = await policy.sample(Prefix(question), self.config.n, replace(self.sampling, seed=seed))
        steps = [policy.steps_of(item.text) for item in drawn]
        scores = await _scores(question, steps, reward)
        return SearchResult(
            tuple(
                _candidate(item, seed, index, path, found)
                for index, (item, path, found) in enumerate(zip(drawn, steps, scores, strict=True))
            ),
            calls=len(drawn),
            tokens=sum(item.n_tokens for item in drawn),
        )


async def _scores(
    question: str, steps: Sequence[tuple[str, ...]], reward: RewardModel | None
) -> list[tuple[float, ...]]:
    if reward is None:
        return [()] * len(steps)
    # A text without steps has none to score.
    distinct = {item: None for item in steps if item}
    found = await asyncio.gather(*(reward.score(question, item) for item in distinct))
    known = dict(zip(distinct, found, strict=True))
    return [tuple(known.get(item, ())) for item in steps]


def _candidate(item: Completion, seed: int, index: int, steps: tuple[str, ...], scores: tuple[float, ...]) -> Candidate:
    draw = item.draw or (seed, index)
    return Candidate(item.text, steps, item.finish_reason, item.n_tokens, item.logprob, draw, scores)
