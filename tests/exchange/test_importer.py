"""An import: every row of the real files once, again nothing, and whole after a kill, a failure or a rival."""

import errno
import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openr_data.cli import main
from openr_data.errors import InputError, StoreError
from openr_data.exchange import importer
from openr_data.exchange.exporter import export_rows
from openr_data.exchange.formats.files import read_rows
from openr_data.exchange.formats.format import Format, Tally
from openr_data.exchange.importer import ImportConfig, Imported, check_rows, import_rows, read_items
from openr_data.registry import load
from openr_data.store import Dataset, Store, tables
from openr_data.store.verify import verify

# `verify` leaves the Parquet files that it has read to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
ROOT = Path(__file__).parents[2]
FACTS = ("questions", "solutions", "labels")
REAL = {
    "formats/math_aps_flat.jsonl": "math-aps",
    "formats/math_aps_tree.jsonl": "math-aps-tree",
    "formats/math_shepherd.jsonl": "math-shepherd",
    "formats/prm800k.jsonl": "prm800k",
    "gsm8k/test.jsonl": "questions",
    "gsm8k/train.jsonl": "questions",
    "math/test500.jsonl": "questions",
    "math/train.jsonl": "questions",
    "processbench/gsm8k.json": "processbench",
    "processbench/math.json": "processbench",
}


# PRM800K leaves out the rows that tested the labelers unless it is told to keep them.
OPTIONS: dict[str, dict[str, Any]] = {"prm800k": {"keep_screening": True}}


def form_of(name: str, source: str = "real") -> Format:
    kind = load("format", name)
    made: Format = kind(kind.config_type(**OPTIONS.get(name, {})), source, "")
    return made


def bring(dataset: Dataset, path: Path, format_: str, source: str = "real") -> Imported:
    """Import a file as the command does."""
    config = ImportConfig(format_, source)
    return import_rows(dataset, config, form_of(format_, source), read_rows(str(path)), path.name)


def contents(dataset: Dataset) -> dict[str, list[str]]:
    """Every row of the facts, sorted."""
    return {name: sorted(map(repr, dataset.view().arrow(name).to_pylist())) for name in FACTS}


def counted(rows: list[Any]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def a_row(i: int, labels: tuple[int, ...] = (1, -1), **more: Any) -> dict[str, Any]:
    steps = [f"step {n} of {i}" for n in range(len(labels))]
    return {"question": f"Q {i}?", "answer": str(i), "steps": steps, "label": list(labels), "method": "m", **more}


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "format_"), REAL.items())
def test_a_real_file_comes_in_whole_and_goes_out_as_it_was(
    store: Store, shared_data: Path, name: str, format_: str
) -> None:
    path = shared_data / name
    dataset = store.dataset("real", create=True)
    found = bring(dataset, path, format_)
    rows = [row for _, row in read_rows(str(path))]
    assert found.tally.rows == len(rows)
    assert not found.tally.dropped
    tally = Tally()
    out = list(export_rows(dataset.view(), form_of(format_), tally))
    assert counted(out) == counted(rows)
    assert not tally.lost
    assert list(verify(dataset)) == []


@pytest.mark.parametrize(("name", "format_"), REAL.items())
def test_the_same_real_file_again_adds_nothing(store: Store, shared_data: Path, name: str, format_: str) -> None:
    dataset = store.dataset("real", create=True)
    first = bring(dataset, shared_data / name, format_)
    before = contents(dataset)
    again = bring(dataset, shared_data / name, format_)
    assert (again.questions, again.solutions, again.labels, again.relabelled) == (0, 0, 0, 0)
    assert again.repeated == first.labels + first.repeated
    assert again.snapshot == first.snapshot
    assert contents(dataset) == before
    assert dataset.view().counts()["jobs"] == 1


def test_an_import_leaves_the_interpreter_as_it_was_whether_it_ends_or_breaks_off(store: Store, tmp_path: Path) -> None:
    before = gc.isenabled(), sys.getswitchinterval()
    bring(store.dataset("good", create=True), written(tmp_path / "a.jsonl", [a_row(1)]), "records")
    assert (gc.isenabled(), sys.getswitchinterval()) == before
    (tmp_path / "b.jsonl").write_bytes(json.dumps(a_row(1)).encode() + b"\n\xff\xfe\n")
    with pytest.raises(InputError):
        bring(store.dataset("bad", create=True), tmp_path / "b.jsonl", "records")
    assert (gc.isenabled(), sys.getswitchinterval()) == before


def test_a_changed_label_supersedes_and_shows_as_relabelled(store: Store, tmp_path: Path) -> None:
    rows = [a_row(i) for i in range(20)]
    dataset = store.dataset("d", create=True)
    bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    rows[3]["label"], rows[7]["label"] = [1, 1], [-1, -1]
    found = bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    assert (found.relabelled, found.labels, found.solutions) == (2, 0, 0)
    assert found.snapshot is not None
    assert found.snapshot.changes == {"~labels": 2, "~steps": 2}
    labels = {row["question"]: row["label"] for row in dataset.view().arrow("records").to_pylist()}
    assert labels["Q 3?"] == [1, 1]
    assert labels["Q 7?"] == [-1, -1]
    assert labels["Q 0?"] == [1, -1]
    assert dataset.view().counts()["labels"] == 20
    before = {row["question"]: row["label"] for row in dataset.view("1").arrow("records").to_pylist()}
    assert set(map(tuple, before.values())) == {(1, -1)}
    rows[3]["label"] = [1, -1]
    assert bring(dataset, written(tmp_path / "a.jsonl", rows), "records").relabelled == 1
    assert list(verify(dataset)) == []


def test_a_changed_value_supersedes_and_a_float_that_is_the_same_does_not(store: Store, tmp_path: Path) -> None:
    rows = [a_row(i, value=[0.1, 1 / 3]) for i in range(5)]
    dataset = store.dataset("d", create=True)
    bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    assert bring(dataset, written(tmp_path / "a.jsonl", rows), "records").relabelled == 0
    rows[0]["value"] = [0.1, 0.25]
    assert bring(dataset, written(tmp_path / "a.jsonl", rows), "records").relabelled == 1


def test_reasons_that_are_added_supersede(store: Store, tmp_path: Path) -> None:
    rows = [a_row(i) for i in range(3)]
    dataset = store.dataset("d", create=True)
    bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    rows[1]["label_metadata"] = {"reasons": ["It is.", None]}
    found = bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    assert (found.relabelled, found.labels, found.repeated) == (1, 0, 2)
    told = {row["question"]: row["label_metadata"] for row in dataset.view().arrow("records").to_pylist()}
    assert json.loads(told["Q 1?"]) == {"reasons": ["It is.", None]}
    assert bring(dataset, written(tmp_path / "a.jsonl", rows), "records").relabelled == 0
    assert list(verify(dataset)) == []


def test_changed_counts_supersede(store: Store, tmp_path: Path) -> None:
    rows = [a_row(0, value=[0.5, 0.5], n_correct=[1, 1], n_rollouts=[2, 2])]
    dataset = store.dataset("d", create=True)
    bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    rows[0] |= {"n_correct": [8, 8], "n_rollouts": [16, 16]}
    bring(dataset, written(tmp_path / "a.jsonl", rows), "records")
    (row,) = dataset.view().arrow("labels").to_pylist()
    assert row["n_rollouts"] == [16, 16]


def test_of_two_label_sets_of_one_process_in_a_file_the_first_counts(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [a_row(0, (1, -1)), a_row(0, (1, 1)), a_row(0, (1, -1))])
    dataset = store.dataset("d", create=True)
    found = bring(dataset, path, "records")
    assert (found.solutions, found.labels, found.relabelled, found.repeated) == (1, 1, 0, 2)
    assert dataset.view().arrow("labels")["label"].to_pylist() == [[1, -1]]


def test_a_file_that_labels_one_process_twice_can_be_imported_again(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [a_row(0, (1, -1)), a_row(0, (1, 1))])
    dataset = store.dataset("d", create=True)
    first = bring(dataset, path, "records")
    again = bring(dataset, path, "records")
    assert again.relabelled == 0
    assert again.snapshot == first.snapshot
    assert dataset.view().arrow("labels")["label"].to_pylist() == [[1, -1]]


def test_two_sources_of_the_same_process_stand_beside_each_other(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [a_row(0)])
    dataset = store.dataset("d", create=True)
    bring(dataset, path, "records", "one")
    found = bring(dataset, path, "records", "two")
    assert (found.questions, found.labels) == (0, 1)
    assert dataset.view().counts()["labels"] == 2
    assert list(verify(dataset)) == []


def test_bad_rows_are_counted_with_their_reasons_and_places(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(a_row(0)), "{oops", json.dumps(a_row(1, method="")), "[1]", "", json.dumps(a_row(2)), "{oops"]
    path.write_text("\n".join(lines), encoding="utf-8")
    told: list[tuple[str, str, str]] = []
    dataset = store.dataset("d", create=True)
    found = import_rows(
        dataset, ImportConfig("records", "s"), form_of("records"), read_rows(str(path)), "a.jsonl",
        lambda *what: told.append(what),
    )  # fmt: skip
    assert found.tally.rows == 6
    assert found.read == 2
    assert found.tally.dropped == {"not JSON": 2, "no text in `method`": 1, "a JSON list, not an object": 1}
    assert found.tally.places["not JSON"] == ["line 2", "line 7"]
    assert told[0] == ("line 2", "dropped", "not JSON")
    assert len(told) == 4
    (job,) = dataset.view().arrow("jobs").to_pylist()
    assert json.loads(job["totals"])["dropped"]["not JSON"] == 2


def looked_at(name: str, path: Path) -> Tally:
    """What reading a file without writing anything counts."""
    tally = Tally()
    assert list(read_items(form_of(name), read_rows(str(path)), tally))
    return tally


def test_a_strict_look_refuses_a_bad_row_and_passes_a_good_file(tmp_path: Path, shared_data: Path) -> None:
    path = written(tmp_path / "a.jsonl", [a_row(0), {"question": "?", "steps": [1]}])
    with pytest.raises(
        InputError, match=r"1 of 2 rows .*`steps` is not a list of texts \(line 2\)\. Nothing was written"
    ):
        check_rows(looked_at("records", path), "a.jsonl")
    good = looked_at("math-shepherd", shared_data / "formats" / "math_shepherd.jsonl")
    check_rows(good, "x")
    assert good.rows == 7


def test_a_file_in_which_no_row_can_be_read_is_an_error(store: Store, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"x": 1}])
    dataset = store.dataset("d", create=True)
    with pytest.raises(InputError, match=r"No row of a.jsonl could be read as records: no field `steps` \(line 1\)"):
        bring(dataset, path, "records")
    assert dataset.snapshots() == []


def test_what_was_read_of_a_file_that_breaks_off_is_kept_and_the_rest_comes_later(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH", 4)
    rows = [a_row(i) for i in range(30)]
    text = json.dumps(rows)
    path = tmp_path / "a.json"
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    dataset = store.dataset("d", create=True)
    with pytest.raises(InputError, match="a.json is incomplete: the JSON array ends early"):
        bring(dataset, path, "records")
    half = dataset.view().counts()["labels"]
    assert 0 < half < 30
    assert list(verify(dataset)) == []
    path.write_text(text, encoding="utf-8")
    assert bring(dataset, path, "records").labels == 30 - half
    whole = Store.open(tmp_path / "other", create=True).dataset("d", create=True)
    bring(whole, path, "records")
    assert contents(dataset) == contents(whole)


@pytest.mark.parametrize("table", FACTS)
def test_a_commit_that_fails_is_told_and_the_same_import_finishes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(importer, "BATCH", 5)
    path = written(tmp_path / "a.jsonl", [a_row(i) for i in range(40)])
    dataset = store.dataset("d", create=True)
    real = {"append": Dataset.append, "add_questions": Dataset.add_questions}
    calls = 0

    def broken(self: Dataset, *arguments: Any, **more: Any) -> int:
        nonlocal calls
        is_questions = table == "questions"
        if is_questions or arguments[0] == table:
            calls += 1
            if calls == 3:
                raise StoreError("The disk is full: x could not be written.")
        return int((real["add_questions"] if is_questions else real["append"])(self, *arguments, **more))

    monkeypatch.setattr(Dataset, "add_questions" if table == "questions" else "append", broken)
    with pytest.raises(StoreError, match="The disk is full"):
        bring(dataset, path, "records")
    monkeypatch.setattr(Dataset, "append", real["append"])
    monkeypatch.setattr(Dataset, "add_questions", real["add_questions"])
    assert dataset.snapshots() == []
    assert 0 < dataset.view().counts()["labels"] < 40
    bring(dataset, path, "records")
    whole = Store.open(tmp_path / "other", create=True).dataset("d", create=True)
    bring(whole, path, "records")
    assert contents(dataset) == contents(whole)
    assert list(verify(dataset)) == []


def test_a_full_disk_in_the_committing_thread_is_one_sentence(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = store.dataset("d", create=True)

    def full(*arguments: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("openr_data.store.tables.write_parquet", full)
    with pytest.raises(StoreError, match="The disk is full"):
        bring(dataset, written(tmp_path / "a.jsonl", [a_row(0)]), "records")


def test_an_error_of_the_reader_comes_out_and_not_one_of_the_thread(store: Store, tmp_path: Path) -> None:
    dataset = store.dataset("d", create=True)

    def rows() -> Iterator[tuple[str, Any]]:
        yield "line 1", a_row(0)
        raise InputError("The cable was pulled.")

    with pytest.raises(InputError, match="The cable was pulled"):
        import_rows(dataset, ImportConfig("records", "s"), form_of("records"), rows(), "a")
    assert dataset.view().counts()["labels"] == 1


def test_a_process_of_very_many_steps_comes_in_or_is_dropped_with_a_reason(store: Store, tmp_path: Path) -> None:
    dataset = store.dataset("d", create=True)
    found = bring(dataset, written(tmp_path / "a.jsonl", [a_row(0, (1,) * 40_000 + (-1,)), a_row(1)]), "records")
    assert found.labels + sum(found.tally.dropped.values()) == 2


# What a new process runs: the command with small batches, which kills itself after some commits to the disk.
DRIVER = """
import os, signal, sys
sys.path.insert(0, {root!r})
from openr_data.exchange import importer
from openr_data.store import tables
importer.BATCH = {batch}
left, before, real = {left}, {before}, tables.append
def append(path, *arguments, **more):
    global left
    is_meant = {table!r} in ("", path.name)
    left -= is_meant
    if left == 0 and is_meant and before:
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(path, *arguments, **more)
    if left == 0 and is_meant:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
tables.append = append
from openr_data.cli import main
sys.argv = ["openr-data", *{arguments!r}]
main()
"""


def command(
    arguments: list[str], *, left: int = 0, before: bool = False, table: str = "", batch: int = 20
) -> list[str]:
    text = DRIVER.format(root=str(ROOT), batch=batch, left=left, before=before, table=table, arguments=arguments)
    return [sys.executable, "-c", text]


def run(folder: Path, arguments: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(arguments, **more), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


class Killed(BaseException):
    """What ends the command where a kill would: no handler for errors stops it."""


def cut(folder: Path, arguments: list[str], *, table: str, left: int, before: bool) -> None:
    """Run the command in this process until some commits have reached the disk; from then on nothing is written."""
    real, dead = tables.append, False

    def append(path: Path, *more: Any, **options: Any) -> Any:
        nonlocal left, dead
        if dead:
            raise Killed
        is_meant = table in ("", path.name)
        left -= is_meant
        dead = is_meant and left == 0
        if dead and before:
            raise Killed
        done = real(path, *more, **options)
        if dead:
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "append", append)
        patch.setattr(importer, "BATCH", 20)
        patch.setattr(sys, "argv", ["openr-data", *arguments])
        patch.chdir(folder)
        with pytest.raises(Killed):
            main()


def in_process(folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command to its end in this process; its exit code."""
    with monkeypatch.context() as patch:
        patch.setattr(importer, "BATCH", 20)
        patch.setattr(sys, "argv", ["openr-data", *arguments])
        patch.chdir(folder)
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


def at(folder: Path) -> Dataset:
    return Store.open(folder / "openr-store").dataset("d")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of 150 processes of 60 questions, and a folder with its import as nothing disturbed it."""
    folder = tmp_path_factory.mktemp("unbroken")
    rng = random.Random(0)
    rows = []
    for i in range(150):
        row = a_row(i % 60)
        row["steps"] = [f"{i} step {n}" for n in range(rng.randint(1, 5))]
        row["label"] = [rng.choice([1, -1, 0, None]) for _ in row["steps"]]
        rows.append(row)
    path = written(folder / "a.jsonl", rows)
    done = run(folder, ["import", "d", str(path)])
    assert done.returncode == 0, done.stderr
    return path, folder


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("table", "left"),
    [("", 1), ("", 2), ("", 3), ("questions", 2), ("solutions", 3), ("labels", 4), ("jobs", 1), ("refs", 1)],
)
def test_a_kill_between_any_two_commits_is_made_good_by_the_same_command(
    unbroken: tuple[Path, Path],
    tmp_path: Path,
    table: str,
    left: int,
    before: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, whole = unbroken
    arguments = ["import", "d", str(path)]
    cut(tmp_path, arguments, table=table, left=left, before=before)
    capsys.readouterr()
    assert in_process(tmp_path, arguments, monkeypatch) == 0
    assert capsys.readouterr().out == "d@1\n"
    assert contents(at(tmp_path)) == contents(at(whole))
    assert list(verify(at(tmp_path))) == []
    assert at(tmp_path).snapshots()[-1].digest == at(whole).snapshots()[-1].digest


@pytest.mark.slow
@pytest.mark.parametrize(("table", "left", "before"), [("solutions", 3, True), ("labels", 4, False)])
def test_a_real_kill_between_two_commits_is_made_good_by_the_same_command(
    unbroken: tuple[Path, Path], tmp_path: Path, table: str, left: int, before: bool
) -> None:
    path, whole = unbroken
    arguments = ["import", "d", str(path)]
    killed = run(tmp_path, arguments, table=table, left=left, before=before)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run(tmp_path, arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout == "d@1\n"
    assert contents(at(tmp_path)) == contents(at(whole))
    assert list(verify(at(tmp_path))) == []
    assert at(tmp_path).snapshots()[-1].digest == at(whole).snapshots()[-1].digest


@pytest.mark.slow
def test_an_import_that_was_killed_before_its_note_is_noted_by_the_same_command(
    unbroken: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = unbroken
    arguments = ["import", "d", str(path)]
    cut(tmp_path, arguments, table="jobs", left=1, before=True)
    assert in_process(tmp_path, arguments, monkeypatch) == 0
    assert at(tmp_path).view().counts()["jobs"] == 1


@pytest.mark.slow
def test_a_kill_at_any_moment_of_a_real_import_is_made_good(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "processbench" / "math.json"
    arguments = ["import", "d", str(path)]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert run(tmp_path / "whole", arguments, batch=50).returncode == 0
    rng = random.Random(1)
    table = tmp_path / "killed" / "openr-store" / "datasets" / "d" / "labels"
    for wanted in (2, 5, 9):
        with subprocess.Popen(
            command(arguments, batch=50), cwd=tmp_path / "killed", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and len(list(table.glob("*.parquet"))) < wanted:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            time.sleep(rng.random() * 0.03)
            process.send_signal(signal.SIGKILL)
    again = run(tmp_path / "killed", arguments, batch=50)
    assert again.returncode == 0, again.stderr
    assert contents(at(tmp_path / "killed")) == contents(at(tmp_path / "whole"))
    assert list(verify(at(tmp_path / "killed"))) == []


@pytest.mark.slow
def test_two_imports_of_one_file_at_once_give_what_one_gives(unbroken: tuple[Path, Path], tmp_path: Path) -> None:
    path, whole = unbroken
    arguments = ["import", "d", str(path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command(arguments), cwd=tmp_path, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [out for out, _ in said] == ["d@1\n", "d@1\n"]
    assert contents(at(tmp_path)) == contents(at(whole))
    assert list(verify(at(tmp_path))) == []


@pytest.mark.slow
def test_imports_of_two_files_at_once_both_come_in(unbroken: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = unbroken
    other = written(tmp_path / "b.jsonl", [a_row(i, source="b") for i in range(50, 120)])
    processes = [
        subprocess.Popen(
            command(["import", "d", str(file), "--source", file.stem]), cwd=tmp_path, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for file in (path, other)
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert at(tmp_path).view().counts()["labels"] == 150 + 70
    assert at(tmp_path).view().counts()["questions"] == 120
    assert list(verify(at(tmp_path))) == []


MEASURED = """
import re, sys
sys.path.insert(0, {root!r})
sys.argv = ["openr-data", *{arguments!r}]
from openr_data.cli import main
try:
    main()
finally:
    # Not getrusage: it begins with what the parent held when it forked.
    print(int(re.search("VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def peak_mb(folder: Path, arguments: list[str]) -> int:
    """The most memory, in MiB, that the command held."""
    text = MEASURED.format(root=str(ROOT), arguments=arguments)
    environment = {**os.environ, "OPENR_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=400,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def shepherd(path: Path, count: int) -> None:
    """Rows like those of Math-Shepherd: three processes a question, five steps each."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as out:
        for i in range(count):
            question = f"Janet number {i // 3} pays ${rng.randint(2, 99)} an hour for her lessons. What does she pay?"
            signs = [rng.choice("+-") for _ in range(5)]
            steps = [f"Step {n + 1}: She pays {rng.random()} dollars for {i} lessons of that kind." for n in range(5)]
            text = "\n".join(f"{step} ки" for step in steps)
            label = "\n".join(f"{step} {sign}" for step, sign in zip(steps, signs, strict=True))
            row = {"input": f"{question} {text}", "label": f"{question} {label}", "task": "GSM8K"}
            out.write(json.dumps(row) + "\n")


@pytest.mark.slow
def test_an_import_of_sixty_thousand_processes_is_bounded_in_memory(tmp_path: Path) -> None:
    shepherd(tmp_path / "big.jsonl", 60_000)
    assert peak_mb(tmp_path, ["import", "d", "big.jsonl"]) < 700
    assert at(tmp_path).view().counts()["labels"] == 60_000


@pytest.mark.slow
def test_an_import_of_long_processes_is_bounded_in_memory_too(tmp_path: Path) -> None:
    rng = random.Random(0)
    with (tmp_path / "long.jsonl").open("w", encoding="utf-8") as out:
        for i in range(1_500):
            row = a_row(i)
            row["steps"] = [f"{rng.random()} " * 5_000 for _ in row["steps"]]
            out.write(json.dumps(row) + "\n")
    assert peak_mb(tmp_path, ["import", "d", "long.jsonl"]) < 700
