"""Tests a run from a snapshot of a store to a model folder, through the library."""

import asyncio
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from openr_data.errors import InputError, Interrupted, JobError, MissingDataset, UnknownName, UsageError
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.overlap import SEEN_FILE, fingerprint, read_fingerprints
from openr_data.prm_format import CONFIG_KEY, PrmFormat, format_of
from openr_data.store import Store
from openr_data.training.base_model import choose_format, load_base
from openr_data.training.prm.dev import Dev
from openr_data.training.prm.examples import Example, LabelRule
from openr_data.training.prm.packing import EncodedExamples
from openr_data.training.prm.run import PrmConfig, PrmRun
from openr_data.training.prm.trainer import Schedule
from tests.training.prm.toys import (
    CLASSES,
    PAIR,
    a_row,
    bring,
    encoder,
    farthest,
    parity,
    parity_rows,
    saved,
    tiny,
    tokenizer,
    weights,
)

QUICK = Schedule(epochs=2, learning_rate=2e-3, pack_tokens=128, packs_per_step=2, evaluations=2)
DUCKS = (
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends "
    "every day with four. She sells the remainder at the farmers' market daily for $2 per fresh duck egg. How much in "
    "dollars does she make every day at the farmers' market?"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a tiny random model."""
    return saved(tiny(), tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with the parity task as dataset `d`."""
    folder = tmp_path_factory.mktemp("labelled") / "store"
    bring(Store.open(folder, create=True), parity_rows(40))
    return folder


@dataclass(frozen=True, slots=True)
class Done:
    """A finished run, its reports, and its files."""

    store: Store
    run: PrmRun
    told: list[Any]
    figures: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def done(labelled: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("done")
    shutil.copytree(labelled, folder / "store")
    store, told = Store.open(folder / "store"), list[Any]()
    run = PrmRun(store, a_config(base), folder / "my-prm")
    assert run.result() is None
    return Done(store, run, told, run.run(told.append), folder / "my-prm")


@pytest.fixture
def store(labelled: Path, tmp_path: Path) -> Store:
    """Copy the finished run for a test that changes it."""
    shutil.copytree(labelled, tmp_path / "store")
    return Store.open(tmp_path / "store")


def a_config(base: Path, **more: Any) -> PrmConfig:
    return PrmConfig(**{"data": "d", "model": str(base), "dev_share": 0.25, "schedule": QUICK, **more})


def of_folder(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def stopping_at(step: int) -> Callable[[], bool]:
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == step

    return stop


# What comes out.


def test_a_run_writes_a_model_folder_that_says_how_it_is_read(done: Done) -> None:
    run, figures, folder = done.run, done.figures, done.folder
    assert figures == run.result() == json.loads((run.job.path / "result.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    form = format_of("m", config)
    assert (form.name, form.digest()) == ("openr-data", PAIR.digest())
    assert form.threshold == pytest.approx(figures["threshold"], abs=1e-6)
    settings = config[CONFIG_KEY]
    assert settings["objective"] == "pair"
    assert settings["trained_on"] == {"data": "d@1", "digest": done.store.view("d@1").digest()}
    assert settings["label_rule"] == {"labels": "hard", "weights": "one", "source_weights": [], "reasons": False}
    assert AutoTokenizer.from_pretrained(folder).encode("<|step|>") == tokenizer().encode("<|step|>")
    written = json.loads((folder / "training.json").read_text())
    assert written["figures"] == figures
    assert (written["config"]["learning_rate"], written["config"]["data"]) == (2e-3, "d@1")
    # The questions of training and selection, for later evaluations.
    asked = done.store.view("d").sql("select question from questions")["question"].to_pylist()
    seen = read_fingerprints((folder / SEEN_FILE).read_text())
    assert seen == {fingerprint(text) for text in asked}
    assert len(seen) == figures["questions"] + figures["dev_questions"] == 40
    # The checkpoints are removed, the encoded data stay.
    assert not (run.job.path / "checkpoints").exists()
    assert sorted(path.name for path in (run.job.path / "data").iterdir()) == ["train.arrow", "train.json"]
    assert any("eval_log_loss" in item for item in done.told)
    assert farthest(weights(tiny()), of_folder(folder)) > 1e-3


def test_the_figures_are_those_of_the_data(done: Done) -> None:
    figures = done.figures
    rows = done.store.view("d").sql("select question_id from records").to_pylist()
    assert figures["questions"] + figures["dev_questions"] == 40
    assert figures["total"] + figures["dev_solutions"] == len(rows)
    assert 1.5 * figures["questions"] < figures["total"] <= 2 * figures["questions"]
    data = EncodedExamples(done.run.job.path / "data" / "train.arrow")
    weight = np.concatenate([data.of_reads("weight", place) for place in range(len(data))])
    target = np.concatenate([data.of_reads("target", place) for place in range(len(data))])
    assert figures["steps"] == weight.sum()
    assert figures["good_steps"] == (weight * target).sum()
    assert figures["steps"] + figures["masked_steps"] == 3 * figures["total"]
    assert figures["tokens"] == data.tokens < figures["solution_tokens"]
    assert figures["parameters"] == sum(item.numel() for item in tiny().parameters())
    assert set(figures["dev"]) >= {"log_loss", "auroc", "accuracy", "brier"}
    assert (figures["data"], figures["job"]) == ("d@1", done.run.job.job_id)


def test_the_card_tells_what_it_is_trained_on_and_how_it_is_read(done: Done) -> None:
    figures, card = done.figures, (done.folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "# my-prm" in card
    assert f"{figures['total']:,} solutions of\n  {figures['questions']:,} questions" in card
    assert f"{figures['steps']:,} labelled steps, {figures['good_steps']:,} of them good" in card
    assert "- `seen_questions.txt` has fingerprints of these questions" in card
    assert "`<|step|>` after each step, and there `<|good|>` against `<|bad|>`" in card
    assert f"| auroc | {figures['dev']['auroc']:.4f} |" in card
    settings = tomllib.loads(card.split("```toml\n")[1].split("```")[0])
    assert (settings["pack_tokens"], settings["share"], settings["labels"]) == (128, True, "hard")
    assert "None.\n" not in card


def test_without_held_out_questions_nothing_is_measured(store: Store, base: Path, tmp_path: Path) -> None:
    figures = PrmRun(store, a_config(base, dev_share=0.0), tmp_path / "m").run()
    assert (figures["dev"], figures["dev_questions"], figures["threshold"]) == ({}, 0, 0.5)
    assert figures["questions"] == 40
    assert "None.\n" in (tmp_path / "m" / "README.md").read_text()


def test_the_folder_scores_as_training_did(done: Done) -> None:
    examples = parity(6, seed=5)
    trained = AutoModelForCausalLM.from_pretrained(done.folder, attn_implementation="sdpa")
    alone = [Dev([item], encoder(), 0).score(trained)[0] for item in examples]
    reward = TransformersReward(str(done.folder), device="cpu")

    async def all_at_once() -> Any:
        return await asyncio.gather(*(reward.score(item.question, item.steps) for item in examples))

    try:
        outcome = asyncio.run(all_at_once())
    finally:
        reward.close()
    for one, other in zip(alone, outcome, strict=True):
        assert list(other) == pytest.approx(one, abs=1e-5)


def test_a_generative_model_says_so(done: Done, store: Store, base: Path, tmp_path: Path) -> None:
    PrmRun(store, a_config(base, generative=True), tmp_path / "m").run()
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config[CONFIG_KEY]["objective"] == "verdict"
    assert farthest(of_folder(done.folder), of_folder(tmp_path / "m")) > 1e-4


def test_a_model_that_is_trained_on_keeps_its_format(done: Done, store: Store, tmp_path: Path) -> None:
    figures = PrmRun(store, a_config(done.folder), tmp_path / "n").run()
    assert figures["updates"] > 0
    document = format_of("n", json.loads((tmp_path / "n" / "config.json").read_text()))
    assert document.digest() == PAIR.digest()


# Again, and another one.


def test_a_run_that_is_done_is_known_until_another_one_is_in_its_folder(
    store: Store, base: Path, tmp_path: Path
) -> None:
    first = PrmRun(store, a_config(base), tmp_path / "m")
    figures = first.run()
    assert PrmRun(store, a_config(base), tmp_path / "m").result() == figures
    other = PrmRun(store, a_config(base, schedule=replace(QUICK, seed=1)), tmp_path / "m")
    assert other.job.job_id != first.job.job_id
    assert other.result() is None
    other.run()
    # The folder now holds the other model.
    assert PrmRun(store, a_config(base), tmp_path / "m").result() is None
    shutil.rmtree(tmp_path / "m")
    assert other.result() is None


def test_a_stopped_run_goes_on_to_the_same_weights(done: Done, store: Store, base: Path, tmp_path: Path) -> None:
    broken = PrmRun(store, a_config(base), tmp_path / "m")
    with pytest.raises(Interrupted, match=r"Run the same command to continue from it\."):
        broken.run(stop=stopping_at(3))
    assert (broken.job.path / "checkpoints" / "checkpoint-3").is_dir()
    assert not (tmp_path / "m").exists()
    again = PrmRun(store, a_config(base), tmp_path / "m").run()
    assert farthest(of_folder(done.folder), of_folder(tmp_path / "m")) == 0
    own = {"job", "seconds"}
    assert {k: v for k, v in again.items() if k not in own} == {k: v for k, v in done.figures.items() if k not in own}


def test_a_run_that_died_while_it_wrote_its_folder_writes_it_anew(
    done: Done, store: Store, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    run = PrmRun(store, a_config(base), tmp_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr("openr_data.training.prm.run.prm_card", killed)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    assert (tmp_path / "m" / "config.json").exists()
    assert run.job.result() is None
    # Interrupted earlier: only the config exists.
    for path in (tmp_path / "m").iterdir():
        if path.name != "config.json":
            path.unlink()
    again = PrmRun(store, a_config(base), tmp_path / "m")
    assert again.result() is None
    assert again.run()["updates"] == done.figures["updates"]
    assert farthest(of_folder(tmp_path / "m"), of_folder(done.folder)) == 0


def test_one_process_alone_trains_a_job(store: Store, base: Path, tmp_path: Path) -> None:
    run = PrmRun(store, a_config(base), tmp_path / "m")
    with run.job.lock(), pytest.raises(JobError, match="is running already"):
        PrmRun(store, a_config(base), tmp_path / "m").run()


def test_damaged_data_of_a_job_are_told(store: Store, base: Path, tmp_path: Path) -> None:
    run = PrmRun(store, a_config(base), tmp_path / "m")
    with pytest.raises(Interrupted):
        run.run(stop=stopping_at(1))
    data = run.job.path / "data"
    (data / "train.json").write_text("{")
    with pytest.raises(InputError, match=r"The encoded data .* are damaged\. Remove .*data and train again\."):
        run.run()
    (data / "train.json").unlink()
    (data / "train.arrow").write_bytes(b"torn")
    (data / "train.json").write_text("{}")
    with pytest.raises(InputError, match="does not hold encoded examples. Remove it"):
        run.run()
    shutil.rmtree(data)
    assert run.run()["total"] > 0


# The snapshot.


def test_what_is_labelled_later_has_no_part_in_a_run(done: Done, store: Store, base: Path, tmp_path: Path) -> None:
    early = PrmRun(store, a_config(base), tmp_path / "m")
    assert early.config.data == "d@1"
    bring(store, parity_rows(30, seed=9))
    assert store.view("d").counts()["labels"] > store.view("d@1").counts()["labels"]
    with pytest.raises(Interrupted):
        early.run(stop=stopping_at(3))
    # Naming the snapshot gives the same job, even if main has moved on.
    late = PrmRun(store, a_config(base, data="d@1"), tmp_path / "m")
    assert late.job.job_id == early.job.job_id
    outcome = late.run()
    assert (outcome["total"], outcome["digest"]) == (done.figures["total"], done.figures["digest"])
    assert farthest(of_folder(done.folder), of_folder(tmp_path / "m")) == 0
    newest = PrmRun(store, a_config(base), tmp_path / "m")
    assert newest.job.job_id != early.job.job_id
    assert newest.config.data != "d@1"


# The dev split.


def sides(run: PrmRun) -> tuple[list[Example], list[Example]]:
    dev: list[Example] = []
    return list(run._split(dev, set())), dev


def test_no_question_is_on_both_sides_of_the_split(tmp_path: Path, base: Path) -> None:
    # The same questions with another gold answer, without one, and in a slightly different spelling have other ids.
    texts = [f"What is the sum of {number} and ${number}$?" for number in range(60)]
    rows = [a_row(text, [f"{n} 1", "1 1"], [1, -1]) for text in texts for n in range(2)]
    rows += [a_row(text, ["0 1", "1 0"], [1, -1], answer="2") for text in texts]
    rows += [a_row(text.replace("$", " ").upper(), ["0 1", "1 0"], [1, -1], answer="") for text in texts]
    store = Store.open(tmp_path / "store", create=True)
    bring(store, rows)
    run = PrmRun(store, a_config(base, dev_share=0.3), tmp_path / "m")
    train, dev = sides(run)

    def asked(items: list[Example]) -> set[str]:
        return {" ".join(item.question.replace("$", " ").casefold().split()).replace(" ?", "?") for item in items}

    assert len({item.question_id for item in train + dev}) == 180
    assert len(train) + len(dev) == len(rows)
    assert not asked(train) & asked(dev)
    assert len(asked(train) | asked(dev)) == 60
    assert 0.1 < len(asked(dev)) / 60 < 0.5
    assert run.questions == {"train": 180 - 3 * len(asked(dev)), "dev": 3 * len(asked(dev))}
    assert run.trained_on.steps == 2 * len(train)
    again = PrmRun(store, a_config(base, dev_share=0.3), tmp_path / "m")
    assert sides(again) == (train, dev)


def test_the_split_is_drawn_from_the_seed(store: Store, base: Path, tmp_path: Path) -> None:
    found = {
        tuple(sorted({item.question for item in sides(PrmRun(store, a_config(base, schedule=replace(QUICK, seed=seed)),
                                                             tmp_path / "m"))[1]}))
        for seed in range(3)
    }  # fmt: skip
    assert len(found) == 3


def test_a_dev_split_that_does_not_fit_is_none(store: Store, base: Path, tmp_path: Path) -> None:
    long = [a_row(f"Long question {number}? {'very ' * 300}", ["1"], [1]) for number in range(40)]
    bring(store, long, name="e")
    bring(store, parity_rows(4), name="e")
    for seed in range(30):
        run = PrmRun(
            store, a_config(base, data="e", dev_share=0.15, schedule=replace(QUICK, seed=seed)), tmp_path / "m"
        )
        train, dev = sides(run)
        if dev and all(item.question.startswith("Long") for item in dev) and len(train) > 20:
            break
    figures = PrmRun(store, run.config, tmp_path / "m").run()
    assert figures["dev_questions"] > 0
    assert (figures["dev_solutions"], figures["dev"]) == (0, {})
    assert figures["dropped_solutions"] > 0


# What is refused.


def test_benchmark_questions_are_refused_and_a_stray_few_are_left_out(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    ducks = a_row(DUCKS, ["16 - 7", "9"], [1, 1])
    bring(store, [*parity_rows(18), ducks])
    with pytest.raises(InputError, match=r"d@1 contains benchmark questions \(1 of gsm8k-test\)"):
        PrmRun(store, a_config(base), tmp_path / "m").run()
    assert not (tmp_path / "m").exists()
    # One of twenty questions is within the tolerated share.
    bring(store, [*parity_rows(19), ducks], name="e")
    run = PrmRun(store, a_config(base, data="e", dev_share=0.0), tmp_path / "m")
    figures = run.run()
    assert (figures["questions"], figures["benchmark_questions_left_out"]) == (19, {"gsm8k-test": 1})
    data = EncodedExamples(run.job.path / "data" / "train.arrow")
    ids = [tuple(data.of_tokens("ids", place).tolist()) for place in range(len(data))]
    question = encoder().encode(DUCKS, ["9"]).ids[:20]
    assert not any(item[:20] == question for item in ids)
    # Unlabelled questions do not count.
    bring(store, [*parity_rows(4), {"question": DUCKS, "answer": "18", "steps": []}], name="f")
    assert PrmRun(store, a_config(base, data="f", dev_share=0.0), tmp_path / "m").run()["questions"] == 4


def test_data_without_labels_are_told(base: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    bring(store, [{"question": "Q?", "answer": "1", "steps": []}])
    with pytest.raises(InputError, match=r"d@1 has no label sets: .*Label some with: openr-data label d$"):
        PrmRun(store, a_config(base), tmp_path / "m").run()
    bring(store, parity_rows(4), name="e")
    with pytest.raises(InputError, match="e@1 has no label sets that match --method and --where"):
        PrmRun(store, a_config(base, data="e", method="judge"), tmp_path / "m").run()
    bring(store, [a_row(f"Q{n}?", ["a", "b"], [None, None]) for n in range(3)], name="f")
    with pytest.raises(InputError, match="None of the 3 records of f@1 has a label on any step. .*openr-data show f@1"):
        PrmRun(store, a_config(base, data="f"), tmp_path / "m").run()
    with pytest.raises(MissingDataset):
        PrmRun(store, a_config(base, data="nothing"), tmp_path / "m")
    # The next attempt must not find encoded data.
    with pytest.raises(InputError, match="d@1 has no label sets"):
        PrmRun(store, a_config(base), tmp_path / "m").run()


def test_questions_that_are_all_held_out_are_told(store: Store, base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"All 40 questions of d@1 are held out\. .*smaller -o dev_share \(it is 0\.999"
    ):
        PrmRun(store, a_config(base, dev_share=0.9999), tmp_path / "m").run()


def test_solutions_that_do_not_fit_are_counted_and_all_of_them_are_an_error(
    store: Store, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"None of the \d+ solutions of d@1 fits into the context of .*max_length"):
        PrmRun(store, a_config(base, max_length=3), tmp_path / "m").run()
    with pytest.raises(UsageError, match=r"-o max_length=257 exceeds the 256 positions of"):
        PrmRun(store, a_config(base, max_length=257), tmp_path / "m").run()
    sizes = [len(encoder().encode(item.question, item.steps).ids) for item in parity(40)]
    figures = PrmRun(store, a_config(base, max_length=max(sizes) - 2), tmp_path / "m").run()
    assert figures["cut_solutions"] > 0
    assert figures["cut_steps"] >= figures["cut_solutions"]
    assert "Too long: " in (tmp_path / "m" / "README.md").read_text()


def test_a_folder_with_other_things_in_it_is_not_written_to(
    done: Done, store: Store, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match=r"full contains other files\. Name another folder with --out\."):
        PrmRun(store, a_config(base), tmp_path / "full")
    # A model that this project did not write counts as other files too.
    with pytest.raises(UsageError, match="contains other files"):
        PrmRun(store, a_config(base, model="arithmetic"), base)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"file is a file\. Name a folder"):
        PrmRun(store, a_config(base), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    PrmRun(store, a_config(base), tmp_path / "empty")
    PrmRun(store, a_config(base), done.folder)
    with pytest.raises(UsageError, match=r"my-prm is the base model itself\. Name another folder"):
        PrmRun(store, a_config(done.folder), done.folder)
    assert not list(store.jobs_path.glob("*/data/*.part"))


@pytest.mark.parametrize(
    "broken",
    [
        {"dev_share": 1.0},
        {"dev_share": -0.1},
        {"max_length": -1},
        {"labels": "soft", "threshold": 0.5},
        {"per_question": 0},
    ],
)
def test_a_configuration_that_makes_no_sense_is_not_built(base: Path, broken: dict[str, Any]) -> None:
    with pytest.raises((ValueError, UsageError)):
        a_config(base, **broken)


# The base model.


def changed(base: Path, folder: Path, **values: Any) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


def test_the_format_is_the_one_named_or_the_models_own_or_the_first_that_fits(base: Path, tmp_path: Path) -> None:
    assert choose_format(str(base), "").name == "openr-data"
    assert choose_format(str(base), "qwen").name == "qwen"
    own = PrmFormat("mine", tag="<|step|>", head="classes", threshold=0.3)
    assert choose_format(str(changed(base, tmp_path / "own", **{CONFIG_KEY: own.as_dict()})), "") == own
    with pytest.raises(UnknownName, match="No PRM format 'opener-data'.*Did you mean 'openr-data'"):
        choose_format(str(base), "opener-data")
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_text((bare / name).read_text().replace("<|step|>", "<|stop|>"))
    with pytest.raises(InputError, match="has the tokens of neither openr-data nor openr-qwen .*'<|step|>'.*--format"):
        choose_format(str(bare), "")


@pytest.mark.parametrize("head", ["lm_pair", "classes", "scalar"])
def test_a_model_has_the_head_of_its_format_in_float32(base: Path, head: str) -> None:
    forms = {"lm_pair": PAIR, "classes": CLASSES, "scalar": replace(CLASSES, head="scalar")}
    model, read = load_base(str(base), forms[head])
    assert {item.dtype for item in model.parameters()} == {torch.float32}
    assert len(read) == len(tokenizer())
    assert model.config._attn_implementation == "sdpa"
    if head == "lm_pair":
        assert farthest(weights(model), weights(tiny())) == 0
    else:
        assert model.config.num_labels == (2 if head == "classes" else 1)
        assert farthest(weights(model.model), weights(tiny().model)) == 0


def test_a_classifier_is_trained_and_saved_as_one(store: Store, base: Path, tmp_path: Path) -> None:
    own = changed(base, tmp_path / "own", **{CONFIG_KEY: CLASSES.as_dict()})
    PrmRun(store, a_config(own), tmp_path / "m").run()
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForTokenClassification"]
    assert format_of("m", config).head == "classes"
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path / "m")
    assert loaded.config.num_labels == 2


def torn(folder: Path, name: str, kept: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "is not a trainable model: Unrecognized model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is not a trainable model: .*no file named"),
        (lambda folder: torn(folder, "model.safetensors", 1_000), "is not a trainable model: .*header"),
        (lambda folder: torn(folder, "model.safetensors", 0), "is not a trainable model: .*header"),
        (lambda folder: torn(folder, "tokenizer.json", 1_000), "is not a trainable model"),
        (lambda folder: torn(folder, "config.json", 30), "is not a trainable model: .*JSON"),
    ],
)
def test_what_is_no_model_is_told_in_a_sentence(
    base: Path, tmp_path: Path, damage: Callable[[Path], Any], words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    damage(folder)
    with pytest.raises(InputError, match=words) as raised:
        load_base(str(folder), choose_format(str(folder), ""))
    assert str(raised.value).endswith("Name a folder with a model, or a Hub repository.")
    assert "\n" not in str(raised.value)
    assert ".." not in str(raised.value).replace(str(folder), "")


def test_weights_of_another_model_are_refused(base: Path, tmp_path: Path) -> None:
    other = changed(base, tmp_path / "bert", model_type="bert", architectures=["BertForMaskedLM"])
    with pytest.raises(InputError, match=r"is not a BertLMHeadModel: it lacks weights for bert\..* and \d+ others\."):
        load_base(str(other), PAIR)
    with pytest.raises(InputError, match="No model folder './nowhere'"):
        choose_format("./nowhere", "")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    more = AutoTokenizer.from_pretrained(folder)
    more.add_tokens(["<|more|>"])
    more.save_pretrained(folder)
    with pytest.raises(InputError, match=r"has more tokens than the model.s embeddings\. Resize the model first\."):
        load_base(str(folder), PAIR)


def test_the_rule_of_a_configuration_is_its_label_rule(base: Path) -> None:
    config = a_config(base, labels="soft", weights="rollouts", per_question=3, dedupe=True)
    assert config.rule() == LabelRule("soft", None, "rollouts")
    assert (config.selection().per_question, config.selection().dedupe) == (3, True)
    assert config.flat()["pack_tokens"] == 128
    assert "schedule" not in config.flat()
