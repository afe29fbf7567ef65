"""Compare two answers exactly, or say that it takes more than this to know.

Equal after normalisation is correct; two numbers are decided both ways; two plain words are decided both
ways. Everything else (two different expressions) is unknown: the symbolic grader of the grading package
is what decides those, and an honest "unknown" never becomes a wrong label.
"""

import re

from ..types import Verdict
from .normalize import LONGEST_ANSWER, as_rational, normalize

_WORD = re.compile(r"[A-Za-z]{2,}(?:[A-Za-z -]*[A-Za-z])?|\(?[A-Z]\)?")


def compare(answer: str, gold: str) -> Verdict:
    """The verdict on `answer` given the gold answer. Never raises; unknown where either is empty."""
    if not answer.strip() or not gold.strip():
        return Verdict.UNKNOWN
    if max(len(answer), len(gold)) > LONGEST_ANSWER:
        return Verdict.UNKNOWN
    left, right = normalize(answer), normalize(gold)
    if not left or not right:
        return Verdict.CORRECT if answer.strip() == gold.strip() else Verdict.UNKNOWN
    if left == right:
        return Verdict.CORRECT
    number, gold_number = as_rational(left), as_rational(right)
    if number is not None and gold_number is not None:
        return Verdict.CORRECT if number == gold_number else Verdict.INCORRECT
    word, gold_word = _WORD.fullmatch(left), _WORD.fullmatch(right)
    if word and gold_word:
        same = left.strip("()").casefold() == right.strip("()").casefold()
        return Verdict.CORRECT if same else Verdict.INCORRECT
    if (number is not None and gold_word) or (gold_number is not None and word):
        return Verdict.INCORRECT
    return Verdict.UNKNOWN
