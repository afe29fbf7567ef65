"""Compacts the many small files that labeling writes, and removes files that nothing refers to any more.

Compaction rewrites files sorted by question and drops superseded rows; the content does not change, and snapshots keep
their files. It commits under the transaction id of every swap: of two concurrent compactions one fails and no row is
doubled, while appends continue. `gc` expires old snapshots without a tag, then deletes the files that only they held;
it leaves files younger than a week, since a writer may be about to commit them.
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
    """The files and bytes of a table before and after."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@dataclass(slots=True)
class Garbage:
    """What `gc` removes: snapshots by name, files by table, bytes."""

    snapshots: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    paths: list[str] = field(default_factory=list)


def tidy(dataset: Location) -> list[Compaction]:
    """Merge the small files of tables that have many: bounded work, and never an error.

    A process that finds a compaction running skips its own.
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
        # Another process changed the table, or the disk is full; the next commit tries again.
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
    """Rewrite every table as a few files sorted by question. After a `StoreError` the other tables are unchanged."""
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
    # Rows that supersede rows of other files must still do so.
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
    """All rows of some files ordered by question, in pieces of one file each."""
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
    """Expire snapshots older than `keep_days` without a tag, then delete the files that nothing refers to.

    The newest snapshot and every tag stay readable. Raises `StoreError` for a `retention_hours` below a week, unless
    the caller states that it is `alone`: that no other process reads or writes the dataset.
    """
    if retention_hours < RETENTION_HOURS and not alone:
        raise StoreError(
            f"Files younger than {RETENTION_HOURS} hours may belong to a writer or reader at work. Let gc keep them, "
            "or state that no other process uses the dataset with --alone"
        )
    garbage = Garbage()
    with dataset.hold(exclusive=True):
        dataset.check_whole()
        names = refs.read(dataset.refs)
        cut = (datetime.now(UTC) - timedelta(days=keep_days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        snapshots = [row for row in names if row.kind == "snapshot"]
        tags = [row for row in names if row.kind == "tag"]
        tagged = {row.parent for row in tags}
        old = [row for row in snapshots[:-1] if row.created_at < cut and row.name not in tagged]
        garbage.snapshots = [row.name for row in old]
        remaining = [row for row in names if row not in old]
        if not dry_run:
            for row in old:
                # The expiry is recorded before files are deleted, so that no listed snapshot lacks its files.
                note = replace(row, kind="expired", operation="gc", created_at=refs.now(), changes={})
                refs.write(dataset.refs, note)
        for table in (*dataset.tables(), "refs"):
            versions = {row.versions[table] for row in remaining if table in row.versions}
            folder = dataset.path / table
            gone = _vacuum(folder, versions, retention_hours, dry_run=True)
            garbage.bytes += sum(_size(folder / name) for name in gone)
            if not dry_run:
                gone = _vacuum(folder, versions, retention_hours, dry_run=False)
            if gone:
                garbage.files[table] = len(gone)
                garbage.paths += [f"{table}/{name}" for name in gone]
    return garbage


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
