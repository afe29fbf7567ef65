"""Writes whole Parquet files, locks and flushes the disk; one sentence for every way in which a disk refuses.

delta-rs never calls fsync on what it writes, so this module does.
"""

import errno
import fcntl
import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..checked_lines import write_whole
from ..errors import StoreError
from ..schema import COLUMNS_SINCE, SCHEMA_VERSION
from .remote import Place, RemotePath, is_remote, parquet_bytes

LOCKS: Final = Path(tempfile.gettempdir()) / "openr-data-locks"
_VERSION: Final = re.compile(r"[a-z]+-v(\d+)-")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
ROW_GROUP: Final = 25_000
UNIQUE: Final = frozenset(("solution_id", "label_id", "node_id", "rollout_id", "steps", "text", "question"))


def write_parquet(folder: Place, rows: pa.Table, kind: str = "fresh", run: str = "") -> Place:
    """Write a Parquet file, whole and flushed, or none.

    Its name holds the schema version and what a reader needs before it opens the file: `fresh-v3-...` has no key of
    another file, `newer-v3-...` may have some, and `sorted-v3-RUN-...` comes from the compaction RUN of a whole table.
    """
    path = folder / f"{kind}-v{SCHEMA_VERSION}-{run and run + '-'}{uuid.uuid4().hex}.parquet"
    # A dictionary of values that rarely repeat costs time and space.
    repeating = [name for name in rows.column_names if name not in UNIQUE]
    options = {
        "compression": "zstd",
        "row_group_size": ROW_GROUP,
        "write_page_index": True,
        "use_dictionary": repeating,
    }
    if isinstance(path, RemotePath):
        path.write_bytes(parquet_bytes(rows, **options))
        return path
    try:
        pq.write_table(rows, path, **options)
        sync(path)
        sync(path.parent)
    except BaseException:
        # A later attempt must not commit half a file.
        remove(path)
        raise
    return path


def read_parquet(file: str) -> pa.Table:
    """Read a small file. Raises `StoreError` if it is missing or damaged."""
    try:
        return _read(file)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{file} is missing or damaged: {first_line(error)} Check the store with: openr-data doctor"
        ) from error


def _read(file: str, columns: list[str] | None = None) -> pa.Table:
    # `read_table` imports pyarrow.dataset and with it pandas: the first read of a store took 180 ms longer.
    with pq.ParquetFile(source(file)) as parquet:
        return parquet.read(columns)


def read_tables(files: Sequence[str], columns: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Read files of one table as one Arrow table. Raises `StoreError` if one is missing or damaged."""
    selected = pa.schema([schema.field(name) for name in columns])
    try:
        return pa.concat_tables([_read(file, list(columns)).cast(selected) for file in files])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"A file of the dataset is missing or damaged: {first_line(error)} Check the store with: openr-data doctor"
        ) from error


def size_and_rows(file: Place) -> tuple[int, int]:
    """Bytes and rows of a Parquet file. Raises `OSError`."""
    return size(file), int(pq.read_metadata(source(str(file))).num_rows)


def size(file: Place) -> int:
    """Bytes of a file. Raises `OSError`."""
    return file.size() if isinstance(file, RemotePath) else file.stat().st_size


def size_below(folder: Place) -> int:
    """Bytes of all files in a folder."""
    if isinstance(folder, RemotePath):
        return sum(item.size() for item in folder.iterdir(recursive=True) if item.is_file())
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())


def source(file: str) -> Any:
    """The source that Arrow reads a Parquet file from. Raises `OSError`."""
    return RemotePath.parse(file).open_input() if is_remote(file) else file


def is_fresh(file: str) -> bool:
    """Whether no other file of its table holds a key of this one."""
    return file.rpartition("/")[2].startswith(("fresh-", "sorted-"))


def sorted_run(file: str) -> str:
    """The compaction of the whole table that wrote a file, or ""."""
    name = file.rpartition("/")[2]
    return name.split("-")[2] if name.startswith("sorted-") else ""


def is_current(file: str) -> bool:
    """Whether a file has all columns of the schema as it is now."""
    named = _VERSION.match(file.rpartition("/")[2])
    return named is not None and COLUMNS_SINCE <= int(named[1]) <= SCHEMA_VERSION


def write_text(path: Place, text: str) -> None:
    """Replace a small text file atomically. Raises `OSError`."""
    if isinstance(path, RemotePath):
        path.write_bytes(text.encode())
    else:
        write_whole(path, text)


@contextmanager
def lock(path: Place, *, exclusive: bool, wait: bool = True) -> Iterator[bool]:
    """Hold a lock among the processes of this machine, shared or exclusive; yields whether it is held.

    Without `wait` there is one attempt. An object store has no locks: its lock is a file on this machine, and only the
    commits keep processes of several machines apart. Raises `StoreError` if the lock file cannot be written.
    """
    try:
        if isinstance(path, RemotePath):
            LOCKS.mkdir(mode=0o777, parents=True, exist_ok=True)
            path = LOCKS / hashlib.sha256(str(path).encode()).hexdigest()[:32]
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise storage_error(path.parent, error) from error
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(handle)


def child(folder: Place, name: str) -> str:
    """A file of a folder as DuckDB names it."""
    return str(folder / name)


def remove(path: Place) -> None:
    """Delete a file that nothing refers to; one that cannot be deleted does no harm."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_log(path: Place, since: int) -> None:
    """Flush the log entries of a table after version `since`, our own among them, and their folder."""
    if isinstance(path, RemotePath):
        # An answered put is durable.
        return
    log = path / "_delta_log"
    version = since + 1
    while (entry := log / f"{version:020d}.json").exists():
        sync(entry)
        version += 1
    sync(log)


def storage_error(path: Place, error: Exception) -> StoreError:
    """The one sentence for a failure of the disk under `path`."""
    if is_full(error):
        return StoreError(
            f"The disk is full: {path} could not be written. Nothing that was committed is lost; free some "
            "space and run the same command again."
        )
    if is_forbidden(error):
        return StoreError(f"The store is read-only: {path} cannot be written. Choose another with: --store FOLDER")
    return StoreError(f"{path} could not be written: {first_line(error)}")


def is_full(error: Exception) -> bool:
    """Whether a disk or a quota is full."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return full or "No space left on device" in str(error) or "os error 28" in str(error)


def is_forbidden(error: Exception) -> bool:
    """Whether nothing may be written there."""
    codes = (errno.EACCES, errno.EPERM, errno.EROFS)
    forbidden = isinstance(error, OSError) and error.errno in codes
    text = str(error)
    words = ("Permission denied", "Read-only file system", "403 Forbidden", "AccessDenied", "ACCESS_DENIED")
    return forbidden or any(word in text for word in words)


def first_line(error: object) -> str:
    """The first line of an error's own words, as a sentence."""
    text = _COLOUR.sub("", str(error)).strip() or type(error).__name__
    lines = text.splitlines()
    # The first line of an object store's error has no content: "Generic S3 error".
    line = " ".join(" ".join(lines).replace("↳", " ").split())[:400] if text.startswith("Generic S3") else lines[0]
    return line.rstrip(".") + "."
