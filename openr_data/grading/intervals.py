"""Inequalities and unions as intervals, in one form each."""

from collections.abc import Sequence

from . import exact
from .exact import Expression, TooHard
from .values import Group, Interval, Quantity, Union, Value

INFINITY = exact.atom("oo")


def from_relations(sides: Sequence[Value], signs: Sequence[str]) -> Interval:
    """The interval of `x > 3` or `1 < x \\le 2`: one side is a lone variable, the others are its bounds.

    Raises `TooHard` for any other inequality.
    """
    values = [side.value for side in sides if isinstance(side, Quantity)]
    if len(values) != len(sides):
        raise TooHard("an inequality of things that are no expressions")
    if len(values) == 2:
        left, right = values
        sign = signs[0]
        if _is_variable(right) and not _is_variable(left):
            left, right, sign = right, left, _turned(sign)
        if not _is_variable(left) or left.atoms & right.atoms:
            raise TooHard("an inequality that is not solved")
        return _bounded(right, sign)
    low, middle, high = values
    if not _is_variable(middle) or middle.atoms & (low.atoms | high.atoms):
        raise TooHard("an inequality that is not solved")
    first, second = _turned(signs[0]), signs[1]
    if _grows(first) == _grows(second):
        raise TooHard("an inequality in two directions")
    below, above = (_bounded(low, first), _bounded(high, second))
    if _grows(first):
        return Interval(below.low, above.high, below.low_closed, above.high_closed)
    return Interval(above.low, below.high, above.low_closed, below.high_closed)


def union(parts: Sequence[Value]) -> Union:
    """The union of sets and intervals, unions inside it opened. Raises `TooHard` for anything else."""
    found: list[Value] = []
    for part in parts:
        if isinstance(part, Union):
            found += part.parts
        elif isinstance(part, Interval) or (isinstance(part, Group) and part.kind in ("tuple", "bracket", "set")):
            found.append(as_interval(part) or part)
        else:
            raise TooHard("a union of things that are no sets")
    return Union(tuple(found))


def as_interval(value: Value) -> Interval | None:
    """A pair `(1,2)` or `[1,2]` read as an interval, an interval itself, or None."""
    if isinstance(value, Interval):
        return value
    if isinstance(value, Group) and value.kind in ("tuple", "bracket") and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Quantity) and isinstance(high, Quantity):
            closed = value.kind == "bracket"
            return Interval(low.value, high.value, closed, closed)
    return None


def _bounded(bound: Expression, sign: str) -> Interval:
    if _grows(sign):
        return Interval(bound, INFINITY, sign == "\\ge", False)
    return Interval(exact.negate(INFINITY), bound, False, sign == "\\le")


def _grows(sign: str) -> bool:
    return sign in (">", "\\ge")


def _turned(sign: str) -> str:
    return {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[sign]


def _is_variable(value: Expression) -> bool:
    (*names,) = value.atoms
    return len(names) == 1 and names[0] not in ("pi", "e", "i", "oo") and value.key() == exact.atom(names[0]).key()
