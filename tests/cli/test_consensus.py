"""Tests the command `consensus`: a summary, a report, another dataset, and one-sentence errors."""

import json
from pathlib import Path

import pytest

from openr_data.store import Dataset, Store
from tests.cli.conftest import Run
from tests.conftest import a_question
from tests.derivation.test_consensus import CASES, KEPT, REASONS, small

METHODS = ("--methods", "mc,judge")


@pytest.fixture
def dataset(run: Run) -> Dataset:
    """Eleven solutions, labelled by Monte Carlo and by a judge."""
    dataset = Store.open("openr-store", create=True).dataset("d", create=True)
    small(dataset)
    return dataset


def test_people_read_how_many_are_kept_and_why_the_others_are_not(run: Run, dataset: Dataset) -> None:
    answer = run("consensus", "d", *METHODS)
    lines = [line.split("\t") for line in answer.out.splitlines()]
    assert lines[:3] == [["what", "solutions"], ["kept: mc and judge agree", "4"], ["mc is undecided", "2"]]
    assert sorted(lines[3:]) == [
        ["different first errors", "1"],
        ["judge sees an error where mc sees none", "1"],
        ["mc sees an error where judge sees none", "1"],
        ["not labelled by judge", "1"],
        ["not labelled by mc", "1"],
    ]
    assert answer.err == (
        "4 of 11 solutions kept (36.4%), 3 of them with an error.\n"
        "4 label sets added to d@3, 0 were there already.\n"
        "Look at them with: openr-data view d --method consensus\n"
    )
    assert answer.code == 0
    assert run("view", "d", "--method", "consensus", "--json").out.count('"solution_id"') == 4


def test_the_same_command_again_adds_nothing(run: Run, dataset: Dataset) -> None:
    run("consensus", "d", *METHODS)
    answer = run("consensus", "d", *METHODS)
    assert "0 label sets added to d@3, 4 were there already." in answer.err
    assert run("log", "d", "-q").out.count("\n") == 3


def test_json_is_one_document(run: Run, dataset: Dataset) -> None:
    document = json.loads(run("consensus", "d", *METHODS, "--json").out)
    assert list(document) == [
        "dataset", "job_id", "methods", "solutions", "kept", "kept_with_an_error", "added", "discarded",
    ]  # fmt: skip
    assert (document["dataset"], document["methods"], document["kept"], document["added"]) == (
        "d@3",
        ["mc", "judge"],
        4,
        4,
    )
    assert sum(document["discarded"].values()) == 7
    rows = run("sql", "d", f"select count(*) as n from labels where job_id = '{document['job_id']}'", "--json").out
    assert json.loads(rows) == [{"n": 4}]


def test_the_report_lists_every_discarded_solution(run: Run, dataset: Dataset) -> None:
    answer = run("consensus", "d", *METHODS, "--report", "lost.jsonl", "-q")
    rows = [json.loads(line) for line in Path("lost.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [["solution_id", "question_id", "reason", "first_errors"]] * 7
    names = {a_question(f"Question {i}?", "").question_id: i for i in range(len(CASES))}
    assert {names[row["question_id"]]: row["reason"] for row in rows} == REASONS
    assert "7 discarded solutions are listed in lost.jsonl.\n" in answer.err


def test_a_dry_run_says_the_same_and_writes_the_report_alone(run: Run, dataset: Dataset) -> None:
    answer = run("consensus", "d", *METHODS, "--dry-run", "--report", "lost.jsonl", "--into", "e", "--json")
    document = json.loads(answer.out)
    assert (document["kept"], document["added"], document["dataset"]) == (4, 0, None)
    assert len(Path("lost.jsonl").read_text().splitlines()) == 7
    assert "Nothing was written." in answer.err
    assert run("ls", "-q").out == "d\n"
    assert run("log", "d", "-q").out.count("\n") == 2


def test_what_is_kept_can_go_into_another_dataset(run: Run, dataset: Dataset) -> None:
    answer = run("consensus", "d@2", *METHODS, "--into", "agreed")
    assert "4 label sets added to agreed@1" in answer.err
    assert "openr-data view agreed --method consensus" in answer.err
    rows = json.loads(run("sql", "agreed", "select label from records order by question", "--json").out)
    assert sorted(map(str, (row["label"] for row in rows))) == sorted(map(str, KEPT.values()))
    assert run("log", "d", "-q").out.count("\n") == 2
    assert run("verify", "agreed").code == run("verify", "d").code == 0


def test_where_nothing_is_agreed_on_nothing_is_written(run: Run) -> None:
    Path("a.jsonl").write_text('{"question": "Q?", "steps": ["a"], "label": [1], "method": "x"}\n')
    Path("b.jsonl").write_text('{"question": "Q?", "steps": ["a"], "label": [-1], "method": "y"}\n')
    for name in ("a", "b"):
        run("import", "split", f"{name}.jsonl", "--as", "records", "--source", name)
    nothing = run("consensus", "split", "--methods", "x,y", "--into", "none")
    assert nothing.code == 0
    assert "kept: x and y agree\t0\ny sees an error where x sees none\t1\n" in nothing.out
    assert (
        "Nothing is kept, so nothing was written. See where methods differ with: openr-data compare split"
        in nothing.err
    )
    assert run("ls", "-q").out == "split\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["consensus", "d"], "Missing option '--methods'"),
        (
            ["consensus", "d", "--methods", "mc"],
            "A consensus needs two methods or more: --methods A,B (there are: judge, mc).",
        ),
        (
            ["consensus", "d", "--methods", "mc, jduge"],
            "No method 'jduge' (there are: judge, mc). Did you mean 'judge'?",
        ),
        (["consensus", "e", *METHODS], "No dataset 'e'"),
        (["consensus", "d@9", *METHODS], 'No snapshot "9" in d'),
        (["consensus", "d", *METHODS, "--into", "e@1"], "goes to the newest state of a dataset: --into e."),
        (["consensus", "d", *METHODS, "--into", "arithmetic"], "'arithmetic' is a built-in source"),
        (["consensus", "d", *METHODS, "--into", "../e"], "is not a dataset name"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, dataset: Dataset, arguments: list[str], words: str) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert run("ls", "-q").out == "d\n"


def test_a_report_that_cannot_be_written_stops_before_anything_else_is(run: Run, dataset: Dataset) -> None:
    answer = run("consensus", "d", *METHODS, "--report", "nowhere/lost.jsonl")
    assert (answer.code, answer.out) == (1, "")
    assert "Cannot write nowhere/lost.jsonl: No such file or directory." in answer.err
    assert run("log", "d", "-q").out.count("\n") == 2
