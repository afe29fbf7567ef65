"""A rollback makes the newest state an older one, as a new snapshot, and finishes what a crash left half done."""

import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from openr_data.cli import cli
from openr_data.derivation.regrade import regrade
from openr_data.errors import MissingRef, StoreError
from openr_data.grading import MathGrader
from openr_data.schema import TABLES
from openr_data.store import Dataset, Store, View, maintenance, tables
from openr_data.store.rollback import rollback
from openr_data.store.spool import Spool
from openr_data.store.verify import verify
from tests.store.test_dataset import labels, node, question, rollout, solution

FACTS = [name for name in TABLES if name != "jobs"]
TIMEOUT = 60


class Died(BaseException):
    """Stands for a kill: the code under test cannot catch it."""


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """Snapshot 1 with one question and its evidence, 2 with two, 3 with a regrade of the first; each with a job."""
    dataset = store.dataset("d", create=True)
    for number in (1, 2):
        labelled(dataset, f"q{number}", f"j{number}")
        dataset.snapshot("label", "", f"j{number}")
    new = {**labels("lq1", "sq1", "q1", [1, 1], "j1"), "revision": 1}
    dataset.append("labels", [new], "g/labels", 1)
    dataset.append("jobs", [job_row("g")], "g/jobs", 1)
    dataset.snapshot("regrade", "", "g")
    return dataset


def job_row(job: str) -> dict[str, Any]:
    return {"job_id": job, "kind": "label", "event": "end", "config": "{}", "versions": "{}", "totals": "{}", "at": "x"}


def labelled(dataset: Dataset, name: str, job: str) -> None:
    at = f"n{name}"
    dataset.add_questions([question(name)], f"{job}/questions", 1)
    dataset.append("solutions", [solution(f"s{name}", name, ["a", "b"], job)], f"{job}/solutions", 1)
    dataset.append("nodes", [node(at, name, job)], f"{job}/nodes", 1)
    dataset.append("rollouts", [rollout(f"r{name}", name, at, "correct", job)], f"{job}/rollouts", 1)
    dataset.append("labels", [labels(f"l{name}", f"s{name}", name, [1, -1], job)], f"{job}/labels", 1)
    dataset.append("jobs", [job_row(job)], f"{job}/jobs", 1)


def held(dataset: Dataset, ref: str = "main") -> dict[str, list[str]]:
    view = dataset.view(ref)
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


def jobs(dataset: Dataset) -> list[str]:
    return sorted(dataset.view().arrow("jobs")["job_id"].to_pylist())


@pytest.mark.parametrize(("ref", "number"), [("1", "1"), ("2", "2"), ("main~1", "2"), ("v1", "1"), ("main~2", "1")])
def test_the_content_and_the_digest_are_those_of_then(dataset: Dataset, ref: str, number: str) -> None:
    dataset.tag("v1", "1")
    then = dataset.view(number)
    made = rollback(dataset, ref)
    assert held(dataset) == held(dataset, "4") == held(dataset, number)
    assert made.digest == dataset.view().digest() == then.digest()
    assert made.counts["labels"] == int(number)
    assert {row["label_id"] for row in dataset.view().arrow("labels").to_pylist()} == {
        f"lq{place}" for place in range(1, int(number) + 1)
    }


def test_it_is_a_new_snapshot_and_those_between_stay(dataset: Dataset) -> None:
    before = {name: held(dataset, name) for name in ("1", "2", "3")}
    made = rollback(dataset, "1", "the grader was wrong")
    assert (made.name, made.parent, made.operation, made.message) == ("4", "3", "rollback", "the grader was wrong")
    assert [row.name for row in dataset.snapshots()] == ["1", "2", "3", "4"]
    assert {name: held(dataset, name) for name in before} == before
    again = rollback(dataset, "3")
    assert (again.name, again.message) == ("5", "as it was at 3")
    assert held(dataset) == before["3"]


def test_the_rows_of_jobs_stay(dataset: Dataset) -> None:
    rollback(dataset, "1")
    assert jobs(dataset) == ["g", "j1", "j2"]


def test_a_state_of_now_makes_no_snapshot(dataset: Dataset) -> None:
    assert rollback(dataset, "3").name == "3"
    assert rollback(dataset, "main").name == "3"
    assert len(dataset.snapshots()) == 3


def test_what_is_no_snapshot_yet_goes_too(dataset: Dataset) -> None:
    labelled(dataset, "q9", "j9")
    assert rollback(dataset, "main~0").name == "3"
    assert held(dataset) == held(dataset, "3")
    assert jobs(dataset) == ["g", "j1", "j2", "j9"]


def test_commits_after_it_are_there(dataset: Dataset) -> None:
    rollback(dataset, "1")
    labelled(dataset, "q9", "j9")
    made = dataset.snapshot("label", "", "j9")
    assert made.changes == {"+questions": 1, "+solutions": 1, "+nodes": 1, "+rollouts": 1, "+labels": 1, "+steps": 2}
    assert dataset.view().sql("select label_id from labels order by 1")["label_id"].to_pylist() == ["lq1", "lq9"]


@pytest.mark.parametrize("ref", ["1", "2", "3"])
def test_after_a_compaction_it_is_the_same(dataset: Dataset, ref: str) -> None:
    expected = held(dataset, ref)
    maintenance.compact(dataset)
    rollback(dataset, ref)
    assert held(dataset) == expected
    maintenance.compact(dataset)
    assert held(dataset) == expected
    rollback(dataset, "3")
    assert held(dataset) == held(dataset, "3")


def test_a_reference_to_nothing_leaves_no_marker(dataset: Dataset) -> None:
    with pytest.raises(MissingRef):
        rollback(dataset, "9")
    dataset.check_whole()


def test_it_waits_for_who_is_committing(dataset: Dataset) -> None:
    with dataset.hold(exclusive=False):
        going = threading.Thread(target=rollback, args=(dataset, "1"))
        going.start()
        going.join(0.3)
        assert going.is_alive()
        assert held(dataset) == held(dataset, "3")
    going.join(TIMEOUT)
    assert held(dataset) == held(dataset, "1")


# A crash


def dies_after(monkeypatch: pytest.MonkeyPatch, swaps: int) -> None:
    real, done = tables.swap, []

    def swap(path: Path, *args: Any) -> int:
        if len(done) == swaps:
            raise Died
        done.append(path.name)
        return real(path, *args)

    monkeypatch.setattr(tables, "swap", swap)


def half_done(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, ref: str = "1", swaps: int = 2) -> str:
    """Roll back and die between two tables; return the message of a later `snapshot`."""
    dies_after(monkeypatch, swaps)
    with pytest.raises(Died):
        rollback(dataset, ref)
    monkeypatch.undo()
    with pytest.raises(StoreError) as caught:
        dataset.snapshot("label", "half a state")
    return str(caught.value)


def run(store: Store, command: str) -> str:
    """Run a command that a message named."""
    words = shlex.split(command)
    assert words[0] == "openr-data"
    done = CliRunner().invoke(cli, ["--store", str(store.path), *words[1:]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("swaps", range(5))
def test_a_crash_between_two_tables_is_told_with_the_command_that_finishes_it(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, swaps: int
) -> None:
    said = half_done(dataset, monkeypatch, swaps=swaps)
    assert said == (
        "A rollback of d was interrupted, so its newest state is half old. "
        "Finish it with: openr-data rollback d 1 --yes"
    )
    assert len(dataset.snapshots()) == 3
    assert said in [problem.what for problem in verify(dataset)]
    assert run(store, said.partition("with: ")[2]) == "d@4\n"
    assert held(dataset) == held(dataset, "1") == held(dataset, "4")
    assert not any("interrupted" in problem.what for problem in verify(dataset))
    assert dataset.snapshot("label", "whole again").name == "4"


@pytest.mark.parametrize("ref", ["main~1", "main~0", "v1", "v1~1", "2999-01-01"])
def test_the_command_finishes_it_whatever_the_reference_was(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    dataset.tag("v1", "2")
    labelled(dataset, "q9", "j9")
    expected = held(dataset, ref)
    said = half_done(dataset, monkeypatch, ref, swaps=1)
    run(store, said.partition("with: ")[2])
    assert held(dataset) == expected
    dataset.check_whole()


def test_the_command_can_be_run_for_a_moment_with_a_space(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = half_done(dataset, monkeypatch, "2999-01-01 10:00", swaps=0) if labelled(dataset, "q9", "j9") is None else ""
    run(store, said.partition("with: ")[2])
    dataset.check_whole()


def test_a_crash_before_the_snapshot_alone_leaves_a_whole_state(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any, **options: Any) -> None:
        raise Died

    monkeypatch.setattr("openr_data.store.rollback.take_snapshot", die)
    with pytest.raises(Died):
        rollback(dataset, "1")
    monkeypatch.undo()
    dataset.check_whole()
    assert rollback(dataset, "1").operation == "rollback"
    assert held(dataset) == held(dataset, "4") == held(dataset, "1")


def test_another_rollback_finishes_it_too(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    half_done(dataset, monkeypatch)
    rollback(dataset, "2")
    assert held(dataset) == held(dataset, "2") == held(dataset, "4")
    half_done(dataset, monkeypatch, "1", swaps=3)
    rollback(dataset, "main~0")
    assert held(dataset) == held(dataset, "2")
    dataset.check_whole()


def test_nothing_is_tagged_or_graded_while_a_rollback_is_unfinished(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(dataset, monkeypatch)
    before = dataset.view().versions
    with pytest.raises(StoreError, match="A rollback of d was interrupted.*openr-data rollback d 1 --yes"):
        regrade(dataset, MathGrader())
    with pytest.raises(StoreError, match="A rollback of d was interrupted"):
        dataset.tag("v1")
    assert dataset.view().versions == before
    assert dataset.tags() == []
    # Complete snapshots can still be named.
    assert dataset.tag("v1", "2").parent == "2"


def test_a_regrade_that_was_interrupted_can_be_rolled_back(dataset: Dataset) -> None:
    dataset.begin("regrade", "openr-data regrade d --grader math")
    dataset.append("labels", [{**labels("lq2", "sq2", "q2", [1, 1], "j2"), "revision": 1}], "h/labels", 1)
    with pytest.raises(StoreError, match="A regrade of d was interrupted.*openr-data regrade d --grader math"):
        dataset.snapshot("label", "")
    assert rollback(dataset, "main~0").name == "3"
    assert held(dataset) == held(dataset, "3")
    dataset.check_whole()


@pytest.mark.parametrize("note", ["", "{", "[]", '{"operation": "rollback"}'])
def test_a_marker_that_cannot_be_read_still_names_a_way_out(store: Store, dataset: Dataset, note: str) -> None:
    (dataset.path / "unfinished.json").write_text(note)
    with pytest.raises(StoreError, match="openr-data rollback d main~0") as caught:
        dataset.snapshot("label", "")
    run(store, f"{str(caught.value).partition('with: ')[2]} --yes")
    dataset.check_whole()
    assert held(dataset) == held(dataset, "3")


def test_a_rollback_that_cannot_be_done_leaves_the_dataset_as_it_was(dataset: Dataset) -> None:
    maintenance.compact(dataset)
    expected = held(dataset)
    Path(dataset.view("1").files("labels")[0]).unlink()
    with pytest.raises(StoreError):
        rollback(dataset, "1")
    assert held(dataset) == expected
    dataset.check_whole()


# Who reads and writes beside it


def test_who_reads_while_a_rollback_runs_sees_no_label_without_its_solution(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tables.newest
    rollbacks: list[threading.Thread] = []

    def a_rollback_comes_in_between(path: Path) -> Any:
        found = real(path)
        if path.name == "labels" and not rollbacks:
            rollbacks.append(threading.Thread(target=rollback, args=(dataset, "1")))
            rollbacks[0].start()
            # Where a reader holds the dataset the rollback waits for it.
            rollbacks[0].join(3)
        return found

    monkeypatch.setattr(tables, "newest", a_rollback_comes_in_between)
    view: View = dataset.view()
    monkeypatch.undo()
    rollbacks[0].join(TIMEOUT)
    assert view.sql("select label_id from labels anti join solutions using (solution_id)").to_pylist() == []


def test_questions_that_a_rollback_took_away_come_back_with_the_job_that_brought_them(dataset: Dataset) -> None:
    rollback(dataset, "1")
    assert dataset.add_questions([question("q2")], "j2/questions", 1) == 1
    assert dataset.view().counts()["questions"] == 2


def test_a_job_whose_rows_a_rollback_took_away_does_not_pass_for_done(dataset: Dataset, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", dataset, "k/w0")
    spool.add(
        "q8", {}, {"solutions": [solution("s8", "q8", ["a"], "k")], "labels": [labels("l8", "s8", "q8", [1], "k")]}
    )
    spool.close()
    dataset.snapshot("label", "", "k")
    rollback(dataset, "3")
    try:
        again = Spool(tmp_path / "spool", dataset, "k/w0")
    except StoreError:
        return
    assert "q8" not in again.finished
