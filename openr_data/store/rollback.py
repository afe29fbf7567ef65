"""Make a dataset what it was, as a new snapshot.

Every table gets back the files it had and loses those it did not have, labels first and facts last; nothing is
deleted, so the snapshots in between can still be read. The rows of `jobs` stay: what was spent is spent. Which jobs
have lost rows is noted, so that a resumed one does not go on as if they were there.
"""

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from deltalake import DeltaTable

from ..errors import StoreError
from ..schema import TABLES
from . import storage, tables
from .refs import MAIN, Snapshot
from .remote import Place
from .view import View

if TYPE_CHECKING:
    from .dataset import Dataset

ROLLED_BACK: Final = "rolled-back.json"
"""In a dataset's folder: the jobs whose rows a rollback took away, and the state that has them."""

Swap = tuple[DeltaTable, list[Place], list[dict[str, Any]]]
"""A table, the files that come back to it, and those that go."""


def rollback(dataset: "Dataset", ref: str, message: str = "") -> Snapshot:
    """Make the newest state what it was at `ref`. The same call after a crash finishes it.

    Raises `MissingRef`, and `StoreError` where a file of that state is not there any more or the disk refuses.
    """
    target = dataset.view(ref)
    with dataset.hold(exclusive=True):
        swaps = {
            table: _swap(dataset, table, target.versions[table]) for table in reversed(list(TABLES)) if table != "jobs"
        }
        before = _rows_by_job(dataset.view())
        snapshots = dataset.snapshots()
        # Whatever was left half done is undone by this too.
        dataset.begin("rollback", f"openr-data rollback {dataset.name} {shlex.quote(ref)} --yes")
        for table, (opened, back, gone) in swaps.items():
            if gone or back:
                tables.swap(dataset.path / table, opened, back, gone)
        _note(dataset, before, _rows_by_job(target), snapshots[-1].name if snapshots else MAIN)
        dataset.finish()
        return dataset.snapshot("rollback", message or f"as it was at {ref}", held=True)


def noted(dataset: "Dataset") -> dict[str, str]:
    """The jobs whose rows a rollback took away, and a state that has them."""
    try:
        found = json.loads((dataset.path / ROLLED_BACK).read_text())
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _swap(dataset: "Dataset", table: str, version: int) -> Swap:
    path = dataset.path / table
    newest, old = tables.open_table(path), tables.open_table(path, version)
    now, then = ({row["path"]: row for row in tables.data_files(item)} for item in (newest, old))
    gone = [row for name, row in now.items() if name not in then]
    back = [path / name for name in then if name not in now]
    missing = [file for file in back if not file.exists()]
    if missing:
        raise StoreError(
            f"{missing[0]} is not there any more, so {dataset.name} cannot become what it was. See what is wrong with: "
            f"openr-data verify {dataset.name}"
        )
    return newest, back, gone


def _rows_by_job(view: View) -> dict[str, int]:
    parts = " union all ".join(f"select job_id from {table}" for table in ("solutions", "labels", "rollouts"))
    rows = view.sql(f"select job_id, count(*) as n from ({parts}) group by job_id").to_pylist()
    return {row["job_id"]: row["n"] for row in rows}


def _note(dataset: "Dataset", before: Mapping[str, int], after: Mapping[str, int], had: str) -> None:
    found = noted(dataset)
    for job in {*before, *after}:
        if after.get(job, 0) < before.get(job, 0):
            found.setdefault(job, had)
        elif after.get(job, 0) > before.get(job, 0):
            found.pop(job, None)
    storage.write_text(dataset.path / ROLLED_BACK, json.dumps(found) + "\n")
