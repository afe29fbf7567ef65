"""What the reward models of vLLM have in common, in this process or served: their engine answers requests."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from openr_data.reasons import MOST, ReasonedStep
from openr_data.types import StepScores

from .reader import RewardReader
from .reasons import explained
from .step_requests import StepRequests

T = TypeVar("T")


class Owner(Protocol):
    """Runs coroutines beside an engine, in the event loop of the engine; `close` lets the engine go."""

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T: ...

    def close(self) -> None: ...


OwnerT = TypeVar("OwnerT", bound=Owner)


class RequestedReward(ABC, Generic[OwnerT]):
    """A `RewardBackend` over an engine that its subclass asks with `pair`, `rows` and `write`; close it after use.

    What is asked for and what is remembered: `step_requests.py`.
    """

    def __init__(self, reader: RewardReader, own: OwnerT, *, reuse: bool) -> None:
        self._reader, self._own = reader, own
        self._steps = StepRequests(reader, self, reuse=reuse)

    @property
    def name(self) -> str:
        """Model, revision and format."""
        return self._reader.name

    @property
    def threshold(self) -> float:
        """Below it a step counts as wrong."""
        return self._reader.form.threshold

    @property
    def tokens_asked(self) -> int:
        """Tokens of all solutions that were scored."""
        return self._steps.tokens_asked

    @property
    def tokens_read(self) -> int:
        """Tokens that the engine read for them, as far as it reports its cache."""
        return self._steps.tokens_read

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        """P(correct) of every step, `len(scores) == len(steps)`.

        Raises `InputError` for a solution that is empty or longer than the context, `PolicyError` for a request that
        is refused or an answer that cannot be read, `PolicyLost` when the engine died, does not answer any more, cannot
        give scores, or was closed.
        """
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        """What `score` returns, with the tokens of this call. Raises what `score` raises."""
        encoded = self._reader.encode(question, steps)
        return await self._own.call(lambda: self._steps.score(question, encoded))

    async def explain(self, question: str, steps: Sequence[str], *, max_tokens: int = MOST) -> tuple[ReasonedStep, ...]:
        """Score, verdict and reason of each step; see `reasons.py`. Raises what `score` raises."""
        return await explained(self, self._reader, question, steps, max_tokens)

    def close(self) -> None:
        """Let the engine go; solutions under way fail with `PolicyLost`."""
        self._own.close()

    @abstractmethod
    async def pair(self, ids: Sequence[int], good: int, bad: int, near: str) -> tuple[float, float, int]:
        """The log-probabilities of two tokens as the next one, and how many tokens were read for them."""

    @abstractmethod
    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]:
        """The probabilities of the classes at the tokens from a place on, that place, and how many tokens were read."""

    @abstractmethod
    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes after `ids`, greedily, and whether it came to its `end`."""
