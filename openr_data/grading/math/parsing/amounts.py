"""Amounts that are written in two parts: 1 hour 30 minutes, 5:30 p.m."""

from . import exact
from .exact import number
from .units import measure
from .values import Group, Quantity, Value


def compound_of(first: Value, second: Value) -> Quantity | None:
    """Two amounts of one kind, the larger unit first, as one amount in the smaller unit."""
    if not isinstance(first, Quantity) or not isinstance(second, Quantity):
        return None
    large, small = measure(first.unit), measure(second.unit)
    if large is None or small is None or large[0] != small[0] or large[1] <= small[1]:
        return None
    in_small = exact.multiply(first.value, number(large[1] / small[1]))
    return Quantity(exact.add(in_small, second.value), second.unit)


def clock_of(parts: list[Value]) -> Group | None:
    """`5:30 p.m.` as the time 17:30; None unless the last part is marked am or pm."""
    *_, last = parts
    first = parts[0]
    if not isinstance(last, Quantity) or last.unit not in ("am", "pm") or not isinstance(first, Quantity):
        return None
    hour = first.value.rational
    if hour is None or hour.denominator != 1 or not 1 <= hour <= 12:
        return None
    hours = Quantity(number(hour % 12 + (12 if last.unit == "pm" else 0)))
    return Group("time", (hours, *parts[1:-1], Quantity(last.value)))
