"""Graders of final answers by simpler rules than `math`: equal text, equal numbers, options, and OpenR's substring."""

import re
from collections.abc import Sequence
from typing import Final

from ...types import Grade, Verdict
from ..groups import Groups, grouped, grouped_by_text
from .equivalence import exact_number
from .final_answer_grader import FinalAnswerGrader
from .parsing.tokens import tokens

_CORRECT: Final = Grade(Verdict.CORRECT)
_INCORRECT: Final = Grade(Verdict.INCORRECT)


class StringGrader(FinalAnswerGrader):
    """Equal text, apart from spacing, dollar signs and double names of LaTeX commands; never unknown."""

    name = "string/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """Correct or incorrect."""
        return _CORRECT if tokens(answer) == tokens(gold) else _INCORRECT


class NumericGrader(FinalAnswerGrader):
    """Equal rational numbers; a unit is ignored; unknown where one side is not a number."""

    name = "numeric/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade by exact value."""
        left, right = exact_number(answer), exact_number(gold)
        if left is None or right is None:
            return Grade(Verdict.UNKNOWN, f"the {'answer' if left is None else 'gold answer'} is no number")
        return _CORRECT if left == right else _INCORRECT

    async def same(self, answers: Sequence[str]) -> Groups:
        """Answers of equal value; those that are not numbers, by text."""
        values = [exact_number(answer) for answer in answers]
        return grouped(
            tokens(answer) if value is None else value for answer, value in zip(answers, values, strict=True)
        )


class ChoiceGrader(FinalAnswerGrader):
    """The letter of a multiple-choice option, A to Z, in either case, bare or in brackets, first in its text."""

    name = "choice/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade by letter."""
        left, right = _letter(answer), _letter(gold)
        if left is None or right is None:
            return Grade(Verdict.UNKNOWN, f"the {'answer' if left is None else 'gold answer'} names no option")
        return _CORRECT if left == right else _INCORRECT

    async def same(self, answers: Sequence[str]) -> Groups:
        """Answers of one letter; those that name no option, by text."""
        return grouped(_letter(answer) or tokens(answer) for answer in answers)


class OpenRGrader(FinalAnswerGrader):
    """OpenR's rule, for comparison: the gold answer is a part of the answer's text.

    It accepts 12 for gold 2 and -3 for gold 3; an empty gold answer, which it would find everywhere, is unknown.
    """

    name = "openr/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """Correct or incorrect by substring."""
        if not gold.strip():
            return Grade(Verdict.UNKNOWN, "the gold answer is empty")
        return _CORRECT if gold.strip() in answer else _INCORRECT

    async def same(self, answers: Sequence[str]) -> Groups:
        """Answers that are each a part of the other: equal texts."""
        return grouped_by_text(answers)


def _letter(text: str) -> str | None:
    match = re.match(r"[\s$*(\[{]*(?:\\text\{|\\mathrm\{|\\textbf\{)?[\s(]*([A-Za-z])(?![A-Za-z])", text)
    return match[1].upper() if match else None
