"""A reward model that follows a script, for tests: what it scores is known, and what it was asked is remembered."""

import asyncio
from collections.abc import Callable, Sequence

from openr_data.types import StepScores

Score = Callable[[str, Sequence[str]], Sequence[float]]


class ScriptedReward:
    """A `RewardBackend` whose scores are those of a function; `before` is called with the number of each request."""

    def __init__(
        self,
        score: Score,
        *,
        threshold: float = 0.5,
        name: str = "scripted@1",
        before: Callable[[int], None] | None = None,
    ) -> None:
        self.name, self.threshold = name, threshold
        self.tokens_asked = self.tokens_read = 0
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._score, self._before = score, before

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        await asyncio.sleep(0)
        if self._before is not None:
            self._before(len(self.asked))
        self.asked.append((question, tuple(steps)))
        self.tokens_asked += 10
        self.tokens_read += 4
        return StepScores(tuple(self._score(question, steps)), 10, 4)

    def close(self) -> None:
        """Nothing is held."""
