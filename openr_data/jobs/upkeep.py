"""Upkeep of a dataset that takes running jobs into account: garbage collection and rollback."""

from dataclasses import dataclass

from ..errors import UsageError
from ..store import Snapshot, Store, maintenance
from ..store.maintenance import KEEP_DAYS, RETENTION_HOURS, Garbage
from ..store.refs import DatasetName
from ..store.rollback import rollback
from .job import Job


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect_garbage` removed (or would remove), and the running job that kept young files, if any."""

    dataset: str
    garbage: Garbage
    held_by: str = ""


def collect_garbage(
    store: Store,
    name: str,
    *,
    keep_days: float = KEEP_DAYS,
    retention_hours: float = RETENTION_HOURS,
    alone: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Remove old snapshots without a tag and files that nothing refers to; see `maintenance.gc`.

    While a job writes into the dataset, files younger than a week stay whatever `retention_hours` says: the job may be
    about to commit them. Raises `MissingDataset` and `StoreError`.
    """
    dataset = store.dataset(DatasetName.parse(name).name, write=not dry_run)
    running = Job.writing(store, dataset.name)
    hours = max(retention_hours, RETENTION_HOURS) if running else retention_hours
    garbage = maintenance.gc(dataset, keep_days=keep_days, retention_hours=hours, alone=alone, dry_run=dry_run)
    return Collected(dataset.name, garbage, running[0] if running and hours > retention_hours else "")


def check_not_written(store: Store, name: str) -> None:
    """Raise `UsageError` while a job writes into the dataset."""
    running = Job.writing(store, name)
    if running:
        raise UsageError(f"The job {running[0]} is writing into {name}. Stop it first (Ctrl-C where it runs).")


def roll_back(store: Store, name: str, ref: str, message: str = "") -> Snapshot:
    """Make the dataset what it was at `ref`, as a new snapshot; see `store.rollback`.

    Raises `UsageError` while a job writes into it, `MissingRef` and `StoreError`.
    """
    dataset = store.dataset(name, write=True)
    check_not_written(store, name)
    return rollback(dataset, ref, message)
