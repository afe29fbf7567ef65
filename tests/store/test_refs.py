"""Names for states: tags that never move, references that mean one snapshot, many writers of both."""

import itertools
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.errors import MissingRef, OpenRError, StoreError, UsageError
from openr_data.store import Dataset, Snapshot, Store, maintenance, refs, tables
from openr_data.store.refs import DatasetName
from tests.store.test_dataset import labels, question, solution

SPAWN = multiprocessing.get_context("spawn")
TIMEOUT = 120


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """Three snapshots with one, two and three questions."""
    dataset = store.dataset("d", create=True)
    for number in (1, 2, 3):
        dataset.add_questions([question(f"q{number}")], f"j{number}/questions", 1)
        dataset.snapshot("import", f"message {number}")
    return dataset


def questions(dataset: Dataset, ref: str) -> int:
    return dataset.view(ref).counts()["questions"]


def dated(dataset: Dataset, *moments: str) -> None:
    """More snapshots after the real ones, made at these moments."""
    real = dataset.snapshots()
    path = dataset.path / "refs"
    start = len(real)
    for number, moment in enumerate(moments, start=1):
        like = real[min(number, len(real)) - 1]
        name, parent = str(start + number), str(start + number - 1)
        refs.write(path, replace(like, name=name, parent=parent, created_at=moment, digest=f"2-{number:032x}"))


# References


@pytest.mark.parametrize(
    ("ref", "count"),
    [
        ("1", 1), ("3", 3), ("main~0", 3), ("main~", 2), ("main~1", 2), ("main~2", 1), ("3~2", 1), ("2~1", 1),
        ("v1", 2), ("v1~0", 2), ("v1~1", 1), ("v1~", 1),
    ],
)  # fmt: skip
def test_a_reference_means_one_state(dataset: Dataset, ref: str, count: int) -> None:
    dataset.tag("v1", "2")
    assert questions(dataset, ref) == count


def test_main_is_the_newest_of_everything_and_main_0_the_newest_snapshot(dataset: Dataset) -> None:
    dataset.add_questions([question("q4")], "j4/questions", 1)
    assert questions(dataset, "main") == 4
    assert questions(dataset, "main~0") == 3


@pytest.mark.parametrize("ref", ["4", "0", "main~3", "1~1", "v2", "v1~9", "~1", "main~x", "main~1~1", "-1", "1.0", "d"])
def test_a_reference_to_nothing_says_what_there_is(dataset: Dataset, ref: str) -> None:
    dataset.tag("v1", "1")
    with pytest.raises(MissingRef) as caught:
        dataset.view(ref)
    assert str(caught.value) == (
        f'No snapshot "{ref}" in d (there are: main, 1, 2, 3, v1). List them with: openr-data log d'
    )


def test_of_many_names_the_ends_are_listed(dataset: Dataset) -> None:
    dated(dataset, *[f"2020-01-{day:02}T00:00:00Z" for day in range(1, 21)])
    with pytest.raises(MissingRef, match=r"there are: main, 1, 2, …, 17, 18, 19, 20, 21, 22, 23\)"):
        dataset.view("nope")


def test_a_dataset_without_snapshots_has_no_main_before(store: Store) -> None:
    empty = store.dataset("e", create=True)
    for ref in ("main~0", "main~1", "2026-01-01", "1"):
        with pytest.raises(MissingRef, match=r"there are: main\)"):
            empty.view(ref)
    assert empty.view().counts()["questions"] == 0


@pytest.fixture
def dated_dataset(store: Store) -> Dataset:
    """Three snapshots with one, two and three questions, two of the first of March and one of the second."""
    dataset = store.dataset("d", create=True)
    path = dataset.path / "refs"
    moments = ("2026-03-01T09:59:59Z", "2026-03-01T10:00:30Z", "2026-03-02T23:59:59Z")
    for number, moment in enumerate(moments, start=1):
        dataset.add_questions([question(f"q{number}")], f"j{number}/questions", 1)
        view = dataset.view()
        refs.write(
            path,
            Snapshot(
                name=str(number), kind="snapshot", versions=view.versions, digest=view.digest(),
                parent=str(number - 1) if number > 1 else None, operation="import", message="", counts=view.counts(),
                job_id=None, created_at=moment,
            ),
        )  # fmt: skip
    return dataset


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("2026-03-01", 2), ("2026-03-02", 3), ("2026-03-09", 3),
        ("2026-03-01T09:59", 1), ("2026-03-01T10:00", 2), ("2026-03-01 10:00", 2),
        ("2026-03-01T09:59:59", 1), ("2026-03-01T10:00:29", 1), ("2026-03-01T10:00:30", 2),
        ("2026-03-01T10:00:30Z", 2), ("2026-03-01T11:00:29+01:00", 1), ("2026-03-01T05:00:30-0500", 2),
        ("2026-03-02~1", 2), ("2026-03-02T23:59:59Z~2", 1),
    ],
)  # fmt: skip
def test_a_moment_means_the_newest_snapshot_of_then(dated_dataset: Dataset, moment: str, count: int) -> None:
    assert questions(dated_dataset, moment) == count


@pytest.mark.parametrize("moment", ["2026-03-01T10:00Z", "2026-03-01T12:00+02:00"])
def test_a_minute_with_a_zone_is_as_long_as_one_without(dated_dataset: Dataset, moment: str) -> None:
    assert questions(dated_dataset, moment) == 2


@pytest.mark.parametrize("moment", ["2026-02-28", "2026-03-01T09:58", "2026-03-01T09:59:58", "1999-01-01"])
def test_before_the_first_snapshot_there_was_nothing(dated_dataset: Dataset, moment: str) -> None:
    with pytest.raises(MissingRef, match=f'No snapshot "{moment}"'):
        dated_dataset.view(moment)


@pytest.mark.parametrize("moment", ["2026-02-30", "2026-13-01", "2026-03-01T25:00", "2026-03-01T10:61:00"])
def test_a_day_that_does_not_exist_is_no_moment(dated_dataset: Dataset, moment: str) -> None:
    with pytest.raises(UsageError, match=r"is not a moment: .* Write 2026-11-24 or 2026-11-24T10:00"):
        dated_dataset.view(moment)


def test_a_snapshot_that_gc_let_go_is_told_and_the_line_of_parents_goes_through_it(dated_dataset: Dataset) -> None:
    dated_dataset.tag("v1", "1")
    assert maintenance.gc(dated_dataset, keep_days=-1).snapshots == ["2"]
    for ref in ("2", "3~1", "main~1"):
        with pytest.raises(MissingRef, match="gc removed snapshot 2 of d, which had no tag.*openr-data log d"):
            dated_dataset.view(ref)
    assert questions(dated_dataset, "main~2") == questions(dated_dataset, "v1") == 1
    assert [row.name for row in dated_dataset.snapshots()] == ["1", "3"]


def test_a_moment_whose_snapshot_is_gone_does_not_mean_an_older_state(dated_dataset: Dataset) -> None:
    dated_dataset.tag("v1", "1")
    maintenance.gc(dated_dataset, keep_days=-1)
    with pytest.raises(MissingRef, match="gc removed"):
        dated_dataset.view("2026-03-01")


def test_a_reference_works_wherever_a_dataset_is_named(store: Store, dataset: Dataset) -> None:
    dataset.tag("v1", "1")
    for ref, count in (("1", 1), ("v1", 1), ("main~1", 2), ("main", 3)):
        view = store.view(f"d@{ref}")
        assert view.counts()["questions"] == count
        assert view.sql("select count(*) as n from questions").to_pylist() == [{"n": count}]
    assert str(DatasetName.parse("d@main~1")) == "d@main~1"
    assert str(DatasetName.parse("d@main")) == "d"


# Tags


def test_a_tag_names_a_state_and_never_moves(dataset: Dataset) -> None:
    made = dataset.tag("v1", "2", "as published")
    dataset.add_questions([question("q4")], "j4/questions", 1)
    dataset.snapshot("import", "more")
    assert (made.name, made.kind, made.parent, made.message) == ("v1", "tag", "2", "as published")
    assert dataset.view("v1").versions == dataset.view("2").versions
    with pytest.raises(StoreError) as caught:
        dataset.tag("v1")
    assert str(caught.value) == (
        "The tag 'v1' exists already: it is snapshot 2 of d, and a tag never moves. "
        "Take another name, or delete it first: openr-data tag d v1 --delete"
    )
    assert dataset.tags() == [made]


def test_a_tag_of_main_makes_a_snapshot_first_where_there_is_none(dataset: Dataset) -> None:
    assert dataset.tag("now").parent == "3"
    dataset.add_questions([question("q4")], "j4/questions", 1)
    made = dataset.tag("later")
    newest = dataset.snapshots()[-1]
    assert (made.parent, newest.name, newest.message) == ("4", "4", "the state that later names")
    assert made.digest == newest.digest == dataset.view("later").digest()


def test_a_tag_of_a_tag_is_a_tag_of_its_snapshot(dataset: Dataset) -> None:
    dataset.tag("v1", "2")
    assert dataset.tag("v2", "v1").parent == "2"
    assert dataset.tag("v3", "v1~1").parent == "1"
    assert [row.name for row in dataset.tags()] == ["v1", "v2", "v3"]


def test_a_tag_can_be_deleted_and_made_again_as_often_as_one_likes(dataset: Dataset) -> None:
    for number in ("1", "3", "2", "1"):
        dataset.tag("v1", number)
        assert dataset.view("v1").versions == dataset.view(number).versions
        assert dataset.delete_tag("v1").parent == number
        assert dataset.tags() == []
        with pytest.raises(MissingRef, match='No snapshot "v1"'):
            dataset.view("v1")
    with pytest.raises(MissingRef, match=r'No snapshot "v1" in d \(there are: main\)'):
        dataset.delete_tag("v1")


@pytest.mark.parametrize(
    "name",
    ["", "1", "007", "main", "2026-11-24", "2026-11-24T10:00", "2026-11-24T10:00:00Z", "a b", "v~1", "v@1", "-v", ".v", "ä", "a/b", "v1\n"],
)  # fmt: skip
def test_a_name_that_would_be_read_as_something_else_is_refused(dataset: Dataset, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a tag"):
        dataset.tag(name, "1")
    assert dataset.tags() == []


@given(st.from_regex(r"[A-Za-z0-9._~:-]{1,20}", fullmatch=True))
def test_a_name_is_either_refused_or_cannot_be_taken_for_another_reference(name: str) -> None:
    try:
        refs.check_tag(name)
    except UsageError:
        return
    assert not name.isdigit()
    assert "~" not in name
    assert ":" not in name
    assert DatasetName.parse(f"d@{name}").ref == name != "main"


@pytest.mark.parametrize("name", ["v1", "v1.0", "A", "1a", "before-regrade", "2026-11", "main2", "v_1"])
def test_a_plain_name_is_a_tag(dataset: Dataset, name: str) -> None:
    dataset.tag(name, "1")
    assert questions(dataset, name) == 1


def test_a_tag_of_a_snapshot_that_is_not_there_is_refused(dataset: Dataset) -> None:
    with pytest.raises(MissingRef, match='No snapshot "9"'):
        dataset.tag("v1", "9")
    dataset.tag("kept", "2")
    maintenance.gc(dataset, keep_days=-1)
    with pytest.raises(MissingRef, match="gc removed snapshot 1 of d"):
        dataset.tag("v1", "1")


def test_gc_cannot_come_between_a_snapshot_and_its_new_tag(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    real = refs.write_tag
    threads: list[threading.Thread] = []

    def gc_comes_first(path: Path, name: str, tag: str, target: Snapshot, message: str) -> Snapshot:
        threads.append(threading.Thread(target=maintenance.gc, args=(dataset,), kwargs={"keep_days": -1}))
        threads[0].start()
        # Where the tag holds the dataset gc waits for it.
        threads[0].join(2)
        return real(path, name, tag, target, message)

    monkeypatch.setattr(refs, "write_tag", gc_comes_first)
    try:
        dataset.tag("v1", "1")
    except OpenRError:
        return
    finally:
        threads[0].join(TIMEOUT)
    assert "1" in [row.name for row in dataset.snapshots()]


# Many writers


def start_together(target: Callable[..., None], arguments: list[tuple[object, ...]]) -> list[str]:
    """Run `target` in one process per argument, all at once; return their outputs in the order of the names."""
    barrier, answers = SPAWN.Barrier(len(arguments)), SPAWN.Queue()
    workers = [SPAWN.Process(target=target, args=(barrier, answers, *more)) for more in arguments]
    for worker in workers:
        worker.start()
    said = [answers.get(timeout=TIMEOUT) for _ in workers]
    for worker in workers:
        worker.join(TIMEOUT)
        assert worker.exitcode == 0
    return sorted(said)


def tag_it(barrier: Barrier, answers: "Queue[str]", root: str, name: str, ref: str, message: str) -> None:
    dataset = Store.open(root).dataset("d")
    barrier.wait(TIMEOUT)
    try:
        dataset.tag(name, ref, message)
        answers.put(f"won {message}")
    except StoreError as error:
        answers.put(f"{error}"[:30])


def delete_it(barrier: Barrier, answers: "Queue[str]", root: str, name: str) -> None:
    dataset = Store.open(root).dataset("d")
    barrier.wait(TIMEOUT)
    try:
        dataset.delete_tag(name)
        answers.put("deleted")
    except StoreError:
        answers.put("was gone")


def snapshot_it(barrier: Barrier, answers: "Queue[str]", root: str, worker: int, count: int) -> None:
    dataset = Store.open(root).dataset("d")
    barrier.wait(TIMEOUT)
    for seq in range(1, count + 1):
        name = f"w{worker}-{seq}"
        dataset.add_questions([question(name)], f"{name}/questions", 1)
        dataset.append("solutions", [solution(name, name, ["a"], f"j{worker}")], f"j{worker}/solutions", seq)
        dataset.append("labels", [labels(name, name, name, [1], f"j{worker}")], f"j{worker}/labels", seq)
        dataset.snapshot("label", name, f"j{worker}")
    answers.put("done")


@pytest.mark.slow
def test_of_processes_that_make_the_same_tag_exactly_one_wins(store: Store, dataset: Dataset) -> None:
    for name in ("v1", "v2", "v3"):
        processes: list[tuple[object, ...]] = [(str(store.path), name, ref, f"process {ref}") for ref in ("1", "2")]
        first, second = start_together(tag_it, processes)
        assert first.startswith(f"The tag '{name}' exists already")
        assert second.startswith("won process")
        (tag,) = [row for row in dataset.tags() if row.name == name]
        assert f"process {tag.parent}" == tag.message == second.removeprefix("won ")


@pytest.mark.slow
def test_processes_that_delete_the_same_tag_delete_it_once(store: Store, dataset: Dataset) -> None:
    dataset.tag("v1", "1")
    assert start_together(delete_it, [(str(store.path), "v1")] * 2)[0] == "deleted"
    assert dataset.tags() == []
    assert [row.kind for row in refs.rows(dataset.path / "refs")].count("untag") == 1
    assert dataset.tag("v1", "2").parent == "2"


@pytest.mark.slow
def test_processes_that_write_snapshots_share_no_number_and_skip_none(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    arguments: list[tuple[object, ...]] = [(str(store.path), worker, 5) for worker in range(3)]
    assert start_together(snapshot_it, arguments) == ["done"] * 3
    found = dataset.snapshots()
    assert [row.name for row in found] == [str(number + 1) for number in range(len(found))]
    assert [row.parent for row in found] == [None, *(row.name for row in found[:-1])]
    assert dataset.view().counts()["labels"] == found[-1].counts["labels"] == 15
    for before, after in itertools.pairwise(found):
        assert all(before.versions[name] <= after.versions[name] for name in before.versions)
        for name in ("questions", "solutions", "labels"):
            assert after.counts[name] - before.counts.get(name, 0) == after.changes.get(f"+{name}", 0)
    for row in found:
        view = dataset.view(row.name)
        assert view.counts() == row.counts
        assert view.sql("select count(*) as n from labels anti join solutions using (solution_id)")["n"][0].as_py() == 0


def test_a_snapshot_of_a_number_that_another_took_takes_the_next(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = refs.write
    raced: list[str] = []

    def another_comes_first(path: Path, snapshot: Snapshot) -> None:
        if not raced:
            raced.append(snapshot.name)
            real(path, replace(snapshot, message="the other"))
        real(path, snapshot)

    dataset.add_questions([question("q4")], "j4/questions", 1)
    monkeypatch.setattr(refs, "write", another_comes_first)
    # The other one wrote down the same state: so there is nothing left to write.
    assert dataset.snapshot("import", "ours").message == "the other"
    assert [row.name for row in dataset.snapshots()] == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_the_rows_of_many_snapshots_stand_in_few_files(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dated(dataset, *[f"2020-01-01T00:{n // 60:02}:{n % 60:02}Z" for n in range(80)])
    dataset.tag("v1", "60")
    dataset.tag("v0", "1")
    path = dataset.path / "refs"
    assert len(tables.open_table(path).file_uris()) <= refs.MAX_FILES + 1
    read: list[str] = []
    real = refs.read_parquet
    monkeypatch.setattr(refs, "read_parquet", lambda file: read.append(file) or real(file))
    assert [row.name for row in dataset.snapshots()] == [str(n) for n in range(1, 84)]
    assert len(read) <= refs.MAX_FILES + 1
    assert dataset.view("v0").versions == dataset.view("1").versions
    assert dataset.view("v1~10").versions == dataset.view("50").versions
    assert dataset.view("main~82").versions == dataset.view("1").versions


def test_one_reference_reads_every_file_of_refs_at_most_twice(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = refs.read_parquet
    monkeypatch.setattr(refs, "read_parquet", lambda file: read.append(file) or real(file))
    dataset.view("2")
    assert len(read) <= 2 * len(set(read))
