"""The `math` grader behind the `Grader` seam: `compare`, remembered by pair."""

from functools import lru_cache

from ..types import Verdict
from .equivalence import compare


class MathGrader:
    """Grades final answers by exact rationals and normalised LaTeX text; unknown where that is not enough.

    `name` goes into every rollout: verdicts of two versions of a grader are not mixed up.
    """

    name = "math/1"

    def __init__(self) -> None:
        self._compare = lru_cache(maxsize=100_000)(compare)

    async def grade(self, answer: str, gold: str) -> Verdict:
        """The verdict on an extracted answer."""
        return self._compare(answer, gold)
