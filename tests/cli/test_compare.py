"""Tests the command `compare`: tables for people, figures for programs, a plot, and one-sentence errors."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from openr_data.cli import main
from openr_data.evaluation.label_figures import Contender
from openr_data.store import Dataset, Store
from tests.cli.conftest import Run
from tests.evaluation.test_labels import HUMAN, LABELS, TRUTH, add_labels, people, records, spend


@pytest.fixture
def small(run: Run) -> Dataset:
    """Five solutions that people judged, and two methods; the first one was paid for."""
    dataset = Store.open("openr-store", create=True).dataset("d", create=True)
    people(dataset, *TRUTH)
    spend(dataset, records(dataset, "m", *LABELS), (30, 600), (1_015, 30_301))
    records(dataset, "n", *LABELS[:2], source="t")
    dataset.snapshot("test", "two methods")
    return dataset


def tables(text: str, between: str = "\t") -> list[list[list[str]]]:
    return [[line.split(between) for line in part.splitlines()] for part in text.split("\n\n")]


def test_people_read_figures_as_rows_and_methods_as_columns_then_values_then_pairs(run: Run, small: Dataset) -> None:
    answer = run("compare", "d")
    assert (answer.code, answer.err) == (0, "Truth: human (5 solutions).\n")
    figures, values, pairs = tables(answer.out)
    assert figures[0] == ["figure", "m", "n"]
    told = {line[0]: line[1:] for line in figures[1:]}
    assert told["label sets"] == ["5", "2"]
    assert told["first errors"] == ["3", "1"]
    assert told["policy calls"] == ["1,045", ""]
    assert told["completion tokens"] == ["30,901", ""]
    assert told["tokens per first error"] == ["10,300.3", ""]
    assert told["undecided"] == ["1", "0"]
    assert told["precision of bad"] == ["0.500", "1.000"]
    assert told["F1 of good"] == ["0.889", "1.000"]
    assert told["exact first error"] == ["0.400 (0.118 to 0.769)", "1.000 (0.342 to 1.000)"]
    assert told["ProcessBench F1"] == ["0.400", "1.000"]
    assert told["false zeros"] == ["0.500 (0.095 to 0.905)", "0.000 (0.000 to 0.793)"]
    assert told["ECE of values"] == ["0.335", "0.200"]
    # Without a known price the output has no such line.
    assert "cost" not in told
    assert values[0] == ["steps truly good, by value", "m", "n"]
    assert values[1] == ["0.0 to 0.1", "0.500 of 2", "0.000 of 1"]
    assert values[2] == ["0.1 to 0.2", "0.000 of 1", ""]
    assert pairs == [
        ["method", "other", "common solutions", "steps", "agreement", "kappa", "same first error"],
        ["m", "n", "2", "6", "1.000", "1.000", "1.000"],
    ]


def test_markdown_is_the_same_tables(run: Run, small: Dataset) -> None:
    out = run("compare", "d", "--markdown").out
    assert out.startswith("| figure | m | n |\n|---|---|---|\n| job | ")
    assert "\n| exact first error | 0.400 (0.118 to 0.769) | 1.000 (0.342 to 1.000) |\n" in out
    assert "\n\n| method | other | common solutions |" in out


def test_json_is_one_document_with_whole_figures(run: Run, small: Dataset) -> None:
    answer = run("compare", "d@3", "--json", "--methods", "n,m")
    document = json.loads(answer.out)
    assert (document["dataset"], document["truth"]) == ("d@3", {"human": 5})
    assert [item["name"] for item in document["methods"]] == ["n", "m"]
    figures = document["methods"][1]
    assert list(figures) == list(Contender("", "", "").as_dict())
    assert (figures["exact_hit"], figures["processbench_f1"], figures["currency"]) == (0.4, pytest.approx(0.4), None)
    assert figures["tokens_per_first_error"] == pytest.approx(30_901 / 3)
    assert [item["n"] for item in figures["bins"]] == [2, 1, 1, 1, 1, 3, 1]
    assert [(item["first"], item["second"], item["solutions"]) for item in document["agreement"]] == [("n", "m", 2)]


def test_programs_read_one_row_a_method(run: Run, small: Dataset) -> None:
    lines = [json.loads(line) for line in run("compare", "d", "--jsonl").out.splitlines()]
    rows = list(csv.DictReader(io.StringIO(run("compare", "d", "--csv").out)))
    assert [line["name"] for line in lines] == [row["name"] for row in rows] == ["m", "n"]
    assert float(rows[0]["f1_good"]) == lines[0]["f1_good"] == pytest.approx(8 / 9)
    assert rows[1]["calls"] == ""
    assert run("compare", "d", "-q").out == "m\nn\n"


def test_a_price_that_is_known_has_a_line(run: Run, small: Dataset) -> None:
    row: dict[str, Any] = {"job_id": "j", "kind": "label", "event": "end", "config": "{}", "versions": "{}", "at": "x"}
    add_labels(small, "paid", "j", {"s": [-1]})
    small.append("jobs", [{**row, "totals": json.dumps({"cost": 12.5, "currency": "EUR"})}], "j/end", 1)
    assert "\ncost\t\t\t12.50 EUR\n" in run("compare", "d").out


def test_without_truth_only_cost_and_agreement_are_told(run: Run, small: Dataset) -> None:
    for method, job, sets in (("a", "1", {"s": [1, -1]}), ("b", "2", {"t": [1]})):
        add_labels(small, method, job, sets)  # type: ignore[arg-type]
    answer = run("compare", "d", "--methods", "a, b")
    assert answer.err == (
        "No truth is known about these solutions of d: the comparison shows only cost and agreement. "
        "Take a method at its word with: --truth METHOD\n"
        "No two of the methods label a solution in common, so they have no agreement.\n"
    )
    figures, pairs = tables(answer.out)
    assert not {"exact first error", "undecided"} & {line[0] for line in figures}
    assert pairs[1] == ["a", "b", "0", "0", "", "", ""]


def test_methods_about_which_no_truth_is_known_are_named(run: Run, small: Dataset) -> None:
    add_labels(small, "elsewhere", "1", {"s": [1, -1]})
    answer = run("compare", "d", "--methods", "m,elsewhere")
    assert answer.err == (
        "Truth: human (5 solutions).\n"
        "No truth is known about the solutions of elsewhere.\n"
        "No two of the methods label a solution in common, so they have no agreement.\n"
    )


def test_one_pair_with_solutions_in_common_is_enough(run: Run, small: Dataset) -> None:
    add_labels(small, "elsewhere", "1", {"s": [1, -1]})
    assert "in common" not in run("compare", "d").err


def test_questions_that_the_oracle_cannot_read_are_counted(run: Run, small: Dataset) -> None:
    records(small, "o", {"label": [1, 1, 1], "question": "Not of our world?", "source": "arithmetic"}, source="u")
    answer = run("compare", "d", "--methods", "o,m")
    assert "1 solutions could not be judged: their questions lack what the oracle needs.\n" in answer.err


def test_a_method_is_taken_at_its_word(run: Run, small: Dataset) -> None:
    answer = run("compare", "d", "--truth", "m", "--json")
    assert json.loads(answer.out)["truth"] == {"m": 2}
    assert [item["name"] for item in json.loads(answer.out)["methods"]] == ["n"]
    assert answer.err == "Truth: m (2 solutions).\n"


def test_a_plot_is_drawn_and_says_who_is_not_in_it(run: Run, small: Dataset) -> None:
    answer = run("compare", "d", "--plot", "x.svg")
    assert answer.code == 0
    assert answer.err.endswith("Drawn to x.svg without n: no tokens per first error, or no truth.\n")
    assert ">m</text>" in Path("x.svg").read_text()
    alone = run("compare", "d", "--methods", "m", "--plot", "y.png", "-q")
    assert (alone.out, alone.err.splitlines()[-1]) == ("m\n", "Drawn to y.png.")
    assert Path("y.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare"], "Missing argument 'NAME'"),
        (["compare", "e"], "No dataset 'e'"),
        (["compare", "d@7"], 'No snapshot "7" in d'),
        (["compare", "d", "--methods", "m,nn"], "No method 'nn' (there are: human, m, n). Did you mean 'n'?"),
        (["compare", "d", "--truth", "humam"], "No truth 'humam' (there are: human, m, n). Did you mean 'human'?"),
        (["compare", "d", "--truth", "oracle"], "No truth 'oracle' (there are: human, m, n)."),
        (["compare", "d", "--plot", "x.pdf"], "'x.pdf' is not a plot file: expected a name that ends in .svg or .png."),
        (["compare", "d", "--methods", "n", "--plot", "x.svg"], "There is nothing to plot for d"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, small: Dataset, arguments: list[str], words: str) -> None:
    answer = run(*arguments)
    assert answer.code == 2
    assert words in answer.err
    assert not list(Path().glob("x.*"))


def test_a_dataset_without_labels_says_what_to_do(run: Run) -> None:
    Store.open("openr-store", create=True).dataset("d", create=True).snapshot("test", "nothing")
    answer = run("compare", "d")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "d has no labels to compare. Label it with: openr-data label d --method omegaprm\n"


def test_labels_of_people_alone_are_compared_when_they_are_named(run: Run) -> None:
    add_labels(Store.open("openr-store", create=True).dataset("d", create=True), "human", "h", {"s": [1]}, HUMAN)
    assert "Name what to compare with --methods (there are: human)." in run("compare", "d").err
    assert run("compare", "d", "--methods", "human", "-q").out == "human\n"


def test_without_matplotlib_a_plot_is_refused_before_any_work(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = run("compare", "d", "--plot", "x.svg")
    assert (answer.code, answer.out) == (2, "")
    assert "pip install 'openr-data[plots]'" in answer.err
    assert run("compare", "d").code == 0


def test_the_help_has_examples_and_says_what_the_figures_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["openr-data", "compare", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    assert "openr-data compare arithmetic --methods omegaprm,math-shepherd --plot methods.png" in text
    assert "false zeros" in text


def test_what_a_scripted_job_labelled_is_compared_with_its_cost(run: Run, labelled: str) -> None:
    document = json.loads(run("compare", "d", "--json").out)
    (figures,) = document["methods"]
    assert (figures["name"], figures["job_id"], document["truth"]) == ("omegaprm", labelled, {})
    assert figures["calls"] > 0
    assert figures["first_errors"] > 0
    assert figures["calls_per_first_error"] == figures["calls"] / figures["first_errors"]
