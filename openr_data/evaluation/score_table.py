"""Step scores of a reward model on their way into the table `scores` of the dataset whose solutions were scored.

A prefix has one score for each reward model (model, revision, format): every format scores a step by the steps up to
it, so the score does not depend on the solution that the prefix was read from, up to the rounding of a batch. The
first score that is stored stands.

    <store>/jobs/<job_id>/scores/pending-NAME.jsonl    scored prefixes that are not committed yet

A score is acknowledged when its line is in the pending file. The lines are committed by the thousands; each commit
writes only prefixes that the table lacks, so lines that are committed a second time after a kill change nothing.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..checked_lines import CheckedLines
from ..errors import InputError
from ..ids import process_ids
from ..jobs.job import Job
from ..store import Dataset, Store, maintenance, query, tables
from ..store.rows import score_rows
from .scores import Process, ScoreStore, case_id

COMMIT_CASES: Final = 5_000
"""Solutions of a commit."""
COMMIT_SECONDS: Final = 120.0
"""A slow model commits after that many seconds, however few solutions were scored."""
SYNC_SECONDS: Final = 1.0
"""Acknowledged lines survive the death of the process at once, and a power cut after that many seconds."""

_STORED: Final = "select node_id, score from scores semi join wanted using (node_id) where reward = "


class ScoreTable:
    """The scores of one reward model for some solutions of a dataset, read from its newest state and added to it.

    `known` maps the solutions whose prefixes all have a score to their step scores, by `case_id`. A pinned state of
    the dataset (`NAME@v1`) never changes: what is scored there goes into the newest state.
    """

    def __init__(self, store: Store, dataset: Dataset, job: Job, reward: str, processes: Iterable[Process]) -> None:
        self.dataset, self.reward = dataset, reward
        self._job, self._path = job.job_id, job.path / "scores" / f"pending-{dataset.name}.jsonl"
        self._processes: dict[str, list[Process]] = {}
        for process in processes:
            self._processes.setdefault(case_id(process.question, process.steps), []).append(process)
        self._scores = dict(_stored(dataset, reward, self._processes.values()))
        self.known: dict[str, tuple[float, ...]] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._cases = self._added = 0
        self._pending: CheckedLines | None = None
        self._written = self._synced = time.monotonic()
        if self._path.exists():
            # A process that was killed left these lines.
            self._pending = CheckedLines(self._path)
            for question, nodes, scores in self._pending.read():
                self._scores.update(zip(nodes, scores, strict=True))
                self._waiting += score_rows(question, nodes, scores, reward, self._job)
            self.flush()
        for question, nodes, scores in _left(store, self._path.name, job, reward):
            fresh = {node: score for node, score in zip(nodes, scores, strict=True) if node not in self._scores}
            if fresh:
                self._append(question, fresh)
        for case, same in self._processes.items():
            scores = [self._of(process) for process in same]
            if all(scores):
                self.known[case] = scores[0]

    def __contains__(self, case: str) -> bool:
        return case in self._processes

    def _of(self, process: Process) -> tuple[float, ...]:
        """The step scores of a solution; empty where a prefix has none."""
        nodes = process_ids(process.question_id, process.steps)[1]
        scores = [self._scores[node] for node in nodes if node in self._scores]
        return tuple(scores) if len(scores) == len(nodes) else ()

    def add(self, case: str, scores: Sequence[float]) -> tuple[float, ...]:
        """Acknowledge the step scores of a solution; return them as they are stored: those of known prefixes stand."""
        for process in self._processes[case]:
            nodes = process_ids(process.question_id, process.steps)[1]
            fresh = {node: score for node, score in zip(nodes, scores, strict=True) if node not in self._scores}
            if fresh:
                self._append(process.question_id, fresh)
        self.known[case] = self._of(self._processes[case][0])
        self._cases += 1
        if self._cases >= COMMIT_CASES or time.monotonic() - self._written > COMMIT_SECONDS:
            self.flush()
        return self.known[case]

    def _append(self, question: str, fresh: Mapping[str, float]) -> None:
        if self._pending is None:
            self._pending = CheckedLines(self._path)
        self._pending.append([question, list(fresh), list(fresh.values())])
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._pending.sync()
            self._synced = time.monotonic()
        self._scores.update(fresh)
        self._waiting += score_rows(question, list(fresh), list(fresh.values()), self.reward, self._job)

    def flush(self) -> None:
        """Commit what was acknowledged. Raises `StoreError`; then the pending file still holds it."""
        if self._pending is not None:
            self._pending.sync()
            with self.dataset.hold(exclusive=False):
                self._added += self.dataset.append("scores", self._waiting, f"{self._job}/scores", 1)
            maintenance.tidy(self.dataset)
            self._pending.close()
            self._path.unlink()
        self._pending, self._waiting, self._cases = None, [], 0
        self._written = time.monotonic()

    def snapshot(self) -> None:
        """Record the scores as a snapshot of the dataset, if it has snapshots and none that holds them."""
        snapshots = self.dataset.snapshots()
        version, files = tables.newest(self.dataset.path / "scores")
        if snapshots and files and snapshots[-1].versions.get("scores") != version:
            self.dataset.snapshot("eval", f"{self._added:,} step scores of {self.reward}", self._job)


def _stored(dataset: Dataset, reward: str, processes: Iterable[Sequence[Process]]) -> Iterator[tuple[str, float]]:
    """The scores that the table has for the prefixes of these solutions, by node id."""
    if not tables.newest(dataset.path / "scores")[1]:
        return
    nodes = {node for same in processes for item in same for node in process_ids(item.question_id, item.steps)[1]}
    connection = dataset.view().connect("select * from scores")
    connection.register("wanted", pa.table({"node_id": pa.array(nodes, pa.string())}))
    try:
        for batch in connection.sql(f"{_STORED}'{query.quoted(reward)}'").to_arrow_reader(10_000):
            yield from zip(batch["node_id"].to_pylist(), batch["score"].to_pylist(), strict=True)
    except duckdb.Error as error:
        raise query.unreadable(error) from error


class EvaluationScores:
    """The step scores of an evaluation: in the tables of the datasets it reads, and in its job folder for files.

    `known` has them by `case_id`. What an earlier job scored with the same reward model is known too: in the tables,
    and in the job folders of evaluations that kept their scores there (all before schema version 4, and those of
    files). Nothing of it is scored again.
    """

    def __init__(
        self, store: Store, job: Job, reward: str, score_tables: Sequence[ScoreTable], cases: set[str]
    ) -> None:
        self._tables = score_tables
        self._folder = ScoreStore(job.path)
        self.known: dict[str, tuple[float, ...]] = {}
        for table in score_tables:
            self.known.update(table.known)
        lacking = cases - set(self.known)
        for folder in [self._folder, *_earlier(store, job, reward)] if lacking else ():
            for case in lacking & set(folder.known):
                self.known.setdefault(case, folder.known[case])
        for table in score_tables:
            # Also scores that another table or a job folder has: the table is to be complete.
            for case in [case for case in cases if case in table and case in self.known and case not in table.known]:
                table.add(case, self.known[case])

    def add(self, case: str, scores: Sequence[float]) -> None:
        """Acknowledge the step scores of a solution."""
        stored = [table.add(case, scores) for table in self._tables if case in table]
        if not stored:
            self._folder.add(case, scores)
        self.known[case] = stored[0] if stored else tuple(scores)

    def flush(self) -> None:
        """Commit what was acknowledged, and record it in the datasets' snapshots."""
        self._folder.flush()
        for table in self._tables:
            table.flush()
            table.snapshot()


def _left(store: Store, name: str, own: Job, reward: str) -> Iterator[tuple[str, list[str], list[float]]]:
    """The lines of a pending file that other jobs left when they were killed."""
    for job in _evaluations(store, own, reward):
        if (path := job.path / "scores" / name).exists() and not job.is_running():
            lines = CheckedLines(path)
            yield from lines.read()
            lines.close()


def _earlier(store: Store, own: Job, reward: str) -> Iterator[ScoreStore]:
    """The score files of other evaluations by the same reward model."""
    for job in _evaluations(store, own, reward):
        yield ScoreStore(job.path)


def _evaluations(store: Store, own: Job, reward: str) -> Iterator[Job]:
    """The other jobs whose folder has scores of the reward model."""
    for job in Job.all(store):
        if job.job_id == own.job_id or not (job.path / "scores").is_dir():
            continue
        try:
            config = job.described()["config"]
        except InputError:
            # Of a damaged job nothing shows which model made its scores; resuming it reports the damage.
            continue
        if reward in (config.get("model_revision"), config.get("reward")):
            yield job
