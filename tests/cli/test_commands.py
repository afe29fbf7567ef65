"""The command line as a user meets it: answers on stdout, one sentence and the right code for a mistake."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openr_data.cli import COMMANDS, cli
from openr_data.store import Store
from tests.cli.conftest import Run


def test_every_command_has_help_and_the_group_knows_its_first_line(run: Run) -> None:
    listed = run("--help").out
    for name, (_, summary) in COMMANDS.items():
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.help
        assert summary in " ".join(listed.split())
        answer = run(name, "--help")
        assert answer.code == 0
        assert "Usage: openr-data" in answer.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["ls", "--nonsense"], 2, "No such option"),
        (["ls"], 2, "There is no store in openr-store yet. Make one with: openr-data label"),
        (["show", "d"], 2, "There is no store"),
        (["sql", "d", "select 1"], 2, "There is no store"),
        (["jobs", "ls"], 2, "There is no store"),
        (["label", "maths"], 2, "A label job needs --policy"),
        (["label", "maths", "--policy", "arithmetic"], 2, "No dataset or source 'maths'"),
        (
            ["label", "--method", "omega"],
            2,
            "No labeler 'omega' (there are: adaptive, judge, math-shepherd, mips, omegaprm).",
        ),
        (["label", "-o", "kk=3"], 2, "No option of adaptive 'kk'"),
        (["label", "-o", "k"], 2, "is not key=value"),
        (["label", "-o", "wave=0"], 2, "at least 1"),
        (["label", "--confidence", "1"], 2, "Invalid value for '--confidence'"),
        (["label", "--method", "omegaprm", "--confidence", "0.9"], 2, "No option of omegaprm 'confidence'"),
        (["label", "--method", "judge"], 2, "judges solutions that are there. Name a dataset"),
        (["label", "--given-solutions"], 2, "arithmetic is a source of questions alone"),
        (["label", "--order", "uncertain"], 2, "arithmetic is a source of questions alone"),
        (["label", "--recipe", "math-aps"], 2, "The recipe math-aps needs: openr-data import math train.jsonl"),
        (["label", "--recipe", "math-aps", "--dry-run", "--pilot", "2"], 2, "The recipe math-aps needs"),
        (["label", "--policy", "./nowhere"], 2, "No model folder './nowhere'"),
        (["label", "--backend", "vlm"], 2, "No policy 'vlm'"),
        (["label", "--backend", "openai", "--device", "cpu"], 2, "The backend 'openai' has no option --device"),
        (["label", "--backend", "openai", "--base-url", "localhost"], 2, "is not the address of a server"),
        (
            ["label", "--recipe", "none"],
            2,
            "No recipe 'none' (there are: arithmetic, consensus-72b, math-aps, math-shepherd-gsm8k).",
        ),
        (["label", "--config", "absent.toml"], 2, "Cannot read absent.toml"),
        (["label", "--limit", "0"], 2, "endless"),
        (["label", "--split", "dev"], 2, "splits train and test"),
        (["import", "m", "absent.jsonl"], 2, "There is no file absent.jsonl"),
        (["import", "../m", "absent.jsonl"], 2, "is not a dataset name"),
        (["catalog", "show", "omega"], 2, "No catalog entry 'omega'"),
    ],
)
def test_a_mistake_is_one_sentence_and_makes_no_store(run: Run, arguments: list[str], code: int, words: str) -> None:
    answer = run(*arguments)
    assert answer.code == code
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not Path("openr-store").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "e"], "No dataset 'e' in openr-store (there are: d)"),
        (["show", "d@v2"], 'No snapshot "v2" in d (there are: main, 1). List them with: openr-data log d'),
        (["log", "e"], "No dataset 'e'"),
        (["view", "e"], "No dataset 'e'"),
        (["view", "d", "';--"], "is not an id"),
        (["sql", "d", "select nope from steps"], "SQL: "),
        (["sql", "d", "drop view steps"], "a dataset is read-only here"),
        (["sql", "d", ""], "The query is empty"),
        (["jobs", "status", "ffff"], "No job 'ffff'"),
        (["jobs", "resume", "ffff"], "No job 'ffff'"),
        (["label", "d", "--policy", "arithmetic", "--into", "d@1"], "--into d, without @"),
    ],
)
def test_a_missing_thing_is_named(run: Run, labelled: str, arguments: list[str], words: str) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_a_folder_that_is_no_store_is_left_alone(run: Run) -> None:
    Path("openr-store").mkdir()
    Path("openr-store/thesis.tex").write_text("precious")
    for arguments in (["ls"], ["label", "--limit", "1"], ["import", "m", "x.jsonl"]):
        answer = run(*arguments)
        assert answer.code == 2
    assert "is not an openr-data store" in run("label", "--limit", "1").err
    assert os.listdir("openr-store") == ["thesis.tex"]


def test_a_bug_is_called_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(Store, "open", broken)
    answer = run("ls")
    assert answer.code == 1
    assert answer.err.startswith("Unexpected RuntimeError: surprise. This is a bug")
    assert "OPENR_DEBUG=1" in answer.err


def test_import_keeps_questions_once_and_says_what_it_did(run: Run) -> None:
    rows = [{"problem": "1+1?", "answer": "2"}, {"problem": "1+1?", "answer": "2"}, {"problem": "x?", "answer": ""}]
    Path("q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    answer = run("import", "mine", "q.jsonl")
    assert (answer.code, answer.out) == (0, "mine@1\n")
    assert "2 questions added to mine, 1 were there already or repeated; 1 have no gold answer" in answer.err
    again = run("import", "mine", "q.jsonl")
    assert "0 questions added to mine, 3 were there already" in again.err
    assert again.out == "mine@1\n"
    Path("bad.jsonl").write_text('{"problem": "a", "answer": "1"}\n{"answer": "1"}')
    bad = run("import", "other", "bad.jsonl", "--strict")
    assert (bad.code, bad.out) == (2, "")
    assert "bad.jsonl: 1 of 2 rows are not as they should be, 1 of them: no text in" in bad.err
    assert "(line 2). Nothing was written" in bad.err
    assert run("ls", "-q").out == "mine\n"
    loose = run("import", "other", "bad.jsonl")
    assert (loose.code, loose.out) == (0, "other@1\n")
    assert "dropped 1: no text in `problem` or `question` (line 2)" in loose.err


def test_listings_speak_json_jsonl_csv_and_names(run: Run, labelled: str) -> None:
    rows = json.loads(run("ls", "--json").out)
    assert [(row["name"], row["questions"]) for row in rows] == [("d", 4)]
    assert json.loads(run("ls", "--jsonl").out) == rows[0]
    assert next(csv.DictReader(io.StringIO(run("ls", "--csv").out)))["name"] == "d"
    assert run("ls", "-q").out == "d\n"
    plain = run("ls").out.splitlines()
    assert plain[0].split("\t")[0] == "name"
    assert plain[1].split("\t")[0] == "d"
    for command in (["log", "d"], ["jobs", "ls"], ["catalog", "ls"], ["show", "d"], ["view", "d"]):
        assert json.loads(run(*command, "--json").out)


def test_sql_answers_from_the_argument_and_from_stdin(run: Run, labelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "select level, count(*) as n from records group by 1"
    assert json.loads(run("sql", "d", query, "--json").out) == json.loads(run("sql", "d@1", query, "--json").out)
    monkeypatch.setattr(sys, "stdin", io.StringIO("select 1 as one"))
    assert run("sql", "d", "-").out == "one\n1\n"


def test_view_shows_shape_value_and_first_error_without_colour(run: Run, labelled: str) -> None:
    answer = run("view", "d", "--errors", "--limit", "2")
    assert answer.code == 0
    assert answer.out.count("← first error") == 2
    assert "▌○" in answer.out
    assert "\x1b[" not in answer.out
    one = json.loads(run("view", "d", "--limit", "1", "--json").out)[0]
    assert one["solution_id"][:10] in run("view", "d", one["solution_id"][:8]).out
    empty = run("view", "d", "--method", "none")
    assert (empty.code, empty.out) == (0, "")
    assert "No label sets" in empty.err


def test_jobs_tell_where_they_stand(run: Run, labelled: str) -> None:
    rows = json.loads(run("jobs", "ls", "--json").out)
    assert [(row["job"], row["state"], row["done"], row["total"]) for row in rows] == [(labelled, "done", 4, 4)]
    status = run("jobs", "status", labelled[:6])
    assert status.code == 0
    assert "100%  4/4 questions" in status.out
    assert "calls per first error" in status.out
    assert json.loads(run("jobs", "status", labelled, "--json").out)["state"] == "done"


def test_a_dry_run_asks_nothing_and_makes_nothing(run: Run) -> None:
    facts = json.loads(
        run("label", "--method", "omegaprm", "--dry-run", "--limit", "2", "-o", "searches=3", "--json").out
    )
    assert facts["questions"] == 2
    assert facts["completions_at_most"] == 2 * (16 + 3 * 8 * 8)
    assert facts["options"]["searches"] == 3
    assert not Path("openr-store").exists()


def test_a_toml_file_stands_between_recipe_and_flags(run: Run) -> None:
    Path("mine.toml").write_text("method = 'omegaprm'\nlimit = 3\nseed = 5\n[omegaprm]\nk = 2\n")
    facts: dict[str, Any] = json.loads(run("label", "--config", "mine.toml", "--limit", "1", "--dry-run", "--json").out)
    assert facts["questions"] == 1
    assert facts["options"]["k"] == 2
    assert facts["options"]["searches"] == 20
    Path("mine.toml").write_text("limits = 3\n")
    assert "Did you mean 'limit'?" in run("label", "--config", "mine.toml", "--dry-run").err


def test_the_recipe_of_the_arithmetic_world_is_not_laid_under_another_source(run: Run, labelled: str) -> None:
    Path("mine.toml").write_text('source = "d"\npolicy = "arithmetic"\nmethod = "omegaprm"\n')
    facts: dict[str, Any] = json.loads(run("label", "--config", "mine.toml", "--dry-run", "--json").out)
    assert (facts["source"], facts["into"], facts["questions"]) == ("d", "d", 4)
    assert facts["options"]["searches"] == 100


def test_a_dataset_cannot_take_the_name_of_a_built_in_source(run: Run) -> None:
    Path("q.jsonl").write_text('{"problem": "1+1?", "answer": "2"}')
    answer = run("import", "arithmetic", "q.jsonl")
    assert answer.code == 2
    assert "built-in source" in answer.err


@pytest.mark.parametrize(
    "option", ["temperature=-1", "temperature=nan", "top_p=0", "max_tokens=0", "k=0", "correct_solutions=x"]
)
def test_an_impossible_option_is_refused_before_anything_runs(run: Run, option: str) -> None:
    answer = run("label", "--dry-run", "-o", option)
    assert (answer.code, answer.out) == (2, "")


def test_a_damaged_job_does_not_hide_the_others(run: Run, labelled: str) -> None:
    jobs = Path("openr-store/jobs")
    (jobs / "ffffffffffff").mkdir()
    (jobs / "ffffffffffff" / "job.toml").write_text("")
    (jobs / labelled / "result.json").write_text("")
    rows = {row["job"]: row["state"] for row in json.loads(run("jobs", "ls", "--json").out)}
    assert rows == {"ffffffffffff": "damaged", labelled: "stopped"}
    assert "is damaged" in run("jobs", "status", "ffff").err


def test_a_reader_that_goes_away_is_no_failure(run: Run, labelled: str) -> None:
    program = f"{sys.executable} -m openr_data.cli sql d 'select * from range(100000)'"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{program} | head -n 1"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "range\n", "")


def test_doctor_sees_a_missing_file_and_lost_rows(run: Run, labelled: str) -> None:
    next(Path("openr-store/datasets/d/labels").glob("*.parquet")).unlink()
    broken = run("doctor", "--json")
    assert broken.code == 1
    store = {row["check"]: row for row in json.loads(broken.out)}["store"]
    assert store["state"] == "problem"
    assert run("show", "d").code == 1
    assert "missing or damaged" in run("view", "d").err


def test_doctor_says_what_is_there(run: Run, labelled: str) -> None:
    rows = {row["check"]: row for row in json.loads(run("doctor", "--json").out)}
    assert rows["store"]["found"] == "1 datasets"
    assert rows["shipped policy"]["state"] == "ok"
    Path("openr-store/openr-store.json").unlink()
    broken = run("doctor", "--json")
    assert broken.code == 1
    assert {row["check"]: row["state"] for row in json.loads(broken.out)}["store"] == "problem"


def test_catalog_lists_and_shows(run: Run) -> None:
    names = run("catalog", "ls", "-q").out.split()
    assert {"omegaprm", "math-shepherd", "arithmetic", "transformers"} <= set(names)
    kinds = {entry["kind"]: entry for entry in json.loads(run("catalog", "show", "arithmetic", "--json").out)}
    assert set(kinds) == {"source", "model", "recipe"}
    assert kinds["recipe"]["omegaprm"] == {"screening": 16, "searches": 20}
    assert "openr_data.labelers.omegaprm:OmegaPRM" in run("catalog", "show", "omegaprm").out


def test_a_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("openr-data, version ")


def test_grade_compares_two_answers_by_hand(run: Run) -> None:
    facts = json.loads(run("grade", "So \\boxed{\\frac{1}{2}}.", "0.5", "--json").out)
    assert facts == {
        "verdict": "correct",
        "reason": "",
        "answer": "\\frac{1}{2}",
        "extraction": "boxed",
        "gold": "0.5",
        "grader": "math/2",
    }
    unknown = run("grade", "12 apples", "12 pears")
    assert unknown.code == 0
    assert "unknown" in unknown.out
    assert "the units apple and pear" in unknown.out
    assert run("grade", "12", "2", "--grader", "openr", "-q").out == "correct\n"
    assert run("grade", "-5", "-\\frac{10}{2}", "-q").out == "correct\n"


def test_regrade_makes_a_snapshot_and_names_it(run: Run, labelled: str) -> None:
    dry = run("regrade", "d", "--grader", "numeric", "--dry-run")
    assert dry.code == 0
    assert "Nothing was written" in dry.err
    facts = json.loads(run("regrade", "d", "--grader", "choice", "--json").out)
    assert facts["dataset"] == "d@2"
    assert facts["verdicts_changed"] == facts["rollouts"] > 10
    assert facts["changes"].keys() <= {"correct → unknown", "incorrect → unknown"}
    assert "regrade" in run("log", "d").out
    back = json.loads(run("regrade", "d", "--json").out)
    assert back["dataset"] == "d@3"
    assert back["verdicts_changed"] == facts["verdicts_changed"]
    same = run("sql", "d", "select verdict, count(*) as n from rollouts group by 1 order by 1")
    assert same.out == run("sql", "d@1", "select verdict, count(*) as n from rollouts group by 1 order by 1").out


def test_disagreements_lists_answers_most_frequent_first(run: Run, labelled: str) -> None:
    answer = run("disagreements", "d", "--grader", "choice", "--against", "math", "--json")
    rows = json.loads(answer.out)
    assert [row["choice"] for row in rows] == ["unknown"] * len(rows)
    assert {row["math"] for row in rows} == {"correct", "incorrect"}
    assert "choice/1 and math/2 differ" in answer.err
    assert run("disagreements", "d", "--csv").out.startswith("answer,gold,stored,math")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["regrade", "d@1"], "Regrading writes to the newest state: openr-data regrade d, without @."),
        (["regrade", "e"], "No dataset 'e'"),
        (["regrade", "d", "--grader", "maths"], "Did you mean 'math'?"),
        (["grade", "1", "1", "--grader", "python:nothing:f"], "python:MODULE:FUNCTION"),
        (["disagreements", "d@9"], 'No snapshot "9" in d'),
    ],
)
def test_a_mistake_in_grading_is_one_sentence(run: Run, labelled: str, arguments: list[str], words: str) -> None:
    answer = run(*arguments)
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err
