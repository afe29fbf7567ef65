"""Makes the newest state of a dataset what it was at an earlier one, as a new snapshot.

Every table gets back the files it had then and loses the others, labels first and facts last. No file is deleted, so
the snapshots in between stay readable. The rows of `jobs` stay, since they record what was spent. A note lists the
jobs that lost rows, so that a resumed job does not count on them.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from deltalake import DeltaTable

from ..errors import StoreError
from . import refs, storage, tables
from .hold import Location
from .refs import MAIN, Snapshot
from .remote import Place
from .snapshot import take_snapshot
from .view import View, view_at

ROLLED_BACK: Final = "rolled-back.json"
"""In a dataset's folder: the jobs that lost rows by a rollback, each with a state that still has them."""

BEFORE: Final = -1
"""The version of a table in a state that was written before the table existed."""

Swap = tuple[DeltaTable, list[Place], list[dict[str, Any]]]
"""A table, the files that return to it, and the files that it loses."""


def rollback(dataset: Location, ref: str, message: str = "") -> Snapshot:
    """Make the newest state of a dataset what it was at `ref`. The same call after a crash completes it.

    Raises `MissingRef`, and `StoreError` if a file of that state no longer exists or the disk refuses.
    """
    target = view_at(dataset, ref)
    with dataset.hold(exclusive=True):
        swaps = {
            table: _swap(dataset, table, target.versions.get(table, BEFORE))
            for table in reversed(dataset.tables())
            if table != "jobs"
        }
        before = _rows_by_job(view_at(dataset))
        snapshots = refs.snapshots(dataset.refs)
        # An operation that was interrupted before is undone by this one too.
        dataset.begin("rollback", f"openr-data rollback {dataset.name} {shlex.quote(ref)} --yes")
        for table, (opened, back, gone) in swaps.items():
            if gone or back:
                tables.swap(dataset.path / table, opened, back, gone)
        _note(dataset, before, _rows_by_job(target), snapshots[-1].name if snapshots else MAIN)
        dataset.finish()
        return take_snapshot(dataset, "rollback", message or f"as it was at {ref}", held=True)


def rolled_back(dataset: Location) -> dict[str, str]:
    """The jobs that lost rows by a rollback, each with a state that still has them."""
    try:
        jobs = json.loads((dataset.path / ROLLED_BACK).read_text())
    except (OSError, ValueError):
        return {}
    return dict(jobs) if isinstance(jobs, dict) else {}


def _swap(dataset: Location, table: str, version: int) -> Swap:
    path = dataset.path / table
    newest = tables.open_table(path)
    now = {row["path"]: row for row in tables.data_files(newest)}
    old = [] if version == BEFORE else tables.data_files(tables.open_table(path, version))
    then = {row["path"]: row for row in old}
    gone = [row for name, row in now.items() if name not in then]
    back = [path / name for name in then if name not in now]
    missing = [file for file in back if not file.exists()]
    if missing:
        raise StoreError(
            f"{missing[0]} no longer exists, so {dataset.name} cannot become what it was. See what is wrong with: "
            f"openr-data verify {dataset.name}"
        )
    return newest, back, gone


def _rows_by_job(view: View) -> dict[str, int]:
    written = ("solutions", "labels", "rollouts", "search_nodes")
    parts = " union all ".join(f"select job_id from {table}" for table in written)
    rows = view.sql(f"select job_id, count(*) as n from ({parts}) group by job_id").to_pylist()
    return {row["job_id"]: row["n"] for row in rows}


def _note(dataset: Location, before: Mapping[str, int], after: Mapping[str, int], state: str) -> None:
    """Note the jobs that have fewer rows after the rollback than before; `state` still has them."""
    jobs = rolled_back(dataset)
    for job in {*before, *after}:
        if after.get(job, 0) < before.get(job, 0):
            jobs.setdefault(job, state)
        elif after.get(job, 0) > before.get(job, 0):
            jobs.pop(job, None)
    storage.write_text(dataset.path / ROLLED_BACK, json.dumps(jobs) + "\n")
