"""Read inequalities and unions as intervals, each in one form."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

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
        return _solved(values[0], values[1], signs[0])
    low, middle, high = values
    variable = _variable(middle)
    if not variable or variable in low.atoms | high.atoms:
        raise TooHard("an inequality that is not solved")
    first, second = _turned(signs[0]), signs[1]
    if _grows(first) == _grows(second):
        raise TooHard("an inequality in two directions")
    below, above = (_bounded(low, first), _bounded(high, second))
    if _grows(first):
        return Interval(below.low, above.high, below.low_closed, above.high_closed, variable)
    return Interval(above.low, below.high, above.low_closed, below.high_closed, variable)


def of_absolute(interval: Interval) -> Interval | Union:
    """The numbers whose absolute value lies in an interval with rational ends. Raises `TooHard` for other ends."""
    low, high = _end(interval.low), _end(interval.high)
    if low is None or high is None or high <= (0, Fraction(0)):
        raise TooHard("bounds of an absolute value that are not known")
    low_end, high_end = exact.negate(interval.high), exact.negate(interval.low)
    if low < (0, Fraction(0)):
        return Interval(low_end, interval.high, interval.high_closed, interval.high_closed, interval.variable)
    below = Interval(low_end, high_end, interval.high_closed, interval.low_closed, interval.variable)
    return union([below, interval])


def _solved(left: Expression, right: Expression, sign: str) -> Interval:
    """The interval of `2x > 6`: one variable, in the first power."""
    difference = exact.subtract(left, right)
    names = {name for name in difference.atoms if name not in ("pi", "e", "i", "oo") and name[0] not in "#@"}
    if len(names) != 1 or difference.den != exact.ONE or any(name[0] == "@" for name in difference.atoms):
        raise TooHard("an inequality that is not solved")
    (variable,) = names
    slope = difference.num.get(((variable, Fraction(1)),))
    rest = {monomial: factor for monomial, factor in difference.num.items() if monomial != ((variable, Fraction(1)),)}
    if slope is None or any(name == variable for monomial in rest for name, _ in monomial):
        raise TooHard("an inequality that is not solved")
    bound = exact.multiply(Expression(rest), exact.number(-1 / slope))
    interval = _bounded(bound, sign if slope > 0 else _turned(sign))
    return replace(interval, variable=variable)


def union(parts: Sequence[Value]) -> Union | Interval:
    """The union of sets and intervals: nested unions are flattened, and intervals that meet become one.

    Raises `TooHard` for anything else.
    """
    sets: list[Value] = []
    for part in parts:
        if isinstance(part, Union):
            sets += part.parts
        elif isinstance(part, Interval) or (isinstance(part, Group) and part.kind in ("tuple", "bracket", "set")):
            sets.append(as_interval(part) or part)
        else:
            raise TooHard("a union of things that are no sets")
    merged = _merged(sets)
    return merged[0] if len(merged) == 1 and isinstance(merged[0], Interval) else Union(tuple(merged))


def intersection(parts: Sequence[Value]) -> Interval:
    """The numbers in all of these intervals. Raises `TooHard` for unions, other ends, and an empty result."""
    low, high = exact.negate(INFINITY), INFINITY
    common = Interval(low, high, False, False)
    for part in parts:
        if not isinstance(part, Interval) or (common.variable and part.variable and common.variable != part.variable):
            raise TooHard("an intersection that is not computed")
        ends = [_end(item) for item in (common.low, part.low, common.high, part.high)]
        ours_low, theirs_low, ours_high, theirs_high = ends
        if ours_low is None or theirs_low is None or ours_high is None or theirs_high is None:
            raise TooHard("an intersection that is not computed")
        lower = part if (theirs_low, not part.low_closed) > (ours_low, not common.low_closed) else common
        upper = part if (theirs_high, part.high_closed) < (ours_high, common.high_closed) else common
        common = Interval(lower.low, upper.high, lower.low_closed, upper.high_closed, common.variable or part.variable)
    bottom, top = _end(common.low), _end(common.high)
    if bottom is None or top is None or bottom >= top:
        raise TooHard("an intersection that is empty or a point")
    return common


def _merged(parts: list[Value]) -> list[Value]:
    """Joins intervals that overlap or touch; others, and those with ends that are not rational, stay as they are."""
    keyed = [(_end(part.low), part) for part in parts if isinstance(part, Interval)]
    if len(keyed) != len(parts) or any(_end(part.high) is None for _, part in keyed):
        return parts
    sortable = [(low, part) for low, part in keyed if low is not None]
    if len(sortable) != len(keyed):
        return parts
    sortable.sort(key=lambda item: (item[0], not item[1].low_closed))
    disjoint: list[Interval] = []
    for _, part in sortable:
        if not disjoint or not _meets(disjoint[-1], part):
            disjoint.append(part)
            continue
        last = disjoint[-1]
        ours, theirs = _end(last.high), _end(part.high)
        assert ours is not None
        assert theirs is not None
        if (theirs, part.high_closed) > (ours, last.high_closed):
            disjoint[-1] = replace(last, high=part.high, high_closed=part.high_closed)
    return list(disjoint)


def _meets(left: Interval, right: Interval) -> bool:
    high, low = _end(left.high), _end(right.low)
    return (
        high is not None
        and low is not None
        and (low < high or (low == high and (left.high_closed or right.low_closed)))
    )


def _end(value: Expression) -> tuple[int, Fraction] | None:
    """An end that can be sorted: (-1 or 1, 0) for the infinite ones, (0, value) for rational ones."""
    if value.rational is not None:
        return 0, value.rational
    if value.atoms == frozenset({"oo"}) and value.key() in (INFINITY.key(), exact.negate(INFINITY).key()):
        return (1 if value.key() == INFINITY.key() else -1), Fraction(0)
    return None


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


def _variable(value: Expression) -> str:
    """The name of a lone variable, or the empty text."""
    (*names,) = value.atoms
    if len(names) != 1 or names[0] in ("pi", "e", "i", "oo") or names[0][0] in "#@":
        return ""
    return names[0] if value.key() == exact.atom(names[0]).key() else ""
