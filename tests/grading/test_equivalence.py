"""Exact comparison: what it decides is right, and what it cannot decide it says."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.grading import MathGrader, compare
from openr_data.grading.normalize import as_rational, normalize
from openr_data.types import Verdict

C, I, U = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN  # noqa: E741


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("12", "2", I),
        ("-3", "3", I),
        ("3", "", U),
        ("", "3", U),
        (r"\dfrac{1}{2}", r"\frac12", C),
        ("0.5", r"\frac{1}{2}", C),
        ("1/2", ".5", C),
        ("1,000", "1000", C),
        ("1{,}000{,}000", "1000000", C),
        (r"1\frac{1}{2}", "1.5", C),
        (r"-\frac{3}{4}", "-0.75", C),
        (r"\frac{-3}{4}", "-0.75", C),
        (r"90^\circ", "90", C),
        (r"50\%", "50", C),
        (r"\$3.50", "3.5", C),
        (r"5\text{ cm}", "5", C),
        ("5 apples", "5", C),
        ("x=5", "5", C),
        (r"\text{(A)}", "A", C),
        ("tuesday", r"\text{Tuesday}", C),
        ("Monday", "Tuesday", I),
        ("(B)", "C", I),
        ("Evelyn", "Bjorn", U),
        ("7", r"\text{even}", U),
        ("two", "2", U),
        ("ab", "ba", U),
        ("AB", "ab", U),
        # A space between digits separates; a comma in a list is no thousands separator.
        ("1 1/2", "3/2", C),
        ("1 1/2", "11/2", I),
        ("2 3", "23", U),
        (r"1\quad 2", "12", U),
        ("0, 100", "100", U),
        ("(1, 200)", "(1200)", U),
        (r"\{1,234\}", r"\{1234\}", U),
        ("0,001", "1", U),
        (r"10,\!080", "10080", C),
        # A unit or a left side may be left out, not exchanged.
        ("50 cents", "50 dollars", U),
        ("5 cm", "5 km", U),
        (r"5\text{ cm}^2", r"5\text{ cm}^3", U),
        ("5 hours", "5 hour", C),
        ("x=5", "y=5", U),
        ("x=5", "x=6", I),
        ("0.5", "50%", U),
        ("100 cm", "1 meter", U),
        ("7 cm", "5", I),
        (r"\left(1, 2\right)", "(1,2)", C),
        ("[0,9)", "(0,9)", U),
        ("x+1", "1+x", U),
        ("5m", "5", U),
        (r"\frac{1}{0}", "3", U),
        ("9" * 5000, "9" * 5000, U),
        ("9" * 1000, "9" * 1000, C),
    ],
)
def test_a_pair_gets_its_verdict(answer: str, gold: str, verdict: Verdict) -> None:
    assert compare(answer, gold) is verdict


NUMBERS = st.fractions(min_value=-10_000, max_value=10_000, max_denominator=1000)


@given(NUMBERS, NUMBERS)
def test_two_fractions_are_equal_when_their_values_are(first: Fraction, second: Fraction) -> None:
    for written in (f"{first.numerator}/{first.denominator}", f"\\frac{{{first.numerator}}}{{{first.denominator}}}"):
        expected = C if first == second else I
        assert compare(written, f"\\dfrac{{{second.numerator}}}{{{second.denominator}}}") is expected


@given(st.text(alphabet=st.sampled_from(r"\frac{}12.,/ -+x=$%^dtext()"), max_size=30))
def test_normalising_twice_changes_nothing_and_no_text_raises(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    as_rational(once)
    compare(text, "1")


@given(st.text(max_size=30), st.text(max_size=30))
def test_comparison_is_symmetric(first: str, second: str) -> None:
    assert compare(first, second) is compare(second, first)


def test_every_gold_answer_of_math_500_equals_itself_and_none_of_another_value(shared_data: Path) -> None:
    lines = (shared_data / "math" / "test500.jsonl").read_text().splitlines()
    golds = [json.loads(line)["answer"] for line in lines]
    assert [gold for gold in golds if compare(gold, gold) is not C] == []
    numbers = [(gold, as_rational(normalize(gold))) for gold in sorted(set(golds))]
    wrong = [
        (a, b)
        for a, x in numbers
        for b, y in numbers
        if x is not None and y is not None and (compare(a, b) is C) != (x == y)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text", ["5" + " " * 1990 + "x", "1 " * 990, "{" * 1990, "\\frac" * 390, "5 square" * 240, "," * 1990]
)
def test_no_answer_is_slow_to_compare(text: str) -> None:
    for _ in range(20):
        normalize.cache_clear()
        assert compare(text, "1") in (U, I)


async def grade(answer: str, gold: str) -> Verdict:
    return await MathGrader().grade(answer, gold)


def test_the_grader_has_a_version_in_its_name() -> None:
    import asyncio

    assert asyncio.run(grade("4", "4")) is C
    assert MathGrader.name == "math/1"
