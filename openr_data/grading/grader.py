"""The `Grader` seam: a domain of answers, such as mathematics or code with unit tests.

A second domain is one folder beside `math/`: a class with these methods and one line in `registry.py`, an entry point
of the group `openr_data`, or a class of the user's own as `python:module:Class`. Nothing else in the project reads an
answer out of a text or compares two answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ..types import FinishReason, Grade, Question
from .groups import Groups


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer of a text as it is written, or None, and the grader's name for the rule that found it.

    `is_delimited`: marks in the text (a box, a code fence) show where the answer begins and ends, so a text that has
    them is not itself an answer.
    """

    answer: str | None
    rule: str
    is_delimited: bool = False


NOTHING: Final = Extraction(None, "none")


class Grader(Protocol):
    """Reads answers, compares them with gold answers, and groups equal ones. `name` carries the version.

    Every method accepts any text: what a grader cannot decide is an unknown verdict with a reason, never a wrong one,
    and never an exception.
    """

    @property
    def name(self) -> str: ...

    def can_grade(self, question: Question) -> bool:
        """Whether the question holds what `grade` compares with; without it no rollout of it is graded."""
        ...

    def extract(self, text: str, finish_reason: FinishReason, steps: Sequence[str]) -> Extraction:
        """The final answer of a completion that continues `steps`."""
        ...

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade of an extracted answer against a gold answer."""
        ...

    async def same(self, answers: Sequence[str]) -> Groups:
        """The answers in groups of equal ones, for votes: every index once, whatever their order.

        Groups stand in the order of their first members. Answers whose comparison is unknown stay apart.
        """
        ...

    def close(self) -> None:
        """Release processes and connections; a closed grader may still group and extract."""
        ...
