"""Tests training: the definition of an update, exact resume, that it learns, and when it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from openr_data.errors import MissingDependency, OpenRError, UsageError
from openr_data.training.prm import trainer as prm
from openr_data.training.prm.dev import Dev
from openr_data.training.prm.packing import EncodedExamples, plan_packs
from openr_data.training.prm.trainer import PrmTrainer, Schedule, StepLoss, train
from tests.conftest import ROOT
from tests.training.prm.toys import CLASSES, PAIR, encoder, farthest, parity, tiny, weights, written
from tests.training.prm.two_processes import SCHEDULE as OF_TWO
from tests.training.prm.two_processes import STOP_AT

SHORT = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=96, packs_per_step=2, evaluations=3)
LEARNING = Schedule(epochs=6, learning_rate=5e-3, pack_tokens=512, packs_per_step=1, evaluations=4)


def trained(
    data: EncodedExamples, schedule: Schedule, folder: Path, *, model: Any = None, dev: Dev | None = None, **more: Any
) -> tuple[Any, PrmTrainer]:
    form = more.pop("form", PAIR)
    return train(
        model if model is not None else tiny(), encoder(form), data, dev, schedule, folder, branches=True, **more
    )


def a_dev(count: int = 12, seed: int = 1, **more: Any) -> Dev:
    return Dev(parity(count, seed, **more), encoder(), 256)


def stop_at(step: int) -> Callable[[], bool]:
    """Requests a stop at the end of that step."""
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == step

    return stop


def a_llama() -> Any:
    """Make a model without biases: the key bias has a gradient of rounding noise, which Adam turns into a full step."""
    return tiny("llama")


# What an update is.


def room_for(data: EncodedExamples, packs: int) -> int:
    return next(room for room in range(40, 4_000) if len(plan_packs(data.lengths, room, 0)) == packs)


def uneven(path: Path) -> EncodedExamples:
    """Make solutions with one to three labelled steps, so that rows have few or many labels."""
    found = [
        replace(item, target=tuple(value if at <= place % 3 else None for at, value in enumerate(item.target)),
                weight=(1.0 + place % 4,) * 3)
        for place, item in enumerate(parity(16, solutions=1))
    ]  # fmt: skip
    return written(found, path, share=False)


@pytest.mark.parametrize("generative", [False, True])
def test_an_update_is_the_same_in_however_many_rows(tmp_path: Path, generative: bool) -> None:
    data = uneven(tmp_path / "x.arrow")
    found = {}
    for packs in (8, 4, 1):
        schedule = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=room_for(data, packs), packs_per_step=packs)
        model, trainer = trained(data, schedule, tmp_path / str(packs), model=a_llama(), generative=generative)
        assert trainer.state.global_step == 2
        found[packs] = weights(model)
    assert farthest(weights(a_llama()), found[1]) > 1e-4
    assert farthest(found[1], found[8]) < 1e-6
    assert farthest(found[1], found[4]) < 1e-6


def test_the_mean_of_the_means_of_rows_would_be_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = uneven(tmp_path / "x.arrow")
    real, found = StepLoss.__call__, {}

    def naive(self: StepLoss, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return real(self, outputs, labels) / packs

    monkeypatch.setattr(StepLoss, "__call__", naive)
    for packs in (8, 1):
        schedule = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=room_for(data, packs), packs_per_step=packs)
        found[packs] = weights(trained(data, schedule, tmp_path / str(packs), model=a_llama())[0])
    assert farthest(found[1], found[8]) > 1e-4


def test_the_loss_that_is_told_is_the_mean_over_labelled_prefixes(tmp_path: Path) -> None:
    data = uneven(tmp_path / "x.arrow")
    model, told = tiny(), []
    schedule = Schedule(epochs=1, learning_rate=1e-9, pack_tokens=room_for(data, 4), packs_per_step=4, evaluations=1)
    expected = StepLoss(encoder(), generative=False)
    batch = prm.Collator(data, keep=True, branches=True, weight=data.mean_weight(encoder().end))(
        [list(range(len(data)))]
    )
    labels = batch.pop("labels")
    with torch.no_grad():
        alone = float(expected(model(**batch, use_cache=False), labels))
    trained(data, schedule, tmp_path / "c", model=model, report=told.append)
    losses = [item["loss"] for item in told if "loss" in item]
    assert losses == [pytest.approx(alone, rel=1e-5)]
    assert told[0]["step"] == told[0]["steps"] == 1


def test_rows_of_a_sharing_and_of_a_plain_reading_train_the_same(tmp_path: Path) -> None:
    """A shared step is one prefix of twice the weight, which is equal if all solutions share in the same way."""
    examples = [replace(item, steps=item.steps[:1], target=item.target[:1], weight=item.weight[:1])
                for item in parity(10, solutions=2)]  # fmt: skip
    schedule = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=4_000, packs_per_step=1)
    found = []
    for share in (False, True):
        data = written(examples, tmp_path / f"{share}.arrow", share=share)
        model, _ = train(a_llama(), encoder(), data, None, schedule, tmp_path / f"{share}", branches=share)
        found.append(weights(model))
    assert farthest(*found) < 1e-6


@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.0])
def test_evaluations_are_spread_over_the_updates_and_the_end_is_measured(tmp_path: Path, epochs: float) -> None:
    data, told = written(parity(24), tmp_path / "x.arrow"), []
    schedule = replace(SHORT, epochs=epochs, evaluations=2)
    _, trainer = trained(data, schedule, tmp_path / "c", dev=a_dev(), report=told.append)
    packs = len(plan_packs(data.lengths, SHORT.pack_tokens, 0))
    updates = trainer.state.max_steps
    assert updates == -(-epochs * -(-packs // 2) // 1)
    measured = [item["step"] for item in told if "eval_log_loss" in item]
    assert measured[-1] == updates
    assert measured[0] == updates // 2
    assert trainer.metrics is not None


def test_without_a_dev_split_nothing_is_measured(tmp_path: Path) -> None:
    data, told = written(parity(8), tmp_path / "x.arrow"), []
    _, trainer = trained(data, SHORT, tmp_path / "c", report=told.append)
    assert trainer.metrics is None
    assert not any(name.startswith("eval") for item in told for name in item)


def test_checkpointing_changes_no_weight(tmp_path: Path) -> None:
    data = written(parity(8), tmp_path / "x.arrow")
    plain, _ = trained(data, SHORT, tmp_path / "a")
    lean, _ = trained(data, replace(SHORT, checkpointing=True), tmp_path / "b")
    assert farthest(weights(plain), weights(lean)) < 1e-6


def test_bf16_is_a_matter_of_autocast(tmp_path: Path) -> None:
    data = written(parity(8), tmp_path / "x.arrow")
    plain, _ = trained(data, SHORT, tmp_path / "a")
    coarse, trainer = trained(data, replace(SHORT, bf16=True), tmp_path / "b", dev=a_dev())
    assert {item.dtype for item in coarse.parameters()} == {torch.float32}
    states = [value for state in trainer.optimizer.state.values() for value in state.values() if value.dim()]
    assert {item.dtype for item in states} == {torch.float32}
    assert 0 < farthest(weights(plain), weights(coarse)) < 0.02


@pytest.mark.parametrize(
    "broken",
    [
        {"epochs": 0.0}, {"learning_rate": 0.0}, {"pack_tokens": 0}, {"packs_per_step": 0}, {"evaluations": -1},
        {"patience": -1}, {"lora_rank": -1}, {"seed": -1}, {"warmup": 1.0}, {"warmup": -0.1},
    ],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_not_built(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="above 0|at least"):
        Schedule(**broken)


# Resuming.


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PrmTrainer, EncodedExamples]:
    """An uninterrupted training with a dev split: the model, its trainer, its reports."""
    folder = tmp_path_factory.mktemp("unbroken")
    data = written(parity(24), folder / "x.arrow")
    return *trained(data, SHORT, folder / "whole", dev=a_dev()), data


@pytest.fixture(scope="module")
def unbroken_without_dev(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, EncodedExamples]:
    """An uninterrupted training without a dev split, and its reports."""
    folder = tmp_path_factory.mktemp("unbroken-without-dev")
    data = written(parity(24), folder / "x.arrow")
    return trained(data, SHORT, folder / "whole")[0], data


@pytest.mark.parametrize("at", [1, 3, 4, 6])
def test_a_resumed_training_ends_as_one_that_never_stopped(
    unbroken: tuple[Any, PrmTrainer, EncodedExamples], tmp_path: Path, at: int
) -> None:
    whole, trainer, data = unbroken
    assert trainer.state.max_steps == 8
    _, broken = trained(data, SHORT, tmp_path / "c", dev=a_dev(), stop=stop_at(at))
    assert broken.was_stopped
    assert broken.state.global_step == at
    # The weights come from the checkpoint, so the initial ones do not matter.
    resumed, again = trained(data, SHORT, tmp_path / "c", model=tiny(seed=7), dev=a_dev(), resume=True)
    assert not again.was_stopped
    assert (again.state.global_step, again.state.best_metric) == (8, trainer.state.best_metric)
    assert farthest(weights(whole), weights(resumed)) == 0


def test_a_training_that_was_done_resumes_to_what_it_was(tmp_path: Path) -> None:
    data = written(parity(24), tmp_path / "x.arrow")
    whole, _ = trained(data, SHORT, tmp_path / "c", dev=a_dev())
    again, trainer = trained(data, SHORT, tmp_path / "c", model=tiny(seed=7), dev=a_dev(), resume=True)
    assert trainer.state.global_step == 8
    assert farthest(weights(whole), weights(again)) == 0


@pytest.mark.parametrize("torn", ["absent", "empty", "half"])
def test_a_checkpoint_that_was_torn_by_a_kill_is_passed_over(
    unbroken_without_dev: tuple[Any, EncodedExamples], tmp_path: Path, torn: str
) -> None:
    whole, data = unbroken_without_dev
    _, broken = trained(data, SHORT, tmp_path / "c", stop=stop_at(5))
    assert broken.state.global_step == 5
    state = (tmp_path / "c" / "checkpoint-5" / "trainer_state.json").read_text()
    newer = tmp_path / "c" / "checkpoint-6"
    newer.mkdir()
    (newer / "model.safetensors").write_bytes(b"torn")
    if torn != "absent":
        (newer / "trainer_state.json").write_text("" if torn == "empty" else state[: len(state) // 2])
    resumed, again = trained(data, SHORT, tmp_path / "c", model=tiny(seed=7), resume=True)
    assert again.state.global_step == 8
    assert farthest(weights(whole), weights(resumed)) == 0


def test_with_nothing_to_resume_from_training_begins(tmp_path: Path) -> None:
    data = written(parity(8), tmp_path / "x.arrow")
    (tmp_path / "c" / "checkpoint-3").mkdir(parents=True)
    first, _ = trained(data, SHORT, tmp_path / "c", resume=True)
    second, _ = trained(data, SHORT, tmp_path / "d")
    assert farthest(weights(first), weights(second)) == 0


def test_the_best_checkpoint_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(parity(24, shuffled=True), tmp_path / "x.arrow")
    schedule = replace(SHORT, learning_rate=1e-2, evaluations=8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    whole, trainer = trained(data, schedule, Path("whole"), dev=a_dev())
    assert trainer.state.best_global_step < 7
    trained(data, schedule, Path("c"), dev=a_dev(), stop=stop_at(7))
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed, _ = trained(data, schedule, Path("../c"), dev=a_dev(), resume=True)
    assert farthest(weights(whole), weights(resumed)) == 0


# When it ends.


def test_training_ends_where_patience_ends_and_a_break_does_not_lengthen_it(tmp_path: Path) -> None:
    data = written(parity(24), tmp_path / "x.arrow")
    # Such a small learning rate does not change any float32, so no evaluation is better than the first.
    schedule = replace(SHORT, epochs=4, learning_rate=1e-30, evaluations=8, patience=4)
    _, whole = trained(data, schedule, tmp_path / "a", dev=a_dev())
    assert whole.state.eval_steps == 2
    assert whole.state.global_step == 10 < whole.state.max_steps
    assert not whole.was_stopped
    _, broken = trained(data, schedule, tmp_path / "b", dev=a_dev(), stop=stop_at(7))
    assert broken.was_stopped
    _, resumed = trained(data, schedule, tmp_path / "b", dev=a_dev(), resume=True)
    assert resumed.state.global_step == 10


@pytest.mark.slow
def test_the_best_checkpoint_is_what_comes_out(tmp_path: Path) -> None:
    data, told = written(parity(40, shuffled=True), tmp_path / "x.arrow"), []
    schedule = replace(LEARNING, learning_rate=1e-2, evaluations=10, epochs=30)
    dev = a_dev(60, shuffled=True)
    model, trainer = trained(data, schedule, tmp_path / "c", dev=dev, report=told.append)
    losses = [item["eval_log_loss"] for item in told if "eval_log_loss" in item]
    # Memorising random labels makes the model worse and worse on other questions.
    assert losses[-1] > min(losses) + 0.1
    assert dev.measure(model).steps.log_loss == pytest.approx(min(losses), rel=1e-6)
    assert trainer.state.best_metric == min(losses)


@pytest.mark.parametrize("measured", [True, False])
def test_a_loss_that_is_no_number_is_told_in_a_sentence(tmp_path: Path, measured: bool) -> None:
    data = written(parity(24), tmp_path / "x.arrow")
    schedule = replace(SHORT, learning_rate=1e30, evaluations=1)
    with pytest.raises(
        OpenRError, match=r"is not a number at step \d+\. Train with a lower -o learning_rate \(it is 1e\+30"
    ):
        trained(data, schedule, tmp_path / "c", dev=a_dev() if measured else None)


def test_a_loss_that_is_no_number_in_the_last_updates_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every second of 7 updates is logged; the failure is in the last one.
    data = written(parity(24), tmp_path / "x.arrow")
    schedule = replace(SHORT, epochs=1.75)
    real, calls = StepLoss.__call__, 0

    def broken(self: StepLoss, *arguments: Any, **more: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(self, *arguments, **more) * (float("nan") if calls == 14 else 1.0)

    monkeypatch.setattr(StepLoss, "__call__", broken)
    with pytest.raises(OpenRError, match="The loss is not a number at step 7"):
        trained(data, schedule, tmp_path / "c")
    assert calls == 14


def test_scores_that_are_no_numbers_are_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(parity(24), tmp_path / "x.arrow")
    monkeypatch.setattr(prm.Dev, "_forward", lambda self, model, rows: [[float("nan")] * 3 for _ in rows])
    with pytest.raises(OpenRError, match="A score of the dev split is not a number at step 2. Train with a lower"):
        trained(data, SHORT, tmp_path / "c", dev=a_dev())


def test_a_window_that_is_shorter_than_a_solution_cannot_read_a_tree(tmp_path: Path) -> None:
    data = written(parity(8), tmp_path / "x.arrow")
    assert data.longest > 16
    narrow = tiny("mistral", sliding_window=16)
    with pytest.raises(
        UsageError, match=r"attend to 16 tokens only, and the longest solution has \d+: .* -o share=false"
    ):
        trained(data, SHORT, tmp_path / "c", model=narrow)
    wide = tiny("mistral", sliding_window=data.longest)
    trained(data, replace(SHORT, epochs=0.5), tmp_path / "d", model=wide)
    apart = written(parity(8), tmp_path / "y.arrow", share=False)
    train(narrow, encoder(), apart, None, replace(SHORT, epochs=0.5), tmp_path / "e", branches=False)


@pytest.mark.parametrize(("least", "wanted"), [(0, 4), (3, 4), (6, 6), (9, 9)])
def test_few_examples_are_read_more_often_until_there_are_enough_updates(
    least: int, wanted: int, tmp_path: Path
) -> None:
    data = written(parity(12), tmp_path / "x.arrow")
    schedule = replace(SHORT, epochs=1, packs_per_step=1, least_updates=least, evaluations=0)
    packs = len(plan_packs(data.lengths, schedule.pack_tokens, schedule.seed))
    _, trainer = trained(data, schedule, tmp_path / "c")
    assert packs == 4
    assert trainer.state.global_step == wanted


# LoRA.


def test_lora_without_peft_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(parity(4), tmp_path / "x.arrow")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r"pip install 'openr-data\[lora\]'"):
        trained(data, replace(SHORT, lora_rank=4), tmp_path / "c")


def test_lora_trains_few_weights_and_is_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    data = written(parity(24), tmp_path / "x.arrow")
    schedule = replace(SHORT, lora_rank=4)
    model, _ = trained(data, schedule, tmp_path / "whole", dev=a_dev())
    assert type(model) is type(tiny())
    before, after = weights(tiny()), weights(model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("embed" in name or "norm" in name for name in changed)
    trained(data, schedule, tmp_path / "c", dev=a_dev(), stop=stop_at(3))
    resumed, _ = trained(data, schedule, tmp_path / "c", dev=a_dev(), resume=True)
    assert farthest(after, weights(resumed)) == 0
    lean, _ = trained(data, replace(schedule, checkpointing=True), tmp_path / "lean", dev=a_dev())
    assert farthest(after, weights(lean)) < 1e-5


# That it learns.


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PrmTrainer, Path]:
    folder = tmp_path_factory.mktemp("learned")
    data = written(parity(400), folder / "x.arrow")
    model, trainer = trained(data, LEARNING, folder / "c", dev=a_dev(60))
    return model, trainer, folder


@pytest.mark.slow
def test_parity_is_learned_on_questions_that_were_not_seen(learned: tuple[Any, PrmTrainer, Path]) -> None:
    held_out = a_dev(80, seed=2)
    measured = held_out.measure(learned[0])
    assert measured.steps.steps == 480
    assert measured.steps.accuracy is not None
    assert measured.steps.accuracy >= 0.98
    assert measured.steps.auroc is not None
    assert measured.steps.auroc >= 0.99
    assert measured.at_threshold.f1 is not None
    assert measured.at_threshold.f1 >= 0.95


@pytest.mark.slow
def test_a_model_that_was_saved_and_loaded_gives_the_scores_of_training(
    learned: tuple[Any, PrmTrainer, Path], tmp_path: Path
) -> None:
    model, _, _ = learned
    dev = a_dev(20, seed=3)
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="sdpa")
    assert dev.score(loaded) == dev.score(model)


@pytest.mark.slow
def test_shuffled_labels_teach_nothing(tmp_path: Path) -> None:
    data = written(parity(400, shuffled=True), tmp_path / "x.arrow")
    model, _ = trained(data, replace(LEARNING, epochs=6), tmp_path / "c", dev=a_dev(60, shuffled=True))
    for dev in (a_dev(300, seed=2), a_dev(300, seed=2, shuffled=True)):
        found = dev.measure(model).steps.auroc
        assert found is not None
        assert abs(found - 0.5) < 0.1


@pytest.mark.slow
def test_the_verdict_objective_learns_to_write_the_verdict(tmp_path: Path) -> None:
    data = written(parity(400), tmp_path / "x.arrow")
    model, _ = trained(data, LEARNING, tmp_path / "c", dev=a_dev(60), generative=True)
    found = a_dev(80, seed=2).measure(model).steps
    assert found.auroc is not None
    assert found.auroc > 0.95
    read, (example, *_) = encoder(), parity(1, seed=2)
    encoded = read.encode(example.question, example.steps)
    with torch.inference_mode():
        said = model.eval()(input_ids=torch.tensor([encoded.ids])).logits[0, list(encoded.read)].argmax(dim=-1)
    # Out of the whole vocabulary the model writes only the verdicts there.
    assert set(said.tolist()) <= {read.good, read.bad}


@pytest.mark.slow
def test_a_classifier_learns_too(tmp_path: Path) -> None:
    data = written(parity(400), tmp_path / "x.arrow", form=CLASSES)
    dev = Dev(parity(60, 1), encoder(CLASSES), 256)
    model = tiny("classifier", num_labels=2)
    model, _ = trained(data, LEARNING, tmp_path / "c", dev=dev, model=model, form=CLASSES)
    found = dev.measure(model).steps.auroc
    assert found is not None
    assert found > 0.95


# Several processes.


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}  # fmt: skip


def in_two_processes(folder: Path, *arguments: str, **variables: str) -> str:
    """Run `two_processes` and return its stderr."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launcher, "-m", "tests.training.prm.two_processes", str(folder), *arguments]
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **variables}
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_model_in_shards_is_trained_as_one_and_put_together(lora_rank: int, tmp_path: Path) -> None:
    data, schedule = written(parity(48), tmp_path / "data.arrow"), replace(OF_TWO, lora_rank=lora_rank)
    alone, trainer = trained(data, schedule, tmp_path / "alone", model=a_llama(), dev=a_dev(8))
    in_two_processes(tmp_path, str(lora_rank), **FSDP)
    document = json.loads((tmp_path / "found.json").read_text())
    assert document == [[2, trainer.state.global_step, False], [2, STOP_AT, True]]
    together = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert weights(alone).keys() == together.keys()
    assert farthest(weights(a_llama()), weights(alone)) > 1e-4
    assert farthest(weights(alone), together) < 1e-5


@pytest.mark.slow
def test_two_processes_train_as_one_at_the_same_rows_an_update_and_stop_together(tmp_path: Path) -> None:
    data = written(parity(48), tmp_path / "data.arrow")
    assert len(plan_packs(data.lengths, OF_TWO.pack_tokens, 0)) % 2 == 0
    alone, trainer = trained(data, OF_TWO, tmp_path / "alone", model=a_llama(), dev=a_dev(8))
    assert trainer.state.global_step > STOP_AT
    assert "Warning" not in in_two_processes(tmp_path)
    document = json.loads((tmp_path / "found.json").read_text())
    assert document == [[2, trainer.state.global_step, False], [2, STOP_AT, True]]
    together = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert farthest(weights(a_llama()), weights(alone)) > 1e-3
    assert farthest(weights(alone), together) < 1e-5
    # One process resumes from the checkpoint of two processes.
    resumed, again = trained(data, OF_TWO, tmp_path / "stopped", model=tiny("llama", seed=7), dev=a_dev(8), resume=True)
    assert again.state.global_step == trainer.state.global_step
    assert farthest(weights(resumed), weights(alone)) < 1e-5
