"""Exact arithmetic: a field, checked by its laws and against numbers that are known."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.grading.math.parsing import exact
from openr_data.grading.math.parsing.exact import (
    Expression,
    TooHard,
    Undefined,
    add,
    decide,
    divide,
    multiply,
    number,
    power,
)

SMALL = st.fractions(min_value=-5, max_value=5, max_denominator=6)
ATOMS = st.sampled_from(["x", "y", "pi", "i"]).map(exact.atom)
ROOTS = st.integers(2, 30).map(lambda n: power(number(n), number(Fraction(1, 2))))
LEAVES = st.one_of(SMALL.map(number), ATOMS, ROOTS)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.tuples(st.sampled_from([add, multiply, exact.subtract]), inner, inner).map(
        lambda item: item[0](item[1], item[2])
    ),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def _fresh_work() -> None:
    exact.begin()


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_the_laws_of_a_field_hold(a: Expression, b: Expression, c: Expression) -> None:
    exact.begin()
    assert decide(add(a, b), add(b, a))
    assert decide(multiply(a, b), multiply(b, a))
    assert decide(add(add(a, b), c), add(a, add(b, c)))
    assert decide(multiply(multiply(a, b), c), multiply(a, multiply(b, c)))
    assert decide(multiply(a, add(b, c)), add(multiply(a, b), multiply(a, c)))
    assert decide(exact.subtract(a, a), number(0))
    if a.num:
        assert decide(divide(multiply(a, b), a), b)


@given(EXPRESSIONS, SMALL.filter(bool))
def test_what_differs_by_a_number_differs(a: Expression, shift: Fraction) -> None:
    exact.begin()
    assert decide(a, add(a, number(shift))) is False


@given(st.integers(1, 400), st.integers(1, 400), st.integers(2, 4))
def test_roots_multiply_and_raise_to_what_they_are_roots_of(a: int, b: int, order: int) -> None:
    exact.begin()
    root = number(Fraction(1, order))
    assert decide(multiply(power(number(a), root), power(number(b), root)), power(number(a * b), root))
    assert power(power(number(a), root), number(order)).rational == a
    quotient = power(number(Fraction(a, b)), root)
    assert decide(multiply(quotient, power(number(b), root)), power(number(a), root))


def test_the_imaginary_unit_and_negative_roots() -> None:
    i, half = exact.atom("i"), number(Fraction(1, 2))
    assert multiply(i, i).rational == -1
    assert decide(divide(number(1), i), exact.negate(i))
    assert decide(power(number(-4), half), multiply(number(2), i))
    assert power(number(-8), number(Fraction(1, 3))).rational == -2
    assert power(i, number(7)).key() == exact.negate(i).key()


def test_the_root_of_a_square_is_not_simplified() -> None:
    x, half = exact.atom("x"), number(Fraction(1, 2))
    assert decide(power(power(x, number(2)), half), x) is None
    assert decide(power(power(x, half), number(2)), x) is True


def test_nobody_knows_whether_e_and_pi_are_independent() -> None:
    assert decide(exact.atom("e"), exact.atom("pi")) is None
    assert decide(exact.atom("pi"), number(3)) is False


@pytest.mark.parametrize(
    ("base", "exponent"),
    [(9, 10**9), (Fraction(1, 3), -(10**7)), (10**12 - 11, Fraction(1, 2)), (7, Fraction(1, 99)), (-2, Fraction(1, 4))],
)
def test_what_would_be_large_is_too_hard_at_once(base: Fraction, exponent: Fraction) -> None:
    if (base, exponent) == (10**12 - 11, Fraction(1, 2)):
        base = 10**12 - 11 + 10**12
    with pytest.raises(TooHard):
        power(number(base), number(exponent))


def test_zero_cannot_be_divided_by() -> None:
    for attempt in (lambda: divide(number(1), number(0)), lambda: power(number(0), number(-1))):
        with pytest.raises(Undefined):
            attempt()


def test_many_small_steps_are_bounded_too() -> None:
    exact.begin()
    two = add(exact.atom("x"), exact.atom("y"))

    def again_and_again() -> None:
        for _ in range(exact.MOST_WORK):
            multiply(two, two)

    with pytest.raises(TooHard):
        again_and_again()


def test_work_is_bounded_over_one_answer() -> None:
    many = number(0)
    for name in "abcdefgh":
        many = add(many, exact.atom(name))

    def square_again(value: Expression, times: int) -> Expression:
        return value if not times else square_again(multiply(value, value), times - 1)

    with pytest.raises(TooHard):
        square_again(many, 20)
