"""Acknowledged questions reach the tables exactly once, whatever dies in between."""

import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from openr_data.errors import StoreError
from openr_data.schema import TABLES
from openr_data.store import Dataset, Store
from openr_data.store.spool import Spool
from tests.store.test_dataset import labels, solution


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset("d", create=True)


def rows(name: str) -> dict[str, list[dict[str, Any]]]:
    return {"solutions": [solution(f"s{name}", name, ["a"])], "labels": [labels(f"l{name}", f"s{name}", name, [1])]}


def held(dataset: Dataset) -> Counter[str]:
    return Counter(dataset.view().sql("select label_id from labels").column(0).to_pylist())


def test_a_finished_question_is_acknowledged_before_it_is_committed(dataset: Dataset, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q1", {"outcome": "labelled"}, rows("q1"))
    assert spool.finished == {"q1": {"outcome": "labelled"}}
    assert held(dataset) == {}
    spool.flush()
    assert held(dataset) == {"lq1": 1}


def test_what_a_dead_process_left_is_committed_by_the_next(dataset: Dataset, tmp_path: Path) -> None:
    dead = Spool(tmp_path / "spool", dataset, "j/w0")
    dead.add("q1", {"n": 1}, rows("q1"))
    dead.add("q2", {"n": 2}, rows("q2"))
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    assert held(dataset) == {"lq1": 1, "lq2": 1}
    assert spool.finished == {"q1": {"n": 1}, "q2": {"n": 2}}
    assert list((tmp_path / "spool").glob("pending-*")) == []


def test_a_line_torn_by_the_kill_was_never_acknowledged(dataset: Dataset, tmp_path: Path) -> None:
    dead = Spool(tmp_path / "spool", dataset, "j/w0")
    dead.add("q1", {}, rows("q1"))
    dead.add("q2", {}, rows("q2"))
    (pending,) = (tmp_path / "spool").glob("pending-*")
    pending.write_bytes(pending.read_bytes()[:-20])
    assert set(Spool(tmp_path / "spool", dataset, "j/w0").finished) == {"q1"}
    assert held(dataset) == {"lq1": 1}


@pytest.mark.parametrize("dies_after", list(TABLES))
def test_a_death_between_the_tables_of_a_commit_neither_loses_nor_doubles(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_after: str
) -> None:
    class Died(BaseException):
        pass

    real = Dataset.append

    def append_and_die(self: Dataset, table: str, *args: Any, **options: Any) -> int:
        added = real(self, table, *args, **options)
        if table == dies_after:
            raise Died
        return added

    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q1", {"n": 1}, rows("q1"))
    monkeypatch.setattr(Dataset, "append", append_and_die)
    with pytest.raises(Died):
        spool.flush()
    monkeypatch.undo()
    again = Spool(tmp_path / "spool", dataset, "j/w0")
    again.add("q2", {"n": 2}, rows("q2"))
    again.close()
    counts = dataset.view().counts()
    assert (counts["solutions"], counts["labels"]) == (2, 2)
    assert held(dataset) == {"lq1": 1, "lq2": 1}
    assert Spool(tmp_path / "spool", dataset, "j/w0").finished == {"q1": {"n": 1}, "q2": {"n": 2}}


def test_a_death_before_the_pending_file_is_gone_does_not_commit_it_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q1", {}, rows("q1"))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    spool.flush()
    monkeypatch.undo()
    assert len(list((tmp_path / "spool").glob("pending-*"))) == 1
    Spool(tmp_path / "spool", dataset, "j/w0").close()
    assert held(dataset) == {"lq1": 1}


def test_batches_are_cut_by_time_and_by_size(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spool(tmp_path / "a", dataset, "a/w0", max_seconds=0.0).add("q1", {}, rows("q1"))
    assert held(dataset) == {"lq1": 1}
    monkeypatch.setattr("openr_data.store.spool.MAX_QUESTIONS", 2)
    spool = Spool(tmp_path / "b", dataset, "b/w0")
    spool.add("q2", {}, rows("q2"))
    assert len(held(dataset)) == 1
    spool.add("q3", {}, rows("q3"))
    assert len(held(dataset)) == 3


def test_a_full_disk_keeps_what_is_acknowledged_for_the_next_run(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q1", {}, rows("q1"))

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "write_table", refuse)
    with pytest.raises(StoreError, match="The disk is full"):
        spool.flush()
    monkeypatch.undo()
    Spool(tmp_path / "spool", dataset, "j/w0").close()
    assert held(dataset) == {"lq1": 1}


def test_a_damaged_line_of_what_is_done_does_not_swallow_the_next_commit(dataset: Dataset, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q1", {}, rows("q1"))
    spool.close()
    done = tmp_path / "spool" / "done.jsonl"
    done.write_bytes(done.read_bytes().replace(b"q1", b"qX", 1))
    again = Spool(tmp_path / "spool", dataset, "j/w0")
    assert again.finished == {}
    again.add("q2", {}, rows("q2"))
    again.close()
    assert set(held(dataset)) == {"lq1", "lq2"}


def test_a_dataset_that_was_removed_under_its_job_is_told(dataset: Dataset, store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "job" / "spool", dataset, "j/w0")
    spool.add("q1", {}, rows("q1"))
    spool.close()
    shutil.rmtree(dataset.path)
    empty = store.dataset("d", create=True)
    with pytest.raises(StoreError, match="dataset d that is gone or older"):
        Spool(tmp_path / "job" / "spool", empty, "j/w0")


def test_a_batch_without_rows_takes_no_number(dataset: Dataset, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", dataset, "j/w0")
    spool.add("q0", {"outcome": "no gold answer"}, {})
    spool.flush()
    spool.add("q1", {}, rows("q1"))
    spool.close()
    assert set(Spool(tmp_path / "spool", dataset, "j/w0").finished) == {"q0", "q1"}
    assert held(dataset) == {"lq1": 1}
