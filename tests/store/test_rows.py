"""Values become rows of the tables and come back as they were; a null has one meaning."""

from typing import Any, get_args

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from openr_data.ids import process_ids, question_id
from openr_data.schema import LABELS, NODES, QUESTIONS, ROLLOUTS, SOLUTIONS
from openr_data.store import rows
from openr_data.types import (
    Labeling,
    LabelSet,
    Node,
    Outcome,
    Provenance,
    Question,
    Record,
    Rollout,
    Solution,
    StepLabel,
    Verdict,
)
from openr_data.types.sampling import FinishReason

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
count = st.integers(0, 2**31 - 1)
share = st.none() | st.floats(0, 1, width=32)
label = st.sampled_from([1, 0, -1, None])
questions = st.builds(Question, text, text, text, text, text, text, text, st.just('{"a":1}') | st.just("{}"))
solutions = st.builds(
    Solution,
    text,
    text,
    st.lists(text, min_size=1, max_size=4).map(tuple),
    st.none() | text,
    st.sampled_from(Verdict),
    st.none() | count,
    text.filter(bool),
    st.just("{}") | st.just('{"b":2}'),
)
nodes = st.builds(
    Node, text, st.none() | text, text, count, text, count, count, count, st.booleans(), st.booleans(),
    st.none() | st.sampled_from(Verdict), count,
)  # fmt: skip
rollouts = st.builds(
    Rollout, text, text, text, text, st.none() | text, text, st.sampled_from(Verdict), text, text,
    st.sampled_from(get_args(FinishReason)), count, st.none() | st.floats(-100, 0, width=32), st.integers(0, 2**63 - 1),
)  # fmt: skip
steps = st.builds(StepLabel, label, share, count, count, st.sampled_from(Provenance), text)
label_sets = st.builds(LabelSet, text, st.lists(steps, max_size=4).map(tuple), st.just("{}") | st.just('{"c":3}'))


@st.composite
def records(draw: st.DrawFn) -> Record:
    n = draw(st.integers(1, 4))

    def each(item: st.SearchStrategy[Any]) -> Any:
        return tuple(draw(st.lists(item, min_size=n, max_size=n)))

    measured = draw(st.booleans())
    return Record(
        question=draw(questions),
        steps=each(text),
        label=each(label),
        method=draw(text),
        value=each(share) if measured else (),
        n_correct=each(count) if measured else (),
        n_rollouts=each(count) if measured else (),
        provenance=each(st.sampled_from([int(item) for item in Provenance])) if measured else (),
        generator=draw(text),
        completer=draw(text),
        final_answer=draw(st.none() | text),
        outcome=draw(st.sampled_from([True, False, None])),
        metadata=draw(st.just("{}") | st.just('{"d":4}')),
        label_metadata=draw(st.just("{}") | st.just('{"e":5}')),
    )


def stored(row: Any, schema: pa.Schema) -> dict[str, Any]:
    """The row as the store returns it."""
    if isinstance(row, tuple):
        row = dict(zip(schema.names, row, strict=True))
    assert set(row) == set(schema.names)
    (out,) = pa.Table.from_pylist([row], schema=schema).to_pylist()
    return dict(out)


@given(questions)
def test_a_question_comes_back(question: Question) -> None:
    row = stored(rows.question_row(question), QUESTIONS)
    assert rows.question_of(row) == question
    assert rows.question_row(rows.question_of(row)) == row


@given(solutions)
def test_a_solution_comes_back(solution: Solution) -> None:
    row = stored(rows.solution_row(solution, "job", "policy"), SOLUTIONS)
    assert rows.solution_of(row) == solution
    assert rows.solution_row(rows.solution_of(row), "job", "policy") == row


@given(nodes)
def test_a_node_comes_back(node: Node) -> None:
    row = stored(rows.node_row(node, "job", "method", "policy"), NODES)
    assert rows.node_of(row) == node
    assert rows.node_row(rows.node_of(row), "job", "method", "policy") == row


@given(rollouts)
def test_a_rollout_comes_back(rollout: Rollout) -> None:
    row = stored(rows.rollout_row(rollout, "job", "policy"), ROLLOUTS)
    assert rows.rollout_of(row) == rollout
    assert rows.rollout_row(rows.rollout_of(row), "job", "policy") == row


@given(rollouts)
def test_a_rollout_stored_without_its_text_has_an_empty_one(rollout: Rollout) -> None:
    row = stored(rows.rollout_row(rollout, "job", "policy", text=False), ROLLOUTS)
    assert row["text"] is None
    restored = rows.rollout_of(row)
    assert restored.text == ""
    assert (restored.answer, restored.verdict, restored.n_tokens) == (rollout.answer, rollout.verdict, rollout.n_tokens)


@given(label_sets)
def test_a_label_set_comes_back(item: LabelSet) -> None:
    row = stored(rows.label_row(item, "question", "job", "method", "policy"), LABELS)
    assert rows.label_set_of(row) == item
    assert row["first_error"] == item.first_error
    assert rows.label_row(rows.label_set_of(row), "question", "job", "method", "policy") == row


@given(records())
def test_a_record_comes_back_and_what_it_does_not_know_is_said_for_each_step(record: Record) -> None:
    solution_id, node_ids = process_ids(record.question.question_id, record.steps)
    solution = stored(rows.record_solution(record, solution_id, "job"), SOLUTIONS)
    labels = stored(rows.record_label(record, "label", solution_id, node_ids, "job", 0), LABELS)
    assert labels["first_error"] == record.first_error
    joined = {
        **solution, **labels, "solution_metadata": solution["metadata"], "label_metadata": labels["metadata"]
    }  # fmt: skip
    restored = rows.record_of(record.question, joined)
    n = len(record.steps)
    assert restored.value == (record.value or (None,) * n)
    assert restored.provenance == (record.provenance or (int(Provenance.IMPORTED),) * n)
    assert restored.n_rollouts == (record.n_rollouts or (0,) * n)
    again = rows.record_label(restored, "label", solution_id, node_ids, "job", 0)
    assert stored(again, LABELS) == labels
    if record.value:
        assert restored == record


def test_a_null_means_that_nothing_was_stored() -> None:
    question = dict.fromkeys(QUESTIONS.names) | {"question_id": "q", "question": "Q"}
    assert rows.question_of(question) == Question("q", "Q", "", "")
    solution = dict.fromkeys(SOLUTIONS.names) | {"solution_id": "s", "question_id": "q", "steps": ["a"]}
    assert rows.solution_of(solution) == Solution("s", "q", ("a",), None, Verdict.UNKNOWN)
    whole = rows.rollout_row(
        Rollout("r", "q", "n", "text", "4", "rule", Verdict.CORRECT, "", "g", "stop", 3, None, 1), "job", "policy"
    )
    # Schema version 1 had neither the rule of the extraction nor the reason of the verdict.
    old = rows.rollout_of({**whole, "extraction": None, "reason": None})
    assert (old.extraction, old.reason, old.answer) == ("", "", "4")
    labels = dict.fromkeys(LABELS.names) | {"solution_id": "s"} | {name: [] for name in StepLabel.__slots__}
    assert rows.label_set_of(labels) == LabelSet("s", ())


def test_a_labeling_becomes_the_rows_of_its_values() -> None:
    solution = Solution("s", question_id("Q", "4"), ("a",), "4", Verdict.CORRECT)
    labels = LabelSet("s", (StepLabel(1, 1.0, 2, 2, Provenance.MEASURED, "n"),))
    labeling = Labeling(solution.question_id, Outcome.LABELLED, solutions=(solution,), labels=(labels,))
    made = rows.labeling_rows(labeling, "job", "method", "policy", text=True)
    assert made["solutions"] == [rows.solution_row(solution, "job", "policy")]
    assert made["labels"] == [rows.label_row(labels, solution.question_id, "job", "method", "policy")]
    assert made["nodes"] == made["rollouts"] == []
