"""Tests the command `eval prm`: rows for people and programs, a plot, one-sentence errors, and its job."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from openr_data.cli import COMMANDS
from openr_data.engine import reward as reward_module
from openr_data.errors import InputError, PolicyLost
from openr_data.inference.rewards.server import RewardServer
from openr_data.jobs.job import Job
from openr_data.overlap import SEEN_FILE, fingerprint
from openr_data.store import Dataset, Store
from tests.cli.conftest import Run
from tests.evaluation.rewards import ScriptedReward
from tests.evaluation.test_labels import TRUTH, people, records
from tests.evaluation.test_prm import by_hand, rows_of, write
from tests.test_import_time import HEAVY, loaded_after

LONG = "Question 3?"


class Stub(ScriptedReward):
    """A stand-in for a backend that is loaded by model name and records how often and with which options."""

    live_options: ClassVar[tuple[str, ...]] = ("device", "format")
    loaded: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    too_long: ClassVar[str] = ""
    dies_at: ClassVar[int] = -1

    def __init__(self, model: str, **live: Any) -> None:
        if model.startswith("no-"):
            raise InputError(f"Cannot load the reward model {model!r}.")
        super().__init__(self._known, threshold=0.4, name=f"{model}@1", before=self._die)
        self.loaded.append((model, live))

    def _known(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        if question == self.too_long:
            raise InputError("A solution of 9 tokens does not fit the 8 positions.")
        return by_hand(question, steps)

    def _die(self, number: int) -> None:
        if number == self.dies_at:
            raise PolicyLost("The model is gone.")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    load = reward_module.load
    monkeypatch.setattr(reward_module, "load", lambda kind, name: Stub if kind == "reward" else load(kind, name))
    for name, value in (("loaded", []), ("too_long", ""), ("dies_at", -1)):
        monkeypatch.setattr(Stub, name, value)
    return Stub


@pytest.fixture
def small(run: Run, stub: type[Stub]) -> Dataset:
    """A model folder `m`, five solutions that people judged as dataset `d`, and four others as `e`."""
    Path("m").mkdir()
    Path("m/config.json").write_text("{}")
    store = Store.open("openr-store", create=True)
    dataset = store.dataset("d", create=True)
    people(dataset, *TRUTH)
    people(store.dataset("e", create=True), -1, 1, -1, 2)
    return dataset


def lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_people_read_a_row_a_set_and_what_they_have_to_know(run: Run, small: Dataset) -> None:
    answer = run("eval", "prm", "m", "--on", "d")
    assert answer.code == 0
    head, row = lines(answer.out)
    told = dict(zip(head, row, strict=True))
    assert (told["set"], told["group"], told["solutions"], told["steps"]) == ("d@1", "", "5", "12")
    assert (told["F1"], told["F1 own"], told["accuracy"]) == ("0.571", "0.500", "0.833")
    assert (told["on errors"], told["on correct"], told["last lowest"]) == ("0.667", "0.500", "0.600")
    assert "F1 dev" not in told
    assert answer.err == (
        "eval prm m on d@1 (5 solutions)\nTruth of d@1: human (5 solutions).\nThe model's own threshold is 0.4 (m@1).\n"
    )


def test_questions_that_the_model_has_seen_are_told(run: Run, small: Dataset) -> None:
    seen = [fingerprint(f"question  {i}") for i in (0, 2, 9)]
    Path("m", SEEN_FILE).write_text("".join(f"{item}\n" for item in seen))
    answer = run("eval", "prm", "m", "--on", "d", "--json")
    assert answer.code == 0
    assert (
        "2 of the 5 questions of d@1 are among those that the model was trained on or chosen by: its figures flatter there."
        in " ".join(answer.err.split())
    )
    document = json.loads(answer.out)["sets"]["d@1"]
    assert (document["seen_questions"], document["questions"]) == (2, 5)
    again = run("eval", "prm", "m", "--on", "d")
    assert "2 of the 5 questions of d@1" in " ".join(again.err.split())
    # No common questions, and a model without a list of seen questions.
    Path("m", SEEN_FILE).write_text(f"# of nothing\n{fingerprint('other')}\n")
    other = run("eval", "prm", "m", "--on", "d", "--limit", "4", "--json")
    assert "flatter" not in other.err
    assert json.loads(other.out)["sets"]["d@1"]["seen_questions"] == 0
    Path("m", SEEN_FILE).unlink()
    silent = run("eval", "prm", "m", "--on", "d", "--limit", "3", "--json")
    assert json.loads(silent.out)["sets"]["d@1"]["seen_questions"] is None


def test_what_does_not_change_scores_reaches_the_backend(
    run: Run, small: Dataset, stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "live_options", RewardServer.live_options)
    options = ("--base-url", "http://a/v1", "--base-url", "http://b/v1", "--tokenizer", "org/m", "--format", "qwen")
    assert run("eval", "prm", "m", "--on", "d", *options).code == 0
    told = {"base_url": ["http://a/v1", "http://b/v1"], "tokenizer": "org/m", "format": "qwen"}
    assert stub.loaded == [("m", told)]


def test_a_damaged_list_of_seen_questions_is_told(run: Run, small: Dataset) -> None:
    Path("m", SEEN_FILE).write_bytes(b"\xff\xfe\xfd")
    answer = run("eval", "prm", "m", "--on", "d")
    assert answer.code == 2
    assert "m/seen_questions.txt cannot be read" in answer.err


def test_several_sets_have_their_mean_and_a_dev_set_its_threshold(run: Run, small: Dataset) -> None:
    people(Store.open("openr-store").dataset("f", create=True), -1, 1, -1, 2, 1)
    answer = run("eval", "prm", "m", "--on", "d", "--on", "e", "--dev", "f")
    assert answer.code == 0
    head, *rows = lines(answer.out)
    told = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["set"] for row in told] == ["d@1", "e@1", "mean"]
    assert float(told[2]["F1"]) == pytest.approx((float(told[0]["F1"]) + float(told[1]["F1"])) / 2, abs=1e-3)
    assert told[2]["solutions"] == ""
    assert all(row["F1 dev"] for row in told)
    assert "The best threshold on f@1 is 0.5750 (5 solutions).\n5 of them are in the other sets too" in answer.err


def test_programs_read_all_figures(run: Run, small: Dataset) -> None:
    arguments = ("eval", "prm", "m", "--on", "d", "--on", "e")
    whole = json.loads(run(*arguments, "--json").out)
    assert (whole["model"], whole["model_revision"], whole["threshold"], whole["total"]) == ("m", "m@1", 0.4, 5)
    assert [row["set"] for row in whole["rows"]] == ["d@1", "e@1"]
    assert len(whole["rows"][0]["bins"]) > 1
    assert len(whole["rows"][0]["curve"]["f1"]) == len(whole["rows"][0]["curve"]["threshold"]) > 100
    assert whole["mean"]["f1"] == (whole["rows"][0]["f1"] + whole["rows"][1]["f1"]) / 2
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--csv").out)))
    assert [row["set"] for row in rows] == ["d@1", "e@1", "mean"]
    for row, plain in zip(rows, whole["rows"], strict=False):
        assert float(row["auroc"]) == plain["auroc"]
        assert float(row["f1_own"]) == plain["f1_own"]
    assert rows[2]["auroc"] == ""
    assert [json.loads(line)["f1"] for line in run(*arguments, "--jsonl").out.splitlines()] == [
        float(row["f1"]) for row in rows
    ]
    assert run(*arguments, "-q").out == "d@1\ne@1\nmean\n"
    assert run(*arguments, "--markdown").out.startswith("| set | group | solutions | F1 | F1 own |")


def test_the_same_command_again_shows_the_result_and_loads_no_model(run: Run, small: Dataset, stub: type[Stub]) -> None:
    first = run("eval", "prm", "m", "--on", "d", "--device", "cpu")
    assert stub.loaded == [("m", {"device": "cpu"})]
    again = run("eval", "prm", "m", "--on", "d@1")
    assert (again.code, again.out) == (0, first.out)
    assert again.err.startswith("The job ")
    assert "is done already.\nTruth of d@1" in again.err
    assert len(stub.loaded) == 1
    Path("m/config.json").write_text('{"trained": "anew"}')
    assert run("eval", "prm", "m", "--on", "d").out == first.out
    assert len(stub.loaded) == 2


def test_what_could_not_be_scored_is_listed_and_told_by_the_exit_code_each_time(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "too_long", LONG)
    for _ in range(2):
        answer = run("eval", "prm", "m", "--on", "d")
        assert answer.code == 3
        assert "1 solutions could not be scored and count as missed, for example:\n  d@1 " in answer.err
        assert "  A solution of 9 tokens does not fit the 8 positions.\n" in answer.err
        told = dict(zip(*lines(answer.out), strict=True))
        assert (told["on errors"], told["steps"]) == ("0.333", "9")
    whole = run("eval", "prm", "m", "--on", "d", "--json")
    assert whole.code == 3
    assert [item["set"] for item in json.loads(whole.out)["failures"]] == ["d@1"]


def test_undecided_truth_and_solutions_without_truth_are_told(run: Run, small: Dataset) -> None:
    records(
        small,
        "human",
        {"label": [1, None, 1], "provenance": ["human"] * 3, "question": "Question 0?", "steps": ["a", "b", "c"]},
    )
    records(small, "m", {"label": [1, 1, 1], "question": "Question 1?", "steps": ["x", "y", "z"]}, source="t")
    answer = run("eval", "prm", "m", "--on", "d")
    assert "Truth of d@3: human (6 solutions); 1 labelled solutions have none.\n" in answer.err
    assert "1 solutions of d@3 may have an error or not: their steps count, F1 does not.\n" in answer.err


def test_a_file_is_evaluated_without_a_store(run: Run, stub: type[Stub]) -> None:
    write(Path("bench.jsonl"), [*rows_of(*TRUTH), {"id": "broken"}])
    answer = run("eval", "prm", "hub/model", "--on", "bench.jsonl")
    assert answer.code == 0
    assert lines(answer.out)[1][:4] == ["bench.jsonl", "", "5", "0.571"]
    assert "Truth of bench.jsonl: human (5 solutions); 1 rows dropped: no text in `problem`.\n" in answer.err
    assert [row["into"] for row in json.loads(run("jobs", "ls", "--json").out)] == ["hub/model"]


def test_a_plot_is_drawn_and_says_where(run: Run, small: Dataset) -> None:
    answer = run("eval", "prm", "m", "--on", "d", "--plot", "x.svg")
    assert answer.err.endswith("Drawn to x.svg.\n")
    assert ">First errors</text>" in Path("x.svg").read_text()
    again = run("eval", "prm", "m", "--on", "d", "--plot", "y.png", "-q")
    assert again.out == "d@1\n"
    assert Path("y.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--on", "d", "--plot", "x.pdf"], "'x.pdf' is not a plot file: expected a name that ends in .svg or .png."),
        ([], "Missing option '--on'"),
        (["--on", "nothing"], "No labelled dataset or file 'nothing' (there are: d, e)."),
        (["--on", "d@9"], 'No snapshot "9" in d'),
        (["--on", "d", "--dev", "nothing"], "No labelled dataset or file 'nothing'"),
        (["--on", "d", "--dev", "d"], "--dev d@1 is one of the --on sets"),
        (["--on", "d", "--on", "d@1"], "d@1 holds what d@1 holds. Name each set once."),
        (["--on", "d", "--truth", "humam"], "No truth 'humam' (there are: human). Did you mean 'human'?"),
        (["--on", "unlabelled"], "unlabelled has no labels"),
        (["--on", "guessed"], "No truth is known about the solutions of guessed@1"),
        (["--on", "guessed"], "Take a method at its word with: --truth METHOD (there are: m)"),
        (["--on", "strange.jsonl"], "strange.jsonl is in no known format (line 1: it has the fields a)"),
        (["--on", "strange.jsonl", "--file-format", "trl"], "No row of strange.jsonl could be read as trl"),
        (["--on", "strange.jsonl", "--file-format", "tlr"], "No format 'tlr'"),
        (["--on", "d", "--file-format", "trl"], "--file-format is the format of files, and neither --on nor --dev"),
        (["--on", "d", "--backend", "transfomers"], "No reward 'transfomers'"),
        (["--on", "d", "--base-url", "http://x"], "The backend 'transformers' has no option --base-url"),
        (["--on", "d", "--limit", "-1"], "Invalid value for '--limit'"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_loaded(
    run: Run, small: Dataset, stub: type[Stub], arguments: list[str], words: str
) -> None:
    store = Store.open("openr-store")
    if "unlabelled" in arguments:
        store.dataset("unlabelled", create=True)
    if "guessed" in arguments:
        records(store.dataset("guessed", create=True), "m", {"label": [1, 1, -1]})
    Path("strange.jsonl").write_text('{"a": 1}')
    answer = run("eval", "prm", "m", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert not stub.loaded
    assert Job.all(store) == []


@pytest.mark.parametrize("model", ["./nowhere", "no-model"])
def test_a_model_that_is_none_leaves_no_job(run: Run, small: Dataset, model: str) -> None:
    answer = run("eval", "prm", model, "--on", "d")
    assert (answer.code, answer.out) == (2, "")
    assert model in answer.err
    assert Job.all(Store.open("openr-store")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "Cannot load the reward model 'n'"),
        (
            '{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}',
            "does not say how it scores steps. Name its format",
        ),
    ],
)
def test_a_real_folder_that_is_no_reward_model_says_so(run: Run, config: str | None, words: str) -> None:
    Path("n").mkdir()
    if config:
        Path("n/config.json").write_text(config)
    write(Path("bench.jsonl"), rows_of(*TRUTH))
    answer = run("eval", "prm", "n", "--on", "bench.jsonl")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert not Path("openr-store").exists()


def test_a_model_without_a_name_for_its_format_is_loaded_with_the_one_that_is_named(
    run: Run, small: Dataset, stub: type[Stub]
) -> None:
    run("eval", "prm", "m", "--on", "d", "--format", "math-shepherd")
    assert stub.loaded == [("m", {"format": "math-shepherd"})]


# --- jobs of other kinds


def test_a_job_that_was_stopped_is_listed_and_goes_on_by_the_same_command(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "dies_at", 3)
    failed = run("eval", "prm", "m", "--on", "d")
    assert (failed.code, failed.err.splitlines()[-1]) == (1, "The model is gone.")
    (row,) = json.loads(run("jobs", "ls", "--json").out)
    assert (row["method"], row["source"], row["into"], row["state"]) == ("eval prm", "d@1", "m", "stopped")
    assert row["total"] == 5
    status = run("jobs", "status", row["job"])
    assert (status.code, status.out.startswith(f"eval prm  d@1 → m  job {row['job']}  stopped")) == (0, True)
    assert "Continue with: openr-data eval prm m --on d\n" in status.err
    resume = run("jobs", "resume", row["job"])
    assert (resume.code, resume.out) == (2, "")
    assert resume.err == (
        f"The job {row['job']} is one of eval prm, which its own command resumes: openr-data eval prm m --on d\n"
    )
    monkeypatch.setattr(Stub, "dies_at", -1)
    assert run("eval", "prm", "m", "--on", "d").code == 0
    (row,) = json.loads(run("jobs", "ls", "--json").out)
    assert (row["state"], row["done"], row["total"], row["failed"]) == ("done", 5, 5, 0)
    assert "5/5 solutions" in run("jobs", "status", row["job"]).out
    assert json.loads(run("jobs", "status", row["job"], "--json").out)["state"] == "done"


def test_failed_solutions_of_an_evaluation_are_not_done(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stub, "too_long", LONG)
    run("eval", "prm", "m", "--on", "d")
    (row,) = json.loads(run("jobs", "ls", "--json").out)
    assert (row["state"], row["done"], row["total"], row["failed"]) == ("done, some failed", 4, 5, 1)
    assert "4/5 solutions\n  failed 1\n" in run("jobs", "status", row["job"]).out


def test_a_training_job_is_listed_and_not_resumed(run: Run, labelled: str) -> None:
    store = Store.open("openr-store")
    job = Job.begin(store, "train", {"method": "train prm", "source": "d@1", "into": "d"}, {})
    for finished in (False, True):
        if finished:
            job.finish({"total": 216, "updates": 6})
        rows = {row["job"]: row for row in json.loads(run("jobs", "ls", "--json").out)}
        assert set(rows) == {labelled, job.job_id}
        assert rows[job.job_id]["state"] == ("done" if finished else "stopped")
        assert (rows[job.job_id]["done"], rows[job.job_id]["total"]) == ((216, 216) if finished else (0, None))
        status = run("jobs", "status", job.job_id)
        assert status.code == 0
        assert "216/216 solutions" in status.out or not finished
        resume = run("jobs", "resume", job.job_id)
        assert resume.code == 2
        assert "is one of train prm, which its own command resumes: openr-data train prm, with the" in resume.err
    assert run("jobs", "status", labelled).code == 0
    assert run("jobs", "resume", labelled).err.startswith("Resuming the job")
    # Its `into` is a folder and no dataset: while it runs, datasets are free.
    with job.lock():
        assert run("gc", "d").code == 0
        assert run("rollback", "d", "1", "--yes").code == 0
    with Job.find(store, labelled).lock():
        assert "is writing into d" in run("rollback", "d", "1", "--yes").err


# --- the program


@pytest.mark.parametrize("arguments", [["eval", "--help"], ["eval", "prm", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import contextlib, sys\nfrom openr_data.cli import main\nsys.argv = ['x', *{arguments}]\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert not loaded_after(code) & {*HEAVY, "matplotlib"}


def test_eval_is_a_group_of_its_own(run: Run) -> None:
    assert COMMANDS["eval"][0] == "evaluate:evaluate"
    listed = run("eval", "--help").out
    assert "prm" in listed
    assert "compare" not in listed
    assert "No such command 'label'" in run("eval", "label").err
    text = run("eval", "prm", "--help").out
    assert "ProcessBench" in text
    assert "openr-data eval prm arithmetic-reward --on arithmetic" in text


def test_without_matplotlib_a_plot_is_refused_before_any_work(
    run: Run, small: Dataset, stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = run("eval", "prm", "m", "--on", "d", "--plot", "x.svg")
    assert (answer.code, answer.out) == (2, "")
    assert "pip install 'openr-data[plots]'" in answer.err
    assert not stub.loaded
