"""The seams of the project: an algorithm uses these and nothing else."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from ..grading.grader import Grader as Grader
from ..reasons import ReasonedStep
from ..types import (
    Budget,
    Completion,
    Label,
    Labeling,
    Prefix,
    Question,
    Sampling,
    SearchResult,
    Solution,
    StepScores,
    TokenCompletion,
    Weights,
)


class Policy(Protocol):
    """A language model that continues prefixes. `name` identifies model and revision in the tables.

    The n completions of one call are independent samples of one prefix; they are a function of the
    prefix, `n` and the sampling (its seed included), not of other requests at the same time. `separator` is what the
    model's entry writes between two steps, and `steps_of` cuts a continuation into steps.
    """

    @property
    def name(self) -> str: ...

    @property
    def separator(self) -> str: ...

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]: ...

    def steps_of(self, text: str) -> tuple[str, ...]: ...


class TokenPolicy(Protocol):
    """A language model under training: token ids in and out, and weights that are replaced while it is at work.

    The n samples of one call share one prompt and are a function of its tokens, `n`, the sampling and the weights. A
    completion holds the log-probability of each of its tokens under the model's own distribution and the `version` of
    the weights that drew it. `load_weights` waits for the samples under way; versions grow.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    async def sample_tokens(self, ids: Sequence[int], n: int, sampling: Sampling) -> Sequence[TokenCompletion]: ...

    def load_weights(self, weights: Weights, version: int) -> None: ...

    def close(self) -> None: ...


class Backend(Policy, Protocol):
    """A policy that holds a model or a connection: `close` lets it go, and fails the requests under way.

    `room` is how many tokens (prompts and completions) it can hold at once and `places` how many requests it takes
    now, None for no such bound; `gpus` is how many GPUs it keeps busy in this process, `retries` how many requests were
    sent again.
    """

    @property
    def room(self) -> int | None: ...

    @property
    def places(self) -> int | None: ...

    @property
    def gpus(self) -> int: ...

    @property
    def retries(self) -> int: ...

    def close(self) -> None: ...


class RewardModel(Protocol):
    """Scores the steps of a process: `len(scores) == len(steps)`, each in [0, 1].

    The score of a step depends on the question and the steps up to it, not on later ones.
    """

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]: ...


class RewardBackend(RewardModel, Protocol):
    """A reward model that holds a model or a connection. `name` is model, revision and format.

    Below `threshold` a step counts as wrong. `score_steps` returns what `score` does, with the tokens of this call;
    `tokens_asked` are those of all solutions that were scored, `tokens_read` what the model had to read for them.
    """

    @property
    def tokens_asked(self) -> int: ...

    @property
    def tokens_read(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores: ...

    def close(self) -> None: ...


@runtime_checkable
class ReasoningReward(RewardBackend, Protocol):
    """A reward backend whose model may write reasons: `explain` returns score, verdict and reason of each step."""

    async def explain(
        self, question: str, steps: Sequence[str], *, max_tokens: int = ...
    ) -> Sequence[ReasonedStep]: ...


class Search(Protocol):
    """Looks for solutions of a question. A pure coroutine; it never sees the gold answer.

    `method` names it in the tables; `budget` is the worst case of one question. `independent`: its candidates are
    independent samples of the question, and so evidence of the policy; those of a guided search are selected.
    """

    @property
    def independent(self) -> bool: ...

    @property
    def method(self) -> str: ...

    async def solve(self, question: str, policy: Policy, reward: RewardModel | None = None) -> SearchResult: ...

    def budget(self) -> Budget: ...


class Labeler(Protocol):
    """Labels the steps of solutions of one question. A pure coroutine: no clock, file or global chance.

    `method` names the algorithm in the tables; `budget` is the worst case of one question. With `given` solutions
    it labels those and samples none.
    """

    @property
    def method(self) -> str: ...

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling: ...

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget: ...


class Source(Protocol):
    """A catalog entry that yields questions; `judge` returns the true labels of steps, None where they are unknown."""

    def read(self, split: str = ..., seed: int = ...) -> Iterator[Question]: ...

    def judge(self, question: Question, steps: Sequence[str]) -> list[Label | None]: ...
