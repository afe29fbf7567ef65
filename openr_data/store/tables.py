"""One Delta table: create it, commit rows to it exactly once, list the files of a version.

delta-rs is used through its add-action API: we write and fsync the Parquet file ourselves (delta-rs never
does), then commit it under a transaction id, after looking whether that id is committed already. So a
commit that a dead process finished without knowing is not made twice.
"""

import errno
import json
import os
import random
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from ..errors import StoreError

ROW_GROUP: Final = 25_000
ATTEMPTS: Final = 60

_FACTS: Final[Mapping[str, str | None]] = {
    # The default of 30 days makes pinned versions unreadable after a month (anchors: trap 6).
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.checkpointInterval": "100",
    "delta.appendOnly": "true",
}


def create(path: Path, schema: pa.Schema, order_by: str | None) -> None:
    """Make an empty append-only table; one of an older schema gets the columns it lacks."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        statistics = {"delta.dataSkippingStatsColumns": order_by} if order_by else {}
        DeltaTable.create(str(path), schema=schema, mode="ignore", configuration={**_FACTS, **statistics})
        _fsync_log(path, -1)
        _add_columns(path, schema)
    except (OSError, DeltaError) as error:
        raise storage_error(path, error) from error


def _add_columns(path: Path, schema: pa.Schema) -> None:
    table = DeltaTable(str(path))
    wanted = Schema.from_arrow(schema).fields
    missing = [field for field in wanted if field.name not in {known.name for known in table.schema().fields}]
    if not missing:
        return
    try:
        table.alter.add_columns(missing)
        _fsync_log(path, -1)
    except DeltaError:
        # Another process may have added them in the meantime.
        known = {field.name for field in DeltaTable(str(path)).schema().fields}
        if not {field.name for field in missing} <= known:
            raise


def open_table(path: Path, version: int | None = None) -> DeltaTable:
    """The table at a version (default: the newest). Raises `StoreError` where it cannot be read."""
    try:
        table = DeltaTable(str(path), version=version)
        entry = path / "_delta_log" / f"{table.version():020d}.json"
        if entry.exists() and entry.stat().st_size == 0:
            # delta-rs reads an empty log entry (a power cut) as a commit without rows.
            raise OSError(f"its log entry {entry.name} is empty.")
        return table
    except TableNotFoundError as error:
        raise StoreError(
            f"The table {path.name} of {path.parent.name} is missing or damaged. "
            f"Check the store with: openr-data doctor"
        ) from error
    except (OSError, DeltaError) as error:
        raise StoreError(
            f"The table {path.name} of {path.parent.name} cannot be read"
            f"{'' if version is None else f' at version {version}'}: {_line(error)}"
        ) from error


def append(path: Path, rows: pa.Table, app: str, seq: int) -> int:
    """Commit `rows` as transaction `seq` of `app`, exactly once; return the table's version after it.

    Rows are written in the order given. Raises `StoreError` when the disk is full, the folder cannot be
    written, or the commit loses against other writers again and again; then nothing was committed.
    """
    written: Path | None = None
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        table = open_table(path)
        done = table.transaction_version(app)
        if done is not None and done >= seq:
            if written is not None and not _holds(table, written.name):
                written.unlink(missing_ok=True)
            return int(table.version())
        try:
            if written is None:
                written = _write(path, rows)
            action = AddAction(
                path=written.name,
                size=written.stat().st_size,
                partition_values={},
                modification_time=int(time.time() * 1000),
                data_change=True,
                stats=json.dumps({"numRecords": rows.num_rows}),
            )
            table.create_write_transaction(
                [action],
                "append",
                table.schema(),
                commit_properties=CommitProperties(max_commit_retries=100, app_transactions=[Transaction(app, seq)]),
            )
            _fsync_log(path, int(table.version()))
            return int(open_table(path).version())
        except (OSError, DeltaError) as error:
            if _is_full(error) or _is_forbidden(error):
                if written is not None and not _committed(path, app, seq):
                    with suppress(OSError):
                        written.unlink(missing_ok=True)
                raise storage_error(path, error) from error
            last = error
            time.sleep(random.random() * min(1.0, 0.01 * 2**attempt))
    raise StoreError(
        f"The table {path.name} of {path.parent.name} could not be written in {ATTEMPTS} attempts: "
        f"{_line(last)} Run the same command again."
    )


def _write(folder: Path, rows: pa.Table) -> Path:
    """A new Parquet file, whole and on the disk, or none."""
    path = folder / f"part-{uuid.uuid4().hex}.parquet"
    try:
        pq.write_table(rows, path, compression="zstd", row_group_size=ROW_GROUP, write_page_index=True)
        _fsync(path)
        _fsync(folder)
    except BaseException:
        # Half a file must never be what a later attempt commits.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return path


def files(path: Path, version: int) -> list[str]:
    """The Parquet files of a version, as absolute paths."""
    return [str(item) for item in open_table(path, version).file_uris()]


def storage_error(path: Path, error: Exception) -> StoreError:
    """The one sentence for a failure of the disk under `path`."""
    if _is_full(error):
        return StoreError(
            f"The disk is full: {path} could not be written. Nothing that was committed is lost; free some "
            "space and run the same command again."
        )
    if _is_forbidden(error):
        return StoreError(f"The store is read-only: {path} cannot be written. Choose another with: --store FOLDER")
    return StoreError(f"{path} could not be written: {_line(error)}")


def _is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return full or "No space left on device" in str(error) or "os error 28" in str(error)


def _is_forbidden(error: Exception) -> bool:
    codes = (errno.EACCES, errno.EPERM, errno.EROFS)
    forbidden = isinstance(error, OSError) and error.errno in codes
    text = str(error)
    return forbidden or "Permission denied" in text or "Read-only file system" in text


def _committed(path: Path, app: str, seq: int) -> bool:
    try:
        done = open_table(path).transaction_version(app)
    except StoreError:
        return True
    return done is not None and done >= seq


def _holds(table: DeltaTable, name: str) -> bool:
    return any(str(uri).endswith(name) for uri in table.file_uris())


def _line(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."


def _fsync_log(path: Path, since: int) -> None:
    """Flush the log entries after version `since` (ours is among them) and their folder."""
    log = path / "_delta_log"
    for entry in log.glob("*.json"):
        if entry.stem.isdigit() and int(entry.stem) > since:
            _fsync(entry)
    _fsync(log)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
