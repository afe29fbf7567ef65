"""Acknowledges finished questions at once and commits them in batches.

A finished question becomes one line of a pending file, with fsync: that is the acknowledgement. Once enough have
gathered, the pending file becomes one transaction: one Parquet file a table, in the order questions ... labels, each
under `Transaction("<job>/<worker>/<table>", seq)`. Then the questions are noted as done and the pending file is
deleted. A pending file at the start is from a dead process: it is committed as it is, without what was committed
already, so that a kill at any moment neither loses nor doubles a row.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..checked_lines import CheckedLines
from ..errors import StoreError
from ..schema import TABLES
from . import maintenance
from .dataset import Dataset
from .rollback import rolled_back

MAX_QUESTIONS: Final = 5_000
MAX_ROWS: Final = 200_000
MAX_SECONDS: Final = 120.0

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Table name to rows, as the schemas name their columns."""


class Spool:
    """The spool of one worker of a job, in a folder of its own.

    `finished` maps the questions that are safe (acknowledged or committed) to their summaries. Opening a spool commits
    what a dead process left. Raises `StoreError` on a full or read-only disk.
    """

    def __init__(self, folder: Path, dataset: Dataset, app: str, max_seconds: float = MAX_SECONDS) -> None:
        self._folder, self._dataset, self._app = folder, dataset, app
        self._max_seconds = max_seconds
        self._done = CheckedLines(folder / "done.jsonl")
        self.finished: dict[str, Mapping[str, Any]] = {}
        self._seq = 0
        for seq, questions in self._done.read():
            self._seq = max(self._seq, seq)
            self.finished.update(questions)
        # The questions of a damaged line are done again, and their rows may be in the tables already.
        self._may_repeat = bool(self._done.damaged)
        committed = max(dataset.committed(table, f"{app}/{table}") for table in TABLES)
        if self.finished and committed < self._seq:
            raise StoreError(
                f"The job {app.partition('/')[0]} has committed to a dataset {dataset.name} that is gone or older. Put "
                f"it back, or start over: remove {folder.parent}"
            )
        job = app.partition("/")[0]
        if (had := rolled_back(dataset).get(job)) and self.finished:
            raise StoreError(
                f"A rollback of {dataset.name} took away what the job {job} has written. Have it back with: "
                f"openr-data rollback {dataset.name} {had}, or start over: remove {folder.parent}"
            )
        # After a damaged line of done.jsonl the next commit must not take a number that is committed already.
        self._seq = max(self._seq, committed)
        self._pending: CheckedLines | None = None
        self._waiting: list[tuple[str, Mapping[str, Any], Rows]] = []
        self._rows = 0
        self._since = time.monotonic()
        for path in sorted(folder.glob("pending-*.jsonl")):
            seq = int(path.stem.removeprefix("pending-"))
            left = CheckedLines(path)
            self._commit(seq, [(question, summary, rows) for question, summary, rows in left.read()])
            left.close()
            path.unlink()

    def add(self, question: str, summary: Mapping[str, Any], rows: Rows) -> None:
        """Acknowledge a finished question; commit when enough has gathered."""
        if self._pending is None:
            self._pending = CheckedLines(self._folder / f"pending-{self._seq + 1:08d}.jsonl")
            self._since = time.monotonic()
        self._pending.append([question, summary, rows])
        self._pending.sync()
        self._waiting.append((question, summary, rows))
        self.finished[question] = summary
        self._rows += sum(map(len, rows.values()))
        old = time.monotonic() - self._since > self._max_seconds
        if len(self._waiting) >= MAX_QUESTIONS or self._rows >= MAX_ROWS or old:
            self.flush()

    def flush(self) -> None:
        """Commit what has gathered."""
        if self._pending is None:
            return
        self._commit(self._seq + 1, self._waiting)
        self._pending.close()
        self._pending.path.unlink()
        self._pending, self._waiting, self._rows = None, [], 0

    def _commit(self, seq: int, waiting: Sequence[tuple[str, Mapping[str, Any], Rows]]) -> None:
        added = 0
        with self._dataset.hold(exclusive=False):
            for table in TABLES:
                rows = [row for _, _, tables in waiting for row in tables.get(table, ())]
                app = f"{self._app}/{table}"
                added += self._dataset.append(table, rows, app, seq, supersedes=self._may_repeat)
        maintenance.tidy(self._dataset)
        if not added:
            # Nothing was committed under this number, so the next batch takes it.
            seq = self._seq
        questions = {question: summary for question, summary, _ in waiting}
        self._done.append([seq, questions])
        self._done.sync()
        self.finished.update(questions)
        self._seq = max(self._seq, seq)

    def close(self) -> None:
        """Commit the rest and close."""
        self.flush()
        self._done.close()
