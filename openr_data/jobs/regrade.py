"""Grade a dataset anew: verdicts, counts, certificates and labels derived again from its rollouts, without a policy.

Verdicts are views over answers, counts over verdicts, labels over counts. So another grader, or a better version of
one, costs no GPU: every rollout is extracted and graded again, and what follows from its verdict is computed as the
labelers compute it. A row that comes out different is appended with the next `revision` and supersedes the old one,
which stays in the snapshots that hold it. Labels that people or judges gave are left alone.

Where a job kept no rollout texts, stored answers are graded, and certificates that rest on an inner step of a rollout
are kept as long as the question has lost no correct rollout.
"""

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..engine.protocols import Grader
from ..grading import extract_finished
from ..ids import config_id
from ..store.dataset import Dataset, View
from ..store.refs import Snapshot, now
from ..types import Grade, Verdict
from .evidence import Row, StoredEvidence, Trie
from .job import versions
from .rows import OUTCOME

QUESTIONS_AT_ONCE: Final = 500
ROWS_AT_ONCE: Final = 100_000
GRADED_AT_ONCE: Final = 1_000

Report = Callable[[int, int], None]


@dataclass(slots=True)
class Regrading:
    """What came of it: rollouts looked at, changes by (old verdict, new verdict), and rows changed by table."""

    grader: str
    rollouts: int = 0
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    first_errors_moved: int = 0
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An answer on which two graders differ, and how many rollouts gave it."""

    question_id: str
    gold: str
    answer: str
    first: Grade
    second: Grade
    rollouts: int


def regrade(dataset: Dataset, grader: Grader, *, dry_run: bool = False, report: Report | None = None) -> Regrading:
    """Grade all rollouts of the newest state with this grader and write what changes as a new snapshot.

    With `dry_run` nothing is written. The same command after a crash goes on with what is left. Raises `StoreError`.
    """
    view = dataset.view()
    found = Regrading(grader.name)
    job = config_id({"regrade": dataset.name, "grader": grader.name, "digest": view.digest()})
    pending: dict[str, list[Row]] = defaultdict(list)
    sequence = itertools.count(1)

    def flush() -> None:
        number = next(sequence)
        for table in ("solutions", "nodes", "rollouts", "labels"):
            dataset.append(table, pending.pop(table, []), f"{job}/{now()}/{table}", number)

    ids = view.sql("select distinct question_id from rollouts order by 1")["question_id"].to_pylist()
    for start in range(0, len(ids), QUESTIONS_AT_ONCE):
        for table, rows in _regraded(view, ids[start : start + QUESTIONS_AT_ONCE], grader, found):
            found.rows[table] += len(rows)
            pending[table] += rows
        if not dry_run and sum(map(len, pending.values())) > ROWS_AT_ONCE:
            flush()
        if report:
            report(min(start + QUESTIONS_AT_ONCE, len(ids)), len(ids))
    if dry_run:
        return found
    if found.rows:
        flush()
        dataset.append("jobs", [_job_row(job, found, dataset)], f"{job}/end", 1)
    changed = sum(found.changed.values())
    sets = found.rows["labels"]
    message = f"{found.rollouts:,} rollouts by {grader.name}: {changed:,} verdicts, {sets:,} label sets changed"
    found.snapshot = dataset.snapshot("regrade", message, job)
    return found


def disagreements(view: View, first: Grader | None, second: Grader) -> list[Disagreement]:
    """Distinct (question, answer) pairs on which two graders differ, most frequent first.

    `first` None stands for the verdicts that are stored.
    """
    rows = view.sql(
        "select r.question_id, q.answer as gold, r.answer, count(*) as rollouts, "
        "any_value(r.verdict) as verdict, any_value(coalesce(r.reason, '')) as reason "
        "from rollouts r join questions q using (question_id) where r.answer is not null "
        "group by all order by rollouts desc, r.question_id, r.answer"
    ).to_pylist()
    pairs = [(row["answer"], row["gold"]) for row in rows]
    new = asyncio.run(_grades(second, pairs))
    old = (
        [Grade(Verdict(row["verdict"]), row["reason"]) for row in rows]
        if first is None
        else asyncio.run(_grades(first, pairs))
    )
    return [
        Disagreement(row["question_id"], row["gold"], row["answer"], before, after, row["rollouts"])
        for row, before, after in zip(rows, old, new, strict=True)
        if before.verdict is not after.verdict
    ]


def _regraded(view: View, ids: Sequence[str], grader: Grader, found: Regrading) -> Iterable[tuple[str, list[Row]]]:
    """The changed rows of these questions, by table."""
    rows = {
        table: view.sql(f"select * from {table} where question_id in ({', '.join(map(_quoted, ids))})").to_pylist()
        for table in ("questions", "solutions", "nodes", "rollouts", "labels")
    }
    gold = {row["question_id"]: row["answer"] for row in rows["questions"]}
    trie = Trie(rows)
    answers = [_answer(row, trie) for row in rows["rollouts"]]
    wanted = [
        (answer, gold.get(row["question_id"], ""))
        for (answer, _), row in zip(answers, rows["rollouts"], strict=True)
        if answer is not None
    ] + [
        (row["final_answer"], gold.get(row["question_id"], ""))
        for row in rows["solutions"]
        if row["final_answer"] is not None
    ]
    pairs = list(dict.fromkeys(wanted))
    grades = dict(zip(pairs, asyncio.run(_grades(grader, pairs)), strict=True))
    new_rollouts: list[Row] = []
    for (answer, rule), row in zip(answers, rows["rollouts"], strict=True):
        grade = Grade(Verdict.UNKNOWN, row["reason"] or "no answer in the text")
        if answer is not None:
            grade = grades[answer, gold.get(row["question_id"], "")]
        new = {**row, "answer": answer, "extraction": rule, "verdict": grade.verdict.value, "reason": grade.reason}
        new_rollouts.append({**new, "grader": grader.name})
        found.rollouts += 1
        if row["verdict"] != new["verdict"]:
            found.changed[row["verdict"], new["verdict"]] += 1
    new_solutions = [
        {**row, "outcome": OUTCOME[grades[row["final_answer"], gold.get(row["question_id"], "")].verdict]}
        if row["final_answer"] is not None
        else row
        for row in rows["solutions"]
    ]
    new_nodes: list[Row] = []
    new_labels: list[Row] = []
    groups = _by_question_and_job({**rows, "new_rollouts": new_rollouts, "new_solutions": new_solutions})
    for group in groups.values():
        evidence = StoredEvidence(group, trie)
        new_nodes += evidence.nodes()
        new_labels += [evidence.relabelled(row) for row in group["labels"]]
    old_labels = {row["label_id"]: row for row in rows["labels"]}
    found.first_errors_moved += sum(
        row["first_error"] != old_labels[row["label_id"]]["first_error"] for row in new_labels
    )
    yield "solutions", _changed(rows["solutions"], new_solutions, ("solution_id", "job_id"))
    yield "nodes", _changed(rows["nodes"], new_nodes, ("node_id", "job_id"))
    yield "rollouts", _changed(rows["rollouts"], new_rollouts, ("rollout_id", "job_id"))
    yield "labels", _changed(rows["labels"], new_labels, ("label_id",))


async def _grades(grader: Grader, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
    found: list[Grade] = []
    for start in range(0, len(pairs), GRADED_AT_ONCE):
        found += await asyncio.gather(*(grader.grade(*pair) for pair in pairs[start : start + GRADED_AT_ONCE]))
    return found


def _answer(row: Row, trie: "Trie") -> tuple[str | None, str]:
    """The answer of a rollout and its rule: extracted again where there is a text, as stored where there is none."""
    if row["text"] is None:
        return row["answer"], row["extraction"] or ("none" if row["answer"] is None else "")
    again = extract_finished(row["text"], row["finish_reason"], trie.prefix(row["node_id"]))
    return again.answer, again.rule


def _by_question_and_job(rows: Mapping[str, list[Row]]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for table, members in rows.items():
        if table != "questions":
            for row in members:
                found[row["question_id"], row["job_id"]][table].append(row)
    return found


def _changed(old: Sequence[Row], new: Sequence[Row], key: tuple[str, ...]) -> list[Row]:
    """The new rows that differ from the old ones of the same key, with the next revision."""
    before = {tuple(row[name] for name in key): row for row in old}
    found: list[Row] = []
    for row in new:
        known = before.get(tuple(row[name] for name in key))
        if known is None or any(known[name] != row[name] and not _same_null(known[name], row[name]) for name in known):
            found.append({**row, "revision": ((known or {}).get("revision") or 0) + 1})
    return found


def _same_null(old: Any, new: Any) -> bool:
    """A column that an older version did not write is no change when it holds nothing now."""
    return old is None and new == ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _job_row(job: str, found: Regrading, dataset: Dataset) -> Row:
    changes = {f"{old} to {new}": count for (old, new), count in sorted(found.changed.items())}
    return {
        "job_id": job,
        "kind": "regrade",
        "event": "end",
        "config": json.dumps({"dataset": dataset.name, "grader": found.grader}),
        "versions": json.dumps(versions()),
        "totals": json.dumps({"rollouts": found.rollouts, "verdicts_changed": changes, "rows": dict(found.rows)}),
        "at": now(),
    }
