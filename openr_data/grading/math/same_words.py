"""Compare answers of words with each other, and with values.

Two different names or categories differ. If one may be a form, a part or another wording of the other, the result is
unknown: a wrong "no" is worse than an honest doubt.
"""

from itertools import takewhile
from typing import Final

from .parsing.values import Group, Interval, Quantity, Union, Value, Word
from .parsing.words import NUMERAL_WORDS

_UNKNOWN_WORDS: Final = frozenset({"yes", "no", "true", "false"})
_NOTHING: Final = frozenset({"none", "no solution", "no solutions", "empty set", "no real solutions", "nothing"})
_UNDEFINED: Final = frozenset({"undefined", "does not exist", "dne", "not defined", "no limit"})


def same_words(left: str, right: str) -> bool | None:
    """Whether two answers of words are the same; None if that is unknown."""
    if left == right or left.replace(" ", "").replace("-", "") == right.replace(" ", "").replace("-", ""):
        return True
    if any(left in names and right in names for names in (_NOTHING, _UNDEFINED)):
        return True
    if any(left in names or right in names for names in (_NOTHING, _UNDEFINED)):
        return None
    pairs = list(zip(left.split(), right.split(), strict=False))
    if len(left.split()) == len(right.split()) and all(a == b or _is_stem(a, b) for a, b in pairs):
        # Feb 5 and February 5, apple and apples, increase and increasing.
        return None
    first, second = set(left.split()), set(right.split())
    if len(first) != len(second) and any(_is_stem(a, b) for a in first for b in second):
        # infinite and infinitely many.
        return None
    if (
        first <= second
        or second <= first
        or (
            {left, right} <= _UNKNOWN_WORDS
            and left[0] != right[0]
            and ({left, right} in ({"yes", "true"}, {"no", "false"}))
        )
    ):
        # "Evelyn" and "Evelyn is the fastest"; "yes" and "true".
        return None
    if sorted(left) == sorted(right) and max(map(len, (left, right))) <= 5:
        # abcd and dcba may be products of variables.
        return None
    # Two different names or categories; sentences may have one meaning in different words.
    return False if max(len(first), len(second)) <= 2 else None


def word_and_other(word: Word, other: Value) -> bool | None:
    """Whether words are another value: False if they cannot be, else None."""
    if word.text == "empty set":
        return False if isinstance(other, (Group, Interval, Union)) else None
    words = set(word.text.replace("-", " ").split())
    if len(words) > 2 or words & NUMERAL_WORDS or word.text in _NOTHING | _UNDEFINED:
        return None
    # A name is neither a number nor a pair of numbers. A variable may be the letter of a name.
    numeric = isinstance(other, Quantity) and other.value.rational is not None and not other.unit
    return False if numeric or isinstance(other, (Interval, Union)) else None


def _is_stem(left: str, right: str) -> bool:
    """Whether two words share enough of their beginning to be forms of one word."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
    return common >= max(3, min(len(left), len(right)) - 2)
