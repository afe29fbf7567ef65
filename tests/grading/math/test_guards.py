"""Guards refuse hostile answers in one pass and let honest ones through."""

import json
import time
from pathlib import Path

import pytest

from openr_data.grading import compare_exactly
from openr_data.grading.math.guards import refusal, repaired
from openr_data.types import Verdict


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9" * 2_001, "longer"),
        ("1\x00", "control"),
        ("\ud800", "control"),
        ("20!!!", "factorial"),
        ("((20!)!)", "factorial"),
        ("1000000000!", "factorial"),
        ("2^{99999999}", "exponent"),
        ("1e999999999", "exponent"),
        ("9^9^9", "tower"),
        ("9^{9^{9^{9}}}", "tower"),
        ("2**3**4**5", "tower"),
        ("9" * 1_500, "digits"),
        (r"\input{/etc/passwd}", "TeX"),
        ("(" * 60 + "1" + ")" * 60, "nested"),
    ],
)
def test_a_hostile_answer_is_unknown_with_its_reason(text: str, reason: str) -> None:
    assert reason in refusal(text)
    found = compare_exactly(text, "5")
    assert found.verdict is Verdict.UNKNOWN
    assert reason in found.reason
    assert found.is_final


@pytest.mark.parametrize(
    "text", ["-x^5+4x^3+24x^2", "e^{x^{2}+y^{2}}", "2^{2005}", "170!", "x^{10}y^{3}", "!", "5!+3!"]
)
def test_an_honest_answer_passes(text: str) -> None:
    assert refusal(text) == ""


def test_no_gold_answer_of_math_is_refused(shared_data: Path) -> None:
    for name in ("train", "test500"):
        for line in (shared_data / "math" / f"{name}.jsonl").read_text().splitlines():
            assert refusal(json.loads(line)["answer"]) == ""


@pytest.mark.parametrize(
    "text", ["^{" * 1000, "!" * 2000, "(" * 2000, "9" * 2000, "**" * 1000, "^(" * 1000, "! }" * 600]
)
def test_guards_are_linear(text: str) -> None:
    started = time.process_time()
    for _ in range(20):
        refusal(text)
    assert time.process_time() - started < 1


def test_commands_that_json_has_broken_are_put_right() -> None:
    assert repaired("\x0crac{1}{2}") == r"\frac{1}{2}"
    assert repaired("\\\x0crac{1}{2}") == r"\frac{1}{2}"
    assert repaired("5\times 3") == r"5\times 3"
    assert repaired("\x08oxed{3}") == r"\boxed{3}"
    assert repaired(" **7** ") == "7"
