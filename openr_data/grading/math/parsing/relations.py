"""Read relations with `=`: names, chains of equal values, equations, several equations at once."""

from collections.abc import Callable

from . import exact
from .expressions import GREEK
from .functions import NotUnderstood, is_number
from .tokens import Tokens
from .values import Equation, Group, Named, Quantity, Value

Read = Callable[[Tokens], Value]
"""The parser: `parser.parse`."""


def equal(sides: list[Tokens], signs: list[str], parse: Read) -> Value:
    """The value of `a = b = …`: a name and a value, a value written in several ways, or an equation."""
    if "\\approx" in signs and not (signs[0] == "\\approx" and is_name(sides[0])):
        # The side before "about" is exact.
        return equal(sides[: signs.index("\\approx") + 1], signs[: signs.index("\\approx")], parse)
    if len(sides) == 1:
        return parse(sides[0])
    if len(sides) == 2 and is_name(sides[1]) and not is_name(sides[0]):
        sides = sides[::-1]
    first, last = sides[0], parse(sides[-1])
    name = is_name(first) or not _is_read(first, parse)
    values: list[Value] = []
    for side in sides if not name else sides[1:]:
        value = parse(side)
        if not isinstance(value, Quantity):
            if not name and any(is_number(token) for token in first):
                raise NotUnderstood("an equation of things that are no expressions")
            return Named(first, last)
        values.append(value)
    quantities = [value for value in values if isinstance(value, Quantity)]
    same = all(exact.decide(quantities[0].value, item.value) for item in quantities[1:])
    if name:
        if not same:
            raise NotUnderstood("a chain of different values")
        try:
            left = parse(first)
        except NotUnderstood:
            left = last
        difference = exact.subtract(left.value, quantities[0].value) if isinstance(left, Quantity) else None
        return Named(first, last, difference)
    if same:
        return last
    if len(quantities) != 2:
        raise NotUnderstood("a chain of different values")
    left_side, right_side = quantities[0].value, quantities[1].value
    difference = exact.subtract(left_side, right_side)
    if difference.rational is not None:
        raise NotUnderstood("an equation that is false")
    letters = all(len(token) == 1 and (token.isalpha() or token == "+") for token in first)
    return Equation(difference, right_side if letters and right_side.rational is not None else None)


def _is_read(side: Tokens, parse: Read) -> bool:
    try:
        parse(side)
    except NotUnderstood:
        return False
    return True


def assignment(value: Value) -> Value:
    """`p=5, q=2` as one solution of two values."""
    return Group("tuple", value.items) if isinstance(value, Group) and value.kind == "list" else value


def is_name(side: Tokens) -> bool:
    """Whether a left side is a name that an answer may leave out: `x`, `x_1`, `f(x)`, `AB`, words."""
    if all(token.startswith('"') or token in (" ", ".") for token in side):
        return True
    if side[0] in ("\\angle", "\\triangle", "\\overline", "\\vec", "\\mathbf") or side[0].startswith('"'):
        return True
    if side[0] == side[-1] == "|" and len(side) > 2 and all(token.isalpha() for token in side[1:-1]):
        return True
    head = side[0]
    if not (len(head) == 1 and head.isalpha()) and head not in GREEK:
        return False
    rest = side[1:]
    if not rest or all(len(token) == 1 and token.isupper() for token in rest):
        return True
    if rest[0] == "_":
        return len(rest) == 2 or (rest[1] == "{" and rest.index("}") == len(rest) - 1 if "}" in rest else False)
    return rest[0] == "(" and rest[-1] == ")" and not any(token in "+-*/^" for token in rest[1:-1])
