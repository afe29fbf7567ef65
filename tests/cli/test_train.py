"""Tests the command `train prm`: its output, its refusals, and that a kill loses nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from openr_data.cli import main
from openr_data.cli.train import _asked_to_stop, training_recipe
from openr_data.errors import UnknownName
from openr_data.prm_format import CONFIG_KEY
from openr_data.store import Store
from tests.cli.conftest import Run
from tests.conftest import ROOT
from tests.training.prm.toys import a_row, bring, farthest, parity_rows, saved, tiny, weights

FEW = (
    "-o",
    "epochs=1",
    "-o",
    "learning_rate=2e-3",
    "-o",
    "pack_tokens=128",
    "-o",
    "evaluations=2",
    "-o",
    "dev_share=0.25",
)
MANY = ("-o", "epochs=20", "-o", "learning_rate=1e-3", "-o", "pack_tokens=128", "-o", "packs_per_step=2",
        "-o", "evaluations=8", "-o", "dev_share=0.25")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and a tiny model."""
    folder = tmp_path_factory.mktemp("made")
    store = Store.open(folder / "openr-store", create=True)
    bring(store, parity_rows(24))
    bring(store, [a_row(f"Q{n}?", ["1", "0"], [None, None]) for n in range(3)], name="unlabelled")
    bring(store, [a_row(f"Q{n}? {'very ' * 400}", ["1", "0"], [1, -1]) for n in range(3)], name="long")
    saved(tiny(), folder / "base")
    other = saved(tiny(), folder / "untagged")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).write_text((other / name).read_text().replace("<|step|>", "<|stop|>"))
    (folder / "nothing").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("years")
    return folder


@pytest.fixture
def here(made: Path, run: Run, tmp_path: Path) -> Path:
    """A copy of it, in which `run` runs."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def of_folder(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_model_is_trained_and_the_same_command_says_that_it_is_done(here: Path, run: Run) -> None:
    answer = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW, "--json")
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    assert facts["model"] == "m"
    assert facts["data"] == "d@1"
    assert facts["total"] > 0
    assert re.search(r"prm on d@1 from base → m, job [0-9a-f]{12}\n", answer.err)
    assert re.search(r"step \d+ of \d+  dev log-loss \d\.\d{4}  AUROC \d\.\d{4}", answer.err)
    assert "Prove it with: openr-data eval prm ./m --on DATASET" in answer.err
    assert "Traceback" not in answer.err
    assert {"config.json", "model.safetensors", "README.md", "training.json", "tokenizer.json"} <= {
        path.name for path in (here / "m").iterdir()
    }
    config = json.loads((here / "m" / "config.json").read_text())
    assert config[CONFIG_KEY]["name"] == "openr-data"
    before = (here / "m" / "model.safetensors").stat().st_mtime_ns
    again = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW, "--json")
    assert again.code == 0
    assert "The model in m is done already. Train another one with another --out, option or seed." in again.err
    assert json.loads(again.out) == facts
    assert (here / "m" / "model.safetensors").stat().st_mtime_ns == before
    # For people it is a table of the same.
    table = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW).out
    for words in ("labelled steps", "tokens an epoch", "times as many without sharing", "dev log loss", "threshold"):
        assert words in table
    assert farthest(weights(tiny()), of_folder(here / "m")) > 1e-3


def test_the_folder_is_named_after_the_dataset_and_options_come_in_layers(here: Path, run: Run) -> None:
    (here / "more.toml").write_text('epochs = 5\nlabels = "soft"\nseed = 3\n')
    answer = run("train", "prm", "d@1", "--model", "base", "--config", "more.toml", "--balance", "1:2", "--dedupe",
                 "--per-question", "2", "--where", "n_steps > 1", "--method", "toy", "--generative",
                 *FEW, "-o", "weights=rollouts", "-o", "source_weights=toy:2,test:0.5", "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    config = json.loads((here / "d-prm" / "training.json").read_text())["config"]
    assert (config["epochs"], config["labels"], config["seed"]) == (1.0, "soft", 3)
    assert (config["weights"], config["generative"], config["dedupe"]) == ("rollouts", True, True)
    assert (config["balance"], config["per_question"]) == (0.5, 2)
    assert config["source_weights"] == ["toy:2", "test:0.5"]
    assert (config["where"], config["method"]) == ("n_steps > 1", "toy")
    # The recipe of the shipped world applies only to its model.
    assert config["packs_per_step"] == 4
    assert training_recipe("arithmetic-prm")["model"] == "arithmetic"


def test_solutions_that_do_not_fit_are_told(here: Path, run: Run) -> None:
    answer = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW, "-o", "max_length=18")
    assert answer.code == 0, answer.err
    assert re.search(r"did not fit +[\d,]+ steps of [\d,]+ solutions, [\d,]+ whole solutions", answer.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["d", "--model", "nothing"], "'nothing' is not a trainable model: Unrecognized model in nothing"),
        (["d", "--model", "./nowhere"], "No model folder './nowhere'"),
        (["d", "--model", "untagged"], "The tokenizer of untagged has the tokens of neither openr-data nor openr-qwen"),
        (["d", "--model", "base", "--format", "opener-data"], "No PRM format 'opener-data'"),
        (["d", "--model", "base", "--format", "qwen"], "The step tag '<extra_0>' of the PRM format 'qwen' has to be one"),
        (["unlabelled", "--model", "base"], "None of the 3 records of unlabelled@1 has a label on any step."),
        (["d", "--model", "base", "--method", "judge"], "d@1 has no label sets that match --method and --where"),
        (["long", "--model", "base"], "solutions of long@1 fits into the context of base"),
        (["d", "--model", "base", "-o", "max_length=2"], "solutions of d@1 fits into the context of base"),
        (["d", "--model", "base", "-o", "max_length=999"], "-o max_length=999 exceeds the 256 positions of base."),
        (["d", "--model", "base", "-o", "dev_share=0.99999"], "All 24 questions of d@1 are held out."),
        (["d", "--model", "base", "--where", "nonsense = 1"], "nonsense"),
        (["d", "--model", "base", "--out", "full"], "full contains other files."),
        (["d", "--model", "base", "--out", "base"], "base contains other files."),
        (["d", "--model", "base", "--out", "full/thesis.tex"], "full/thesis.tex is a file."),
        (["d", "--model", "base", "-o", "learning_rat=1"], "No option of train prm 'learning_rat'"),
        (["d", "--model", "base", "-o", "learning_rat=1"], "Did you mean 'learning_rate'?"),
        (["d", "--model", "base", "-o", "epochs=many"], "Option epochs expects float, found 'many'."),
        (["d", "--model", "base", "-o", "seed=0.5"], "Option seed expects int, found '0.5'."),
        (["d", "--model", "base", "-o", "share=perhaps"], "Option share expects bool, found 'perhaps'."),
        (["d", "--model", "base", "-o", "weights=steps"], "No value for weights 'steps' (there are: one, rollouts)."),
        (["d", "--model", "base", "-o", "epochs=0"], "Schedule: epochs and learning_rate are above 0"),
        (["d", "--model", "base", "-o", "dev_share=1"], "PrmConfig: dev_share lies in [0, 1)"),
        (["d", "--model", "base", "-o", "epochs"], "is not key=value"),
        (["d", "--model", "base", "-o", "schedule=1"], "No option of train prm 'schedule'"),
        (["d", "--model", "base", "--labels", "soft", "--threshold", "0.5"], "a threshold belongs to hard labels"),
        (["d", "--model", "base", "--threshold", "1"], "Invalid value for '--threshold'"),
        (["d", "--model", "base", "--balance", "half"], "half"),
        (["d", "--model", "base", "--reasons"], "reasons are written by a generative reward model: --generative --rea"),
        (["d", "--model", "base", "--generative", "--reasons"], "No label of d@1 that would be trained on has a reason."),
        (["d", "--recipe", "arithmetic"], "No training recipe 'arithmetic' (there are: arithmetic-prm)."),
        (["d", "--model", "base", "--config", "absent.toml"], "Cannot read absent.toml"),
        (["e", "--model", "base"], "No dataset 'e' in openr-store (there are: d, long, unlabelled)"),
        (["d@7", "--model", "base"], 'No snapshot "7" in d'),
        ([], "Missing argument 'DATA'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_code_2(here: Path, run: Run, arguments: list[str], words: str) -> None:
    answer = run("train", "prm", *arguments)
    assert answer.code == 2, answer.err
    output = " ".join(answer.err.split())
    assert words in output
    assert "Traceback" not in output
    assert "Unexpected" not in output
    assert answer.out == ""
    assert not (here / "d-prm").exists()
    assert sorted(path.name for path in (here / "full").iterdir()) == ["thesis.tex"]


def test_without_a_store_there_is_nothing_to_train_from(run: Run) -> None:
    answer = run("train", "prm", "d", "--model", "x")
    assert answer.code == 2
    assert "There is no store in openr-store yet." in answer.err
    assert not Path("openr-store").exists()


def test_a_loss_that_is_no_number_is_one_sentence_and_exit_code_1(here: Path, run: Run) -> None:
    answer = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW, "-o", "learning_rate=1e30")
    assert answer.code == 1
    assert re.search(r"is not a number at step \d+\. Train with a lower -o learning_rate \(it is 1e\+30\)", answer.err)
    assert "Traceback" not in answer.err


def test_lora_without_peft_is_one_sentence(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    answer = run("train", "prm", "d", "--model", "base", "--out", "m", *FEW, "-o", "lora_rank=4")
    assert answer.code == 2
    assert "Install it with: pip install 'openr-data[lora]'" in answer.err


def test_an_unknown_recipe_offers_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"No training recipe 'x' \(there are: arithmetic-prm\)"):
        training_recipe("x")


# Interrupted.


def test_ctrl_c_is_remembered_and_the_second_one_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with _asked_to_stop() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with _asked_to_stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()


def command(out: str) -> list[str]:
    return ["train", "prm", "d", "--model", "base", "--out", out, *MANY]


@pytest.fixture(scope="module")
def unbroken(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that was trained without a break."""
    folder = tmp_path_factory.mktemp("unbroken") / "here"
    shutil.copytree(made, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["openr-data", *command("m")])
        with pytest.raises(SystemExit) as done:
            main()
    assert done.value.code == 0
    return folder / "m"


def started(folder: Path) -> subprocess.Popen[str]:
    # As many threads as here, where it is resumed: sums in another order are other numbers.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    line = [sys.executable, "-m", "openr_data.cli", *command("m")]
    return subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def in_training(here: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process and return it once it has written a checkpoint and continues."""
    with started(here) as process:
        deadline = time.monotonic() + 120
        while not checkpoints(here) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert checkpoints(here), process.communicate()
        yield process
        process.kill()


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("openr-store/jobs/*/checkpoints/checkpoint-*/trainer_state.json"))


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    unbroken: Path, here: Path, run: Run, in_training: subprocess.Popen[str]
) -> None:
    in_training.send_signal(signal.SIGKILL)
    in_training.communicate(timeout=60)
    assert in_training.returncode == -signal.SIGKILL
    assert not (here / "m").exists()
    last = max(int(path.parent.name.partition("-")[2]) for path in checkpoints(here))
    answer = run(*command("m"), "--json")
    assert answer.code == 0, answer.err
    facts: dict[str, Any] = json.loads(answer.out)
    whole = json.loads((unbroken / "training.json").read_text())["figures"]
    assert 0 < last < facts["updates"]
    assert farthest(of_folder(unbroken), of_folder(here / "m")) == 0
    # The job is named after the place of its folder too.
    assert {k: facts[k] for k in whole if k not in ("seconds", "job")} == {
        k: v for k, v in whole.items() if k not in ("seconds", "job")
    }


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_the_same_command_goes_on(
    unbroken: Path, here: Path, run: Run, in_training: subprocess.Popen[str]
) -> None:
    in_training.send_signal(signal.SIGINT)
    _, err = in_training.communicate(timeout=120)
    assert in_training.returncode == 130, err
    assert "Writing a checkpoint; press again to stop at once." in err
    assert err.strip().splitlines()[-1] == "Stopped after a checkpoint. Run the same command to continue from it."
    assert "Traceback" not in err
    assert not (here / "m").exists()
    answer = run(*command("m"))
    assert answer.code == 0, answer.err
    assert farthest(of_folder(unbroken), of_folder(here / "m")) == 0
