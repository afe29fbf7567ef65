"""Compare two values by their kinds: symmetric and three-valued.

Details that only one side writes and that a reader ignores (a unit, `x=`, the brackets of a list) do not count; a
difference in details that both write does. None means unknown, never unlikely.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from .parsing import exact
from .parsing.exact import Expression, number
from .parsing.functions import NotUnderstood
from .parsing.intervals import as_interval
from .parsing.parser import parse
from .parsing.tokens import Tokens
from .parsing.units import UNIT_LETTERS, measure
from .parsing.values import Equation, Group, Interval, Named, Option, Quantity, Union, Value, Word
from .rounding import is_float_of, is_rounding
from .same_words import same_words, word_and_other

EXACT_DIGITS: Final = 10
ROUNDED_DIGITS: Final = 3
MOST_MATCHED: Final = 64
"""Members of the longest unordered list that is matched."""


_PARTS: Final = frozenset({"yes", "no", "true", "false", "odd", "even"})


def same_value(left: Value, right: Value) -> bool | None:
    """Whether two values are the same; None if that is unknown. Symmetric."""
    if isinstance(left, Named) or isinstance(right, Named):
        return _same_named(left, right)
    if isinstance(left, Option) or isinstance(right, Option):
        return _same_option(left, right)
    if isinstance(left, Word) and isinstance(right, Word):
        return same_words(left.text, right.text)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        same = _same_quantity(left, right)
        return unless_rounded(left, right) if same is False else same
    if isinstance(left, Equation) and isinstance(right, Equation):
        return _same_equation(left.difference, right.difference)
    if isinstance(left, Word) or isinstance(right, Word):
        word, other = (left, right) if isinstance(left, Word) else (right, left)
        assert isinstance(word, Word)
        return word_and_other(word, other)
    if isinstance(left, Equation) or isinstance(right, Equation):
        # A curve is neither a point nor a set of numbers; the other side may be a bare expression that means it.
        equation, other = (left, right) if isinstance(left, Equation) else (right, left)
        if isinstance(equation, Equation) and equation.total is not None and isinstance(other, Quantity):
            return exact.decide(equation.total, other.value)
        return False if isinstance(other, (Interval, Union)) or _is_vector(other) else None
    return _same_collection(left, right)


def _is_vector(value: Value) -> bool:
    return isinstance(value, Group) and value.kind in ("tuple", "bracket", "matrix", "set")


def _same_named(left: Value, right: Value) -> bool | None:
    if isinstance(left, Named) and isinstance(right, Named):
        same = same_value(left.value, right.value)
        if left.name == right.name or same is None:
            return same
        if same:
            # x = 5 and y = 5: another thing, or another name for it.
            return None
        if left.difference is not None and right.difference is not None:
            # y = 2x and x = y/2.
            return bool(_same_equation(left.difference, right.difference))
        return False
    named, other = (left, right) if isinstance(left, Named) else (right, left)
    assert isinstance(named, Named)
    if isinstance(other, Equation):
        return None if named.difference is None else _same_equation(named.difference, other.difference)
    return same_value(named.value, other)


def _same_equation(left: Expression, right: Expression) -> bool | None:
    """Whether two differences are zero for the same values: one is the other times a number."""
    if left.den != exact.ONE or right.den != exact.ONE:
        return None
    if not left.num or not right.num:
        return None
    quotient = exact.divide(left, right)
    # Compare with the quotient of one common term: constant only if it is the quotient of all.
    monomial = max(left.num)
    if monomial in right.num:
        factor = number(left.num[monomial] / right.num[monomial])
        same = exact.decide(left, exact.multiply(factor, right))
        if same:
            return True
    if quotient.rational is not None:
        return True
    degrees = [max((sum(e for n, e in m if n[0] not in "#@") for m in side.num), default=0) for side in (left, right)]
    # Lines are the same only as multiples; curves may be the same otherwise (a square and its root).
    return False if degrees == [1, 1] else None


def _same_option(left: Value, right: Value) -> bool | None:
    if isinstance(left, Option) and isinstance(right, Option):
        if left.letter != right.letter:
            return False
        rests = [_parsed(item.rest) for item in (left, right) if item.rest]
        both = len(rests) == 2 and rests[0] is not None and rests[1] is not None
        # "(B) 5" and "(B) 6": the letter or the number is a slip, and it is unknown which.
        return None if both and same_value(rests[0], rests[1]) is False else True  # type: ignore[arg-type]
    option, other = (left, right) if isinstance(left, Option) else (right, left)
    assert isinstance(option, Option)
    if isinstance(other, Quantity) and other.value.key() == exact.atom(option.letter.lower()).key() and not option.rest:
        return None
    if option.rest:
        rest = _parsed(option.rest)
        if rest is not None and same_value(rest, other):
            return True
    return None


def _parsed(tokens: Tokens) -> Value | None:
    try:
        return parse(tokens)
    except NotUnderstood:
        return None


def _same_quantity(left: Quantity, right: Quantity) -> bool | None:
    same = exact.decide(left.value, right.value)
    if left.base != right.base and left.digits and right.digits:
        # Both name their base.
        return same
    if left.base != right.base:
        based, plain = (left, right) if left.base != 10 else (right, left)
        if not same and plain.base == 10 and plain.value.rational == Fraction(based.digits):
            return None
        return same
    if left.unit == right.unit:
        return (
            _unless_other_letters(same, left.value, right.value) if same is not False else _unless_a_unit(left, right)
        )
    if left.unit and right.unit:
        return False if {left.unit, right.unit} == {"am", "pm"} else _same_measure(left, right)
    # One side alone has a unit.
    with_unit, plain = (left, right) if left.unit else (right, left)
    if same:
        return True
    if with_unit.unit == "percent" and exact.decide(with_unit.value, exact.multiply(number(100), plain.value)):
        return True
    if with_unit.unit == "degree":
        radians = exact.multiply(with_unit.value, exact.multiply(exact.atom("pi"), number(Fraction(1, 180))))
        if exact.decide(radians, plain.value):
            return True
    return _unless_other_letters(same, left.value, right.value)


def unless_rounded(left: Quantity, right: Quantity) -> bool | None:
    """The result in place of a "no" if one side is the other one rounded: True, None or False.

    Ten digits are how a program prints an exact value; fewer are a choice that only the question can judge.
    """
    for exact_side, rounded in ((left, right), (right, left)):
        if is_float_of(rounded.decimal, exact_side.value):
            return True
        if exact_side.decimal:
            # Two different decimals are different numbers.
            continue
        digits = is_rounding(rounded.decimal, exact_side.value)
        if digits >= EXACT_DIGITS:
            return True
        if digits >= ROUNDED_DIGITS:
            return None
    return False


def _unless_other_letters(same: bool | None, left: Expression, right: Expression) -> bool | None:
    """A difference in upper and lower case alone is unknown, not a "no"."""
    if same is not False or left.atoms == right.atoms:
        return same
    return None if {name.lower() for name in left.atoms} == {name.lower() for name in right.atoms} else False


def _unless_a_unit(left: Quantity, right: Quantity) -> bool | None:
    """A "no" becomes unknown if a letter on one side may be a unit: 5 m and 5."""
    for letters, plain in ((left.value, right.value), (right.value, left.value)):
        extra = letters.atoms - plain.atoms
        if not plain.num or not extra or not extra <= UNIT_LETTERS:
            continue
        quotient = exact.divide(letters, plain)
        # One side is the other times letters that may be units.
        terms = [*quotient.num.values(), *quotient.den.values()]
        if terms == [1, 1] and quotient.atoms and quotient.atoms <= UNIT_LETTERS:
            return None
    return _unless_other_letters(False, left.value, right.value)


def _same_measure(left: Quantity, right: Quantity) -> bool | None:
    first, second = measure(left.unit), measure(right.unit)
    if first is None or second is None:
        # The units are unknown, and different numbers are different amounts only in the same unit.
        return None
    if first[0] != second[0]:
        return None
    return exact.decide(
        exact.multiply(left.value, number(first[1])),
        exact.multiply(right.value, number(second[1])),
    )


def _same_collection(left: Value, right: Value) -> bool | None:
    if isinstance(left, Group) and isinstance(right, Group):
        for single, pair in ((left, right), (right, left)):
            if single.kind == "set" and len(single.items) == 1 and pair.kind == "tuple":
                return same_value(single.items[0], pair)
        same = _same_group(left, right)
        if same is not None:
            return same
    first, second = _intervals(left), _intervals(right)
    if first is not None and second is not None and (_is_interval(left) or _is_interval(right)):
        return _matched(first, second, _same_interval)
    if isinstance(left, Group) != isinstance(right, Group):
        group, other = (left, right) if isinstance(left, Group) else (right, left)
        assert isinstance(group, Group)
        if isinstance(other, Quantity):
            if len(group.items) == 1 and group.kind != "matrix":
                return same_value(group.items[0], other)
            if group.kind != "ratio" and len(_distinct(group.items)) > 1:
                return False
        elif group.kind in ("tuple", "bracket", "matrix", "ratio") and len(group.items) > 2:
            return False
    if {_is_interval(left), _is_interval(right)} == {True, False}:
        # An interval has infinitely many members.
        other = right if _is_interval(left) else left
        finite = isinstance(other, Group) and other.kind in ("list", "set", "plus-minus", "matrix")
        number_alone = isinstance(other, Quantity) and other.value.rational is not None
        return False if finite or number_alone else None
    return None


def _same_group(left: Group, right: Group) -> bool | None:
    kinds = {left.kind, right.kind}
    if kinds <= {"list", "plus-minus", "set"}:
        if any(isinstance(item, Named) for item in left.items + right.items):
            return _same_assignments(left.items, right.items)
        if any(isinstance(item, Word) and item.text in _PARTS for item in left.items + right.items):
            # "yes, no" answers two questions in their order.
            return True if _in_order(left.items, right.items) else None
        if "set" in kinds or "plus-minus" in kinds:
            return _matched(_distinct(left.items), _distinct(right.items), same_value)
        in_order = _in_order(left.items, right.items)
        same = in_order if in_order else _matched(left.items, right.items, same_value)
        if same is False and _matched(_distinct(left.items), _distinct(right.items), same_value):
            # The same members, some of them twice: repeated pairs are one solution, numbers may be a sequence.
            return True if all(isinstance(item, Group) for item in left.items) else None
        return same
    if left.kind == right.kind:
        if left.kind == "ratio":
            return _same_ratio(left, right)
        return _in_order(left.items, right.items)
    if kinds == {"tuple", "matrix"} or kinds == {"bracket", "matrix"}:
        matrix, flat = (left, right) if left.kind == "matrix" else (right, left)
        entries = [row.items for row in matrix.items if isinstance(row, Group)]
        if len(entries) == 1 or all(len(row) == 1 for row in entries):
            return _in_order(tuple(item for row in entries for item in row), flat.items)
        return False if sum(map(len, entries)) != len(flat.items) else None
    if kinds == {"tuple", "bracket"}:
        # (1,2) and [1,2] are two intervals, (1,2,3) and [1,2,3] one vector.
        same = _in_order(left.items, right.items)
        return same if len(left.items) != 2 or same is False else None
    if kinds == {"time", "ratio"}:
        # 5:30 may be 5:30 p.m.; 17:30 is.
        time, ratio = (left, right) if left.kind == "time" else (right, left)
        plain = Group("time", (_half_day(time.items[0]), *time.items[1:]))
        return bool(_in_order(time.items, ratio.items) or _in_order(plain.items, ratio.items))
    if kinds & {"time", "ratio"} or "matrix" in kinds or "row" in kinds:
        return None
    # (1,2) and 1,2 are the same in the same order and differ if their members do; a set or an interval is unknown.
    if kinds == {"tuple", "list"} and _in_order(left.items, right.items):
        return True
    if _matched(_distinct(left.items), _distinct(right.items), same_value) is False:
        return False
    return None


def _half_day(hour: Value) -> Value:
    """The hour as a clock of twelve shows it."""
    value = hour.value.rational if isinstance(hour, Quantity) else None
    return hour if value is None else Quantity(number((value - 1) % 12 + 1))


def _same_assignments(left: tuple[Value, ...], right: tuple[Value, ...]) -> bool | None:
    """`x=1, y=2` against another list: by name if all members have one, else in order."""
    if len(left) != len(right):
        return None
    ours, theirs = ({item.name: item.value for item in items if isinstance(item, Named)} for items in (left, right))
    if len(ours) == len(theirs) == len(left) and ours.keys() == theirs.keys():
        answers = [same_value(value, theirs[name]) for name, value in ours.items()]
        return False if False in answers else None if None in answers else True
    if len(ours) == 1 or len(theirs) == 1:
        # x=1, x=2: a list of values of one name.
        plain = [tuple(item.value if isinstance(item, Named) else item for item in items) for items in (left, right)]
        return _matched(plain[0], plain[1], same_value)
    return True if _in_order(left, right) else None


def _same_ratio(left: Group, right: Group) -> bool | None:
    in_order = _in_order(left.items, right.items)
    if in_order or len(left.items) != len(right.items):
        return in_order
    pairs = [
        (first.value, second.value)
        for first, second in zip(left.items, right.items, strict=True)
        if isinstance(first, Quantity) and isinstance(second, Quantity)
    ]
    if len(pairs) != len(left.items):
        return None
    (top, bottom), *others = pairs
    scaled = [exact.decide(exact.multiply(first, bottom), exact.multiply(second, top)) for first, second in others]
    # 2:4 is 1:2 as a ratio, not as a time of day.
    return None if all(scaled) else False


def _in_order(left: tuple[Value, ...], right: tuple[Value, ...]) -> bool | None:
    if len(left) != len(right):
        return False
    answers = [same_value(first, second) for first, second in zip(left, right, strict=True)]
    if any(item is False for item in answers):
        return False
    return True if all(answers) else None


def _matched(
    left: tuple[Value, ...], right: tuple[Value, ...], equal: Callable[[Value, Value], bool | None]
) -> bool | None:
    """Whether the members are the same in some order; equality is transitive, so the first match is as good as any."""
    if len(left) != len(right):
        return False
    if len(left) > MOST_MATCHED:
        return None
    open_ = list(right)
    unsure = False
    for first in left:
        answers = [equal(first, second) for second in open_]
        if True in answers:
            del open_[answers.index(True)]
        elif None in answers:
            unsure = True
        else:
            return False
    return None if unsure else True


def _distinct(items: tuple[Value, ...]) -> tuple[Value, ...]:
    members: list[Value] = []
    for item in items:
        if len(members) <= MOST_MATCHED and not any(same_value(item, other) for other in members):
            members.append(item)
    return tuple(members)


def _is_interval(value: Value) -> bool:
    return isinstance(value, (Interval, Union))


def _intervals(value: Value) -> tuple[Value, ...] | None:
    if isinstance(value, Union):
        return value.parts
    single = as_interval(value)
    return None if single is None else (single,)


def _same_interval(left: Value, right: Value) -> bool | None:
    first, second = as_interval(left), as_interval(right)
    if first is None or second is None:
        return same_value(left, right) if first is None and second is None else False
    if first.variable and second.variable and first.variable != second.variable:
        # x > 3 and y > 3: another thing, or another name for it.
        return None
    ends = [exact.decide(first.low, second.low), exact.decide(first.high, second.high)]
    if False in ends:
        return False
    if None in ends:
        return None
    return (first.low_closed, first.high_closed) == (second.low_closed, second.high_closed)
