"""Tests TRL's stepwise supervision."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.trl import TrlFormat
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write

ROW = {
    "prompt": "Which is larger, 9.8 or 9.11?",
    "completions": ["11 > 8.", "Hence 9.11 > 9.8."],
    "labels": [True, False],
}

TEXTS = st.text(min_size=1).filter(lambda text: bool(text.strip()))
LABELS = st.one_of(
    st.lists(st.booleans(), min_size=1),
    st.lists(st.sampled_from([0, 1]), min_size=1),
    st.lists(st.floats(-1e30, 1e30), min_size=1),
    st.lists(st.one_of(st.integers(-9, 9), st.floats(0, 1)), min_size=1).filter(
        lambda marks: any(isinstance(mark, float) for mark in marks)
    ),
)


@given(prompt=TEXTS, labels=LABELS, data=st.data())
def test_every_row_is_written_as_it_was(prompt: str, labels: list[Any], data: st.DataObject) -> None:
    steps = data.draw(st.lists(TEXTS, min_size=len(labels), max_size=len(labels)))
    row = {"prompt": prompt, "completions": steps, "labels": labels, "source": "x", "turn": 1}
    (out,) = rewritten(TrlFormat, row)
    assert same(out, row)


def test_truth_values_become_hard_labels_and_numbers_become_values() -> None:
    (record,) = read(TrlFormat, ROW)
    assert (record.label, record.value) == ((1, -1), ())
    (record,) = read(TrlFormat, {**ROW, "labels": [0.5, 0.9]}, threshold=0.5)
    assert (record.label, record.value) == ((-1, 1), (0.5, 0.9))


def test_hard_writes_truth_values_for_rows_of_numbers_and_counts_what_goes() -> None:
    tally = Tally()
    records = read(TrlFormat, {**ROW, "labels": [0.2, 0.9]})
    assert write(TrlFormat, records, tally, labels="hard") == [{**ROW, "labels": [False, True]}]
    assert tally.lost == {"values of steps (soft labels)": 2}


def test_soft_writes_values_where_they_are_known_and_labels_elsewhere() -> None:
    tally = Tally()
    record = a_record((1, 1, 0, None), value=(0.25, None, None, None), n_rollouts=(4, 0, 0, 0))
    (row,) = write(TrlFormat, [record], tally, labels="soft")
    assert same(row["labels"], [0.25, 1.0, 0.5])
    assert tally.lost == {
        "steps that were not judged, and those after them": 1,
        "rollout counts of steps": 1,
        "hard labels that differ from whether the value is above 0.5": 2,
    }


def test_records_from_elsewhere_are_written_with_truth_values() -> None:
    tally = Tally()
    (row,) = write(TrlFormat, [a_record((1, 0, -1, None, 1))], tally, neutral="bad")
    assert row == {
        "prompt": "What is 1 + 1?",
        "completions": ["Step 1: a", "Step 2: b", "Step 3: c"],
        "labels": [True, False, False],
    }
    assert tally.lost == {
        "steps that were not judged, and those after them": 2,
        "neutral labels (now good or bad)": 1,
    }


def test_a_record_without_judged_steps_is_not_written() -> None:
    for labels in ("hard", "soft"):
        tally = Tally()
        assert write(TrlFormat, [a_record((None, 1))], tally, labels=labels) == []
        assert tally.lost["records without any judged step"] == 1


def test_fields_that_are_no_plain_values_are_left_out_and_counted() -> None:
    tally = Tally()
    records = read(TrlFormat, {**ROW, "id": 7, "nested": {"a": 1}}, tally)
    assert write(TrlFormat, records) == [{**ROW, "id": 7}]
    assert tally.repaired == {"fields beyond the format that are not plain values left out": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "  "}, "no text in `prompt`"),
        ({"completions": "ab"}, "`completions` is not a list of texts"),
        ({"completions": ["a", " "]}, "a step without text"),
        ({"labels": [True]}, "not one label a step"),
        ({"labels": None}, "not one label a step"),
        ({"labels": [True, 0.5]}, "labels that are neither marks nor values"),
        ({"labels": [1, 2]}, "labels that are neither marks nor values"),
        ({"labels": ["+", "-"]}, "labels that are neither marks nor values"),
        ({"labels": [True, None]}, "labels that are neither marks nor values"),
        ({"labels": [0.5, float("nan")]}, "a label that is not a finite number"),
        ({"labels": [0.5, 10**400]}, "a label that is not a finite number"),
    ],
)
def test_a_bad_row_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(TrlFormat, {**ROW, **change})
