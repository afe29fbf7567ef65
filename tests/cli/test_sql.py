"""`sql`: every mode of output, the ready queries, plans that read little, and the prompt through a terminal."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openr_data.cli.output import Output
from openr_data.exchange.formats.format import NoOptions
from openr_data.exchange.formats.records import RecordsFormat
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.registry import catalog_names
from openr_data.store import Dataset, Store
from openr_data.store.query import NAMES
from openr_data.store.saved_queries import saved_queries, saved_query
from tests.cli.conftest import Run
from tests.huggingface.test_pull import blank

ROOT = Path(__file__).parents[2]
SAVED = catalog_names("queries", ".sql")
ROW = {"question": "1+1?", "answer": "2", "steps": ["a", "b"], "label": [1, -1], "method": "m"}


def bring(*rows: dict[str, Any], source: str = "s") -> Dataset:
    """Add rows of records to the dataset `d` of ./openr-store."""
    dataset = Store.open("openr-store", create=True).dataset("d", create=True)
    form = RecordsFormat(NoOptions(), source, "")
    import_rows(dataset, ImportConfig("records", source), form, [(str(i), row) for i, row in enumerate(rows)], "x")
    return dataset


# --- modes


QUERY = "select * from (values (1, 'a|b', [1, 2]), (2, 'c\nd', null)) t(n, s, l)"


def test_each_mode_gives_its_exact_text(run: Run) -> None:
    bring(ROW)
    assert json.loads(run("sql", "d", QUERY, "--json").out) == [
        {"n": 1, "s": "a|b", "l": [1, 2]}, {"n": 2, "s": "c\nd", "l": None}
    ]  # fmt: skip
    assert run("sql", "d", QUERY, "--jsonl").out == (
        '{"n": 1, "s": "a|b", "l": [1, 2]}\n{"n": 2, "s": "c\\nd", "l": null}\n'
    )
    assert run("sql", "d", QUERY, "--csv").out == 'n,s,l\n1,a|b,"[1, 2]"\n2,"c\nd",\n'
    assert run("sql", "d", QUERY, "--markdown").out == (
        "| n | s | l |\n|---|---|---|\n| 1 | a\\|b | [1, 2] |\n| 2 | c<br>d |  |\n"
    )
    assert run("sql", "d", QUERY, "-q").out == "1\n2\n"
    assert run("sql", "d", QUERY).out == "n\ts\tl\n1\ta|b\t[1, 2]\n2\tc⏎d\t\n"


@pytest.mark.parametrize(
    ("mode", "text"),
    [("--json", "[]\n"), ("--jsonl", ""), ("--csv", "a,b\n"), ("--markdown", "| a | b |\n|---|---|\n"), ("-q", "")],
)
def test_no_rows_are_told_in_each_mode(run: Run, mode: str, text: str) -> None:
    bring(ROW)
    assert run("sql", "d", "select 1 as a, 2 as b where false", mode).out == text


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("a|b", "a\\|b"),
        ("a\nb", "a<br>b"),
        ("||", "\\|\\|"),
        (None, ""),
        (1.5, "1.5"),
        (["|"], '["\\|"]'),
        (True, "True"),
    ],
)
def test_a_cell_of_markdown_stays_in_its_cell(capsys: pytest.CaptureFixture[str], cell: Any, shown: str) -> None:
    Output("markdown").rows([{"x": cell}])
    assert capsys.readouterr().out == f"| x |\n|---|\n| {shown} |\n"


@pytest.mark.parametrize("row", [{"a|b": 1}, {"a\nb": 1}, {"x": "a\r\nb"}, {"x": "a\rb"}])
def test_nothing_breaks_a_row_of_markdown(capsys: pytest.CaptureFixture[str], row: Mapping[str, Any]) -> None:
    Output("markdown").rows([row])
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 4
    assert all("\r" not in line for line in lines)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 2 for line in lines[:3])


@pytest.mark.parametrize(
    "query", ["select sum(n_steps) as n from solutions", "select 2.00 as n", "select 2::hugeint as n"]
)
def test_a_number_is_a_number_in_json(run: Run, query: str) -> None:
    bring(ROW)
    assert json.loads(run("sql", "d", query, "--json").out) == [{"n": 2}]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("mode", ["--json", "--jsonl"])
def test_json_is_json_whatever_the_number(run: Run, mode: str, value: str) -> None:
    bring(ROW)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(run("sql", "d", f"select '{value}'::double as x", mode).out, parse_constant=refuse)


def test_csv_holds_the_whole_number(run: Run) -> None:
    bring(ROW)
    (row,) = csv.DictReader(io.StringIO(run("sql", "d", "select 1234567.5::double as x", "--csv").out))
    assert float(row["x"]) == 1234567.5


# --- where the query comes from


@pytest.mark.parametrize("arguments", [["-"], []])
def test_a_query_comes_from_stdin(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    bring(ROW)
    monkeypatch.setattr(sys, "stdin", io.StringIO("select count(*) as n\nfrom steps;\n"))
    assert run("sql", "d", *arguments, "--json").out == '[\n  {\n    "n": 2\n  }\n]\n'
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    empty = run("sql", "d", *arguments)
    assert (empty.code, empty.out) == (2, "")
    assert "The query is empty" in empty.err


def test_the_ready_queries_are_listed_with_what_they_answer(run: Run) -> None:
    listed = json.loads(run("sql", "--saved", "list", "--json").out)
    assert [row["name"] for row in listed] == SAVED
    assert len(listed) >= 10
    for row in listed:
        first = saved_query(row["name"]).splitlines()[0]
        assert first.startswith("-- ")
        assert row["question"] == saved_queries()[row["name"]] == first.removeprefix("-- ")
        assert row["question"].endswith((".", "?"))
    assert not Path("openr-store").exists()


def test_an_unknown_ready_query_is_told_with_the_near_one(run: Run) -> None:
    bring(ROW)
    answer = run("sql", "d", "--saved", "calibrations")
    assert (answer.code, answer.out) == (2, "")
    assert "No ready query 'calibrations' (there are: calibration, " in answer.err
    assert "Did you mean 'calibration'?" in answer.err
    lone = run("sql")
    assert (lone.code, lone.out) == (2, "")
    assert "Name a dataset" in lone.err


@pytest.fixture
def rich(run: Run, labelled: str) -> Dataset:
    """Make the dataset `d` with labels of OmegaPRM, labels of people for the same processes, and a repeated question."""
    rows = [json.loads(line) for line in run("export", "d").out.splitlines()]
    for i, row in enumerate(rows):
        row["method"], row["completer"] = "human", ""
        row["label"] = [-1 if i % 2 else 1 for _ in row["label"]]
    rows.append({**ROW, "question": "QUESTION  0", "answer": "1", "split": "test", "level": "1"})
    dataset = bring(*rows, source="other")
    nodes = dataset.view().sql("select distinct question_id, node_id from steps where node_id is not null").to_pylist()
    dataset.append("scores", [{**node, "reward": "r@1", "score": 0.9, "job_id": "e"} for node in nodes], "e/scores", 1)
    return dataset


@pytest.mark.parametrize("name", SAVED)
def test_every_ready_query_answers_on_a_labelled_dataset(run: Run, rich: Dataset, name: str) -> None:
    answer = run("sql", "d", "--saved", name, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    plan = run("sql", "d", "--saved", name, "--explain")
    assert plan.code == 0
    assert "READ_PARQUET" in plan.out


@pytest.mark.parametrize("name", SAVED)
def test_every_ready_query_answers_on_questions_alone_with_nothing_or_a_hint(run: Run, name: str) -> None:
    bring({"question": "1+1?", "answer": "2", "steps": []})
    answer = run("sql", "d", "--saved", name, "--csv")
    assert answer.code == 0, answer.err
    if len(answer.out.splitlines()) == 1:
        assert "Nothing to show" in answer.err


def test_the_numbers_of_ready_queries_are_right(run: Run) -> None:
    bring(
        {**ROW, "level": "1"},
        {**ROW, "question": "2?", "level": "1", "label": [1, 1]},
        {**ROW, "question": "3?", "level": "2", "label": [0, None]},
    )
    balance = json.loads(run("sql", "d", "--saved", "label-balance-by-level", "--json").out)
    assert [(row["level"], row["steps"], row["good"], row["neutral"], row["bad"]) for row in balance] == [
        ("1", 4, 0.75, 0.0, 0.25), ("2", 1, 0.0, 1.0, 0.0)
    ]  # fmt: skip
    where = json.loads(run("sql", "d", "--saved", "first-error-histogram", "--json").out)
    assert [(row["step_index"], row["label_sets"], row["share"]) for row in where] == [(1, 1, 1.0)]


# --- plans


def scans(run: Run, query: str) -> list[dict[str, Any]]:
    """Return what a query reads: the columns and filters of each Parquet scan."""
    found: list[dict[str, Any]] = []

    def walk(node: dict[str, Any]) -> None:
        if "PARQUET" in node["name"].upper().replace(" ", "_"):
            info = node["extra_info"]
            columns = info.get("Projections", [])
            found.append({"columns": [columns] if isinstance(columns, str) else columns, "info": json.dumps(info)})
        for child in node["children"]:
            walk(child)

    answer = run("sql", "d", f"explain (format json) {query}", "--json")
    assert answer.code == 0, answer.err
    for plan in json.loads(json.loads(answer.out)[0]["explain_value"]):
        walk(plan)
    assert found
    return found


LABEL_ONLY = [
    "select label, value from labels where label_id > '5'",
    "select label, count(*) from steps group by 1",
    "select method, level, avg(value), count(*) filter (label = -1) from steps where level > '2' group by 1, 2",
    "select step_index, avg(n_correct / nullif(n_rollouts, 0)) from steps group by 1",
    "select level, count(*) from first_errors group by 1",
    "select method, avg(len(label)) from records where first_error is not null group by 1",
]


@pytest.mark.parametrize("query", LABEL_ONLY)
def test_a_query_of_labels_reads_no_text_of_steps(run: Run, query: str) -> None:
    bring(ROW, {**ROW, "question": "2?", "level": "3"})
    columns = {column for scan in scans(run, query) for column in scan["columns"]}
    assert columns
    assert not columns & {"steps", "question", "answer", "metadata", "node_id"}


def spoil_texts(dataset: Dataset) -> None:
    """Make only the texts of questions and steps unreadable."""
    for table, column in (("solutions", "steps"), ("questions", "question")):
        for file in dataset.view().files(table):
            data = bytearray(Path(file).read_bytes())
            blank(data, column)
            Path(file).write_bytes(bytes(data))


@pytest.mark.parametrize("query", LABEL_ONLY)
def test_a_query_of_labels_answers_where_the_texts_cannot_even_be_read(run: Run, query: str) -> None:
    dataset = bring(ROW, {**ROW, "question": "2?", "level": "3"})
    before = run("sql", "d", query, "--json")
    spoil_texts(dataset)
    after = run("sql", "d", query, "--json")
    assert after.code == 0, after.err
    # A query that orders nothing may give its rows in any order.
    assert sorted(map(str, json.loads(after.out))) == sorted(map(str, json.loads(before.out)))
    texts = run("sql", "d", "select step from steps")
    assert texts.code > 0
    assert texts.out == ""


def test_damaged_pages_are_not_told_as_a_mistake_in_the_query(run: Run) -> None:
    spoil_texts(bring(ROW))
    texts = run("sql", "d", "select step from steps")
    assert (texts.code, texts.out) == (1, "")
    assert "missing or damaged" in texts.err


def test_a_condition_goes_down_into_the_files(run: Run) -> None:
    dataset = bring(ROW, {**ROW, "question": "2?", "level": "3"})
    last = max(dataset.view().arrow("labels")["question_id"].to_pylist())
    (scan,) = scans(run, f"select method from labels where question_id = '{last}'")
    assert last in scan["info"]
    assert "Filters" in scan["info"]
    assert any("level" in found["info"] and "Filters" in found["info"] for found in scans(
        run, "select count(*) from steps where level >= '3' and label = 1"))  # fmt: skip


def test_explain_shows_columns_and_filters_and_runs_nothing(run: Run) -> None:
    bring(ROW, {**ROW, "question": "2?", "level": "3"})
    answer = run("sql", "d", "select answer from questions where level >= '3'", "--explain")
    assert answer.code == 0
    assert "READ_PARQUET" in answer.out
    assert re.search(r"Projections:\s+answer", answer.out)
    assert re.search(r"Filters:\s+level", answer.out)
    wrong = run("sql", "d", "select nope from questions", "--explain")
    assert (wrong.code, wrong.out) == (2, "")
    assert "SQL: " in wrong.err


@pytest.mark.parametrize(
    "query",
    [
        "drop view steps", "create table x as select 1", "insert into labels select * from labels", "delete from labels",
        "update questions set answer = ''", "attach 'x.db'", "copy labels to 'out.parquet'", "install httpfs", "set threads = 1",
        "pragma database_list", "select 1; select 2", "select * from read_csv('/etc/passwd')",
        "select * from read_text('secret.txt')", "select * from 'secret.parquet'", "select getenv('HOME')",
        "explain analyze drop view steps", "call pragma_version()", "export database 'x'", "checkpoint", "vacuum",
        "with x as (select 1) delete from labels",
    ],
)  # fmt: skip
def test_a_query_changes_nothing_and_reads_nothing_else(run: Run, query: str) -> None:
    dataset = bring(ROW)
    Path("secret.txt").write_text("secret")
    before = sorted(path for path in Path().rglob("*"))
    for more in ([], ["--explain"]):
        answer = run("sql", "d", query, *more)
        if query == "select getenv('HOME')" and answer.code == 0:
            assert os.environ["HOME"] not in answer.out
            continue
        assert (answer.code, answer.out) == (2, "") or (query.startswith("pragma") and answer.code == 0), answer
        assert "Unexpected" not in answer.err
    assert sorted(path for path in Path().rglob("*")) == before
    assert dataset.view().counts()["labels"] == 1


# --- the prompt


class Terminal:
    """Run a process on its own terminal; gives its output and a way to send keys."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process, self.master, self.text, self.seen = process, master, "", 0

    def until(self, pattern: str, seconds: float = 30) -> str:
        """Wait until what came since the last match holds this pattern; give what came up to its end."""
        deadline = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.text, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            if not ready or not (data := self._read()):
                raise AssertionError(f"no {pattern!r} in {self.text[self.seen :]!r}")
            self.text += data
        start, self.seen = self.seen, found.end()
        return self.text[start : self.seen]

    def _read(self) -> str:
        try:
            return os.read(self.master, 65_536).decode("utf-8", "replace")
        except OSError:
            return ""

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ask(self, query: str) -> str:
        """Send a line and give what is answered before the next prompt, without colours."""
        self.send(f"{query}\n")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.until(r"\n[^\n]*d> "))

    def interrupt(self) -> None:
        """Ctrl-C, as a person types it: not while readline still draws what was typed before (it would be missed)."""
        time.sleep(0.3)
        self.send("\x03")
        self.until("d> ")

    def end(self) -> int:
        """Wait for the process to end, reading what it still writes."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if ready:
                self.text += self._read()
        return self.process.returncode


@contextmanager
def prompt(cache: str, *arguments: str) -> Iterator[Terminal]:
    """`openr-data sql d` on a terminal, at its first prompt."""
    master, slave = pty.openpty()
    environment = {
        **os.environ, "OPENR_CACHE": cache, "PYTHONPATH": str(ROOT), "INPUTRC": os.devnull, "TERM": "xterm", "COLUMNS": "200"
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "openr_data.cli", "sql", "d", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        terminal.until("d> ")
        yield terminal
    finally:
        process.kill()
        process.wait(30)
        os.close(master)


def test_the_prompt_answers_and_ctrl_d_leaves(run: Run, tmp_path: Path) -> None:
    bring(ROW)
    with prompt(str(tmp_path / "cache")) as terminal:
        assert "read-only" in terminal.text
        assert re.search(r"n\s+2", terminal.ask("select count(*) as n from steps;"))
        terminal.send("select 40 + 2\n")
        terminal.until(re.escape("   ...> "))
        terminal.send("as answer\n")
        terminal.until(re.escape("   ...> "))
        assert "42" in terminal.ask(";")
        tables = terminal.ask(".tables")
        assert all(name in tables for name in NAMES)
        assert "calibration" in terminal.ask(".saved")
        assert "0.5" in terminal.ask(".saved label-balance-by-level")
        assert ".saved [NAME]" in terminal.ask(".help")
        assert ".saved [NAME]" in terminal.ask(".nonsense")
        terminal.send("\x04")
        assert terminal.end() == 0
    history = (tmp_path / "cache" / "sql_history").read_text()
    assert "select count(*) as n from steps;" in history


def test_errors_do_not_end_the_prompt_and_it_is_read_only(run: Run, tmp_path: Path) -> None:
    dataset = bring(ROW)
    with prompt("off") as terminal:
        assert "SQL: " in terminal.ask("select nope from steps;")
        assert "SQL: " in terminal.ask("select from where;")
        assert "read-only" in terminal.ask("drop view steps;")
        assert "read-only" in terminal.ask("delete from labels;")
        assert "SQL: " in terminal.ask("select * from read_text('/etc/passwd');")
        assert "Did you mean 'calibration'?" in terminal.ask(".saved calibrations")
        assert "Traceback" not in terminal.text
        assert "Unexpected" not in terminal.text
        assert "7" in terminal.ask("select 3 + 4 as seven;")
        terminal.send(".quit\n")
        assert terminal.end() == 0
    assert dataset.view().counts()["labels"] == 1
    assert not (tmp_path / "off").exists()


def test_ctrl_c_throws_the_line_away_and_not_the_session(run: Run) -> None:
    bring(ROW)
    with prompt("off") as terminal:
        terminal.send("select nonsense")
        terminal.until("nonsense")
        terminal.interrupt()
        terminal.send("select one,\n")
        terminal.until(re.escape("   ...> "))
        terminal.send("two")
        terminal.interrupt()
        answer = terminal.ask("select 6 * 7 as answer;")
        assert "42" in answer
        assert "SQL: " not in terminal.text
        terminal.send("\x04")
        assert terminal.end() == 0


def test_tab_completes_tables_columns_and_functions(run: Run) -> None:
    bring(ROW)
    with prompt("off") as terminal:
        terminal.send("select count(*) as n from agreem\t")
        terminal.until("agreement")
        assert re.search(r"n\s+0", terminal.ask(";"))
        terminal.send("select provena\t")
        terminal.until("provenance")
        assert "imported" in terminal.ask(" from steps limit 1;")
        terminal.send("select wilson_l\t")
        terminal.until("wilson_low")
        assert "0." in terminal.ask("(3, 4);")
        terminal.send("select DIST\t")
        terminal.until("(?i)distinct")
        terminal.interrupt()
        terminal.send("select first_e\t\t\t")
        options = terminal.until("(?s)first_error.*first_errors")
        assert "first_errors" in options


def test_the_history_of_one_session_is_there_in_the_next(run: Run, tmp_path: Path) -> None:
    bring(ROW)
    for _ in range(2):
        with prompt(str(tmp_path / "cache")) as terminal:
            if (tmp_path / "cache" / "sql_history").exists():
                terminal.send("\x1b[A")
                terminal.until(re.escape("select 6 * 7 as answer;"))
                assert "42" in terminal.ask("")
            else:
                assert "42" in terminal.ask("select 6 * 7 as answer;")
            terminal.send("\x04")
            assert terminal.end() == 0
    assert (tmp_path / "cache" / "sql_history").read_text().count("select 6 * 7 as answer;") == 1


def test_the_prompt_speaks_json_when_it_is_told_to(run: Run) -> None:
    bring(ROW)
    with prompt("off", "--jsonl") as terminal:
        assert '{"n": 2}' in terminal.ask("select count(*) as n from steps;")


def test_a_history_that_cannot_be_written_is_no_failure(run: Run, tmp_path: Path) -> None:
    bring(ROW)
    (tmp_path / "file").write_text("")
    with prompt(str(tmp_path / "file" / "cache")) as terminal:
        assert "42" in terminal.ask("select 6 * 7 as answer;")
        terminal.send("\x04")
        assert terminal.end() == 0


def test_ctrl_c_ends_a_query_and_not_the_session(run: Run) -> None:
    bring(ROW)
    with prompt("off") as terminal:
        terminal.send("select sum(sqrt(a.range * b.range)) from range(10000000) a, range(10000000) b;\n")
        time.sleep(1)
        terminal.send("\x03")
        terminal.until("(?s)Interrupted.*d> ", seconds=5)
        assert "42" in terminal.ask("select 6 * 7 as answer;")
        terminal.send("\x04")
        assert terminal.end() == 0
