"""Finding the final answer in a solution, and by which rule."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.grading import extract, extract_answer, extract_finished


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        (r"So \boxed{5}.", "5", "boxed"),
        (r"\boxed{1} then \boxed{2}", "2", "boxed"),
        (r"\boxed{1}, \boxed{2}", "1, 2", "boxed"),
        (r"$\boxed{(2, 2)} \quad \text{and} \quad \boxed{(6, 2)}$", "(2, 2), (6, 2)", "boxed"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2", "boxed"),
        (r"We get \boxed{1}. Then comes \boxed{2}", "2", "boxed"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed{a} and \boxed{open", "a", "boxed"),
        (r"\boxed 7 is it", "7", "boxed"),
        (r"\boxed 12", "12", "boxed"),
        (r"\boxed C", "C", "boxed"),
        (r"\boxed{5}. I used \boxed as asked.", "5", "boxed"),
        (r"\boxed{5}, which took 3 steps and cost $7$", "5", "boxed"),
        (r"\fbox{x+1}", "x+1", "boxed"),
        (r"\boxed{ $3$ }", "3", "boxed"),
        ("work\n#### 1,234", "1,234", "hashes"),
        ("The answer is **5**", "5", "phrase"),
        ("The answer is 12.", "12", "phrase"),
        ("The answer is 3.5. That took 2 steps.", "3.5", "phrase"),
        ("the final answer is: $\\frac{3}{4}$.", r"\frac{3}{4}", "phrase"),
        ("Final Answer: The final answer is $x=2$. I hope it is correct.", "x=2", "phrase"),
        ("Final Answer: The largest $n$ is 34. I hope it is correct.", "34", "phrase"),
        ("Answer: Tuesday", "Tuesday", "phrase"),
        (r"\boxed{4}, and therefore the total is \boxed{9}", "9", "boxed"),
        (r"$a=\boxed{2}$, and so $b=\boxed{5}$", "5", "boxed"),
        ("The answers are 3 and 5.", "3 and 5", "phrase"),
        ("The solutions are 3 and 5.", "3 and 5", "phrase"),
        ("The answer is 5.<|im_end|>", "5", "phrase"),
        (r"<think>maybe \boxed{5}</think> The answer is 6.", "6", "phrase"),
        ("The answer is `42`", "42", "phrase"),
        ("## Final Answer\n\n72\n\nThat took 3 steps.", "72", "phrase"),
        ("The answer is 5 since there are 7 days in a week.", "5", "phrase"),
        (r"The answer is $\frac{1}{2}$ because half of 10 is 5.", r"\frac{1}{2}", "phrase"),
        ("The answer is 12 (the sum of 5 and 7).", "12", "phrase"),
        ("The answer is yes, because 7 is prime.", "yes", "phrase"),
        ("The answer is B because 3 is odd and 4 is even.", "B", "phrase"),
        ("The answer is\n\n\\[\n\\frac{3}{4}\n\\]", r"\frac{3}{4}", "phrase"),
        ("The correct choice is (D).", "(D)", "phrase"),
        ("故选B。", "B", "phrase"),
        ("La respuesta es 7.", "7", "phrase"),
        ("La réponse est 7", "7", "phrase"),
        ("Die Antwort lautet 7.", "7", "phrase"),
        ("Ответ: 7", "7", "phrase"),
        ("所以答案是 7。", "7", "phrase"),
        ("答えは 7", "7", "phrase"),
        (r"The answer is 3 but really \boxed{4}", "4", "boxed"),
        (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5", "formula"),
        (r"So $21$ or $11$", "21, 11", "formula"),
        (r"We have $d = \frac{90}{n}$, so there are 12 of them.", "12", "number"),
        ("So she has 1,234.50 dollars left.", "1,234.50", "number"),
        ("it is -3/4 of it", "-3/4", "number"),
        ("no number at all", None, "none"),
        ("", None, "none"),
        (r"\boxed{}", None, "none"),
        ("\\boxed", None, "none"),
    ],
)
def test_the_last_and_most_explicit_answer_wins(text: str, answer: str | None, rule: str) -> None:
    extraction = extract(text)
    assert (extraction.answer, extraction.rule) == (answer, rule)


def test_only_the_rules_that_are_asked_for_count() -> None:
    assert extract("We have 12.", ("boxed", "phrase")).rule == "none"
    assert extract(r"The answer is 3, \boxed{4}", ("phrase",)).answer is not None


def test_a_text_that_was_cut_has_no_answer_and_a_prefix_may_hold_it() -> None:
    assert extract_finished(r"\boxed{4}", "length", ()).answer is None
    assert extract_finished("Done.", "stop", (r"So \boxed{4}.",)).answer == "4"
    assert extract_finished("It is 5", "stop", (r"So \boxed{4}.",)).answer == "4"
    assert extract_finished("It is 5", "stop", ("We have 3.",)).answer == "5"
    assert extract_finished("Done.", "stop", ("We have 3.",)).answer is None


@given(st.text(alphabet=st.sampled_from("\\boxed{}fbox #4 answer is:\n$,and."), max_size=80))
def test_any_text_gets_an_answer_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer.strip() == answer != ""


def test_ten_thousand_braces_cost_nothing() -> None:
    assert extract_answer("\\boxed{" * 10_000) is None
    assert extract_answer("\\boxed{" + "{" * 5_000 + "}" * 5_000 + "}") == "{" * 5_000 + "}" * 5_000


@pytest.mark.parametrize(
    "text",
    ["\\boxed{" * 30_000, "\\boxed{1} and " * 15_000, "answer is " * 20_000, "#### \n" * 40_000, "1," * 100_000,
     "$ " * 100_000, "9" * 200_000, "答案" * 100_000, "\\boxed{o o o o o o o o o} o o o o o o o o o \\boxed{1}" * 100],
)  # fmt: skip
def test_no_text_is_slow_to_search(text: str) -> None:
    started = time.process_time()
    extract(text)
    # A bound against explosions; 30 milliseconds are measured.
    assert time.process_time() - started < 1
