"""Snapshots and tags: names for one version of every table of a dataset.

A snapshot is written when an operation ends: the versions of all tables, an order-independent digest of
their content, row counts, the parent and the job that made it. Snapshots are numbered from 1; the number is
claimed by a transaction id, so two writers cannot take the same one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from ..errors import MissingRef, StoreError, UsageError
from ..schema import REFS
from . import tables

MAIN = "main"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row of `refs`: a snapshot (`name` is its number) or a tag."""

    name: str
    kind: str
    versions: Mapping[str, int]
    digest: str
    parent: str | None
    operation: str
    message: str
    counts: Mapping[str, int]
    job_id: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class DatasetName:
    """`NAME@ref` taken apart; the reference defaults to `main`."""

    name: str
    ref: str = MAIN

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Raises `UsageError` for a name that is no name."""
        name, found, ref = text.partition("@")
        if not _NAME.fullmatch(name) or (found and not ref):
            raise UsageError(
                f"{text!r} is not a dataset name. Write NAME or NAME@ref, for example math-aps@v1, with "
                "letters, digits, '.', '_' and '-'."
            )
        return cls(name, ref or MAIN)

    def __str__(self) -> str:
        return self.name if self.ref == MAIN else f"{self.name}@{self.ref}"


def now() -> str:
    """The time as it is stored: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(path: Path) -> list[Snapshot]:
    """All rows of a refs table, oldest first."""
    table = tables.open_table(path)
    try:
        rows = pa.table(table.to_pyarrow_table()).to_pylist(maps_as_pydicts="strict")
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"The refs of {path.parent.name} are missing or damaged: {error}. Check the store with: openr-data doctor"
        ) from error
    found = [
        Snapshot(
            name=row["name"],
            kind=row["kind"],
            versions=row["versions"],
            digest=row["digest"],
            parent=row["parent"],
            operation=row["operation"],
            message=row["message"],
            counts=row["counts"],
            job_id=row["job_id"],
            created_at=row["created_at"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda item: (item.kind != "snapshot", _number(item.name), item.name))


def snapshots(path: Path) -> list[Snapshot]:
    """The snapshots alone, oldest first."""
    return [item for item in read(path) if item.kind == "snapshot"]


def write(path: Path, snapshot: Snapshot) -> None:
    """Add a row. Raises `StoreError` when the name is taken."""
    app = f"{snapshot.kind}/{snapshot.name}"
    if tables.open_table(path).transaction_version(app) is not None:
        raise StoreError(f"The {snapshot.kind} {snapshot.name!r} exists already.")
    row = {
        **{name: getattr(snapshot, name) for name in REFS.names if name != "hub_revision"},
        "versions": list(snapshot.versions.items()),
        "counts": list(snapshot.counts.items()),
        "hub_revision": None,
    }
    tables.append(path, pa.Table.from_pylist([row], schema=REFS), app, 1)
    # Another writer may have committed the same name in between: then ours was left out.
    if snapshot not in read(path):
        raise StoreError(f"The {snapshot.kind} {snapshot.name!r} exists already.")


def find(path: Path, dataset: str, ref: str) -> Snapshot:
    """The snapshot with this number, or the tag of this name. Raises `MissingRef` with what there is."""
    rows = read(path)
    for row in rows:
        if row.name == ref:
            return row
    there = ", ".join([MAIN, *(row.name for row in rows)])
    raise MissingRef(f'No snapshot "{ref}" in {dataset} (there are: {there}). List them with: openr-data log {dataset}')


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0
