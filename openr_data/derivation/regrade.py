"""Grade a dataset again and derive verdicts, counts, certificates and labels from its rollouts, without a policy.

Verdicts are views over answers, counts over verdicts, labels over counts. So another grader, or a better version of
one, costs no GPU: every rollout is extracted and graded again, and the facts that follow from its verdict are computed
as the labelers compute them. A row that differs is appended with the next `revision` and supersedes the old one, which
stays in the snapshots that hold it. Labels by people or judges, labels that rest on the rollouts of another job, and
labels of an unknown method do not change.

If a job stored no rollout texts, the stored answers are graded, and certificates that rest on an inner step of a
rollout stay as long as the question has lost no correct rollout.

The dataset is held meanwhile: no other process regrades it or commits finished questions to it. The rows of an
interrupted regrade are not a snapshot: `snapshot` asks for the regrade to be finished first.
"""

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ..engine.protocols import Grader
from ..engine.rollout_steps import StepCuts
from ..engine.versions import versions
from ..grading.rollout import graded_answer
from ..ids import config_id
from ..store import Dataset, View
from ..store.refs import Snapshot, now
from ..store.rows import question_of
from ..trees import QuestionTree, rows_by_question
from ..types import FinishReason, Grade, Question, Verdict
from .search_verdicts import regraded_searches
from .stored_evidence import Row, StoredEvidence

QUESTIONS_AT_ONCE: Final = 200
ROWS_AT_ONCE: Final = 100_000
GRADED_AT_ONCE: Final = 1_000
TABLES: Final = ("questions", "solutions", "nodes", "rollouts", "labels")
WRITTEN: Final = ("solutions", "nodes", "rollouts", "search_nodes", "labels")
"""The tables that a regrade changes, in the order in which they are written."""

T = TypeVar("T")
Report = Callable[[int, int], None]
Answered = tuple[str, str | None, FinishReason]
"""The answer of a rollout: the id of its question, the answer itself, and how the rollout ended."""


@dataclass(slots=True)
class Regrading:
    """The result of a regrade: rollouts graded, changes by (old verdict, new verdict), and rows changed by table.

    `cut_off` counts rollouts whose comparison reached a limit; an earlier verdict of the same grader stays.
    """

    grader: str
    rollouts: int = 0
    cut_off: int = 0
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
    """Grade all rollouts of the newest state with this grader and write the changes as a new snapshot.

    With `dry_run` nothing is written. The same command after a crash finishes the rest. Raises `StoreError`.
    """
    regrading = Regrading(grader.name)
    if dry_run:
        for _, rows in _regrade_all(dataset.view(), grader, regrading, report):
            del rows
        return regrading
    with dataset.hold(exclusive=True):
        dataset.check_whole(but="regrade")
        view = dataset.view()
        job = config_id({"regrade": dataset.name, "grader": grader.name, "digest": view.digest()})
        pending: dict[str, list[Row]] = defaultdict(list)
        sequence = itertools.count(1)
        name = grader.name.rpartition("/")[0] or grader.name

        def flush() -> None:
            number = next(sequence)
            dataset.begin("regrade", f"openr-data regrade {dataset.name} --grader {name}")
            for table in WRITTEN:
                dataset.append(table, pending.pop(table, []), f"{job}/{now()}/{table}", number)

        for table, rows in _regrade_all(view, grader, regrading, report):
            pending[table] += rows
            if table == "labels" and sum(map(len, pending.values())) > ROWS_AT_ONCE:
                flush()
        if any(regrading.rows.values()):
            flush()
            dataset.append("jobs", [_job_row(job, regrading, dataset)], f"{job}/end", 1)
        dataset.finish()
        changed, sets = sum(regrading.changed.values()), regrading.rows["labels"]
        message = f"{regrading.rollouts:,} rollouts by {grader.name}: {changed:,} verdicts, {sets:,} label sets changed"
        regrading.snapshot = dataset.snapshot("regrade", message, job, held=True)
    return regrading


def disagreements(view: View, first: Grader | None, second: Grader) -> list[Disagreement]:
    """Distinct (question, answer) pairs on which two graders differ, most frequent first.

    `first` None stands for the verdicts that are stored.
    """
    stored = "r.verdict, any_value(coalesce(r.reason, ''))" if first is None else "'unknown' as verdict, ''"
    rows = view.sql(
        f"select r.question_id, q.answer as gold, r.answer, {stored} as reason, "
        "count(distinct r.rollout_id) as rollouts "
        "from rollouts r join questions q using (question_id) where r.answer is not null "
        f"group by r.question_id, q.answer, r.answer{', r.verdict' if first is None else ''} "
        "order by rollouts desc, r.question_id, r.answer"
    ).to_pylist()
    # As in a graded rollout: an answer to a question without a gold answer is unknown to every grader.
    questions = _questions(
        view.sql("select * from questions where question_id in (select question_id from rollouts)").to_pylist()
    )
    answered: list[Answered] = [(row["question_id"], row["answer"], "stop") for row in rows]
    new = _wait(_grades(second, answered, questions))
    old = (
        [Grade(Verdict(row["verdict"]), row["reason"]) for row in rows]
        if first is None
        else _wait(_grades(first, answered, questions))
    )
    return [
        Disagreement(row["question_id"], row["gold"], row["answer"], before, after, row["rollouts"])
        for row, before, after in zip(rows, old, new, strict=True)
        if before.verdict is not after.verdict
    ]


def _regrade_all(
    view: View, grader: Grader, regrading: Regrading, report: Report | None
) -> Iterator[tuple[str, list[Row]]]:
    """The changed rows of the whole view by table, some questions at a time, `labels` last each time."""
    total = int(view.sql("select count(distinct question_id) as n from rollouts")["n"][0].as_py())
    drawn = (item for item in rows_by_question(view, TABLES) if item[1]["rollouts"])
    cuts = StepCuts.of(view)
    done = 0
    while chosen := list(itertools.islice(drawn, QUESTIONS_AT_ONCE)):
        batch = {table: [row for _, rows in chosen for row in rows[table]] for table in TABLES}
        trees = {question: QuestionTree.from_rows(question, rows, cuts) for question, rows in chosen}
        for table, rows in _regraded(batch, grader, regrading, trees):
            regrading.rows[table] += len(rows)
            yield table, rows
        done += len(chosen)
        if report:
            report(done, total)
    for table, rows, verdicts in regraded_searches(view, lambda asked: _wait(_answers_graded(grader, asked))):
        regrading.rows[table] += len(rows)
        regrading.changed.update(verdicts)
        yield table, rows


def _regraded(
    rows: Mapping[str, list[Row]], grader: Grader, regrading: Regrading, trees: Mapping[str, QuestionTree]
) -> Iterable[tuple[str, list[Row]]]:
    """The changed rows of these questions, by table."""
    questions = _questions(rows["questions"])
    # A rollout whose question is not in the dataset cannot be graded: its rows stay as they are.
    rollouts = [row for row in rows["rollouts"] if row["question_id"] in questions]
    answers = [_answer(row, trees[row["question_id"]], grader) for row in rollouts]
    answered: list[Answered] = [
        (row["question_id"], answer, row["finish_reason"]) for (answer, _), row in zip(answers, rollouts, strict=True)
    ]
    stored: list[Answered] = [
        (row["question_id"], row["final_answer"], "stop")
        for row in rows["solutions"]
        if row["final_answer"] is not None and row["question_id"] in questions
    ]
    distinct = list(dict.fromkeys(answered + stored))
    grades = dict(zip(distinct, _wait(_grades(grader, distinct, questions)), strict=True))
    groups = _by_question_and_job(rows)
    for (answer, rule), key, row in zip(answers, answered, rollouts, strict=True):
        new = _regraded_rollout(row, answer, rule, grades[key], grader, regrading)
        groups[row["question_id"], row["job_id"]]["new_rollouts"].append(new)
    new_rows: dict[str, list[Row]] = defaultdict(list)
    for (question, _), group in groups.items():
        if not group["new_rollouts"]:
            # Nothing of this job stands on rollouts of its own.
            continue
        evidence = StoredEvidence(group, trees[question])
        new_rows["solutions"] += evidence.solutions(
            lambda answer, question=question: grades[question, answer, "stop"].verdict  # type: ignore[misc]
        )
        new_rows["nodes"] += evidence.nodes()
        new_rows["rollouts"] += group["new_rollouts"]
        new_rows["labels"] += [evidence.relabelled(row) for row in group["labels"]]
    before = {row["label_id"]: row["first_error"] for row in rows["labels"]}
    regrading.first_errors_moved += sum(row["first_error"] != before[row["label_id"]] for row in new_rows["labels"])
    yield "solutions", _changed(rows["solutions"], new_rows["solutions"], ("solution_id", "job_id"))
    yield "nodes", _changed(rows["nodes"], new_rows["nodes"], ("node_id", "job_id"))
    yield "rollouts", _changed(rows["rollouts"], new_rows["rollouts"], ("rollout_id", "job_id"))
    yield "labels", _changed(rows["labels"], new_rows["labels"], ("label_id",))


def _regraded_rollout(
    row: Row, answer: str | None, rule: str, grade: Grade, grader: Grader, regrading: Regrading
) -> Row:
    """A rollout with its new answer and verdict, counted."""
    regrading.rollouts += 1
    new = {**row, "answer": answer, "extraction": rule, "grader": grader.name}
    if not grade.is_final:
        regrading.cut_off += 1
        if row["grader"] == grader.name and row["answer"] == answer:
            # A limit that a busy machine reached does not undo an earlier verdict of this grader.
            return new
    if row["verdict"] != grade.verdict.value:
        regrading.changed[row["verdict"], grade.verdict.value] += 1
    return {**new, "verdict": grade.verdict.value, "reason": grade.reason}


async def _grades(grader: Grader, answered: Sequence[Answered], questions: Mapping[str, Question]) -> list[Grade]:
    grades: list[Grade] = []
    for start in range(0, len(answered), GRADED_AT_ONCE):
        grades += await asyncio.gather(
            *(
                graded_answer(answer, finish_reason, questions[question], grader)
                for question, answer, finish_reason in answered[start : start + GRADED_AT_ONCE]
            )
        )
    return grades


async def _answers_graded(grader: Grader, asked: Sequence[tuple[Question, str]]) -> list[Grade]:
    questions = {question.question_id: question for question, _ in asked}
    return await _grades(grader, [(question.question_id, answer, "stop") for question, answer in asked], questions)


def _questions(rows: Iterable[Row]) -> dict[str, Question]:
    return {row["question_id"]: question_of(row) for row in rows}


def _wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, in a thread of its own if a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _answer(row: Row, tree: QuestionTree, grader: Grader) -> tuple[str | None, str]:
    """The answer of a rollout and its rule: extracted again if its text is stored, else as they are."""
    if row["text"] is None:
        return row["answer"], row["extraction"] or ("none" if row["answer"] is None else "")
    again = grader.extract(row["text"], row["finish_reason"], tree.steps(tree.nodes[row["node_id"]]))
    return again.answer, again.rule


def _by_question_and_job(rows: Mapping[str, list[Row]]) -> dict[tuple[str, str], dict[str, list[Row]]]:
    groups: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for table in TABLES[1:]:
        for row in rows[table]:
            groups[row["question_id"], row["job_id"]][table].append(row)
    return groups


def _changed(old: Sequence[Row], new: Sequence[Row], key: tuple[str, ...]) -> list[Row]:
    """The new rows that differ from the old ones of the same key, with the next revision."""
    before = {tuple(row[name] for name in key): row for row in old}
    changed: list[Row] = []
    for row in new:
        old_row = before.get(tuple(row[name] for name in key))
        if old_row is None or any(
            old_row[name] != row[name] and not _same_null(old_row[name], row[name]) for name in old_row
        ):
            changed.append({**row, "revision": ((old_row or {}).get("revision") or 0) + 1})
    return changed


def _same_null(old: Any, new: Any) -> bool:
    """A column that an older version did not write has not changed if it is empty now."""
    return old is None and new == ""


def _job_row(job: str, regrading: Regrading, dataset: Dataset) -> Row:
    changes = {f"{old} to {new}": count for (old, new), count in sorted(regrading.changed.items())}
    totals = {"rollouts": regrading.rollouts, "cut_off": regrading.cut_off, "verdicts_changed": changes}
    return {
        "job_id": job,
        "kind": "regrade",
        "event": "end",
        "config": json.dumps({"dataset": dataset.name, "grader": regrading.grader}),
        "versions": json.dumps(versions()),
        "totals": json.dumps({**totals, "rows": dict(regrading.rows)}),
        "at": now(),
    }
