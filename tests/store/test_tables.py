"""One Delta table: exactly-once commits, many writers, failing disks."""

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from openr_data.errors import StoreError
from openr_data.store import tables

SCHEMA = pa.schema([("question_id", pa.string()), ("n", pa.int64())])


def rows(*numbers: int) -> pa.Table:
    return pa.table({"question_id": [str(n) for n in numbers], "n": list(numbers)}, schema=SCHEMA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tables.create(tmp_path / "numbers", SCHEMA, "question_id")
    return tmp_path / "numbers"


def held(path: Path, version: int | None = None) -> list[int]:
    files = tables.files(path, version if version is not None else int(tables.open_table(path).version()))
    return sorted(n for file in files for n in pq.read_table(file)["n"].to_pylist())


def test_the_same_transaction_twice_commits_once(path: Path) -> None:
    first = tables.append(path, rows(1, 2), "job/w0", 1)
    assert tables.append(path, rows(1, 2), "job/w0", 1) == first
    assert tables.append(path, rows(3), "job/w0", 2) == first + 1
    assert held(path) == [1, 2, 3]


def test_an_older_version_never_changes(path: Path) -> None:
    before = tables.append(path, rows(1), "a", 1)
    tables.append(path, rows(2), "a", 2)
    assert held(path, before) == [1]


def test_history_is_kept_for_a_century_and_rows_cannot_be_deleted(path: Path) -> None:
    tables.append(path, rows(1), "a", 1)
    table = DeltaTable(str(path))
    assert table.metadata().configuration["delta.logRetentionDuration"] == "interval 36500 days"
    with pytest.raises(Exception, match=r"(?i)append"):
        table.delete("n = 1")


def append_many(path: str, worker: int, count: int) -> None:
    for seq in range(1, count + 1):
        tables.append(Path(path), rows(worker * 1000 + seq), f"job/w{worker}", seq)


@pytest.mark.slow
def test_six_processes_append_at_once_and_every_row_is_there_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(path), worker, 5)) for worker in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert Counter(held(path)) == Counter(worker * 1000 + seq for worker in range(6) for seq in range(1, 6))


def test_a_moved_folder_opens(path: Path, tmp_path: Path) -> None:
    tables.append(path, rows(7), "a", 1)
    shutil.move(path, tmp_path / "elsewhere")
    assert held(tmp_path / "elsewhere") == [7]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "The store is read-only"), (errno.EACCES, "read-only")],
)
def test_a_disk_that_refuses_is_one_sentence_and_nothing_committed_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    tables.append(path, rows(1), "a", 1)

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pq, "write_table", refuse)
    with pytest.raises(StoreError, match=words):
        tables.append(path, rows(2), "a", 2)
    monkeypatch.undo()
    assert held(path) == [1]
    tables.append(path, rows(2), "a", 2)
    assert held(path) == [1, 2]


def test_half_a_file_is_never_committed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = pq.write_table, []

    def torn_once(table: pa.Table, where: Path, **options: Any) -> None:
        calls.append(where)
        if len(calls) == 1:
            Path(where).write_bytes(b"PAR1 half")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(table, where, **options)

    monkeypatch.setattr(pq, "write_table", torn_once)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    tables.append(path, rows(4), "a", 1)
    assert held(path) == [4]
    assert len(list(path.glob("*.parquet"))) == 1


def test_an_empty_log_entry_is_told_not_read_as_no_rows(path: Path) -> None:
    tables.append(path, rows(1), "a", 1)
    max((path / "_delta_log").glob("*.json")).write_text("")
    with pytest.raises(StoreError, match="cannot be read.*is empty"):
        tables.open_table(path)


def test_a_full_disk_under_the_commit_itself_leaves_the_table_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append(path, rows(1), "a", 1)

    def refuse(self: DeltaTable, *args: Any, **options: Any) -> None:
        raise OSError("Generic LocalFileSystem error: No space left on device (os error 28)")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", refuse)
    with pytest.raises(StoreError, match="The disk is full"):
        tables.append(path, rows(2), "a", 2)
    monkeypatch.undo()
    assert held(path) == [1]
    assert len(list(path.glob("*.parquet"))) == 1, "the file that was not committed is still there"


def test_a_commit_whose_answer_got_lost_is_not_made_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DeltaTable.create_write_transaction
    calls = []

    def commit_then_fail(self: DeltaTable, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        calls.append(1)
        raise OSError("connection reset")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit_then_fail)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    tables.append(path, rows(5), "a", 1)
    assert calls == [1]
    assert held(path) == [5]


def test_a_missing_or_torn_table_is_named_with_the_next_command(path: Path) -> None:
    with pytest.raises(StoreError, match="The table absent of .* is missing or damaged"):
        tables.open_table(path.parent / "absent")
    newest = max((path / "_delta_log").glob("*.json"))
    newest.write_text(newest.read_text()[:40])
    with pytest.raises(StoreError, match="numbers"):
        tables.open_table(path)


@pytest.mark.slow
def test_a_really_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        tables.create(small / "t", SCHEMA, "question_id")
        tables.append(small / "t", rows(1), "a", 1)
        incompressible = pa.table(
            {"question_id": [os.urandom(16).hex() for _ in range(60_000)], "n": list(range(60_000))}, schema=SCHEMA
        )
        with pytest.raises(StoreError, match="The disk is full"):
            tables.append(small / "t", incompressible, "a", 2)
        assert held(small / "t") == [1]
        tables.append(small / "t", rows(2), "a", 2)
        assert held(small / "t") == [1, 2]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_files_are_fsynced_before_they_are_committed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    tables.append(path, rows(1), "a", 1)
    names = [Path(name).name for name in synced]
    assert names[0].endswith(".parquet")
    assert names[-1] == "_delta_log"
    assert any(name.endswith(".json") for name in names)
    log = json.loads((path / "_delta_log" / names[-2]).read_text().splitlines()[0])
    assert log
