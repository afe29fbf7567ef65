"""Tests MATH-APS in the flat layout."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, QuestionGroup, Tally
from openr_data.exchange.formats.math_aps import MathApsFormat, parents
from openr_data.types import Provenance, Question
from tests.exchange.formats.round_trip import a_record, groups, json_lines, make, read, rewritten, same, write


def a_row(*prefixes: tuple[str, float | None], question: str = "Q", answer: str = "4", **more: Any) -> dict[str, Any]:
    steps = [{"solution_prefix": question + text, "mc_value": value} for text, value in prefixes]
    return {"question": question, "final_answer": answer, "reasoning_steps": steps, **more}


TREE = a_row(("", 0.5), ("\n\n a", 0.25), ("\n\n a\n\n\nb ", 0.0), ("\n\n a\n\nc", 1.0), ("d", 1 / 3), question_id="7")


def test_every_real_row_is_written_as_it_was(shared_data: Path) -> None:
    for row in json_lines(shared_data / "formats" / "math_aps_flat.jsonl"):
        (out,) = rewritten(MathApsFormat, row)
        assert same(out, row)


def test_the_texts_of_a_real_row_are_not_stored_twice(shared_data: Path) -> None:
    row = json_lines(shared_data / "formats" / "math_aps_flat.jsonl")[0]
    records = read(MathApsFormat, row)
    texts = sum(len(step) for record in records for step in record.steps)
    metadata = sum(len(record.label_metadata) for record in records)
    assert metadata < texts / 5


def test_each_leaf_is_one_record_with_the_values_of_its_prefixes() -> None:
    records = read(MathApsFormat, TREE)
    assert [(record.steps, record.value, record.label) for record in records] == [
        (("a", "b"), (0.25, 0.0), (1, -1)),
        (("a", "c"), (0.25, 1.0), (1, 1)),
        (("d",), (1 / 3,), (1,)),
    ]
    assert {record.method for record in records} == {"omegaprm"}
    assert records[0].provenance == (Provenance.IMPORTED,) * 2
    assert [record.label for record in read(MathApsFormat, TREE, threshold=0.5)] == [(-1, -1), (-1, 1), (-1,)]
    assert rewritten(MathApsFormat, TREE) == [TREE]


@pytest.mark.parametrize(
    "row",
    [
        a_row(("\n\na\n\nb", 0.5), ("\n\na", 1), ("", 0.25)),
        a_row(("", 0.5), ("", 0.25), ("a", 1.0), ("a", 0.5), ("a\n", 0.5), ("a\nb", 0.0), ("a", 1.0)),
        a_row(("a", None), ("ab", 0.1), question=" Q\n", answer=" 4"),
    ],
)
def test_odd_rows_are_written_as_they_were(row: dict[str, Any]) -> None:
    (out,) = rewritten(MathApsFormat, row)
    assert same(out, row)


@given(
    st.lists(
        st.tuples(st.text(st.sampled_from("ab \n"), max_size=6), st.none() | st.floats(0, 1)), min_size=1, max_size=12
    )
)
def test_any_set_of_prefixes_is_written_as_it_was(prefixes: list[tuple[str, float | None]]) -> None:
    row = a_row(*prefixes)
    form, tally = make(MathApsFormat), Tally()
    items = list(form.read(row, tally))
    if isinstance(items[0], Question):
        assert all(not text.strip() for text, _ in prefixes)
        return
    (group,) = groups(items)
    (out,) = form.write(group, Tally())
    assert same(out, row)


def test_one_prefix_with_two_values_counts_as_mended_and_the_first_labels() -> None:
    tally = Tally()
    records = read(MathApsFormat, a_row(("a", 0.0), ("a", 0.5)), tally)
    assert [(record.steps, record.label) for record in records] == [(("a",), (-1,))]
    assert tally.repaired == {"one prefix with several values: the first is used": 1}


def test_a_row_without_steps_is_its_question() -> None:
    tally = Tally()
    (found,) = make(MathApsFormat).read(a_row(("", 0.5)), tally)
    assert isinstance(found, Question)
    assert (found.question, found.answer) == ("Q", "4")
    assert tally.repaired == {"a row without steps: only the question is read": 1}
    assert list(make(MathApsFormat).write(QuestionGroup(found, []), tally)) == []
    assert tally.lost == {"questions without a process": 1}


def test_parents_are_the_longest_texts_a_text_begins_with() -> None:
    assert parents(["q", "qa", "qabc", "qab", "qb", "qa"]) == [-1, 0, 3, 1, 0, 0]


def test_two_rows_of_one_question_stay_two_and_a_broken_one_is_rebuilt() -> None:
    rows = [a_row(("", 0.5), ("a", 0.5), ("b", 1.0)), a_row(("", 0.5), ("c", 0.5), ("d", 1.0))]
    form = make(MathApsFormat)
    items = [item for row in rows for item in form.read(row, Tally())]
    (group,) = groups(items)
    assert list(form.write(group, Tally())) == rows
    tally = Tally()
    first, second = form.write(QuestionGroup(group.question, group.records[1:]), tally)
    assert first == rows[1]
    assert second == a_row(("\n\nb", 1.0))
    assert tally.lost == {"the layout of a row that has lost some of its records": 1}


NODES: list[dict[str, Any]] = [
    {"node_id": "a", "parent_id": "r", "step": "Step 1: a", "n_rollouts": 8, "n_correct": 2, "certified": True},
    {"node_id": "r", "parent_id": None, "step": "", "n_rollouts": 8, "n_correct": 4, "certified": True},
    {"node_id": "b", "parent_id": "a", "step": "Step 2: b", "n_rollouts": 4, "n_correct": 0, "certified": False},
    {"node_id": "b", "parent_id": "a", "step": "Step 2: b", "n_rollouts": 4, "n_correct": 0, "certified": False},
    {"node_id": "x", "parent_id": "a", "step": "x", "n_rollouts": 0, "n_correct": 0, "certified": True},
    {"node_id": "z", "parent_id": "gone", "step": "z", "n_rollouts": 1, "n_correct": 0, "certified": False},
]


def test_nodes_give_the_values_and_what_is_written_reads_back_to_the_same_labels() -> None:
    record = a_record((1, -1, -1), value=(0.5, 0.0, None))
    tally = Tally()
    (row,) = make(MathApsFormat).write(QuestionGroup(record.question, [record], NODES), tally)
    text = record.question.question
    assert row["reasoning_steps"] == [
        {"solution_prefix": text, "mc_value": 0.5},
        {"solution_prefix": f"{text}\n\nStep 1: a", "mc_value": 0.25},
        {"solution_prefix": f"{text}\n\nStep 1: a\n\nStep 2: b", "mc_value": 0.0},
        {"solution_prefix": f"{text}\n\nStep 1: a\n\nStep 2: b\n\nStep 3: c", "mc_value": None, "label": -1},
        {"solution_prefix": f"{text}\n\nStep 1: a\n\nx", "mc_value": None, "label": 1},
    ]
    assert tally.lost == {
        "nodes whose parent is missing": 1,
        "rollout counts of prefixes": 3,
        "prefixes without an MC value (`mc_value` is null)": 2,
    }
    found = read(MathApsFormat, dict(row))
    assert [(one.steps, one.label) for one in found] == [
        (record.steps, record.label),
        (("Step 1: a", "x"), (1, 1)),
    ]
    assert rewritten(MathApsFormat, dict(row)) == [row]


def test_nodes_alone_are_written_too() -> None:
    question = a_record().question
    (row,) = make(MathApsFormat).write(QuestionGroup(question, [], NODES[:5]), Tally())
    assert len(row["reasoning_steps"]) == 4
    (row,) = make(MathApsFormat).write(QuestionGroup(question, [], NODES[1:2]), Tally())
    assert row["reasoning_steps"] == [{"solution_prefix": question.question, "mc_value": 0.5}]
    tally = Tally()
    unmeasured = {**NODES[1], "n_rollouts": 0, "n_correct": 0}
    assert list(make(MathApsFormat).write(QuestionGroup(question, [], [unmeasured]), tally)) == []
    assert tally.lost == {"questions without a process": 1}


def test_values_and_counts_that_do_not_go_in_are_counted() -> None:
    tally = Tally()
    write(MathApsFormat, [a_record((1,), value=(v,), n_rollouts=(8,), n_correct=(4,)) for v in (0.5, 0.25)], tally)
    assert tally.lost == {"values of a step that differ from those of another record": 1, "rollout counts of steps": 2}


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 0, -1, None])), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_of_any_records_reads_back_to_the_same_labels(
    solutions: list[list[tuple[str, int | None]]],
) -> None:
    known: dict[tuple[str, ...], int | None] = {}
    records = []
    for solution in solutions:
        steps = tuple(step for step, _ in solution)
        label = [known.setdefault(steps[: i + 1], mark) for i, (_, mark) in enumerate(solution)]
        records.append(a_record(label, steps=steps))
    tally = Tally()
    (row,) = write(MathApsFormat, records, tally)
    for found in read(MathApsFormat, row):
        prefixes = [found.steps[: i + 1] for i in range(len(found.steps))]
        assert list(found.label) == [known[prefix] for prefix in prefixes]
    assert not {reason for reason in tally.lost if "null" not in reason}


def test_what_the_texts_cannot_tell_is_counted() -> None:
    tally = Tally()
    records = [a_record((1,), steps=("ab",)), a_record((1,), steps=("abc",)), a_record((-1, 1), steps=("ab", " c"))]
    write(MathApsFormat, records, tally)
    assert tally.lost == {
        "prefixes without an MC value (`mc_value` is null)": 3,
        "prefixes whose parent the text does not show": 1,
        "labels of a step that differ from those of another record": 1,
        "white space around steps: readers strip it": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no text in `question`"),
        ({"question": "Q", "final_answer": 4}, "`final_answer` is not a string"),
        ({"question": "Q", "final_answer": "4"}, "`reasoning_steps` is not a list of prefixes"),
        (
            {"question": "Q", "final_answer": "4", "reasoning_steps": ["Q"]},
            "a prefix that is not an object with a text",
        ),
        (
            {"question": "Q", "final_answer": "4", "reasoning_steps": [{"solution_prefix": "x"}]},
            "a prefix that does not begin with the question",
        ),
        (a_row(("a", 1.5)), "an `mc_value` that is not a number from 0 to 1"),
        (a_row(("a", True)), "an `mc_value` that is not a number from 0 to 1"),
        (a_row(("a", float("nan"))), "an `mc_value` that is not a number from 0 to 1"),
        (
            {"question": "Q", "final_answer": "4", "reasoning_steps": [{"solution_prefix": "Q", "label": 2}]},
            "a `label` of an entry that is not 1, 0 or -1",
        ),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(MathApsFormat, row)
