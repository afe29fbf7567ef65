r"""Compare two answers exactly, or say that it takes more than this to know.

Equal after normalisation is correct; two numbers are decided both ways; so are two members of a closed set of
words (option letters, yes and no, weekdays …). A unit or a left side (`x=`) that only one of the two writes is passed
over; two different ones are not. Everything else (two different expressions, a word and a number) is unknown: an
honest "unknown" never becomes a wrong label.
"""

import re

from ..types import Verdict
from .normalize import LONGEST_ANSWER, as_rational, normalize, split_left, split_unit

_WORD = re.compile(r"[A-Za-z]{3,}")
_OPTION = re.compile(r"\(?([A-J])\)?")
_CLOSED_SETS = (
    frozenset({"yes", "no"}),
    frozenset({"true", "false"}),
    frozenset({"even", "odd", "neither"}),
    frozenset({"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}),
    frozenset({"north", "south", "east", "west"}),
    frozenset({"ellipse", "parabola", "hyperbola", "circle"}),
)


def compare(answer: str, gold: str) -> Verdict:
    """The verdict on `answer` given the gold answer. Symmetric; never raises; unknown where either is empty."""
    if not answer.strip() or not gold.strip() or max(len(answer), len(gold)) > LONGEST_ANSWER:
        return Verdict.UNKNOWN
    left, right = normalize(answer), normalize(gold)
    if not left or not right:
        return Verdict.CORRECT if answer.strip() == gold.strip() else Verdict.UNKNOWN
    if left == right:
        return Verdict.CORRECT
    (name, left), (gold_name, right) = split_left(left), split_left(right)
    if name and gold_name and name != gold_name:
        return Verdict.UNKNOWN
    (left, unit), (right, gold_unit) = split_unit(left), split_unit(right)
    if unit and gold_unit and unit != gold_unit:
        return Verdict.UNKNOWN
    verdict = _compare_plain(left, right)
    if verdict is Verdict.INCORRECT and unit != gold_unit:
        # 0.5 and 50 %, 100 and 1 m: other numbers of what may be one quantity.
        return Verdict.UNKNOWN if "percent" in (unit, gold_unit) else verdict
    return verdict


def _compare_plain(left: str, right: str) -> Verdict:
    if left == right:
        return Verdict.CORRECT
    number, gold_number = as_rational(left), as_rational(right)
    if number is not None and gold_number is not None:
        return Verdict.CORRECT if number == gold_number else Verdict.INCORRECT
    option, gold_option = _OPTION.fullmatch(left), _OPTION.fullmatch(right)
    if option and gold_option:
        return Verdict.CORRECT if option[1] == gold_option[1] else Verdict.INCORRECT
    if _WORD.fullmatch(left) and _WORD.fullmatch(right):
        word, gold_word = left.casefold(), right.casefold()
        # Three letters may be a product of variables: only real words are the same in capitals.
        if word == gold_word and len(word) > 3:
            return Verdict.CORRECT
        if word != gold_word and any(word in names and gold_word in names for names in _CLOSED_SETS):
            return Verdict.INCORRECT
    return Verdict.UNKNOWN
