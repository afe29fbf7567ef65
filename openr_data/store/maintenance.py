"""Compaction of the many small files that labeling makes, and the removal of what no name holds any more.

Compaction rewrites files sorted by question, without rows that newer ones supersede; what the rows say does not
change, and snapshots keep the files they hold. It commits under the transaction id of every swap, so of two at once
one loses and nothing is doubled, while appends go on. `gc` lets go of old snapshots without a tag, then deletes the
files that only those held; a file younger than a week is left alone, since a writer may be about to commit it.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from ..errors import StoreError
from ..schema import KEYS, TABLES
from . import query, refs, storage, tables
from .hold import Location
from .remote import Place

MAX_SMALL: Final = 64
"""More small files than these in a table are merged by the next commit."""
SMALL: Final = 32 * 2**20
TARGET: Final = 128 * 2**20
MEMORY: Final = "1GB"
RETENTION_HOURS: Final = 168
KEEP_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Compaction:
    """What became of a table's files."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@dataclass(slots=True)
class Garbage:
    """What `gc` lets go: snapshots by name, files by table, bytes."""

    snapshots: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    paths: list[str] = field(default_factory=list)


def tidy(dataset: Location) -> list[Compaction]:
    """Merge small files where many have gathered: bounded work, by one process at a time, never an error.

    Who comes while another one is at it goes on without.
    """
    done: list[Compaction] = []
    try:
        crowded = [table for table in dataset.tables() if len(tables.newest(dataset.path / table)[1]) > MAX_SMALL]
        if not crowded:
            return done
        with storage.lock(dataset.path / "compact.lock", exclusive=True, wait=False) as held:
            for table in crowded if held else ():
                path = dataset.path / table
                opened = tables.open_table(path)
                small = sorted(
                    (row for row in tables.data_files(opened) if row["size_bytes"] < SMALL),
                    key=lambda row: row["size_bytes"],
                )
                if len(small) > MAX_SMALL:
                    done.append(_merge(path, table, opened, list(_up_to(small, TARGET))))
    except StoreError:
        # Another process changed the table, or the disk is full: the next commit tries again.
        return done
    return done


def _up_to(files: Sequence[Mapping[str, Any]], limit: int) -> Iterator[Mapping[str, Any]]:
    total = 0
    for row in files:
        total += row["size_bytes"]
        if total > limit:
            return
        yield row


def compact(dataset: Location) -> list[Compaction]:
    """Rewrite every table as few files sorted by question. Raises `StoreError`; then the rest is as it was."""
    done: list[Compaction] = []
    with storage.lock(dataset.path / "compact.lock", exclusive=True):
        for table in dataset.tables():
            path = dataset.path / table
            opened = tables.open_table(path)
            files = tables.data_files(opened)
            runs = {storage.sorted_run(row["path"]) for row in files}
            if len(runs) > 1 or "" in runs:
                done.append(_merge(path, table, opened, files))
    return done


def _merge(path: Place, table: str, opened: DeltaTable, files: Sequence[Mapping[str, Any]]) -> Compaction:
    """Rewrite these files of a table."""
    is_all = len(files) == len(opened.file_uris())
    # Rows that supersede others outside these files have to go on doing so.
    kind = "sorted" if is_all else "fresh" if all(storage.is_fresh(row["path"]) for row in files) else "newer"
    run = uuid.uuid4().hex[:12] if is_all else ""
    written: list[Place] = []
    try:
        names = [storage.child(path, row["path"]) for row in files]
        for batch in _sorted_batches(table, names):
            written.append(storage.write_parquet(path, batch, kind, run))
        tables.swap(path, opened, written, files)
    except BaseException as error:
        for file in written:
            storage.remove(file)
        if isinstance(error, OSError):
            raise storage.storage_error(path, error) from error
        if isinstance(error, (duckdb.Error, pa.ArrowException)):
            raise query.unreadable(error) from error
        raise
    before = sum(int(row["size_bytes"]) for row in files)
    return Compaction(table, len(files), len(written), before, sum(map(storage.size, written)))


def _sorted_batches(table: str, files: Sequence[str]) -> Iterator[pa.Table]:
    """All rows of some files in the order of their questions, in pieces for one file each."""
    connection = query.connect_sorting(table, files, MEMORY)
    order = ", ".join(f'"{name}"' for name in dict.fromkeys((*_question(table), *KEYS[table])))
    reader = connection.sql(f'select * from "{table}" order by {order}').to_arrow_reader(storage.ROW_GROUP)
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        waiting.append(batch)
        size += batch.nbytes
        # Parquet is about a quarter of Arrow here.
        if size > 4 * TARGET:
            yield pa.Table.from_batches(waiting).cast(TABLES[table])
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting).cast(TABLES[table])


def _question(table: str) -> tuple[str, ...]:
    return ("question_id",) if "question_id" in TABLES[table].names else ()


def gc(
    dataset: Location,
    *,
    keep_days: float = KEEP_DAYS,
    retention_hours: float = RETENTION_HOURS,
    alone: bool = False,
    dry_run: bool = False,
) -> Garbage:
    """Let go of snapshots older than `keep_days` that no tag names, then delete the files nobody holds.

    The newest snapshot and every tag stay readable. Raises `StoreError` for a `retention_hours` below a week, unless
    the caller states that it is `alone`: no other process reads or writes the dataset.
    """
    if retention_hours < RETENTION_HOURS and not alone:
        raise StoreError(
            f"Files younger than {RETENTION_HOURS} hours may belong to a writer or reader at work. Let gc keep them, "
            "or state that no other process uses the dataset with --alone"
        )
    found = Garbage()
    with dataset.hold(exclusive=True):
        dataset.check_whole()
        known = refs.read(dataset.refs)
        cut = (datetime.now(UTC) - timedelta(days=keep_days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        snapshots = [row for row in known if row.kind == "snapshot"]
        tags = [row for row in known if row.kind == "tag"]
        tagged = {row.parent for row in tags}
        old = [row for row in snapshots[:-1] if row.created_at < cut and row.name not in tagged]
        found.snapshots = [row.name for row in old]
        kept = [row for row in known if row not in old]
        if not dry_run:
            for row in old:
                # First the word, then the deed: a snapshot whose files go is never one that seems to be there.
                note = replace(row, kind="expired", operation="gc", created_at=refs.now(), changes={})
                refs.write(dataset.refs, note)
        for table in (*dataset.tables(), "refs"):
            versions = {row.versions[table] for row in kept if table in row.versions}
            folder = dataset.path / table
            gone = _vacuum(folder, versions, retention_hours, dry_run=True)
            found.bytes += sum(_size(folder / name) for name in gone)
            if not dry_run:
                gone = _vacuum(folder, versions, retention_hours, dry_run=False)
            if gone:
                found.files[table] = len(gone)
                found.paths += [f"{table}/{name}" for name in gone]
    return found


def _vacuum(path: Place, keep: set[int], retention_hours: float, dry_run: bool) -> list[str]:
    opened = tables.open_table(path)
    try:
        gone = opened.vacuum(
            retention_hours=int(retention_hours),
            dry_run=dry_run,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(keep | {int(opened.version())}),
        )
    except (OSError, DeltaError) as error:
        raise storage.storage_error(path, error) from error
    return list(gone)


def _size(file: Place) -> int:
    try:
        return storage.size(file)
    except OSError:
        return 0
