"""Versions on the command line: log, tag, diff, rollback, verify, compact, gc, and time travel wherever a name stands."""

import csv
import fcntl
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openr_data.schema import TABLES
from openr_data.store import Dataset, Store, maintenance, storage, tables
from tests.cli.conftest import Answer, Run
from tests.store.test_dataset import labels, question, solution

ROOT = Path("openr-store")


@pytest.fixture
def small(run: Run, tmp_path: Path) -> Dataset:
    """`d` of three snapshots: one process, another one, the first relabelled."""
    dataset = Store.open(tmp_path / "openr-store", create=True).dataset("d", create=True)
    for number in (1, 2):
        job = f"job{number}"
        dataset.add_questions([question(f"q{number}", level=str(number))], f"{job}/questions", 1)
        dataset.append("solutions", [solution(f"s{number}", f"q{number}", ["a", "b"], job)], f"{job}/solutions", 1)
        dataset.append("labels", [labels(f"l{number}", f"s{number}", f"q{number}", [1, -1], job)], f"{job}/labels", 1)
        dataset.snapshot("label", f"message {number}", job)
    dataset.append("labels", [{**labels("l1", "s1", "q1", [1, 1], "job1"), "revision": 1}], "g/labels", 1)
    dataset.snapshot("regrade", "another grader", "g")
    return dataset


@pytest.fixture
def job_runs(labelled: str) -> Iterator[str]:
    """The job of `labelled`, held as by a process that runs it."""
    handle = os.open(ROOT / "jobs" / labelled / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield labelled
    os.close(handle)


def asked(answer: Answer) -> Any:
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def count(run: Run, name: str) -> int:
    return int(asked(run("sql", name, "select count(*) as n from labels", "--json"))[0]["n"])


# log


def test_log_is_one_line_a_snapshot_newest_first(run: Run, small: Dataset) -> None:
    small.tag("v1", "2")
    small.tag("v2", "2")
    answer = run("log", "d")
    assert (answer.code, answer.err) == (0, "")
    head, *lines = (line.split("\t") for line in answer.out.splitlines())
    assert head == [
        "snapshot", "age", "operation", "+questions", "+solutions", "+steps", "-steps", "~steps", "message", "tags", "job",
    ]  # fmt: skip
    assert [[line[0], *line[2:]] for line in lines] == [
        ["3", "regrade", "0", "0", "0", "0", "1", "another grader", "", "g"],
        ["2", "label", "1", "1", "2", "0", "0", "message 2", "v1, v2", "job2"],
        ["1", "label", "1", "1", "2", "0", "0", "message 1", "", "job1"],
    ]
    assert all(line[1].endswith(" s") for line in lines)


def test_log_for_programs_says_digest_and_moment_too(run: Run, small: Dataset) -> None:
    rows = asked(run("log", "d", "--json"))
    assert list(rows[0]) == [
        "snapshot", "age", "operation", "+questions", "+solutions", "+steps", "-steps", "~steps", "message", "tags", "job",
        "digest", "created_at",
    ]  # fmt: skip
    assert [row["digest"] for row in rows] == [row.digest for row in reversed(small.snapshots())]
    assert run("log", "d", "-q").out == "3\n2\n1\n"
    assert [row["~steps"] for row in csv.DictReader(io.StringIO(run("log", "d", "--csv").out))] == ["1", "0", "0"]
    assert asked(run("log", "d@1", "--json")) == rows


def test_log_of_a_dataset_without_snapshots_is_empty(run: Run, small: Dataset) -> None:
    Store.open(ROOT).dataset("e", create=True)
    assert asked(run("log", "e", "--json")) == []


def test_an_empty_log_has_its_header(run: Run, small: Dataset) -> None:
    Store.open(ROOT).dataset("e", create=True)
    assert run("log", "e", "--csv").out.startswith("snapshot,")


# tag


def test_a_tag_is_made_listed_and_never_moved(run: Run, small: Dataset) -> None:
    made = run("tag", "d@2", "v1", "-m", "as published", "--json")
    assert asked(made) == {"tag": "d@v1", "snapshot": "2", "digest": small.snapshots()[1].digest}
    assert made.err == "d@v1 is snapshot 2.\n"
    (row,) = asked(run("tag", "d", "--json"))
    assert (row["tag"], row["snapshot"], row["message"]) == ("v1", "2", "as published")
    assert list(row) == ["tag", "snapshot", "age", "message"]
    again = run("tag", "d", "v1")
    assert (again.code, again.out) == (1, "")
    assert again.err == (
        "The tag 'v1' exists already: it is snapshot 2 of d, and a tag never moves. "
        "Take another name, or delete it first: openr-data tag d v1 --delete\n"
    )
    assert run("tag", "d", "-q").out == "v1\n"


def test_a_tag_of_the_newest_state_needs_no_snapshot(run: Run, small: Dataset) -> None:
    small.add_questions([question("q9")], "x/questions", 1)
    assert asked(run("tag", "d", "v1", "--json"))["snapshot"] == "4"
    assert asked(run("log", "d", "--json"))[0]["tags"] == "v1"


def test_no_tags_are_a_header(run: Run, small: Dataset) -> None:
    assert run("tag", "d").out == "tag\tsnapshot\tage\tmessage\n"
    assert asked(run("tag", "d", "--json")) == []


def test_deleting_a_tag_asks_and_without_a_terminal_refuses(run: Run, small: Dataset) -> None:
    run("tag", "d@1", "v1")
    refused = run("tag", "d", "v1", "--delete")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "Delete the tag v1 of d? Without it gc may remove its snapshot. There is no terminal to ask on: confirm with --yes.\n"
    )
    assert run("tag", "d", "-q").out == "v1\n"
    deleted = run("tag", "d", "v1", "--delete", "--yes")
    assert (deleted.code, deleted.err) == (0, "The tag v1 is gone; it was snapshot 1.\n")
    assert run("tag", "d", "-q").out == ""
    assert run("tag", "d@3", "v1").code == 0


class Terminal(io.StringIO):
    """Simulate a user who types this at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 130, "v1\n"), ("\n", 130, "v1\n"), ("y\n", 0, "")])
def test_at_a_terminal_it_is_asked_and_no_is_the_default(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, left: str
) -> None:
    run("tag", "d@1", "v1")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert run("tag", "d", "v1", "--delete").code == code
    assert run("tag", "d", "-q").out == left


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["tag", "d", "5"], 2, "'5' cannot name a tag"),
        (["tag", "d", "main"], 2, "'main' cannot name a tag"),
        (["tag", "d", "2026-11-24"], 2, "dates are moments"),
        (["tag", "d@9", "v1"], 2, 'No snapshot "9" in d (there are: main, 1, 2, 3). List them with: openr-data log d'),
        (["tag", "e", "v1"], 2, "No dataset 'e'"),
        (["tag", "d", "v9", "--delete", "--yes"], 2, 'No snapshot "v9" in d'),
        (["log", "../d"], 2, "is not a dataset name"),
        (["log"], 2, "Missing argument 'NAME'"),
        (["diff"], 2, "Missing argument 'OLD'"),
        (["diff", "d@9"], 2, 'No snapshot "9" in d'),
        (["diff", "d@1", "v7"], 2, 'No snapshot "v7" in d'),
        (["diff", "e@1"], 2, "No dataset 'e'"),
        (["diff", "d@1", "--where", "nope = 1"], 2, "SQL: "),
        (["diff", "d@1", "--limit", "x"], 2, "is not a valid integer"),
        (["rollback", "d"], 2, "Missing argument 'REF'"),
        (["rollback", "d@1", "2"], 2, "Name the dataset and the state apart: openr-data rollback d 1"),
        (["rollback", "d", "9", "--yes"], 2, 'No snapshot "9" in d'),
        (["rollback", "d", "2999-13-01", "--yes"], 2, "is not a moment"),
        (["rollback", "e", "1"], 2, "No dataset 'e'"),
        (["verify", "e"], 2, "No dataset 'e'"),
        (["compact", "e"], 2, "No dataset 'e'"),
        (["gc", "e"], 2, "No dataset 'e'"),
        (["gc", "d", "--keep-days", "x"], 2, "is not a valid integer"),
        (["gc", "d", "--retention", "1"], 1, "younger than 168 hours may belong to a writer or reader at work"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(
    run: Run, small: Dataset, arguments: list[str], code: int, words: str
) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert [row.name for row in small.snapshots()] == ["1", "2", "3"]
    assert small.tags() == []


def test_deleting_no_tag_is_a_mistake(run: Run, small: Dataset) -> None:
    assert run("tag", "d", "--delete").code == 2


def test_nobody_is_asked_about_a_tag_that_is_not_there(run: Run, small: Dataset) -> None:
    assert 'No snapshot "v9"' in run("tag", "d", "v9", "--delete").err


# Time travel


@pytest.mark.parametrize(
    ("ref", "rows"),
    [("@1", 1), ("@2", 2), ("@v1", 1), ("@main~2", 1), ("@v2~1", 1), ("@main", 2), ("", 2), ("@2999-01-01", 2)],
)
def test_every_command_that_reads_takes_a_state(run: Run, small: Dataset, ref: str, rows: int) -> None:
    small.tag("v1", "1")
    small.tag("v2", "2")
    name = f"d{ref}"
    assert count(run, name) == rows
    assert len(asked(run("view", name, "--json"))) == rows
    assert len(run("export", name, "-").out.splitlines()) == rows
    shown = run("show", name, "--json")
    assert shown.code == 0
    assert asked(run("diff", name, name, "--json"))[0]["added"] == 0


# diff


def test_diff_counts_by_table_and_tells_how_to_see_more(run: Run, small: Dataset) -> None:
    answer = run("diff", "d@1", "d")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "table\tadded\tremoved\tchanged",
        "questions\t1\t0\t0",
        "solutions\t1\t0\t0",
        "nodes\t0\t0\t0",
        "rollouts\t0\t0\t0",
        "search_nodes\t0\t0\t0",
        "scores\t0\t0\t0",
        "labels\t1\t0\t1",
        "labelled steps\t2\t0\t1",
    ]
    assert answer.err == "See the steps with: openr-data diff d@1 d --rows\n"
    assert run(*shlex.split(answer.err.partition("with: ")[2])[1:]).code == 0
    assert asked(run("diff", "d@1", "d", "--stat", "--json"))[0] == {
        "table": "questions", "added": 1, "removed": 0, "changed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "added", "removed"),
    [(["d@1"], 1, 0), (["d@1", "d"], 1, 0), (["d@1", "2"], 1, 0), (["d@1", "d@2"], 1, 0), (["d@1", "v1"], 1, 0),
     (["d", "1"], 0, 1), (["d@main~1", "main~2"], 0, 1), (["d@2", "main"], 0, 0), (["d"], 0, 0), (["d", "e"], 0, 2)],
)  # fmt: skip
def test_the_new_side_is_a_name_a_reference_or_left_out(
    run: Run, small: Dataset, arguments: list[str], added: int, removed: int
) -> None:
    small.tag("v1", "2")
    Store.open(ROOT).dataset("e", create=True)
    row = asked(run("diff", *arguments, "--json"))[0]
    assert (row["added"], row["removed"]) == (added, removed)


def test_diff_shows_steps_old_beside_new(run: Run, small: Dataset) -> None:
    lines = run("diff", "d@1", "d", "--rows").out.splitlines()
    assert lines == [
        "change\tsolution\tstep_index\tmethod\told → new\tstep",
        "relabelled\ts1\t1\tm\t- 4/8 → + 4/8\tb",
        "added\ts2\t0\tm\t→ + 4/8\ta",
        "added\ts2\t1\tm\t→ - 4/8\tb",
    ]
    rows = asked(run("diff", "d@1", "d", "--rows", "--json"))
    assert [(row["change"], row["old_label"], row["new_label"]) for row in rows] == [
        ("relabelled", -1, 1), ("added", None, 1), ("added", None, -1)]  # fmt: skip
    assert asked(run("diff", "d", "d@1", "--rows", "--json"))[1]["change"] == "removed"


def test_diff_shows_the_steps_that_are_asked_for(run: Run, small: Dataset) -> None:
    assert run("diff", "d@1", "d", "--where", "change = 'relabelled'", "-q").out == "relabelled\n"
    assert len(asked(run("diff", "d@1", "d", "--where", "level = '2'", "--json"))) == 2
    assert len(asked(run("diff", "d@1", "d", "--rows", "--limit", "2", "--json"))) == 2
    empty = run("diff", "d@1", "d", "--where", "level = '9'", "--csv")
    assert empty.out.startswith("change,question_id,solution_id,step_index")
    assert len(empty.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["d@1", "d"], 1), (["d@3", "d"], 0), (["d@1", "d", "--rows"], 1), (["d@3", "d", "--rows"], 0),
        (["d@1", "d", "--where", "level = '9'"], 0), (["d@1", "d", "--where", "level = '2'"], 1),
        (["d@1", "d", "--json"], 1),
    ],
)  # fmt: skip
def test_the_exit_code_says_whether_anything_differs_where_it_is_asked_for(
    run: Run, small: Dataset, arguments: list[str], code: int
) -> None:
    assert run("diff", *arguments).code == 0
    assert run("diff", *arguments, "--exit-code").code == code


def test_counts_are_given_for_a_condition_too(run: Run, small: Dataset) -> None:
    answer = run("diff", "d@1", "d", "--stat", "--where", "level = '2'", "--json")
    assert "table" in asked(answer)[0] or answer.code == 2


# rollback


def test_a_rollback_says_what_goes_and_asks(run: Run, small: Dataset) -> None:
    refused = run("rollback", "d", "1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "Roll d back to 1? 1 questions go, 1 solutions go, 1 labels go, 1 labels change, 2 steps go, 1 steps change. "
        "There is no terminal to ask on: confirm with --yes.\n"
    )
    assert count(run, "d") == 2
    done = run("rollback", "d", "1", "--yes", "-m", "the grader was wrong")
    assert (done.code, done.out) == (0, "d@4\n")
    assert done.err == "d is what it was at 1, as snapshot 4.\n"
    assert count(run, "d") == count(run, "d@1") == 1
    row = asked(run("log", "d", "--json"))[0]
    assert (row["operation"], row["message"]) == ("rollback", "the grader was wrong")
    assert (row["-steps"], row["~steps"], row["+steps"]) == (2, 1, 0)


def test_a_rollback_can_be_rolled_back(run: Run, small: Dataset) -> None:
    run("rollback", "d", "1", "--yes")
    assert "2 steps come back" in run("rollback", "d", "main~1").err
    assert run("rollback", "d", "main~1", "--yes").out == "d@5\n"
    assert run("diff", "d@3", "d", "--exit-code").code == 0


def test_a_rollback_to_what_is_there_asks_nothing(run: Run, small: Dataset) -> None:
    assert run("rollback", "d", "main~0").out == "d@3\n"
    assert len(small.snapshots()) == 3


def test_nothing_is_rolled_back_under_a_job_that_writes(run: Run, job_runs: str) -> None:
    Store.open(ROOT).dataset("d").add_questions([question("q9")], "x/questions", 1)
    run("tag", "d", "v1")
    answer = run("rollback", "d", "1", "--yes")
    assert answer.code == 2
    assert answer.err == f"The job {job_runs} is writing into d. Stop it first (Ctrl-C where it runs).\n"
    assert run("diff", "d@v1", "d", "--exit-code").code == 0


def test_an_interrupted_rollback_is_told_by_every_command_that_keeps_a_state(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tables.swap

    def swap(path: Path, *args: Any) -> int:
        if path.name == "solutions":
            raise KeyboardInterrupt
        return real(path, *args)

    monkeypatch.setattr(tables, "swap", swap)
    assert run("rollback", "d", "1", "--yes").code == 130
    monkeypatch.setattr(tables, "swap", real)
    sentence = "Finish it with: openr-data rollback d 1 --yes"
    for command in (["tag", "d", "v1"], ["regrade", "d"], ["gc", "d"]):
        answer = run(*command)
        assert (answer.code, answer.out) == (1, "")
        assert sentence in answer.err
    told = run("verify", "d", "--json")
    assert told.code == 1
    assert any(sentence in row["problem"] for row in json.loads(told.out))
    assert run(*shlex.split(sentence.partition("openr-data ")[2])).out == "d@4\n"
    assert run("tag", "d", "v1").code == 0
    assert run("diff", "d@1", "d", "--exit-code").code == 0


# verify


def test_verify_of_a_whole_dataset_says_what_it_read(run: Run, labelled: str) -> None:
    answer = run("verify", "d")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("d is whole: 4 questions, ")
    assert answer.err.endswith(" rollouts, 1 snapshots.\n")
    assert asked(run("verify", "d", "--json")) == []
    assert run("verify", "d", "-q").out == ""


def test_verify_says_what_is_wrong_and_where_a_whole_state_is(run: Run, small: Dataset) -> None:
    # The ids of this dataset are names and no hashes.
    answer = run("verify", "d", "--json")
    assert answer.code == 1
    rows = json.loads(answer.out)
    assert list(rows[0]) == ["where", "count", "problem", "for example"]
    assert {row["where"]: (row["count"], sorted(row["for example"].split(", "))) for row in rows} == {
        "questions": (2, ["q1", "q2"]), "solutions": (2, ["s1", "s2"]), "labels": (2, ["l1", "l2"]),
    }  # fmt: skip
    assert answer.err == "Return to an earlier state with: openr-data rollback d REF\n"
    assert run("verify", "d").out.splitlines()[0] == "where\tcount\tproblem\tfor example"


def test_verify_finds_a_file_that_is_gone(run: Run, labelled: str) -> None:
    file = next((ROOT / "datasets/d/rollouts").glob("*.parquet"))
    file.unlink()
    answer = run("verify", "d", "--json")
    assert answer.code == 1
    (row,) = json.loads(answer.out)
    assert row["where"] == "rollouts"
    assert file.name in row["problem"]


# compact


def test_compact_says_what_became_of_the_files(run: Run, small: Dataset) -> None:
    before = run("sql", "d", "select * from steps order by all", "--json").out
    rows = asked(run("compact", "d", "--json"))
    assert [(row["table"], row["files before"], row["files after"]) for row in rows] == [
        ("questions", 2, 1), ("solutions", 2, 1), ("labels", 3, 1)]  # fmt: skip
    assert all(row["before"] > row["after"] > 0 for row in rows)
    assert list(rows[0]) == ["table", "files before", "files after", "before", "after"]
    assert run("sql", "d", "select * from steps order by all", "--json").out == before
    again = run("compact", "d")
    assert (again.code, again.err) == (0, "d is compact.\n")
    assert again.out == "table\tfiles before\tfiles after\tbefore\tafter\n"
    assert run("diff", "d@3", "d", "--exit-code").code == 0
    assert len(small.snapshots()) == 3


def test_compaction_is_for_the_newest_state_and_people_read_sizes(run: Run, small: Dataset) -> None:
    lines = run("compact", "d").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["table", "questions", "solutions", "labels"]
    assert all(line.endswith("kB") for line in lines[1:])


# gc


@pytest.fixture
def litter(small: Dataset) -> Path:
    """Make a file left by a writer that died nine days ago."""
    path = storage.write_parquet(small.path / "labels", TABLES["labels"].empty_table())
    os.utime(path, (time.time() - 9 * 86_400,) * 2)
    return path


def test_gc_says_what_would_go_and_then_what_went(run: Run, small: Dataset, litter: Path) -> None:
    small.tag("v1", "1")
    bytes_ = litter.stat().st_size
    said = run("gc", "d", "--keep-days", "-1", "--dry-run", "--json")
    assert asked(said) == {
        "dataset": "d", "snapshots": ["2"], "files": 1, "bytes": bytes_, "paths": [f"labels/{litter.name}"],
        "dry_run": True,
    }  # fmt: skip
    assert said.err == "1 snapshots and 1 files would go.\n"
    assert litter.exists()
    assert len(small.snapshots()) == 3
    done = run("gc", "d", "--keep-days", "-1")
    assert done.code == 0
    assert done.err == "1 snapshots and 1 files are gone.\n"
    assert done.out.split()[:6] == ["dataset", "d", "snapshots", "2", "files", "1"]
    assert not litter.exists()
    gone = run("sql", "d@2", "select 1 as one")
    assert gone.code == 2
    assert gone.err == ("gc removed snapshot 2 of d, which had no tag. List the others with: openr-data log d\n")
    assert count(run, "d@v1") == 1


def test_gc_with_nothing_to_do_says_so(run: Run, small: Dataset) -> None:
    facts = asked(run("gc", "d", "--json"))
    assert (facts["snapshots"], facts["files"], facts["dry_run"]) == ([], 0, False)
    assert run("gc", "d", "-q").out == "d\n"


def test_gc_takes_young_files_of_who_says_to_be_alone(run: Run, small: Dataset) -> None:
    maintenance.compact(small)
    path = storage.write_parquet(small.path / "labels", TABLES["labels"].empty_table())
    refused = run("gc", "d", "--retention", "0")
    assert refused.code == 1
    assert "state that no other process uses the dataset with --alone" in refused.err
    assert path.exists()
    assert asked(run("gc", "d", "--retention", "0", "--alone", "--json"))["files"] >= 1
    assert not path.exists()
    # Every snapshot is younger than thirty days: all of them stay.
    assert [count(run, f"d@{number}") for number in (1, 2, 3)] == [1, 2, 2]


def test_gc_does_not_believe_to_be_alone_beside_a_job_that_writes(run: Run, job_runs: str) -> None:
    path = storage.write_parquet(ROOT / "datasets/d/labels", TABLES["labels"].empty_table())
    answer = run("gc", "d", "--retention", "0", "--alone", "--json")
    assert asked(answer)["files"] == 0
    assert f"The job {job_runs} writes into d, so files younger than a week stay." in answer.err
    assert path.exists()


def test_a_doctor_does_not_miss_what_a_rollback_took_away(run: Run, small: Dataset) -> None:
    def store() -> str:
        return next(row["found"] for row in asked(run("doctor", "--json")) if row["check"] == "store")

    assert run("rollback", "d", "1", "--yes").code == 0
    rolled = small.snapshots()
    assert small.view().counts()["questions"] < rolled[-2].counts["questions"]
    assert "fewer" not in store()
