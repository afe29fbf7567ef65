"""The verdicts of guided searches graded anew: complete paths in `search_nodes`, and the solutions that hold them.

A guided search has no rollouts, so its verdicts rest on the stored answers of its complete paths alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..store import View
from ..store.rows import OUTCOME, question_of
from ..types import Grade, Question, Verdict

Row = dict[str, Any]
ROWS_AT_ONCE: Final = 10_000

_ANSWERED: Final[Mapping[str, str]] = {
    "solutions": """
        select t.*, q as asked from solutions t join questions q using (question_id)
        where t.final_answer is not null
          and exists (from search_nodes n where n.question_id = t.question_id and n.job_id = t.job_id)
          and not exists (from rollouts r where r.question_id = t.question_id and r.job_id = t.job_id)""",
    "search_nodes": """
        select t.*, q as asked from search_nodes t join questions q using (question_id)
        where t.state = 'ended' and t.answer is not null""",
}
"""The rows of a table with an answer of their own to grade, and their question."""


def regraded_searches(
    view: View, grades: Callable[[Sequence[tuple[Question, str]]], Sequence[Grade]]
) -> Iterator[tuple[str, list[Row], list[tuple[str, str]]]]:
    """The rows whose verdict changes, with the next revision, some at a time.

    Each time the table, its rows, and the verdicts (old, new) of the paths that changed. `grades` grades answers.
    """
    for table, statement in _ANSWERED.items():
        answer = "final_answer" if table == "solutions" else "answer"
        for batch in view.cursor(statement).sql(statement).to_arrow_reader(ROWS_AT_ONCE):
            rows: list[Row] = batch.to_pylist()
            pairs = [(question_of(row.pop("asked")), row[answer]) for row in rows]
            distinct = list(dict.fromkeys(pairs))
            graded = dict(zip(distinct, grades(distinct), strict=True))
            changed: list[Row] = []
            verdicts: list[tuple[str, str]] = []
            for row, pair in zip(rows, pairs, strict=True):
                grade = graded[pair]
                if not grade.is_final and grade.verdict is Verdict.UNKNOWN:
                    # A comparison that reached a limit of time is not evidence against the stored verdict.
                    continue
                column, new = _verdict(table, grade.verdict)
                if row[column] != new:
                    changed.append({**row, column: new, "revision": (row["revision"] or 0) + 1})
                    if table == "search_nodes":
                        verdicts.append((row[column] or Verdict.UNKNOWN.value, grade.verdict.value))
            yield table, changed, verdicts


def _verdict(table: str, verdict: Verdict) -> tuple[str, bool | str | None]:
    return ("outcome", OUTCOME[verdict]) if table == "solutions" else ("verdict", verdict.value)
