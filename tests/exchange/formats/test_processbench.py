"""Tests ProcessBench rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.processbench import ProcessBenchFormat
from openr_data.types import Provenance
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write

ROW = {
    "id": "gsm8k-0",
    "generator": "Qwen2-7B-Instruct",
    "problem": "1 + 1?",
    "steps": ["a", "b ", "c"],
    "final_answer_correct": False,
    "label": 1,
}
TEXTS = st.text(min_size=1).filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_every_real_row_is_written_as_it_was(shared_data: Path, name: str) -> None:
    rows = json.loads((shared_data / "processbench" / f"{name}.json").read_text("utf-8"))
    for row in rows:
        (out,) = rewritten(ProcessBenchFormat, row)
        assert json.dumps(out) == json.dumps(row)


@given(
    problem=TEXTS, steps=st.lists(TEXTS, min_size=1), right=st.none() | st.booleans(), data=st.data(), name=st.text()
)
def test_every_row_is_written_as_it_was(
    problem: str, steps: list[str], right: bool | None, data: st.DataObject, name: str
) -> None:
    label = data.draw(st.integers(-1, len(steps) - 1))
    row = {
        "id": "x-1",
        "generator": name,
        "problem": problem,
        "steps": steps,
        "final_answer_correct": right,
        "label": label,
    }
    (out,) = rewritten(ProcessBenchFormat, row)
    assert same(out, row)


def test_steps_before_the_first_error_are_good_and_those_behind_it_unjudged() -> None:
    (record,) = read(ProcessBenchFormat, ROW)
    assert record.label == (1, -1, None)
    assert record.provenance == (Provenance.HUMAN,) * 3
    assert (record.method, record.generator, record.outcome) == ("human", "Qwen2-7B-Instruct", False)
    assert record.question.answer == ""
    (record,) = read(ProcessBenchFormat, {**ROW, "label": -1})
    assert record.label == (1, 1, 1)


def test_the_label_of_other_records_is_their_first_error() -> None:
    tally = Tally()
    rows = write(ProcessBenchFormat, [a_record((1, None, -1, 1), outcome=True), a_record((1, 0))], tally)
    assert [row["label"] for row in rows] == [2, -1]
    assert [row["final_answer_correct"] for row in rows] == [True, None]
    assert len({row["id"] for row in rows}) == 2
    assert tally.lost == {
        "unjudged steps before the first bad one (now good)": 1,
        "labels after the first bad step": 1,
        "neutral labels (now good or bad)": 1,
        "whether the final answer is right: unknown (`final_answer_correct` is null)": 1,
    }


def test_a_record_that_may_hide_an_error_is_not_written() -> None:
    tally = Tally()
    assert write(ProcessBenchFormat, [a_record((1, None))], tally) == []
    assert tally.lost == {"records without a bad step, but with steps that were not judged": 1}


@pytest.mark.parametrize("label", [3, -2, True, None, 1.0, "1"])
def test_a_label_that_is_no_step_is_bad(label: Any) -> None:
    with pytest.raises(BadRow, match="`label` is neither the index of a step nor -1"):
        read(ProcessBenchFormat, {**ROW, "label": label})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": 3}, "no text in `id`"),
        ({"generator": None}, "`generator` is not a string"),
        ({"steps": []}, "`steps` is not a list of texts"),
        ({"steps": ["a", "b", "\n"]}, "a step without text"),
        ({"final_answer_correct": 1}, "`final_answer_correct` is not a truth value"),
    ],
)
def test_a_bad_row_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(ProcessBenchFormat, {**ROW, **change})
