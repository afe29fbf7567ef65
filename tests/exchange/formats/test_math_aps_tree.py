"""Tests MATH-APS in the tree layout."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, QuestionGroup, Tally
from openr_data.exchange.formats.math_aps import MathApsFormat
from openr_data.exchange.formats.math_aps_tree import MathApsTreeFormat
from openr_data.types import Question
from tests.exchange.formats.round_trip import a_record, groups, json_lines, make, read, rewritten, same, write


def a_node(text: str, value: float | None, *children: dict[str, Any]) -> dict[str, Any]:
    return {"text": text, "mc_value": value, "children": list(children)}


def a_row(root: Any, question: str = "Q") -> dict[str, Any]:
    return {"question": question, "final_answer": "4", "reasoning_steps": root, "question_id": "7"}


TREE = a_row(
    a_node("Q", 0.5, a_node("a", 0.25, a_node("\nb ", 0.0), a_node("c", 1)), a_node("a", 1.0), a_node("d", 1 / 3))
)
TREES = st.recursive(
    st.builds(a_node, st.text(st.sampled_from("ab \n"), max_size=4), st.floats(0, 1)),
    lambda nodes: st.builds(
        lambda text, value, children: a_node(text, value, *children),
        st.text(st.sampled_from("ab \n"), max_size=4),
        st.floats(0, 1),
        st.lists(nodes, max_size=3),
    ),
    max_leaves=12,
)


def test_every_real_row_is_written_as_it_was(shared_data: Path) -> None:
    for row in json_lines(shared_data / "formats" / "math_aps_tree.jsonl"):
        (out,) = rewritten(MathApsTreeFormat, row)
        assert same(out, row)


def test_each_leaf_is_one_record_and_equal_siblings_are_one_prefix() -> None:
    tally = Tally()
    records = read(MathApsTreeFormat, TREE, tally)
    assert [(record.steps, record.value, record.label) for record in records] == [
        (("a", "b"), (0.25, 0.0), (1, -1)),
        (("a", "c"), (0.25, 1.0), (1, 1)),
        (("d",), (1 / 3,), (1,)),
    ]
    assert tally.repaired == {"one prefix with several values: the first is used": 1}
    assert same(rewritten(MathApsTreeFormat, TREE), [TREE])


@given(TREES)
def test_any_tree_is_written_as_it_was(root: dict[str, Any]) -> None:
    row = a_row(root)
    form = make(MathApsTreeFormat)
    items = list(form.read(row, Tally()))
    if isinstance(items[0], Question):
        return
    (group,) = groups(items)
    (out,) = form.write(group, Tally())
    assert same(out, row)


def test_a_deep_tree_is_no_trouble() -> None:
    root = leaf = a_node("Q", 0.5)
    for _ in range(5000):
        leaf["children"] = [a_node("a", 0.5)]
        leaf = leaf["children"][0]
    (record,) = read(MathApsTreeFormat, a_row(root))
    assert len(record.steps) == 5000


def test_a_flat_row_becomes_a_tree(shared_data: Path) -> None:
    row = json_lines(shared_data / "formats" / "math_aps_flat.jsonl")[2]
    records = read(MathApsFormat, row)
    tally = Tally()
    (out,) = write(MathApsTreeFormat, records, tally)
    again = read(MathApsTreeFormat, out)
    assert {(one.steps, one.label, one.value) for one in again} == {
        (one.steps, one.label, one.value) for one in records
    }
    assert out["reasoning_steps"]["mc_value"] == row["reasoning_steps"][0]["mc_value"]
    assert not tally.lost


def test_a_tree_becomes_a_flat_row_and_siblings_that_run_on_from_each_other_are_counted(shared_data: Path) -> None:
    for row in json_lines(shared_data / "formats" / "math_aps_tree.jsonl"):
        records = read(MathApsTreeFormat, row)
        tally = Tally()
        (out,) = write(MathApsFormat, records, tally)
        again = read(MathApsFormat, out)
        assert out["reasoning_steps"][0]["mc_value"] == row["reasoning_steps"]["mc_value"]
        is_shown = {(one.steps, one.label) for one in again} == {(one.steps, one.label) for one in records}
        assert set(tally.lost) == (set() if is_shown else {"prefixes whose parent the text does not show"})


def test_records_from_elsewhere_are_a_tree_under_the_question() -> None:
    tally = Tally()
    records = [a_record((1, -1), value=(0.5, None)), a_record((1,), steps=("x",))]
    (row,) = write(MathApsTreeFormat, records, tally)
    assert row["reasoning_steps"] == a_node(
        "What is 1 + 1?",
        None,
        a_node("Step 1: a", 0.5, {**a_node("Step 2: b", None), "label": -1}),
        {**a_node("x", None), "label": 1},
    )
    assert tally.lost == {"prefixes without an MC value (`mc_value` is null)": 2}
    assert [record.label for record in read(MathApsTreeFormat, row)] == [(1, -1), (1,)]


def test_a_root_that_is_not_the_question_and_fields_beyond_the_format() -> None:
    tally = Tally()
    row = a_row({**a_node("Question: Q", 0.5, a_node("a", 0.5)), "visits": 3})
    records = read(MathApsTreeFormat, row, tally)
    assert tally.repaired == {"fields of nodes beyond the format left out": 1}
    (out,) = write(MathApsTreeFormat, records)
    assert out == a_row(a_node("Question: Q", 0.5, a_node("a", 0.5)))


def test_nodes_beside_rows_that_are_written_as_they_were_are_counted() -> None:
    tally = Tally()
    records = read(MathApsTreeFormat, TREE)
    node = {"node_id": "r", "parent_id": None, "step": "", "n_rollouts": 1, "n_correct": 1, "certified": False}
    (out,) = make(MathApsTreeFormat).write(QuestionGroup(records[0].question, records, [node]), tally)
    assert same(out, TREE)
    assert tally.lost == {"nodes of questions whose rows are written as they were read": 1}


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        (None, "a node that is not an object with a text"),
        ({"text": 1}, "a node that is not an object with a text"),
        ({"text": "Q", "mc_value": 1.0}, "`children` of a node is not a list"),
        (a_node("Q", 2.0), "an `mc_value` that is not a number from 0 to 1"),
        ({**a_node("Q", 1.0), "label": True}, "a `label` of an entry that is not 1, 0 or -1"),
    ],
)
def test_a_bad_row_says_why(root: Any, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(MathApsTreeFormat, a_row(root))
