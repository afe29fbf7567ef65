"""Finding the final answer in a solution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.grading import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{5}.", "5"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a} and \boxed{open", "a"),
        (r"\boxed 7 is it", "7"),
        (r"\boxed 12", "12"),
        (r"\boxed{5}. I used \boxed as asked.", "5"),
        ("The answer is **5**", "5"),
        (r"\fbox{x+1}", "x+1"),
        (r"\boxed{ $3$ }", "3"),
        ("work\n#### 1,234", "1,234"),
        ("The answer is 12.", "12"),
        ("the final answer is: $\\frac{3}{4}$.", r"\frac{3}{4}"),
        ("Answer: Tuesday", "Tuesday"),
        (r"The answer is 3 but really \boxed{4}", "4"),
        ("a stray number 17", None),
        ("", None),
        (r"\boxed{}", None),
        ("\\boxed", None),
    ],
)
def test_the_last_and_most_explicit_answer_wins(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@given(st.text(alphabet=st.sampled_from("\\boxed{}fbox #4 answer is:\n"), max_size=80))
def test_any_text_gets_an_answer_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer.strip() == answer != ""


def test_ten_thousand_braces_cost_nothing() -> None:
    assert extract_answer("\\boxed{" * 10_000) is None
    assert extract_answer("\\boxed{" + "{" * 5_000 + "}" * 5_000 + "}") == "{" * 5_000 + "}" * 5_000
