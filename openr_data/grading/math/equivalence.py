r"""Compare two answers exactly, or return the reason why that is not possible.

This is the fast path of grading: guards, then equal tokens, then the two values of `parser.py`, compared by kind. It
is symmetric, uses no float, and decides both ways if both sides are read: numbers, expressions, words, options, tuples,
sets, intervals, matrices, equations (`sameness.py`).

An honest unknown never becomes a wrong label: it has a reason, and `symbolic.py` may decide the pair.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Final

from ...types import Verdict
from .guards import refusal, repaired
from .parsing import exact
from .parsing.exact import Expression, TooHard
from .parsing.expressions import SEPARATORS
from .parsing.functions import NotUnderstood
from .parsing.parser import MATRICES, parse
from .parsing.tokens import Tokens, readings, tokens
from .parsing.values import Equation, Group, Interval, Named, Option, Quantity, Union, Value, Word
from .sameness import same_value, unless_rounded

_BEYOND: Final = frozenset({"'", "\\ldots", "\\to", "\\equiv", "\\sim", "\\ne", "\\mathbb", "\\overline", "?"})
_DANGLING: Final = frozenset({"+", "*", "/", "^", "_", "<", ">", "\\le", "\\ge", "\\ne", "="})
PARSER_FAILED: Final = "the parser failed:"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict, and for an unknown one the reason. `is_final`: computer algebra could not decide it either."""

    verdict: Verdict
    reason: str = ""
    is_final: bool = True


CORRECT: Final = Comparison(Verdict.CORRECT)
INCORRECT: Final = Comparison(Verdict.INCORRECT)


def compare_exactly(answer: str, gold: str) -> Comparison:
    """Compare an answer with the gold answer. Symmetric; never raises; linear in the text."""
    if answer == gold and 0 < len(answer) < 40 and answer.isalnum():
        return CORRECT
    answer, gold = repaired(answer), repaired(gold)
    for text, name in ((answer, "answer"), (gold, "gold answer")):
        if not text or text.isspace():
            return Comparison(Verdict.UNKNOWN, f"the {name} is empty")
        refused = refusal(text)
        if refused:
            return Comparison(Verdict.UNKNOWN, f"the {name} has {refused}" if " " in refused else refused)
    left, right = tokens(answer), tokens(gold)
    if left == right:
        return CORRECT if left else Comparison(Verdict.UNKNOWN, "nothing but punctuation")
    comparison = _compare_tokens(left, right)
    if comparison.verdict is Verdict.CORRECT or "," not in answer + gold:
        return comparison
    # 120,150 is a number or a list of two, 1,25 a list or a decimal: a reading that fits is the one that was meant.
    for first in readings(answer):
        for second in readings(gold):
            another = _compare_tokens(first, second)
            if another.verdict is Verdict.CORRECT:
                return another
            if another.verdict is not comparison.verdict:
                comparison = Comparison(Verdict.UNKNOWN, "a comma that may be read in two ways")
    return comparison


def compare(answer: str, gold: str) -> Verdict:
    """The verdict of the fast path alone."""
    return compare_exactly(answer, gold).verdict


def exact_number(answer: str) -> Fraction | None:
    """The value of an answer that is a rational number, its unit ignored; None for any other answer."""
    quantity = _decimal_quantity(answer)
    return quantity.value.rational if quantity else None


def plain_number(answer: str) -> Fraction | None:
    """The value of an answer that is a rational number without a unit; None for any other answer."""
    quantity = _decimal_quantity(answer)
    return quantity.value.rational if quantity and not quantity.unit else None


def _decimal_quantity(answer: str) -> Quantity | None:
    """The answer as a quantity whose number is not written in another base."""
    if refusal(answer):
        return None
    value = _read(tokens(answer))
    value = value.value if isinstance(value, Named) else value
    return value if isinstance(value, Quantity) and value.base == 10 else None


def _is_beyond(cut: Tokens) -> bool:
    """Whether sympy would misread these tokens: it reads words as products, and drops unknown tokens.

    Words, primes, ellipses, arrows, numbers in a base, and relations or operators without a side.
    """
    return (
        any(token[0] == '"' and token not in SEPARATORS and token not in MATRICES for token in cut)
        or not _BEYOND.isdisjoint(cut)
        or not _DANGLING.isdisjoint((*cut[:1], *cut[-1:]))
        or cut[-1:] == ("-",)
        or any(first[0] in "0123456789" and second == "_" for first, second in pairwise(cut))
    )


def _is_numeric(value: Value) -> bool:
    if isinstance(value, Group):
        return all(map(_is_numeric, value.items))
    return isinstance(value, (Interval, Union)) or (isinstance(value, Quantity) and value.value.rational is not None)


def _is_open(value: Value) -> bool:
    """Whether only computer algebra may decide a value: it holds a function, an equation, e or pi."""
    if isinstance(value, Named):
        return _is_open(value.value)
    if isinstance(value, Group):
        return any(map(_is_open, value.items))
    if isinstance(value, Union):
        return any(map(_is_open, value.parts))
    parts: tuple[Expression, ...] = ()
    if isinstance(value, Quantity):
        parts = (value.value,)
    elif isinstance(value, Interval):
        parts = (value.low, value.high)
    elif isinstance(value, Equation):
        return True
    return any(name[0] == "@" or name in ("e", "pi") for part in parts for name in part.atoms)


def _form(value: Value) -> tuple[object, ...]:
    """The kinds and names that two values must share to be worth a computation."""
    if isinstance(value, Named):
        return (value.name, *_form(value.value))
    return (value.kind,) if isinstance(value, Group) else (type(value),)


def _compare_tokens(left: Tokens, right: Tokens) -> Comparison:
    if left == right:
        return CORRECT
    first, second = _read(left), _read(right)
    for value in (first, second):
        if isinstance(value, str):
            return Comparison(Verdict.UNKNOWN, value, _is_beyond(left) or _is_beyond(right))
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    one, other = '"and' in left or '"or' in left, '"and' in right or '"or' in right
    if one and other and ('"and' in left) != ('"and' in right) and not _is_numeric(first):
        # "3 and 4" and "3 or 4" name two numbers; with words it is two statements.
        return Comparison(Verdict.UNKNOWN, "and against or")
    exact.begin()
    try:
        equal = same_value(first, second)
    except TooHard as error:
        return Comparison(Verdict.UNKNOWN, str(error), _is_beyond(left) or _is_beyond(right))
    if equal is None:
        if isinstance(first, Quantity) and isinstance(second, Quantity):
            if first.unit != second.unit and first.unit and second.unit:
                return Comparison(Verdict.UNKNOWN, f"the units {first.unit} and {second.unit}")
            if unless_rounded(first, second) is None:
                return Comparison(Verdict.UNKNOWN, "equal only after rounding")
        # Different kinds or names, or nothing left to compute: the doubt is about the meaning of the answers.
        settled = (
            _form(first) != _form(second)
            or not (_is_open(first) or _is_open(second))
            or _is_beyond(left)
            or _is_beyond(right)
        )
        return Comparison(Verdict.UNKNOWN, f"{_kind(first)} against {_kind(second)}", settled)
    return CORRECT if equal else INCORRECT


@lru_cache(maxsize=100_000)
def _read(cut: Tokens) -> Value | str:
    """The value of the tokens, or the reason why they have none."""
    exact.begin()
    try:
        return parse(cut)
    except (NotUnderstood, TooHard) as error:
        return str(error)
    except Exception as error:
        # Grading is total: tokens that the parser was not made for are unknown, with this reason.
        return f"{PARSER_FAILED} {type(error).__name__}"


def _kind(value: Value) -> str:
    if isinstance(value, Group):
        return f"a {value.kind}"
    return {
        Quantity: "an expression", Word: "words", Option: "an option", Interval: "an interval", Union: "a union",
        Named: "a named value", Equation: "an equation",
    }[type(value)]  # fmt: skip
