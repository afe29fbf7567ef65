"""Splitting loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.steps import join_steps, split_steps

TEXTS = st.text(alphabet=st.sampled_from("ab .\n\t"), max_size=40)


@given(TEXTS, st.sampled_from(["\n\n", "\n", " ки"]))
def test_joining_the_steps_gives_the_text_back(text: str, separator: str) -> None:
    assert join_steps(split_steps(text, separator), separator) == text


@given(TEXTS)
def test_no_step_is_blank_unless_the_whole_text_is(text: str) -> None:
    steps = split_steps(text)
    assert all(step.strip() for step in steps) or not text.strip()


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a\n\nb", ("a", "b")),
        ("a\n\n\n\nb", ("a\n\n", "b")),
        ("\n\na", ("\n\na",)),
        ("a\n\n", ("a\n\n",)),
        ("   ", ("   ",)),
        ("a\nb\n\nc", ("a\nb", "c")),
    ],
)
def test_steps_are_cut_where_expected(text: str, steps: tuple[str, ...]) -> None:
    assert split_steps(text) == steps
