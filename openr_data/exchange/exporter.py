"""Writes records of a snapshot as rows of a format, streamed in the order of their questions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from ..errors import InputError, UsageError
from ..store import View
from ..store.query import quoted
from ..store.rows import question_of, record_of
from ..types import Question, Record
from .formats.format import Format, QuestionGroup, Row, Tally
from .selection import Selection, select_records

AT_ONCE: Final = 5_000
"""Records that are in memory at a time."""

_RECORD: Final = (
    "label_id, question_id, solution_id, method, completer, steps, label, value, n_correct, n_rollouts, provenance, "
    "generator, final_answer, outcome, solution_metadata, label_metadata"
)


def export_rows(
    view: View, form: Format, tally: Tally, *, method: str = "", where: str = "", selection: Selection | None = None
) -> Iterator[Row]:
    """The rows of a format. `where` is a condition of SQL over `records` (over `questions` for a format of questions).

    Raises `InputError` for a condition that fails or a balance that cannot be met, and `UsageError` for a selection of
    records if the format writes something else.
    """
    only_questions = getattr(form, "only_questions", False)
    selection = selection or Selection()
    if not selection.takes_all and (only_questions or form.needs_nodes):
        what = "questions" if only_questions else "the whole tree of a question"
        raise UsageError(f"This format writes {what}: records cannot be chosen by balance, number or repetition.")
    if only_questions:
        yield from _questions(view, form, tally, method, where)
        return
    for group in read_groups(view, tally, method=method, where=where, selection=selection, nodes=form.needs_nodes):
        yield from form.write(group, tally)


def read_groups(
    view: View,
    tally: Tally,
    *,
    method: str = "",
    where: str = "",
    selection: Selection | None = None,
    nodes: bool = False,
) -> Iterator[QuestionGroup]:
    """The chosen records, question by question, in the order of their ids; a few thousand are in memory at a time.

    Raises `InputError` for a condition that fails or a balance that cannot be met.
    """
    conditions = _condition(view, "records", where)
    if method:
        conditions.append(f"method = '{quoted(method)}'")
    condition = " and ".join(conditions) or "true"
    if not conditions:
        missing = view.sql("select count(*) as n from questions anti join labels using (question_id)")["n"][0].as_py()
        if missing:
            tally.lose("questions without a label set", missing)
    for of_questions, of_records in _reads(view, condition, selection or Selection(), tally):
        records = view.sql(
            f"select {_RECORD} from records where {of_records} order by question_id, solution_id, method, label_id"
        ).to_pylist()
        questions = {
            row["question_id"]: question_of(row)
            for row in view.sql(f"select * from questions where {of_questions}").to_pylist()
        }
        trees = _nodes(view, of_questions) if nodes else {}
        for name, rows in groupby(records, key=lambda row: str(row["question_id"])):
            question = questions[name]
            of_question = [_record(question, row) for row in rows]
            tally.rows += len(of_question)
            yield QuestionGroup(question, of_question, trees.get(name, ()))


def _reads(view: View, condition: str, selection: Selection, tally: Tally) -> Iterator[tuple[str, str]]:
    """The reads in order, each as a condition of SQL for its questions and one for their records."""
    if selection.takes_all:
        counted = view.sql(f"select question_id, count(*) as n from records where {condition} group by 1 order by 1")
        for first, last in _pieces(counted.to_pylist()):
            between = f"question_id between '{first}' and '{last}'"
            yield between, f"{between} and ({condition})"
        return
    selected = select_records(view, selection, condition)
    for reason, count in selected.left_out.items():
        tally.lose(reason, count)
    for asked, labels in selected.pieces(AT_ONCE):
        between = f"question_id between '{asked[0]}' and '{asked[-1]}'"
        # A small selection is spread over the table, so that most rows between its ends are not part of it.
        yield f"{between} and {_among('question_id', asked)}", f"{between} and {_among('label_id', labels)}"


def _condition(view: View, table: str, where: str) -> list[str]:
    if not where.strip():
        return []
    # The condition runs alone first, because in brackets it could close them.
    view.sql(f"select 1 from {table} where {where} limit 0")
    return [f"({where})"]


def _among(column: str, ids: Iterable[str]) -> str:
    listed = ", ".join(f"'{quoted(item)}'" for item in ids)
    return f"{column} in ({listed})"


def _pieces(counted: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Ranges of question ids that hold about `AT_ONCE` records each."""
    first, size = "", 0
    for place, row in enumerate(counted):
        first = first or row["question_id"]
        size += row["n"]
        if size >= AT_ONCE or place == len(counted) - 1:
            yield first, row["question_id"]
            first, size = "", 0


def _questions(view: View, form: Format, tally: Tally, method: str, where: str) -> Iterator[Row]:
    conditions = _condition(view, "questions", where)
    if method:
        conditions.append(f"question_id in (select question_id from labels where method = '{quoted(method)}')")
    condition = f" where {' and '.join(conditions)}" if conditions else ""
    lost = view.sql("select count(*) as n from labels")["n"][0].as_py()
    if lost:
        tally.lose("processes with their labels", lost)
    ids = view.sql(f"select question_id, 1 as n from questions{condition} order by 1").to_pylist()
    wanted = {row["question_id"] for row in ids}
    for first, last in _pieces(ids):
        rows = view.sql(
            f"select * from questions where question_id between '{first}' and '{last}' order by question_id"
        ).to_pylist()
        for row in rows:
            if row["question_id"] in wanted:
                tally.rows += 1
                yield from form.write(QuestionGroup(question_of(row), ()), tally)


def _nodes(view: View, between: str) -> dict[str, list[Row]]:
    by_question: dict[str, list[Row]] = {}
    # If several jobs measured a prefix, the one with most rollouts is exported: a tree has each prefix once.
    query = (
        f"select distinct on (question_id, node_id) * from nodes where {between} "
        "order by question_id, node_id, n_rollouts desc, job_id"
    )
    for row in view.sql(query).to_pylist():
        by_question.setdefault(row["question_id"], []).append(row)
    return by_question


def _record(question: Question, row: Mapping[str, Any]) -> Record:
    try:
        return record_of(question, row)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"The label set {row['label_id']} is damaged ({error}). See what is wrong with: openr-data verify "
            "and the name of the dataset"
        ) from error
