"""Compaction changes files and never rows; gc takes what no name holds and nothing else."""

import errno
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from openr_data.errors import MissingRef, StoreError
from openr_data.schema import TABLES
from openr_data.store import Dataset, Store, maintenance, refs, storage, tables
from openr_data.store.rollback import rollback
from openr_data.store.spool import Spool
from tests.store.test_dataset import labels, question, solution

SPAWN = multiprocessing.get_context("spawn")
TIMEOUT = 120
DAY = 86_400


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """Eight questions in eight commits, in no order, and one snapshot; two label sets superseded since, no snapshot."""
    dataset = store.dataset("d", create=True)
    for seq, number in enumerate((5, 2, 7, 1, 8, 3, 6, 4), start=1):
        commit(dataset, f"q{number}", seq)
    dataset.snapshot("label", "first", "j")
    for seq, number in ((9, 2), (10, 7)):
        dataset.append("labels", [label(f"q{number}", revision=1)], "j/labels", seq)
    return dataset


def label(name: str, revision: int = 0, job: str = "j") -> dict[str, Any]:
    return {**labels(f"l{name}", f"s{name}", name, [1, revision], job), "revision": revision}


def commit(dataset: Dataset, name: str, seq: int, job: str = "j") -> None:
    dataset.add_questions([question(name)], f"{job}/questions", seq)
    dataset.append("solutions", [solution(f"s{name}", name, ["a", "b"], job)], f"{job}/solutions", seq)
    dataset.append("labels", [label(name, job=job)], f"{job}/labels", seq)


def held(dataset: Dataset, ref: str = "main") -> dict[str, list[str]]:
    view = dataset.view(ref)
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in TABLES}


def revisions(dataset: Dataset, ref: str = "main") -> Counter[tuple[str, int]]:
    rows = dataset.view(ref).sql("select label_id, revision from labels").to_pylist()
    return Counter((row["label_id"], row["revision"]) for row in rows)


def files(dataset: Dataset, table: str, ref: str = "main") -> list[str]:
    return dataset.view(ref).files(table)


def on_disk(dataset: Dataset, table: str) -> set[str]:
    return {path.name for path in (dataset.path / table).glob("*.parquet")}


def orphan(dataset: Dataset, table: str, days: float) -> Path:
    """A file that a writer made and never committed."""
    path = storage.write_parquet(dataset.path / table, TABLES[table].empty_table())
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


# Compaction


def test_compaction_changes_no_row_and_leaves_one_file_a_table(dataset: Dataset) -> None:
    before, first, digest = held(dataset), held(dataset, "1"), dataset.view().digest()
    done = {item.table: (item.files_before, item.files_after) for item in maintenance.compact(dataset)}
    assert done == {"questions": (8, 1), "solutions": (8, 1), "labels": (10, 1)}
    assert {name: len(files(dataset, name)) for name in done} == dict.fromkeys(done, 1)
    assert held(dataset) == before
    assert dataset.view().digest() == digest
    assert held(dataset, "1") == first
    assert maintenance.compact(dataset) == []


def test_what_compaction_writes_is_sorted_by_question_and_holds_no_superseded_row(dataset: Dataset) -> None:
    maintenance.compact(dataset)
    for name in ("questions", "solutions", "labels"):
        (file,) = files(dataset, name)
        assert storage.is_fresh(file)
        rows = pq.read_table(file).to_pylist()
        assert [row["question_id"] for row in rows] == [f"q{number}" for number in range(1, 9)]
    (file,) = files(dataset, "labels")
    found = {row["label_id"]: row["revision"] for row in pq.read_table(file).to_pylist()}
    assert {name for name, revision in found.items() if revision} == {"lq2", "lq7"}
    assert revisions(dataset, "1") == Counter((f"lq{number}", 0) for number in range(1, 9))


def test_compaction_of_one_file_that_supersedes_nothing_any_more_makes_it_fresh(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    dataset.append("labels", [label("q1", revision=1)], "j/labels", 1)
    assert [item.table for item in maintenance.compact(dataset)] == ["labels"]
    assert storage.is_fresh(files(dataset, "labels")[0])
    assert revisions(dataset) == {("lq1", 1): 1}


def test_an_empty_dataset_is_compact(store: Store) -> None:
    assert maintenance.compact(store.dataset("d", create=True)) == []


def test_rows_that_come_while_files_are_merged_stay(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tables.swap

    def another_writes_first(path: Path, *args: Any) -> int:
        if path.name == "labels":
            dataset.append("labels", [label("q9"), label("q2", revision=2)], "k/labels", 1)
        return real(path, *args)

    monkeypatch.setattr(tables, "swap", another_writes_first)
    maintenance.compact(dataset)
    expected = {f"lq{number}": 0 for number in range(1, 10)} | {"lq2": 2, "lq7": 1}
    assert revisions(dataset) == Counter(expected.items())
    monkeypatch.undo()
    maintenance.compact(dataset)
    assert revisions(dataset) == Counter(expected.items())


def smallest_first(dataset: Dataset) -> list[dict[str, Any]]:
    rows = tables.data_files(tables.open_table(dataset.path / "labels"))
    return sorted(rows, key=lambda row: row["size_bytes"])


@pytest.mark.parametrize("newest_inside", [True, False])
@pytest.mark.parametrize("oldest_inside", [True, False])
def test_a_superseded_row_does_not_come_back_whichever_of_its_files_are_merged(
    store: Store, newest_inside: bool, oldest_inside: bool
) -> None:
    dataset = store.dataset("d", create=True)
    where: dict[int, str] = {}
    for revision in (0, 1, 2):
        dataset.append("labels", [label("q1", revision)], f"j{revision}/labels", 1)
        (where[revision],) = set(files(dataset, "labels")) - set(where.values())
    dataset.append("labels", [label("q2")], "k/labels", 1)
    dataset.append("labels", [label("q3")], "k/labels", 2)
    out = [where[revision] for revision, inside in ((0, oldest_inside), (2, newest_inside)) if not inside]
    path = dataset.path / "labels"
    opened = tables.open_table(path)
    chosen = [row for row in tables.data_files(opened) if not any(file.endswith(row["path"]) for file in out)]
    maintenance._merge(path, "labels", opened, chosen)
    assert len(files(dataset, "labels")) == 1 + len(out)
    assert revisions(dataset) == {("lq1", 2): 1, ("lq2", 0): 1, ("lq3", 0): 1}
    maintenance.compact(dataset)
    assert revisions(dataset) == {("lq1", 2): 1, ("lq2", 0): 1, ("lq3", 0): 1}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_mix_of_commits_revisions_partial_merges_and_rollbacks_keeps_the_newest_of_every_row(
    store: Store, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    dataset = store.dataset("d", create=True)
    expected: dict[str, int] = {}
    states: dict[str, dict[str, int]] = {}
    merged = 0
    for seq in range(1, 26):
        known = rng.sample(sorted(expected), min(len(expected), rng.randint(0, 3)))
        new = {f"q{seq}-{index}": 0 for index in range(rng.randint(0 if known else 1, 3))}
        again = {name: expected[name] + 1 for name in known}
        for number, rows in enumerate((new, again)):
            dataset.append("labels", [label(*item) for item in rows.items()], f"j/labels/{number}", seq)
        expected |= {**new, **again}
        sizes = [row["size_bytes"] for row in smallest_first(dataset)]
        monkeypatch.setattr(maintenance, "MAX_SMALL", rng.randint(1, 6))
        monkeypatch.setattr(maintenance, "SMALL", rng.choice(sizes) + 1)
        monkeypatch.setattr(maintenance, "TARGET", rng.randint(2, 5) * sizes[0])
        merged += len(maintenance.tidy(dataset))
        if rng.random() < 0.2:
            states[dataset.snapshot("label", "").name] = dict(expected)
        if states and rng.random() < 0.15:
            name = rng.choice(sorted(states))
            states[rollback(dataset, name).name] = states[name]
            expected = dict(states[name])
        assert revisions(dataset) == Counter({(f"l{name}", revision): 1 for name, revision in expected.items()})
    assert merged > 2
    for name, state in states.items():
        assert revisions(dataset, name) == Counter({(f"l{key}", revision): 1 for key, revision in state.items()})


def test_of_two_compactions_of_the_same_files_one_loses_and_leaves_nothing_behind(dataset: Dataset) -> None:
    before = held(dataset)
    path = dataset.path / "labels"
    opened = tables.open_table(path)
    rows = tables.data_files(opened)
    maintenance._merge(path, "labels", tables.open_table(path), rows)
    there = on_disk(dataset, "labels")
    with pytest.raises(StoreError, match="were changed by another process in the meantime. Run the same command again"):
        maintenance._merge(path, "labels", opened, rows)
    assert on_disk(dataset, "labels") == there
    assert held(dataset) == before


def test_a_compaction_that_began_before_a_rollback_does_not_undo_it(dataset: Dataset) -> None:
    path = dataset.path / "labels"
    opened = tables.open_table(path)
    rollback(dataset, "1")
    with pytest.raises(StoreError, match="Run the same command again"):
        maintenance._merge(path, "labels", opened, tables.data_files(opened))
    assert held(dataset) == held(dataset, "1")


def damage(file: str, how: str) -> None:
    path = Path(file)
    data = path.read_bytes()
    path.unlink()
    if how == "torn":
        # The end of the file is whole: what is inside is not.
        path.write_bytes(b"\0" * (len(data) - 3000) + data[-3000:])


@pytest.mark.parametrize("how", ["torn", "missing"])
def test_a_file_that_cannot_be_read_stops_a_compaction_in_one_sentence(dataset: Dataset, how: str) -> None:
    damage(sorted(files(dataset, "labels"))[3], how)
    with pytest.raises(StoreError, match="missing or damaged"):
        maintenance.compact(dataset)


@pytest.mark.parametrize("how", ["torn", "missing"])
def test_a_file_that_cannot_be_read_does_not_stop_who_commits(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 3)
    damage(sorted(files(dataset, "labels"))[3], how)
    assert [item.table for item in maintenance.tidy(dataset)] == ["questions", "solutions"]


@pytest.mark.parametrize("how", ["torn", "missing"])
def test_a_compaction_that_cannot_read_a_file_takes_none_away(dataset: Dataset, how: str) -> None:
    damage(sorted(files(dataset, "labels"))[3], how)
    before = files(dataset, "labels")
    with pytest.raises((StoreError, duckdb.Error), match=r"\w"):
        maintenance.compact(dataset)
    assert files(dataset, "labels") == before
    assert on_disk(dataset, "labels") >= {Path(file).name for file in before} - (
        {Path(sorted(before)[3]).name} if how == "missing" else set()
    )


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(maintenance.storage, "write_parquet", refuse)


def test_a_full_disk_stops_a_compaction_in_one_sentence(dataset: Dataset, full_disk: None) -> None:
    with pytest.raises(StoreError, match="The disk is full"):
        maintenance.compact(dataset)


def test_a_disk_too_full_to_compact_is_not_too_full_for_a_snapshot(
    dataset: Dataset, full_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 3)
    assert dataset.snapshot("label", "second").name == "2"


def test_what_a_failed_compaction_wrote_is_removed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {table: on_disk(dataset, table) for table in TABLES}
    before = held(dataset)

    def refuse(path: Path, *args: Any) -> int:
        raise StoreError("no")

    monkeypatch.setattr(tables, "swap", refuse)
    with pytest.raises(StoreError):
        maintenance.compact(dataset)
    assert {table: on_disk(dataset, table) for table in TABLES} == there
    assert held(dataset) == before


def test_very_many_rows_become_several_files_that_do_not_overlap(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(dataset)
    monkeypatch.setattr(maintenance, "TARGET", 0)
    monkeypatch.setattr(storage, "ROW_GROUP", 3)
    maintenance.compact(dataset)
    found = sorted(pq.read_table(file)["question_id"].to_pylist() for file in files(dataset, "questions"))
    assert len(found) > 1
    assert [name for names in found for name in names] == [f"q{number}" for number in range(1, 9)]
    assert held(dataset) == before


def test_a_table_of_several_full_files_is_compact(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "TARGET", 0)
    monkeypatch.setattr(storage, "ROW_GROUP", 3)
    maintenance.compact(dataset)
    assert maintenance.compact(dataset) == []


# Automatic compaction


def test_a_snapshot_merges_small_files_where_many_have_gathered(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 8)
    before = held(dataset)
    made = dataset.snapshot("label", "second")
    # Ten files of labels are more than eight; eight of the others are not.
    assert {name: len(files(dataset, name)) for name in ("questions", "solutions", "labels")} == {
        "questions": 8, "solutions": 8, "labels": 1,
    }  # fmt: skip
    assert files(dataset, "labels") == files(dataset, "labels", "2")
    assert held(dataset) == held(dataset, "2") == before
    assert made.changes == {"~labels": 2, "~steps": 2}


def test_automatic_compaction_is_bounded_in_bytes_and_leaves_large_files_alone(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [row["size_bytes"] for row in smallest_first(dataset)]
    monkeypatch.setattr(maintenance, "MAX_SMALL", 2)
    monkeypatch.setattr(maintenance, "TARGET", sum(sizes[:4]))
    done = {item.table: item for item in maintenance.tidy(dataset)}
    assert done["labels"].files_before == 4
    assert done["labels"].bytes_before <= maintenance.TARGET
    assert len(files(dataset, "labels")) == len(sizes) - 3
    monkeypatch.setattr(maintenance, "SMALL", 1)
    assert maintenance.tidy(dataset) == []


def test_who_finds_another_compaction_at_work_goes_on_without_one(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 2)
    with storage.lock(dataset.path / "compact.lock", exclusive=True):
        assert maintenance.tidy(dataset) == []
        assert dataset.snapshot("label", "second").name == "2"
        by_command = threading.Thread(target=maintenance.compact, args=(dataset,))
        by_command.start()
        by_command.join(0.3)
        assert by_command.is_alive()
        assert len(files(dataset, "labels")) == 10
    by_command.join(TIMEOUT)
    assert len(files(dataset, "labels")) == 1


def test_automatic_compaction_that_loses_is_no_error(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 2)

    def lose(path: Path, *args: Any) -> int:
        raise StoreError("changed by another process")

    monkeypatch.setattr(tables, "swap", lose)
    assert dataset.snapshot("label", "second").name == "2"
    assert len(files(dataset, "labels")) == 10


def test_a_long_job_does_not_gather_files_without_bound(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "MAX_SMALL", 4)
    dataset = store.dataset("d", create=True)
    spool = Spool(tmp_path / "spool", dataset, "j/w0", max_seconds=0.0)
    for number in range(12):
        name = f"q{number}"
        spool.add(name, {}, {"solutions": [solution(f"s{name}", name, ["a", "b"])], "labels": [label(name)]})
    spool.close()
    assert dataset.view().counts()["labels"] == 12
    assert len(files(dataset, "labels")) <= 6


# Several processes at once


def write_many(root: str, worker: int, count: int) -> None:
    dataset = Store.open(root).dataset("d")
    for seq in range(1, count + 1):
        with dataset.hold(exclusive=False):
            commit(dataset, f"w{worker}-{seq}", seq, f"job{worker}")
        if seq % 4 == 0:
            dataset.snapshot("label", f"w{worker}-{seq}", f"job{worker}")
            dataset.append("labels", [label(f"w{worker}-{seq}", 1, f"job{worker}")], f"job{worker}/again", seq)


def compact_again_and_again(root: str, stop: Event) -> None:
    dataset = Store.open(root).dataset("d")
    compacted = 0
    while not stop.is_set() or not compacted:
        try:
            compacted += bool(maintenance.compact(dataset))
        except StoreError as error:
            if "Run the same command again" not in str(error):
                raise


def read_again_and_again(root: str, stop: Event, path: str) -> None:
    dataset = Store.open(root).dataset("d")
    seen: list[int] = []
    problems: list[str] = []
    while not stop.is_set() or not seen:
        rows = dataset.view().sql(
            "select (select count(*) from labels) as n, (select count(distinct label_id) from labels) as distinct_n, "
            "(select count(*) from labels anti join solutions using (solution_id)) as no_solution, "
            "(select count(*) from solutions anti join questions using (question_id)) as no_question"
        )
        (row,) = rows.to_pylist()
        seen.append(row["n"])
        if row["n"] != row["distinct_n"] or row["no_solution"] or row["no_question"] or seen != sorted(seen):
            problems.append(f"{row} after {seen[-2:]}")
    Path(path).write_text(json.dumps({"reads": len(seen), "problems": problems}))


@pytest.mark.slow
def test_four_writers_two_readers_and_a_compaction_at_once_lose_double_and_half_show_nothing(
    store: Store, tmp_path: Path
) -> None:
    store.dataset("d", create=True)
    root, stop, count = str(store.path), SPAWN.Event(), 8
    writers = [SPAWN.Process(target=write_many, args=(root, worker, count)) for worker in range(4)]
    answers = [tmp_path / f"reader{number}.json" for number in range(2)]
    others = [SPAWN.Process(target=read_again_and_again, args=(root, stop, str(path))) for path in answers]
    others += [SPAWN.Process(target=compact_again_and_again, args=(root, stop)) for _ in range(2)]
    for process in (*writers, *others):
        process.start()
    try:
        for process in writers:
            process.join(TIMEOUT * 2)
            assert process.exitcode == 0
    finally:
        stop.set()
    for process in others:
        process.join(TIMEOUT)
        assert process.exitcode == 0
    for path in answers:
        document = json.loads(path.read_text())
        assert document["problems"] == []
        assert document["reads"] > 1
    dataset = store.dataset("d")
    names = [f"w{worker}-{seq}" for worker in range(4) for seq in range(1, count + 1)]
    expected = Counter((f"l{name}", int(int(name.partition("-")[2]) % 4 == 0)) for name in names)
    assert revisions(dataset) == expected
    counts = dataset.view().counts()
    assert (counts["questions"], counts["solutions"]) == (len(names), len(names))
    for row in dataset.snapshots():
        assert dataset.view(row.name).counts() == row.counts
    maintenance.compact(dataset)
    assert revisions(dataset) == expected


KILLED = """
import sys, time
from openr_data.store import Store, maintenance, tables

real = tables.swap

def swap(path, *args):
    if path.name == sys.argv[2]:
        print("here", flush=True)
        time.sleep(600)
    return real(path, *args)

tables.swap = swap
maintenance.compact(Store.open(sys.argv[1]).dataset("d"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("table", ["questions", "labels"])
def test_a_compaction_that_is_killed_leaves_the_dataset_whole(store: Store, dataset: Dataset, table: str) -> None:
    before, first = held(dataset), held(dataset, "1")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.path), table], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        guard = threading.Timer(TIMEOUT, process.kill)
        guard.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
        guard.cancel()
    assert process.wait(TIMEOUT) == -9
    litter = on_disk(dataset, table) - {Path(file).name for file in files(dataset, table)}
    assert len(litter) == 1
    assert (held(dataset), held(dataset, "1")) == (before, first)
    # The lock of a dead process does not block others, and gc keeps files that may belong to a live writer.
    assert maintenance.gc(dataset).paths == []
    maintenance.compact(dataset)
    assert held(dataset) == before
    then = time.time() - 8 * DAY
    os.utime(dataset.path / table / litter.pop(), (then, then))
    assert maintenance.gc(dataset).files == {table: 1}
    assert (held(dataset), held(dataset, "1")) == (before, first)


def test_a_commit_whose_answer_got_lost_before_a_compaction_keeps_its_file_for_snapshots(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DeltaTable.create_write_transaction
    failed: list[int] = []

    def answer_is_lost(self: DeltaTable, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        if not failed:
            failed.append(1)
            # In the meantime another process takes a snapshot, then compacts.
            dataset.snapshot("label", "with the new row")
            maintenance.compact(dataset)
            raise OSError("connection reset")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", answer_is_lost)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    dataset.append("labels", [label("q9")], "k/labels", 1)
    assert revisions(dataset)["lq9", 0] == 1
    assert revisions(dataset, "2")["lq9", 0] == 1


# gc


@pytest.fixture
def versions(dataset: Dataset) -> Dataset:
    """Make four snapshots, each compacted into separate files. Snapshot 2 has a tag."""
    maintenance.compact(dataset)
    for number in (2, 3, 4):
        commit(dataset, f"n{number}", 100 + number)
        maintenance.compact(dataset)
        dataset.snapshot("label", f"number {number}", "j")
    dataset.tag("v1", "2")
    return dataset


def all_files(dataset: Dataset) -> list[str]:
    return sorted(str(path.relative_to(dataset.path)) for path in dataset.path.rglob("*") if path.is_file())


def test_a_dry_run_says_what_would_go_and_removes_nothing(versions: Dataset) -> None:
    before, log = all_files(versions), held(versions)
    said = maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True, dry_run=True)
    # The lock file is not part of the dataset.
    assert [name for name in all_files(versions) if name != "lock"] == [name for name in before if name != "lock"]
    assert held(versions) == log
    assert [row.name for row in versions.snapshots()] == ["1", "2", "3", "4"]
    assert said.snapshots == ["1", "3"]
    done = maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True)
    assert done.snapshots == said.snapshots
    data = {name: count for name, count in done.files.items() if name != "refs"}
    assert data == {name: count for name, count in said.files.items() if name != "refs"}
    gone = set(before) - set(all_files(versions))
    assert {name for name in gone if not name.startswith("refs/")} == {
        path for path in said.paths if not path.startswith("refs/")
    }
    assert sum(data.values()) > 8


def test_gc_keeps_the_newest_state_and_every_tagged_one_whole(versions: Dataset) -> None:
    versions.tag("v0", "1")
    newest = versions.view().counts()["labels"]
    before = {ref: held(versions, ref) for ref in ("main", "4", "v1", "2", "v0", "1")}
    assert maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True).snapshots == ["3"]
    assert {ref: held(versions, ref) for ref in before} == before
    assert versions.view().counts()["labels"] == newest == 11
    with pytest.raises(MissingRef, match="gc removed snapshot 3 of d"):
        versions.view("3")
    assert maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True).snapshots == []


def test_gc_keeps_what_is_newer_than_the_newest_snapshot(versions: Dataset) -> None:
    commit(versions, "n9", 200)
    before = held(versions)
    maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True)
    assert held(versions) == before
    assert versions.view("main~0").counts()["labels"] == 11


def test_snapshots_younger_than_the_days_to_keep_stay(versions: Dataset) -> None:
    assert maintenance.gc(versions).snapshots == []
    assert maintenance.gc(versions, keep_days=1, retention_hours=0, alone=True).snapshots == []
    for number in ("1", "2", "3", "4"):
        assert versions.view(number).counts()["labels"] == 7 + int(number)


def test_a_tag_that_was_deleted_protects_nothing(versions: Dataset) -> None:
    versions.delete_tag("v1")
    assert maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True).snapshots == ["1", "2", "3"]
    assert held(versions) == held(versions, "4")


def test_files_that_a_rollback_brought_back_are_not_taken_for_removed_ones(versions: Dataset) -> None:
    rollback(versions, "1")
    before = held(versions)
    maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True)
    assert held(versions) == before == held(versions, "5")
    assert versions.view().counts()["labels"] == 8


@pytest.mark.parametrize("hours", [0, 1, 167])
def test_a_retention_that_endangers_a_live_writer_is_refused(versions: Dataset, hours: int) -> None:
    before = all_files(versions)
    with pytest.raises(StoreError, match="younger than 168 hours may belong to a writer or reader at work.*--alone"):
        maintenance.gc(versions, keep_days=-1, retention_hours=hours)
    assert all_files(versions) == before
    assert len(versions.snapshots()) == 4


def test_gc_waits_for_who_is_committing(versions: Dataset) -> None:
    with versions.hold(exclusive=False):
        cleaning = threading.Thread(target=maintenance.gc, args=(versions,), kwargs={"keep_days": -1})
        cleaning.start()
        cleaning.join(0.3)
        assert cleaning.is_alive()
        assert len(versions.snapshots()) == 4
    cleaning.join(TIMEOUT)
    assert [row.name for row in versions.snapshots()] == ["2", "4"]


def test_files_that_a_dead_writer_left_go_when_they_are_old_and_only_then(versions: Dataset) -> None:
    old, young = orphan(versions, "labels", 8), orphan(versions, "labels", 6)
    rollouts = orphan(versions, "rollouts", 30)
    before = held(versions)
    found = maintenance.gc(versions)
    assert sorted(found.paths) == [f"labels/{old.name}", f"rollouts/{rollouts.name}"]
    assert found.files == {"labels": 1, "rollouts": 1}
    assert (old.exists(), young.exists(), rollouts.exists()) == (False, True, False)
    assert held(versions) == before


def test_gc_says_how_many_bytes_go(versions: Dataset) -> None:
    size = orphan(versions, "labels", 8).stat().st_size
    assert maintenance.gc(versions).bytes == size


def test_old_files_of_refs_go_too_and_the_names_stay(versions: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refs, "MAX_FILES", 3)
    versions.tag("v2", "3")
    names = [row.name for row in refs.read(versions.path / "refs")]
    assert len(on_disk(versions, "refs")) > 3
    found = maintenance.gc(versions, keep_days=-1, retention_hours=0, alone=True)
    assert found.files["refs"] > 3
    assert len(on_disk(versions, "refs")) <= 4
    assert [row.name for row in refs.read(versions.path / "refs")] == [name for name in names if name != "1"]


def test_gc_refuses_a_state_that_is_half_done(versions: Dataset) -> None:
    versions.begin("rollback", "openr-data rollback d 1 --yes")
    with pytest.raises(StoreError, match="Finish it with: openr-data rollback d 1 --yes"):
        maintenance.gc(versions, keep_days=-1)
    assert len(versions.snapshots()) == 4


def aged(dataset: Dataset, days: int) -> None:
    then = time.time() - days * DAY
    for path in dataset.path.rglob("*"):
        os.utime(path, (then, then))


def test_a_tag_opens_after_the_thirty_days_for_which_delta_keeps_its_log(
    versions: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, newest = held(versions, "v1"), held(versions)
    real = time.time
    # The files removed since then were also removed long ago.
    monkeypatch.setattr(tables.time, "time", lambda: real() - 40 * DAY)
    commit(versions, "n5", 300)
    maintenance.compact(versions)
    rollback(versions, "4")
    monkeypatch.undo()
    aged(versions, 40)
    for table in (*TABLES, "refs"):
        opened = DeltaTable(str(versions.path / table))
        opened.create_checkpoint()
        opened.cleanup_metadata()
    commit(versions, "n6", 400)
    for table in TABLES:
        DeltaTable(str(versions.path / table)).cleanup_metadata()
    found = maintenance.gc(versions)
    # Files of the intermediate state, which no snapshot named, are removed.
    assert found.files["labels"] >= 1
    assert held(versions, "v1") == held(versions, "2") == expected
    assert held(versions, "4") == newest
    assert versions.view().counts()["labels"] == 12
    assert "lq1" in {name for name, _ in revisions(versions, "1")}


def test_a_checkpoint_is_written_by_itself_and_old_versions_open_beside_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tables._FACTS, "delta.checkpointInterval", "5")  # type: ignore[arg-type]
    dataset = store.dataset("d", create=True)
    before: dict[int, Sequence[str]] = {}
    for number in range(1, 13):
        dataset.append("questions", pa.Table.from_pylist([question(f"q{number}")], TABLES["questions"]), "j", number)
        before[dataset.view().versions["questions"]] = files(dataset, "questions")
    path = dataset.path / "questions"
    aged(dataset, 40)
    DeltaTable(str(path)).cleanup_metadata()
    assert {version: tables.files(path, version) for version in before} == before
