"""One Delta table: create it, commit rows to it exactly once, swap its files, list the files of a version.

delta-rs is used through its add-action API: this module writes and fsyncs the Parquet file, checks that the transaction
id is not committed yet, and commits the file under it. A commit whose process died before it got the answer is
therefore not repeated.
"""

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from ..errors import StoreError
from .remote import Place, RemotePath
from .storage import first_line, is_forbidden, is_full, remove, size_and_rows, storage_error, sync_log, write_parquet

ATTEMPTS: Final = 60
SWAP: Final = "swap"
"""The transaction id of every commit that takes files out of a table: of two concurrent ones one fails.

delta-rs does not check removals against removals: without it two compactions of one version both commit, and the rows
are doubled.
"""

_FACTS: Final[Mapping[str, str | None]] = {
    # With the default of 30 days pinned versions become unreadable after a month.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.checkpointInterval": "100",
    "delta.appendOnly": "true",
}


def create(path: Place, schema: pa.Schema, order_by: str | None) -> None:
    """Create an empty append-only table, or add the columns that a table of an older schema lacks."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not DeltaTable.is_deltatable(str(path)):
            statistics = {"delta.dataSkippingStatsColumns": order_by} if order_by else {}
            DeltaTable.create(str(path), schema=schema, mode="ignore", configuration={**_FACTS, **statistics})
            sync_log(path, -1)
        _add_columns(path, schema)
    except (OSError, DeltaError) as error:
        raise storage_error(path, error) from error


def _add_columns(path: Place, schema: pa.Schema) -> None:
    table = DeltaTable(str(path))
    wanted = Schema.from_arrow(schema).fields
    missing = [field for field in wanted if field.name not in {present.name for present in table.schema().fields}]
    if not missing:
        return
    since = table.version()
    try:
        table.alter.add_columns(missing)
        sync_log(path, since)
    except DeltaError:
        # Another process may have added them in the meantime.
        present = {field.name for field in DeltaTable(str(path)).schema().fields}
        if not {field.name for field in missing} <= present:
            raise


def is_there(path: Place) -> bool:
    """Whether a table was ever made in this folder."""
    return (path / "_delta_log").is_dir()


def open_table(path: Place, version: int | None = None) -> DeltaTable:
    """The table at a version (default: the newest). Raises `StoreError` where it cannot be read."""
    try:
        table = DeltaTable(str(path), version=version)
        entry = _entry(path, int(table.version()))
        if entry is not None and entry.st_size == 0:
            # delta-rs reads an empty log entry (a power cut) as a commit without rows.
            raise OSError(f"its log entry {table.version():020d}.json is empty.")
        return table
    except TableNotFoundError as error:
        raise StoreError(
            f"The table {path.name} of {path.parent.name} is missing or damaged. "
            f"Check the store with: openr-data doctor"
        ) from error
    except (OSError, DeltaError) as error:
        raise StoreError(
            f"The table {path.name} of {path.parent.name} cannot be read"
            f"{'' if version is None else f' at version {version}'}: {first_line(error)}"
        ) from error


State = tuple[int, tuple[str, ...]]
_states: dict[Place, tuple[State, os.stat_result]] = {}


def newest(path: Place) -> State:
    """The newest version of a table and its files. Raises `StoreError`.

    The last state is cached. Two `stat` calls on the log show whether it is still the newest, at a hundredth of the
    cost of opening the table.
    """
    cached = _states.get(path)
    if cached is not None:
        state, seen = cached
        entry = _entry(path, state[0])
        if entry is not None and _same(entry, seen) and _entry(path, state[0] + 1) is None:
            return state
    table = open_table(path)
    state = int(table.version()), tuple(files_of(path, table))
    entry = _entry(path, state[0])
    if entry is not None:
        if len(_states) >= 1_000:
            _states.clear()
        _states[path] = state, entry
    return state


def _entry(path: Place, version: int) -> os.stat_result | None:
    """The log entry of a version on a local disk, where a look costs nothing; None elsewhere."""
    if isinstance(path, RemotePath):
        return None
    try:
        return (path / "_delta_log" / f"{version:020d}.json").stat()
    except OSError:
        return None


def _same(entry: os.stat_result, seen: os.stat_result) -> bool:
    """Whether both are the same file, and not that of a new table in the same place."""
    return (entry.st_ino, entry.st_mtime_ns, entry.st_size) == (seen.st_ino, seen.st_mtime_ns, seen.st_size)


def append(
    path: Place,
    rows: pa.Table | Callable[[DeltaTable], pa.Table],
    app: str,
    seq: int,
    *,
    supersedes: bool = False,
    guard: str = "",
) -> int:
    """Commit `rows` as transaction `seq` of `app`, exactly once; return the table's version after it.

    Rows are written in the given order. With `supersedes` they may repeat keys of the table. With a `guard`, `rows` is
    a function of the table, called again after every other commit under that guard. Raises `StoreError` if the disk is
    full, the folder is not writable, or other writers win every attempt; then nothing was committed.
    """
    written: Place | None = None
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        table = open_table(path)
        done = table.transaction_version(app)
        if done is not None and done >= seq:
            # Our own commit whose answer was lost, or another process's: snapshots may hold the file, so gc decides.
            return int(table.version())
        try:
            if guard and written is not None:
                remove(written)
                written = None
            if written is None:
                data = rows if isinstance(rows, pa.Table) else rows(table)
                if not data.num_rows:
                    return int(table.version())
                written = write_parquet(path, data, "newer" if supersedes else "fresh")
            return _commit(path, table, [_added(written, change=True)], {app: seq, **_next(table, guard)})
        except (OSError, DeltaError) as error:
            if is_full(error) or is_forbidden(error):
                if written is not None and not _committed(path, app, seq):
                    remove(written)
                raise storage_error(path, error) from error
            last = error
            time.sleep(random.random() * min(1.0, 0.01 * 2**attempt))
    raise StoreError(
        f"The table {path.name} of {path.parent.name} could not be written in {ATTEMPTS} attempts: "
        f"{first_line(last)} Run the same command again."
    )


def swap(path: Place, table: DeltaTable, add: Sequence[Place], gone: Sequence[Mapping[str, Any]]) -> int:
    """Commit files in place of others of `table`, unless another swap came first; return the version after it.

    Delta records it as a change of files and not of rows, the only change that an append-only table allows; a rollback
    is one too. Raises `StoreError` if another swap came first or the disk refuses; then the table is unchanged.
    """
    moment = int(time.time() * 1000)
    try:
        actions: list[AddAction | RemoveAction] = [_added(file, change=False) for file in add]
        actions += [RemoveAction(row["path"], False, moment, row["size_bytes"], {}) for row in gone]
        return _commit(path, table, actions, _next(table, SWAP))
    except (OSError, DeltaError) as error:
        if "oncurrent" not in str(error):
            raise storage_error(path, error) from error
        raise StoreError(
            f"The files of {path.name} of {path.parent.name} were changed by another process in the meantime. "
            "Run the same command again."
        ) from error


def _added(file: Place, *, change: bool) -> AddAction:
    size, rows = size_and_rows(file)
    return AddAction(
        path=file.name,
        size=size,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=change,
        stats=json.dumps({"numRecords": rows}),
    )


def data_files(table: DeltaTable) -> list[dict[str, Any]]:
    """The data files of an opened table: path, size_bytes, num_records."""
    rows: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return rows


def files(path: Place, version: int) -> list[str]:
    """The Parquet files of a version, as absolute paths."""
    return files_of(path, open_table(path, version))


def files_of(path: Place, table: DeltaTable) -> list[str]:
    """The Parquet files of an opened table, as absolute paths or URIs."""
    # delta-rs escapes the letters of a URI; its files lie in the folder of the table itself.
    return [str(path / str(item).rpartition("/")[2]) for item in table.file_uris()]


def _next(table: DeltaTable, app: str) -> dict[str, int]:
    return {app: (table.transaction_version(app) or 0) + 1} if app else {}


def _commit(path: Place, table: DeltaTable, actions: list[Any], apps: Mapping[str, int]) -> int:
    since = int(table.version())
    table.create_write_transaction(
        actions,
        "append",
        table.schema(),
        commit_properties=CommitProperties(
            max_commit_retries=100, app_transactions=[Transaction(app, seq) for app, seq in apps.items()]
        ),
    )
    sync_log(path, since)
    table.update_incremental()
    return int(table.version())


def _committed(path: Place, app: str, seq: int) -> bool:
    try:
        done = open_table(path).transaction_version(app)
    except StoreError:
        return True
    return done is not None and done >= seq
