"""Tokens: what carries no meaning goes, what does stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.grading.math.parsing.tokens import readings, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("007", ("7",)),
        ("$ 12. $", ("12",)),
        (r"\left( \dfrac12 \right)", ("(", "\\frac", "12", ")")),
        (r"\text{ five  miles }", ('"five', '"miles')),
        (r"\mathrm{e}", ("e",)),
        ("1,000", ("1000",)),
        ("(1,100)", ("(", "1", ",", "100", ")")),
        ("0,05", ("0.05",)),
        ("(0,05)", ("(", '"0', ",", '"05', ")")),
        ("HTH", ('"hth',)),
        ("dog", ('"dog',)),
        ("12 m", ("12", '"m')),
        ("9.8 m/s^2", ("9.8", '"m', "/", "s", "^", "2")),
        (r"25\text{ m}^2", ("25", '"m', "^", "2")),
        ("10⁻²", ("10", "^", "{", "-", "2", "}")),
        ("1.2 x 10^3", ("1.2", "*", "10", "^", "3")),
        (r"0.1\overline{6}", ("\\frac", "{", "1", "}", "{", "6", "}")),
        ("1.234,56", ("1234.56",)),
        ("1,2,...", ("1", ",", "2", ",", "\\ldots")),
        (r"10\,000", ("10000",)),
        ("3 1/2", ("3", " ", "1", "/", "2")),
        ("12 p.m.", ("12", '"pm')),
        ("sin x", ("\\sin", "x")),
        ("xyz", ("x", "y", "z")),
        ("ellipse", ('"ellipse',)),
        ("x>=3", ("x", "\\ge", "3")),
        ("5!=120", ("5", "!", "=", "120")),
        ("x != 3", ("x", "\\ne", "3")),
        ("−√π", ("-", "\\sqrt", "\\pi")),
        ("**73**", ("73",)),
        (r"x_{1}=2,\quadx_{2}=3", ("x", "_", "{", "1", "}", "=", "2", ",", "x", "_", "{", "2", "}", "=", "3")),
        (". .", ()),
        ("", ()),
    ],
)
def test_a_text_is_cut_into_its_tokens(text: str, expected: tuple[str, ...]) -> None:
    assert tokens(text) == expected


def test_a_comma_may_be_read_in_two_ways() -> None:
    assert readings("120,150") == [("120150",), ("120", ",", "150")]
    assert readings("1,2") == [("1", ",", "2"), ("1.2",)]
    assert readings("12") == [("12",)]


@given(st.text(max_size=60))
def test_any_text_has_tokens_and_outer_space_is_none(text: str) -> None:
    assert tokens(text) == tokens(f"  {text} ")
    assert all(token for token in tokens(text))
