"""Tests `import` and `export`: formats recognised from rows, refusals that write nothing, files of any kind."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from openr_data.exchange.formats.files import read_rows
from openr_data.registry import FORMATS
from openr_data.store import Store
from tests.cli.test_commands import Run

REAL = {
    "formats/math_aps_flat.jsonl": "math-aps",
    "formats/math_aps_tree.jsonl": "math-aps-tree",
    "formats/math_shepherd.jsonl": "math-shepherd",
    "formats/prm800k.jsonl": "prm800k",
    "gsm8k/test.jsonl": "questions",
    "math/test500.jsonl": "questions",
    "math/train.jsonl": "questions",
    "processbench/gsm8k.json": "processbench",
}
RECORD = {"question": "1+1?", "answer": "2", "steps": ["a", "b"], "label": [1, -1], "method": "m"}


def written(name: str, *rows: Any) -> str:
    """A file of JSON lines; a text stands as it is."""
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    Path(name).write_text(text + "\n", encoding="utf-8")
    return name


@pytest.mark.parametrize(("name", "format_"), REAL.items())
def test_the_format_of_a_real_file_is_told_by_its_rows(run: Run, shared_data: Path, name: str, format_: str) -> None:
    path = str(shared_data / name)
    answer = run("import", "d", path)
    assert (answer.code, answer.out) == (0, "d@1\n"), answer.err
    assert f"{path} is read as {format_}." in answer.err
    again = run("import", "d", path)
    assert (again.code, again.out) == (0, "d@1\n")
    assert "0 questions" in again.err
    asked = run("import", "d", path, "--as", format_)
    assert (asked.code, asked.out) == (0, "d@1\n")
    assert "is read as" not in asked.err


@pytest.mark.parametrize("format_", FORMATS)
def test_what_was_exported_is_told_again_by_its_rows(run: Run, format_: str) -> None:
    run("import", "d", written("r.jsonl", {**RECORD, "steps": ["Step 1: a", "Step 2: b"], "value": [0.5, 0.0]}))
    assert run("export", "d", "x.jsonl", "--as", format_).code == 0
    answer = run("import", "back", "x.jsonl")
    assert answer.code == 0, answer.err
    assert f"x.jsonl is read as {format_}." in answer.err


def test_the_next_command_is_the_one_for_what_came_in(run: Run) -> None:
    questions = run("import", "q", written("q.jsonl", {"problem": "1?", "answer": "1"}))
    assert "Label them with: openr-data label q --method omegaprm" in questions.err
    records = run("import", "r", written("r.jsonl", RECORD))
    assert "Look at them with: openr-data view r" in records.err
    assert "1 questions, 1 solutions and 1 label sets added to r" in records.err


def test_one_bad_row_does_not_make_a_file_of_processes_one_of_questions(run: Run) -> None:
    rows = [{**RECORD, "question": f"{i}?"} for i in range(20)]
    answer = run("import", "d", written("x.jsonl", *rows, {**RECORD, "label": [1]}))
    assert answer.code == 0
    assert "x.jsonl is read as records." in answer.err
    assert "20 label sets" in answer.err


@pytest.mark.parametrize("rows", [["oops"], [{"x": 1}, {"y": [2]}], ["12", "[1, 2]"], ["", "", "text"]])
def test_rows_of_no_format_are_refused_and_nothing_is_written(run: Run, rows: list[Any]) -> None:
    answer = run("import", "d", written("x.jsonl", *rows))
    assert (answer.code, answer.out) == (2, "")
    assert "x.jsonl is in no known format (line " in answer.err
    assert "openr-data catalog ls" in answer.err
    assert not Path("openr-store").exists()


def test_a_file_without_rows_is_refused(run: Run) -> None:
    for name in ("x.jsonl", "x.json", "x.csv"):
        Path(name).write_text("[]" if name == "x.json" else "")
        answer = run("import", "d", name)
        assert (answer.code, answer.err) == (2, f"{name} holds no rows.\n")
    assert not Path("openr-store").exists()


def test_strict_refuses_what_would_be_mended_or_dropped(run: Run) -> None:
    good = {"input": "1+1? Step 1: a ки", "label": "1+1? Step 1: a +", "task": "t"}
    mended = {"input": "1+1? a ки", "label": "1+1? a +", "task": "t"}
    name = written("x.jsonl", good, mended, "oops", good)
    answer = run("import", "d", name, "--as", "math-shepherd", "--strict")
    assert (answer.code, answer.out) == (2, "")
    assert "x.jsonl: 2 of 4 rows are not as they should be, 1 of them: " in answer.err
    assert "Nothing was written. Without --strict such rows are dropped or mended, and counted." in answer.err
    assert not Path("openr-store").exists()
    loose = run("import", "d", name, "--as", "math-shepherd")
    assert loose.code == 0
    assert "  dropped 1: not JSON (line 3)\n" in loose.err
    assert '  repaired 1: no "Step 1:": the question ends at its last question mark (line 2)\n' in loose.err
    assert run("import", "e", written("y.jsonl", good), "--strict").code == 0


def test_strict_finds_a_bad_row_far_behind_those_that_are_looked_at_first(run: Run) -> None:
    rows = [{**RECORD, "question": f"{i}?"} for i in range(500)]
    answer = run("import", "d", written("x.jsonl", *rows, "oops"), "--strict")
    assert answer.code == 2
    assert "(line 501). Nothing was written" in answer.err
    assert not Path("openr-store").exists()


def test_a_dry_run_counts_and_writes_nothing(run: Run) -> None:
    name = written("x.jsonl", RECORD, "oops", {**RECORD, "method": ""})
    answer = run("import", "d", name, "--as", "records", "--dry-run")
    assert (answer.code, answer.out) == (0, "")
    assert "1 of 3 rows can be read as records.\n" in answer.err
    assert "  dropped 1: not JSON (line 2)\n" in answer.err
    assert "  dropped 1: no text in `method` (line 3)\n" in answer.err
    assert not Path("openr-store").exists()
    assert run("import", "d", name, "--dry-run", "--strict").code == 2
    assert run("import", "d", written("y.jsonl", RECORD), "--dry-run", "--strict").code == 0
    assert not Path("openr-store").exists()


def test_a_report_lists_every_bad_row(run: Run) -> None:
    name = written("x.jsonl", RECORD, *["oops"] * 6, {**RECORD, "method": ""})
    answer = run("import", "d", name, "--as", "records", "--report", "bad.jsonl")
    assert answer.code == 0
    assert "  dropped 6: not JSON (line 2, line 3, line 4, …)\n" in answer.err
    lines = [json.loads(line) for line in Path("bad.jsonl").read_text().splitlines()]
    assert [line["place"] for line in lines] == [f"line {i}" for i in range(2, 9)]
    assert Counter(line["reason"] for line in lines) == {"not JSON": 6, "no text in `method`": 1}
    assert {line["what"] for line in lines} == {"dropped"}


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_made(run: Run, more: list[str]) -> None:
    answer = run("import", "d", written("x.jsonl", RECORD), "--report", "absent/bad.jsonl", *more)
    assert answer.code == 1
    assert not Path("openr-store").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--as", "math-sheperd"], "No format 'math-sheperd' (there are: math-aps, "),
        (["--as", "math-sheperd"], "Did you mean 'math-shepherd'?"),
        (["--as", "records", "-o", "tag=x"], "No option of NoOptions 'tag' (there are: none)."),
        (["--as", "trl", "-o", "treshold=0"], "Did you mean 'threshold'?"),
        (["--as", "trl", "-o", "threshold=x"], "Option threshold expects float, found 'x'."),
        (["--as", "trl", "-o", "threshold"], "is not key=value"),
        (["--as", "prm800k", "-o", "neutral=maybe"], "No value for neutral 'maybe' (there are: bad, good, neutral)"),
        (["--as", "qwen", "-o", "tag="], "tag is empty"),
        (["--as", "trl"], "No row of x.jsonl could be read as trl; 1 of the first 1: "),
    ],
)
def test_a_wrong_format_or_option_is_told_and_nothing_is_written(run: Run, arguments: list[str], words: str) -> None:
    answer = run("import", "d", written("x.jsonl", RECORD), *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not Path("openr-store").exists()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("cut.parquet", b"PAR1 and no more", "cut.parquet is not a complete Parquet file: "),
        ("half.json", b'[{"question": "1?"}, {"ques', "half.json is incomplete: the JSON array ends early"),
        ("latin.jsonl", '{"problem": "é"}\n'.encode("latin-1"), "latin.jsonl is not text in UTF-8"),
        ("cut.jsonl.gz", gzip.compress(b'{"problem": "1?"}\n' * 99, mtime=0)[:-9], "Cannot read cut.jsonl.gz: "),
        ("bad.csv", b'problem,answer\n"1?,2\n', "bad.csv is not CSV: "),
    ],
)
def test_a_damaged_file_is_one_sentence_and_nothing_is_written(run: Run, name: str, data: bytes, words: str) -> None:
    Path(name).write_bytes(data)
    answer = run("import", "d", name)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(words)
    assert len(answer.err.splitlines()) == 1
    assert not Path("openr-store").exists()


def test_a_file_half_json_half_text_comes_in_as_far_as_it_is_json(run: Run) -> None:
    answer = run("import", "d", written("x.jsonl", RECORD, "Lorem ipsum", "dolor"))
    assert (answer.code, answer.out) == (0, "d@1\n")
    assert "  dropped 2: not JSON (line 2, line 3)\n" in answer.err


def test_a_file_that_breaks_off_behind_the_first_rows_says_so_and_goes_on_later(run: Run) -> None:
    rows = [{**RECORD, "question": f"{i}?"} for i in range(20_000)]
    text = json.dumps(rows)
    Path("x.json").write_text(text[: len(text) - 40])
    answer = run("import", "d", "x.json")
    assert answer.code == 2
    assert "x.json is incomplete: the JSON array ends early or is damaged at its object" in answer.err
    Path("x.json").write_text(text)
    again = run("import", "d", "x.json")
    assert (again.code, again.out) == (0, "d@1\n")
    assert json.loads(run("ls", "--json").out)[0]["questions"] == 20_000


@pytest.mark.parametrize(
    ("name", "words"),
    [("d@1", "An import writes to the newest state of a dataset: d, without @."), ("maths!", "is not a dataset name"),
     ("arithmetic", "is a built-in source"), ("", "is not a dataset name")],
)  # fmt: skip
def test_a_name_that_cannot_be_written_to_is_refused(run: Run, name: str, words: str) -> None:
    answer = run("import", name, written("x.jsonl", RECORD))
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert not Path("openr-store").exists()


def test_source_and_split_stand_on_every_question(run: Run) -> None:
    rows = [{"problem": "1?", "answer": "1", "split": "x"}, {"problem": "2?", "answer": "2"}]
    run("import", "d", written("x.jsonl", *rows), "--source", "book", "--split", "dev")
    document = json.loads(run("sql", "d", "select distinct source, split from questions", "--json").out)
    assert document == [{"source": "book", "split": "dev"}]


def test_a_folder_is_imported_as_a_dataset_and_its_split_is_asked_for(run: Run) -> None:
    Path("data").mkdir()
    written("data/train.jsonl", {"problem": "1?", "answer": "1"}, {"problem": "2?", "answer": "2"})
    written("data/test.jsonl", {"problem": "3?", "answer": "3"})
    answer = run("import", "d", "data")
    assert (answer.code, answer.out) == (2, "")
    assert "data has the splits " in answer.err
    assert "Choose one with --split." in answer.err
    assert not Path("openr-store").exists()
    assert run("import", "d", "data", "--split", "test").out == "d@1\n"
    assert run("import", "d", "data", "--split", "train").out == "d@2\n"
    document = json.loads(
        run("sql", "d", "select split, count(*) as n from questions group by 1 order by 1", "--json").out
    )
    assert document == [{"split": "test", "n": 1}, {"split": "train", "n": 2}]
    wrong = run("import", "d", "data", "--split", "dev")
    assert (wrong.code, wrong.out) == (2, "")
    assert "Cannot load the Hugging Face dataset data: " in wrong.err


# --- export


def test_an_export_to_stdout_is_json_lines_and_the_losses_are_on_stderr(run: Run, labelled: str) -> None:
    answer = run("export", "d", "--as", "trl")
    assert answer.code == 0
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert set(rows[0]) == {"prompt", "completions", "labels"}
    assert f"{len(rows)} rows of d as trl.\n" in answer.err
    assert "  lost " in answer.err
    assert run("export", "d", "-", "--as", "trl").out == answer.out
    whole = run("export", "d")
    assert "lost" not in whole.err
    assert "rows of d as records." in whole.err


@pytest.mark.parametrize("suffix", ["jsonl", "json", "jsonl.gz", "parquet"])
def test_an_export_to_a_file_holds_the_rows_of_stdout(run: Run, labelled: str, suffix: str) -> None:
    lines = [json.loads(line) for line in run("export", "d", "--as", "trl").out.splitlines()]
    answer = run("export", "d", f"x.{suffix}", "--as", "trl")
    assert (answer.code, answer.out) == (0, "")
    assert [row for _, row in read_rows(f"x.{suffix}")] == lines


@pytest.mark.parametrize("suffix", ["jsonl", "json.gz"])
def test_records_come_back_whole_into_another_dataset(run: Run, labelled: str, suffix: str) -> None:
    run("export", "d", f"x.{suffix}")
    assert run("import", "back", f"x.{suffix}").code == 0
    query = "select question, steps, label, n_correct, n_rollouts, provenance, method from records order by all"
    assert run("sql", "back", query, "--json").out == run("sql", "d", query, "--json").out


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv.gz"])
def test_records_come_back_whole_from_every_container_or_the_loss_is_told(run: Run, labelled: str, suffix: str) -> None:
    answer = run("export", "d", f"x.{suffix}")
    if answer.code == 2 or "lost" in answer.err:
        return
    assert answer.code == 0, answer.err
    assert run("import", "back", f"x.{suffix}").code == 0
    query = "select question, steps, label, n_correct, n_rollouts, provenance, method from records order by all"
    assert run("sql", "back", query, "--json").out == run("sql", "d", query, "--json").out


@pytest.mark.parametrize("format_", [name for name in FORMATS if name not in ("records", "questions", "verl")])
def test_what_a_format_loses_is_counted_with_its_reason(run: Run, labelled: str, format_: str) -> None:
    answer = run("export", "d", "x.jsonl", "--as", format_)
    assert answer.code == 0
    lost = [line for line in answer.err.splitlines() if line.startswith("  lost ")]
    assert lost
    assert all(int(line.split()[1].rstrip(":").replace(",", "")) > 0 for line in lost)


def test_where_and_method_choose(run: Run, labelled: str) -> None:
    everything = run("export", "d").out.splitlines()
    assert run("export", "d", "--method", "omegaprm", "--where", "level = '3'").out.splitlines() == everything
    assert run("export", "d", "--where", "level = '4'").out == ""
    some = run("export", "d", "--where", "first_error = 0").out.splitlines()
    assert 0 < len(some) < len(everything)
    assert set(some) < set(everything)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["e"], 2, "No dataset 'e' in openr-store (there are: d)"),
        (["d@v1"], 2, 'No snapshot "v1" in d (there are: main, 1).'),
        (["d", "x.jsonl", "--as", "tlr"], 2, "Did you mean 'trl'?"),
        (["d", "x.jsonl", "--as", "trl", "-o", "label=soft"], 2, "Did you mean 'labels'?"),
        (["d", "x.jsonl", "--where", "levl = '3'"], 2, "SQL: "),
        (["d", "x.parquet", "--where", "1 = "], 2, "SQL: "),
        (["d", "absent/x.jsonl"], 1, "Cannot write"),
        (["d", "openr-store"], 1, "Cannot write"),
        (["d!"], 2, "is not a dataset name"),
    ],
)
def test_a_mistake_in_an_export_is_one_sentence_and_leaves_no_file(
    run: Run, labelled: str, arguments: list[str], code: int, words: str
) -> None:
    answer = run("export", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert "Unexpected" not in answer.err
    assert [path.name for path in Path().iterdir()] == ["openr-store"]


@pytest.mark.parametrize("name", [".", "/", ""])
def test_an_output_that_is_no_name_of_a_file_is_one_sentence(run: Run, labelled: str, name: str) -> None:
    answer = run("export", "d", name)
    assert answer.code in (1, 2)
    assert "Unexpected" not in answer.err


def test_an_output_that_may_not_be_written_is_not_told_as_a_store(
    run: Run, labelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> int:
        raise PermissionError(13, "Permission denied", "x.jsonl")

    monkeypatch.setattr("openr_data.exchange.export_file.write_rows", refuse)
    answer = run("export", "d", "x.jsonl")
    assert answer.code == 1
    assert "--store" not in answer.err


def test_a_dataset_of_questions_is_not_exported_as_nothing_in_silence(run: Run) -> None:
    run("import", "q", written("x.jsonl", {"problem": "1?", "answer": "1"}))
    answer = run("export", "q")
    assert answer.out or "lost" in answer.err


def test_an_export_of_an_older_snapshot_is_of_that_one(run: Run) -> None:
    run("import", "d", written("x.jsonl", {"problem": "1?", "answer": "1"}))
    run("import", "d", written("x.jsonl", {"problem": "2?", "answer": "2"}))
    assert len(run("export", "d@1", "--as", "questions").out.splitlines()) == 1
    assert len(run("export", "d", "--as", "questions").out.splitlines()) == 2
    assert len(Store.open("openr-store").dataset("d").snapshots()) == 2
