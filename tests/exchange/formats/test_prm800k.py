"""Tests PRM800K rows of both phases."""

import json
from pathlib import Path
from typing import Any

import pytest

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.prm800k import Prm800kFormat
from openr_data.types import Provenance
from tests.exchange.formats.round_trip import a_record, groups, json_lines, make, read, rewritten, write


def a_step(*completions: tuple[str, int | None], chosen: int | None = 0, human: str | None = None) -> dict[str, Any]:
    found = None if human is None else {"text": human, "rating": None, "source": "human", "flagged": False}
    return {
        "completions": [{"text": text, "rating": rating, "flagged": False} for text, rating in completions],
        "human_completion": found,
        "chosen_completion": chosen,
    }


def a_row(*steps: dict[str, Any], finish: str = "solution", **more: Any) -> dict[str, Any]:
    return {
        "labeler": "l",
        "timestamp": "t",
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "P", "ground_truth_answer": "29"},
        "label": {"steps": list(steps), "total_time": 293250, "finish_reason": finish},
        **more,
    }


def test_every_real_row_is_written_as_it_was_with_the_order_of_its_keys(shared_data: Path) -> None:
    rows = json_lines(shared_data / "formats" / "prm800k.jsonl")
    for row in rows:
        (out,) = rewritten(Prm800kFormat, row, keep_screening=True)
        assert json.dumps(out) == json.dumps(row)


def test_the_real_rows_hold_the_paths_and_alternatives_they_should(shared_data: Path) -> None:
    rows = json_lines(shared_data / "formats" / "prm800k.jsonl")
    found = [read(Prm800kFormat, row, keep_screening=True) for row in rows]
    labels = [records[0].label for records in found]
    assert labels == [
        (1, 1, 1, 1, 1, 1),
        (1, 0, 1, 1, 1, 1, -1),
        (1, 1, 1, 1, 1),
        (1,) * 7,
        (1,) * 8,
        (1,) * 12,
    ]
    assert [records[0].outcome for records in found] == [True, None, True, True, None, True]
    assert [records[0].final_answer for records in found] == ["29", None, "468", "9", None, "8, 3, 1"]
    with pytest.raises(BadRow, match="a row for quality control or screening"):
        read(Prm800kFormat, rows[5])


def test_the_chosen_path_is_one_record_and_every_alternative_another() -> None:
    row = a_row(a_step(("a", 1), ("a'", -1), ("a''", None)), a_step(("b", 0), ("b'", 1), chosen=1))
    records = read(Prm800kFormat, row)
    assert [(record.steps, record.label) for record in records] == [
        (("a", "b'"), (1, 1)),
        (("a'",), (-1,)),
        (("a''",), (None,)),
        (("a", "b"), (1, 0)),
    ]
    assert {record.method for record in records} == {"human"}
    assert {record.generator for record in records} == {"prm800k"}
    assert {record.provenance[0] for record in records} == {Provenance.HUMAN}
    where = json.loads(records[3].label_metadata)["prm800k_alternative"]
    assert (where["step"], where["completion"]) == (1, 0)


def test_a_text_of_a_person_is_good_and_the_rated_ones_beside_it_are_alternatives() -> None:
    row = a_row(a_step(("a", -1), chosen=None, human="h"), a_step(("b", 1)))
    assert [(record.steps, record.label) for record in read(Prm800kFormat, row)] == [
        (("h", "b"), (1, 1)),
        (("a",), (-1,)),
    ]


@pytest.mark.parametrize(
    ("last", "path"),
    [
        (a_step(("x", 1), ("y", -1), ("z", -1), chosen=None), (("a", "y"), (1, -1))),
        (a_step(("w", None), ("x", 1), ("y", 0), chosen=None), (("a", "x"), (1, 1))),
        (a_step(("w", None), chosen=None), (("a",), (1,))),
        (a_step(chosen=None), (("a",), (1,))),
        ({"completions": None, "human_completion": None, "chosen_completion": None}, (("a",), (1,))),
    ],
)
def test_a_path_that_stops_ends_with_the_error_or_the_first_rated_completion(
    last: dict[str, Any], path: tuple[tuple[str, ...], tuple[int, ...]]
) -> None:
    row = a_row(a_step(("a", 1)), last, finish="found_error")
    record, *others = read(Prm800kFormat, row)
    assert (record.steps, record.label) == path
    assert len(others) == sum(bool(step["completions"]) and len(step["completions"]) for step in [last]) - (
        len(path[0]) - 1
    )
    assert record.outcome is None
    assert rewritten(Prm800kFormat, row) == [row]


def test_a_rating_of_zero_is_what_the_options_say() -> None:
    row = a_row(a_step(("a", 0), ("b", 0)))
    for neutral, label in (("neutral", 0), ("good", 1), ("bad", -1)):
        assert [record.label for record in read(Prm800kFormat, row, neutral=neutral)] == [(label,), (label,)]
        assert rewritten(Prm800kFormat, row, neutral=neutral) == [row]


def test_equal_completions_are_one_record_and_a_contradiction_counts_as_mended() -> None:
    tally = Tally()
    row = a_row(a_step(("a", 1), ("a", 1), ("b", 1), ("b", -1)), a_step(("c", 1)))
    assert len(read(Prm800kFormat, row, tally)) == 2
    assert sum(tally.repaired.values()) == 1
    assert rewritten(Prm800kFormat, row) == [row]


def test_what_only_a_row_says_stays_out_of_the_question() -> None:
    asked = {"problem": "P ", "ground_truth_solution": "S", "ground_truth_answer": None, "pre_generated_steps": ["x"]}
    row = a_row(a_step(("a", 1)), question=asked)
    (record,) = read(Prm800kFormat, row)
    assert json.loads(record.question.metadata) == {"ground_truth_solution": "S"}
    assert (record.question.question, record.question.answer) == ("P", "")
    assert rewritten(Prm800kFormat, row) == [row]


def test_alternatives_whose_row_is_gone_are_rows_of_their_own() -> None:
    row = a_row(a_step(("a", 1), ("b", -1)))
    _, alternative = read(Prm800kFormat, row)
    (out,) = write(Prm800kFormat, [alternative])
    assert out["label"]["steps"] == [a_step(("b", -1), chosen=None)]


def test_two_rows_of_one_question_stay_two() -> None:
    rows = [a_row(a_step(("a", 1), ("b", -1)), timestamp=str(i), labeler=str(i)) for i in range(2)]
    rows[1]["label"]["steps"][0]["completions"][0]["text"] = "c"
    form = make(Prm800kFormat)
    items = [item for row in rows for item in form.read(row, Tally())]
    (group,) = groups(items)
    assert list(form.write(group, Tally())) == rows


def test_records_from_elsewhere_become_rows_that_read_back() -> None:
    tally = Tally()
    records = [a_record((1, 0, -1), n_rollouts=(8, 8, 8)), a_record((1, 1, None)), a_record((None,))]
    rows = write(Prm800kFormat, records, tally)
    assert [row["label"]["finish_reason"] for row in rows] == ["found_error", "solution"]
    assert [read(Prm800kFormat, row)[0].label for row in rows] == [(1, 0, -1), (1, 1)]
    assert tally.lost == {
        "rollout counts of steps": 3,
        "steps that were not judged, and those after them": 2,
        "records without any judged step": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no objects in `question` and `label`"),
        (a_row(question={"problem": " "}), "no text in `problem`"),
        (a_row(question={"problem": "P", "ground_truth_answer": 29}), "`ground_truth_answer` is not a string"),
        (a_row(label={"steps": None}), "`steps` of `label` is not a list"),
        (a_row(), "no step that was chosen, written or rated"),
        (a_row(a_step(("a", None), chosen=None)), "no step that was chosen, written or rated"),
        (a_row(a_step(("a", 1), chosen=1)), "`chosen_completion` is not an index of a completion"),
        (a_row(a_step(("a", 1), chosen=True)), "`chosen_completion` is not an index of a completion"),
        (a_row(a_step(("a", True))), "a rating that is not 1, 0, -1 or null"),
        (a_row(a_step(("a", 2))), "a rating that is not 1, 0, -1 or null"),
        (a_row(a_step((" ", 1))), "the chosen completion has no text"),
        (a_row({"completions": 1}), "`completions` is not a list"),
        (a_row({"completions": ["a"]}), "a completion that is not an object with a text"),
        (a_row({"human_completion": "h"}), "a human completion that is not an object with a text"),
        (
            a_row(a_step(("a", 1)), is_quality_control_question="no"),
            "`is_quality_control_question` is not a truth value",
        ),
        (a_row(a_step(("a", 1)), is_quality_control_question=True), "a row for quality control or screening"),
        (a_row(a_step(("a", 1)), raw=b"x"), "a value that is not JSON"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(Prm800kFormat, row)
