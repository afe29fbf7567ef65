"""Tests the command `explain`: the verdicts and reasons of a generative reward model beside the labels, and refusals."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.prm_format import CONFIG_KEY, WRITES
from openr_data.store import Store
from tests.cli.conftest import Run
from tests.inference.serving.scoring_server import scoring
from tests.training.prm.test_reasons import rows_with_reasons
from tests.training.prm.toys import a_row, bring, parity_rows, saved, tiny

QUICK = ("-o", "epochs=60", "-o", "learning_rate=2e-3", "-o", "pack_tokens=512", "-o", "packs_per_step=1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and a tiny model."""
    folder = tmp_path_factory.mktemp("made")
    store = Store.open(folder / "openr-store", create=True)
    bring(store, rows_with_reasons(40))
    bring(store, parity_rows(4), name="bare")
    long = a_row("Long?", ["1 1 " * 200, "1"], [1, 1])
    bring(store, [*rows_with_reasons(2), long], name="long")
    # Two methods have labelled the same solutions.
    bring(store, [{**row, "method": name} for row in rows_with_reasons(1) for name in ("toy", "other")], name="twice")
    store.dataset("empty", create=True)
    saved(tiny(), folder / "base")
    return folder


@pytest.fixture
def here(made: Path, run: Run, tmp_path: Path) -> Path:
    """A copy of it, in which `run` runs; the model `prm` is trained once."""
    if not (made / "prm").exists():
        shutil.copytree(made, tmp_path, dirs_exist_ok=True)
        answer = run("train", "prm", "d", "--model", "base", "--out", "prm", "--generative", "--reasons", *QUICK)
        assert answer.code == 0, answer.err
        assert "reasons" in answer.out
        assert "more for the same verdicts, 0 did not fit)" in answer.out
        shutil.copytree(tmp_path / "prm", made / "prm")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_reasons_that_a_model_writes_stand_beside_the_labels(here: Path, run: Run) -> None:
    answer = run("explain", "./prm", "d", "--limit", "3", "--errors", "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    asked = run("sql", "d", "select * from records where first_error is not null order by question_id, solution_id limit 3",
                "--json")  # fmt: skip
    document = json.loads(asked.out)
    assert [(row["solution_id"], row["step_index"], row["step"], row["label"]) for row in rows] == [
        (record["solution_id"], place, step, record["label"][place])
        for record in document
        for place, step in enumerate(record["steps"])
    ]
    assert all(row["verdict"] == "good" or row["score"] < 1 for row in rows)
    assert {row["verdict"] for row in rows} <= {"good", "bad"}
    assert all(isinstance(row["reason"], str) for row in rows)
    assert any(row["reason"] in ("0", "1", "2") for row in rows)
    listed = list(csv.DictReader(io.StringIO(run("explain", "./prm", "d", "--limit", "3", "--errors", "--csv").out)))
    assert [row["reason"] for row in listed] == [row["reason"] for row in rows]


def test_people_see_verdict_score_label_and_reason(here: Path, run: Run) -> None:
    rows = json.loads(run("explain", "./prm", "d", "--limit", "1", "--json").out)
    answer = run("explain", "./prm", "d", "--limit", "1")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith(rows[0]["solution_id"][:10])
    for row in rows:
        shape = "●" if row["verdict"] == "good" else "○"
        at = next(i for i, line in enumerate(lines) if line.startswith(f" ▌{shape} {row['score']:.2f} | "))
        assert row["step"] in lines[at]
        if row["reason"]:
            assert lines[at + 1].strip(" ▌") == row["reason"]
    assert "called right" in lines[-1]
    one = run("explain", "./prm", "d", rows[0]["solution_id"][:8], "--json")
    assert {row["solution_id"] for row in json.loads(one.out)} == {rows[0]["solution_id"]}


def test_a_reason_takes_as_many_tokens_as_it_may(here: Path, run: Run) -> None:
    long = json.loads(run("explain", "./prm", "d", "--limit", "4", "--json").out)
    short = json.loads(run("explain", "./prm", "d", "--limit", "4", "--max-tokens", "1", "--json").out)
    assert [row["score"] for row in short] == pytest.approx([row["score"] for row in long], abs=1e-5)
    # One token without an end after it.
    assert all(row["reason"].endswith("…") or row["reason"] == "" for row in short)
    assert any(not row["reason"].endswith("…") for row in long)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["./base", "d"], "./base does not say how it scores steps. Name its format with --format"),
        (["./base", "d", "--format", "openr-data"], "was not trained to write reasons. Train a model that does with"),
        (["./nowhere", "d"], "No model folder './nowhere'"),
        (["./prm", "e"], "No dataset 'e'"),
        (["./prm", "d", "';--"], "is not an id"),
        (["./prm", "d", "--backend", "llama"], "No reward 'llama'"),
        (["./prm", "d", "--base-url", "http://localhost:1/v1"], "The backend 'transformers' has no option --base-url."),
        (["./prm", "d", "--backend", "openai", "--base-url", "http://localhost:1/v1"], "No server of the OpenAI kind"),
        (["./prm", "d", "--max-tokens", "0"], "Invalid value for '--max-tokens'"),
        (["./prm", "d", "--device", "abacus"], "./prm cannot be put on --device abacus"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(here: Path, run: Run, arguments: list[str], words: str) -> None:
    answer = run("explain", *arguments)
    assert answer.code == 2, answer.err
    assert words in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_model_that_writes_no_reasons_is_told_before_its_weights_are_there(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(TransformersReward, "__init__", loaded)
    answer = run("explain", "./base", "d", "--format", "openr-data")
    assert answer.code == 2
    assert "was not trained to write reasons" in answer.err


def test_without_label_sets_there_is_a_hint_and_no_model_is_loaded(here: Path, run: Run) -> None:
    answer = run("explain", "./base", "empty")
    assert (answer.code, answer.out) == (0, "")
    assert "No label sets in empty match." in answer.err
    assert json.loads(run("explain", "./base", "empty", "--json").out) == []
    assert run("explain", "./base", "empty", "--csv").out.startswith("solution_id,method,")


def test_a_solution_that_is_too_long_is_named_and_the_others_are_explained(here: Path, run: Run) -> None:
    answer = run("explain", "./prm", "long", "--limit", "9", "--json")
    assert answer.code == 3
    assert "does not fit the 256 positions of ./prm" in " ".join(answer.err.split())
    document = json.loads(run("view", "long", "--limit", "9", "--json").out)
    wanted = {row["solution_id"] for row in document if row["question"] != "Long?"}
    assert {row["solution_id"] for row in json.loads(answer.out)} == wanted
    assert len(wanted) > 1


def test_a_solution_with_several_label_sets_is_written_about_once(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    explain = TransformersReward.explain

    async def counted(self: Any, question: str, steps: Any, **more: Any) -> Any:
        asked.append(steps)
        return await explain(self, question, steps, **more)

    monkeypatch.setattr(TransformersReward, "explain", counted)
    rows = json.loads(run("explain", "./prm", "twice", "--limit", "9", "--json").out)
    methods = {name: [{**row, "method": ""} for row in rows if row["method"] == name] for name in ("toy", "other")}
    assert methods["toy"] == methods["other"] != []
    assert 2 * len(asked) == len({(row["solution_id"], row["method"]) for row in rows})


def test_view_shows_the_reasons_of_labels(here: Path, run: Run) -> None:
    record = json.loads(run("view", "d", "--limit", "1", "--json").out)[0]
    reasons = json.loads(record["label_metadata"])["reasons"]
    assert reasons[0] is not None
    lines = run("view", "d", "--limit", "1").out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith(record["steps"][0]))
    assert lines[at + 1].strip(" ▌") == reasons[0]


def test_a_server_that_calls_the_model_otherwise_is_told_what_it_is(here: Path, run: Run) -> None:
    with scoring(
        lambda _: (-1.0, -2.0), lambda _: [], write=lambda *_: (" So it is. ", True), model="served"
    ) as server:
        answer = run(
            "explain", "served", "d", "--limit", "1", "--backend", "openai", "--base-url", server.url,
            "--tokenizer", "./prm", "--json",
        )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert {row["reason"] for row in rows} == {"So it is."}
    assert [row["score"] for row in rows] == pytest.approx([0.7310585786] * len(rows))


def test_a_served_model_that_writes_no_reasons_is_told_once(here: Path, run: Run) -> None:
    config = json.loads((here / "prm" / "config.json").read_text())
    del config[CONFIG_KEY][WRITES]
    (here / "prm" / "config.json").write_text(json.dumps(config))
    with scoring(lambda _: (-1.0, -2.0), lambda _: [], model="./prm") as server:
        answer = run("explain", "./prm", "d", "--backend", "openai", "--base-url", server.url, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("was not trained to write reasons") == 1
