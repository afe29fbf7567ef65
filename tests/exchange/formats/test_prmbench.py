"""Tests PRMBench rows."""

from typing import Any

import pytest

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.prmbench import PrmBenchFormat
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write

ROW: dict[str, Any] = {
    "idx": "circular_prm_test_p1_0",
    "classification": "circular",
    "question": "How many?",
    "original_question": "How many?",
    "modified_question": "How many?",
    "original_process": ["1. a", "2. b"],
    "modified_process": ["1. a", "2. x", "3. y"],
    "modified_steps": [2],
    "error_steps": [2, 3],
    "reason": "Step 2 assumes what step 3 says.",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"error_steps": []},
        {"error_steps": [3, 2, 2]},
        {"modified_question": " How many?\n"},
        {"reason": None, "original_process": [], "difficulty": 3},
    ],
)
def test_every_row_is_written_as_it_was(change: dict[str, Any]) -> None:
    row = {**ROW, **change}
    (out,) = rewritten(PrmBenchFormat, row)
    assert same(out, row)


def test_indices_count_from_one() -> None:
    (record,) = read(PrmBenchFormat, ROW)
    assert record.label == (1, -1, -1)
    assert (record.method, record.steps[1]) == ("prmbench", "2. x")


def test_records_from_elsewhere_have_no_original() -> None:
    tally = Tally()
    (row,) = write(PrmBenchFormat, [a_record((1, -1, None))], tally)
    assert (row["error_steps"], row["original_process"], row["modified_steps"]) == ([2], [], [])
    assert tally.lost == {"steps that were not judged, and those after them": 1}
    (record,) = read(PrmBenchFormat, row)
    assert record.label == (1, -1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"error_steps": [0]}, "`error_steps` names a step that does not exist"),
        ({"error_steps": [4]}, "`error_steps` names a step that does not exist"),
        ({"error_steps": [True]}, "`error_steps` is not a list of step numbers"),
        ({"error_steps": None}, "`error_steps` is not a list of step numbers"),
        ({"modified_process": []}, "`modified_process` is not a list of texts"),
        ({"modified_process": ["a", " ", "b"]}, "a step without text"),
        ({"modified_question": 1}, "no text in `modified_question`"),
        ({"original_process": [1]}, "`original_process` is not a list of texts"),
        ({"modified_steps": ["1"]}, "`modified_steps` is not a list of step numbers"),
        ({"reason": 1}, "a descriptive field that is not a string"),
    ],
)
def test_a_bad_row_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(PrmBenchFormat, {**ROW, **change})
