"""Checks reasons of a generative reward model, from the metadata of labels to its text on new solutions."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from openr_data.errors import InputError, UsageError
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.prm_format import CONFIG_KEY, WRITES, PrmEncoder, PrmFormat
from openr_data.reasons import told_reasons
from openr_data.store import Store
from openr_data.training.prm.examples import Example, ExampleCounts, LabelRule, to_example
from openr_data.training.prm.loss import token_loss, verdict_loss
from openr_data.training.prm.packing import IGNORED, WRITTEN, Collator, EncodedExamples, items, write_encoded
from openr_data.training.prm.run import PrmConfig, PrmRun
from openr_data.training.prm.trainer import Schedule, StepLoss, train
from openr_data.types import Provenance, Record
from tests.conftest import a_question
from tests.training.prm.test_packing import NEAR, distance, forward, gradient, packed_loss
from tests.training.prm.toys import (
    PAIR,
    TURNS,
    bring,
    encoder,
    farthest,
    parity,
    parity_rows,
    saved,
    tiny,
    tokenizer,
    weights,
    written,
)


def reasoned(count: int = 4) -> list[Example]:
    """Make solutions with reasons; some steps have none, and some solutions share steps with different reasons."""
    found = [replace(item, reasons=("1 0", "", "0 0 1")) for item in parity(count, solutions=2)]
    first = replace(parity(1)[0], question_id="mixed", question="Mixed.", steps=("1 1", "0 1"), target=(1.0, 0.0))
    first = replace(first, weight=(3.0, 1.0), reasons=("1 1", "0 1"))
    return [
        *found,
        first,
        # The same reason for the same verdict, a second reason for it, one for the other verdict, one on a masked step.
        first,
        replace(first, steps=("1 1", "1 0"), reasons=("0", "1")),
        replace(first, target=(0.0, None), reasons=("0 0 0", "1 1 1")),
        replace(first, steps=("1 1",), target=(1.0,), weight=(1.0,), reasons=()),
    ]


def pieces(examples: Sequence[Example], read: PrmEncoder) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Return reasons by definition, one per verdict: the ids up to the verdict, the ids after it, the step's weight."""
    found: dict[tuple[str, tuple[int, ...]], tuple[tuple[int, ...], float]] = {}
    for item in examples:
        encoded = read.encode(item.question, item.steps)
        for place, reason in enumerate(item.reasons):
            target = item.target[place]
            if reason and target is not None:
                begun = read.verdict(encoded, place, target > 0.5)
                found.setdefault((item.question_id, begun), (read.reason(reason), item.weight[place]))
    return [(begun, said, weight) for (_, begun), (said, weight) in found.items()]


def one_by_one(model: Any, examples: Sequence[Example], form: PrmFormat, reason_weight: float) -> torch.Tensor:
    """Compute the loss by definition: every solution and every reason separately."""
    total, read = torch.zeros(()), encoder(form)
    for item in examples:
        encoded = read.encode(item.question, item.steps)
        judged = [at for at, value in enumerate(item.target) if value is not None]
        target, weight = (torch.tensor([values[at] for at in judged]) for values in (item.target, item.weight))
        logits = forward(model, encoded.ids)[[encoded.read[at] for at in judged]]
        total = total + verdict_loss(logits, target, weight, read.good, read.bad)
    for begun, said, step_weight in pieces(examples, read):
        logits = forward(model, (*begun, *said[:-1]))[len(begun) - 1 :]
        total = total + reason_weight * step_weight * functional.cross_entropy(logits, torch.tensor(said))
    return total


# What is learned.


@pytest.mark.parametrize("form", [PAIR, TURNS], ids=lambda form: form.name)
@pytest.mark.parametrize("reason_weight", [1.0, 0.25])
def test_reasons_pack_to_the_gradient_that_they_have_one_by_one(
    form: PrmFormat, reason_weight: float, tmp_path: Path
) -> None:
    model, examples = tiny(), reasoned()
    wanted = gradient(model, lambda: one_by_one(model, examples, form, reason_weight))
    for share in (False, True):
        path = tmp_path / f"{share}.arrow"
        write_encoded(examples, encoder(form), path, longest=256, room=512, share=share, reason_weight=reason_weight)
        data = EncodedExamples(path)
        gradients = gradient(
            model,
            lambda data=data, share=share: packed_loss(model, data, form, branches=share, generative=True),
        )
        assert distance(wanted, gradients) < NEAR
    # Reasons change the gradient, and with the configured weight.
    for other in (0.0, 2 * reason_weight):
        assert distance(wanted, gradient(model, lambda other=other: one_by_one(model, examples, form, other))) > 0.01


def test_a_reason_is_a_branch_that_the_solution_goes_on_without(tmp_path: Path) -> None:
    plain = [replace(item, reasons=()) for item in parity(2)]
    told = [replace(item, reasons=("1 0", "0", "")) for item in parity(2)]
    bare, data = written(plain, tmp_path / "plain.arrow"), written(told, tmp_path / "told.arrow")
    read, model = encoder(), tiny().eval()

    def of_verdicts(examples: EncodedExamples) -> torch.Tensor:
        batch = Collator(examples, keep=False, branches=True)([list(range(len(examples)))])
        labels = batch.pop("labels")[0]
        with torch.inference_mode():
            logits = model(**batch, use_cache=False).logits[0]
        return torch.stack([logits[at, [read.good, read.bad]] for at in range(len(labels)) if 0 <= labels[at] <= 1])

    assert torch.allclose(of_verdicts(bare), of_verdicts(data), atol=1e-6)
    assert data.tokens > bare.tokens


def test_the_tokens_of_a_reason_are_its_verdict_its_text_and_the_end(tmp_path: Path) -> None:
    (example, *_) = parity(1, solutions=1)
    example = replace(example, steps=("1 1",), target=(1.0,), weight=(2.0,), reasons=("  0 1 ",))
    data = written([example], tmp_path / "x.arrow")
    read = encoder()
    said = read.reason("0 1")
    assert said == (*tokenizer().encode("0 1", add_special_tokens=False), tokenizer().eos_token_id)
    encoded = read.encode(example.question, example.steps)
    labels = Collator(data, keep=True, branches=True)([[0]])["labels"]
    batch = Collator(data, keep=True, branches=True)([[0]])
    assert batch["input_ids"][0].tolist() == [*encoded.ids, read.good, *said[:-1]]
    at = encoded.read[0]
    assert labels[0].tolist() == [*[IGNORED] * at, 1.0, *(float(WRITTEN + token) for token in said)]
    assert labels[1][at:].tolist() == pytest.approx([2.0, *[2.0 / len(said)] * len(said)])
    assert batch["logits_to_keep"].tolist() == list(range(at, at + 1 + len(said)))


def test_ids_of_any_vocabulary_come_through_exactly() -> None:
    # Token targets are stored as float32 numbers.
    ids = torch.tensor([0, 1, 151_935, 262_143, 2**23])
    assert ((ids + WRITTEN).float().long() - WRITTEN).tolist() == ids.tolist()


def test_the_loss_of_tokens_is_their_weighted_cross_entropy() -> None:
    logits, token, weight = torch.randn(5, 7), torch.tensor([0, 6, 3, 3, 1]), torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0])
    expected = -(weight * logits.log_softmax(-1)[torch.arange(5), token]).sum()
    assert token_loss(logits, token, weight).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_update_with_reasons_is_the_same_in_however_many_rows(tmp_path: Path) -> None:
    examples = [replace(item, weight=(1.0 + at % 3,) * 3) for at, item in enumerate(reasoned(8)[:16])]
    data = written(examples, tmp_path / "x.arrow", share=False)
    found = {}
    for packs in (4, 1):
        room = next(size for size in range(40, 4_000) if _rows(data, size) == packs)
        schedule = Schedule(epochs=2, learning_rate=1e-3, pack_tokens=room, packs_per_step=packs, evaluations=1)
        model, trainer = train(
            tiny("llama"), encoder(), data, None, schedule, tmp_path / str(packs), branches=True, generative=True
        )
        assert trainer.state.global_step == 2
        found[packs] = weights(model)
    assert farthest(weights(tiny("llama")), found[1]) > 1e-4
    assert farthest(found[1], found[4]) < 1e-6


def test_a_reason_is_one_item_of_the_loss_however_long_it_is(tmp_path: Path) -> None:
    """The weight of a verdict in an update therefore does not depend on the length of the reasons beside it."""
    model, read = tiny(), encoder()
    plain, short, long = (
        written([replace(item, reasons=said) for item in parity(2, solutions=1)], tmp_path / f"{at}.arrow")
        for at, said in enumerate([(), ("1", "", ""), ("1 0 " * 20, "", "")])
    )
    for data, count in ((plain, 6), (short, 8), (long, 8)):
        batch = Collator(data, keep=True, branches=True)([list(range(len(data)))])
        labels = batch.pop("labels")
        outputs = model(**batch, use_cache=False)
        loss = StepLoss(read, generative=True)
        assert items(labels[0], read.end).sum() == count
        assert loss(outputs, labels).item() == pytest.approx(loss(outputs, labels, 1).item() / count, rel=1e-6)
        # Six verdicts of weight 1, and two reasons of weight 1 over all their tokens.
        assert data.mean_weight(read.end) == pytest.approx(1.0)


def test_the_trainer_divides_by_the_items_of_an_update(tmp_path: Path) -> None:
    data, told = written(reasoned(4), tmp_path / "x.arrow", share=False), list[Any]()
    model, read = tiny(), encoder()
    batch = Collator(data, keep=True, branches=True, weight=data.mean_weight(read.end))([list(range(len(data)))])
    labels = batch.pop("labels")
    with torch.no_grad():
        alone = float(StepLoss(read, generative=True)(model(**batch, use_cache=False), labels))
    room = next(size for size in range(40, 4_000) if _rows(data, size) == 4)
    schedule = Schedule(epochs=1, learning_rate=1e-9, pack_tokens=room, packs_per_step=4, evaluations=1)
    train(model, read, data, None, schedule, tmp_path / "c", branches=True, generative=True, report=told.append)
    assert [item["loss"] for item in told if "loss" in item] == [pytest.approx(alone, rel=1e-5)]


def test_what_came_later_changes_no_id_of_a_job_without_it(base: Path) -> None:
    plain = a_config(base, reasons=False)
    assert "reasons" not in plain.identity()
    assert "reason_weight" not in plain.identity()
    assert plain.flat().keys() - plain.identity().keys() == {"reasons", "reason_weight"}
    assert a_config(base).identity()["reasons"] is True
    assert a_config(base, reason_weight=0.5).identity()["reason_weight"] == 0.5


def _rows(data: EncodedExamples, room: int) -> int:
    from openr_data.training.prm.packing import plan_packs

    return len(plan_packs(data.lengths, room, 0))


# What is left out.


def test_of_several_reasons_for_a_verdict_one_is_kept_and_others_are_counted(tmp_path: Path) -> None:
    examples = reasoned(0)
    seen = write_encoded(examples, encoder(), tmp_path / "x.arrow", longest=0, room=512, share=True)
    # "1 1" is called right for one reason and wrong for another; "0 1" and "1 0" are wrong for one each.
    assert (seen.reasons, seen.repeated_reasons, seen.dropped_reasons) == (4, 3, 0)
    assert len(pieces(examples, encoder())) == 4


def test_a_reason_that_does_not_fit_is_left_out_and_its_step_is_not(tmp_path: Path) -> None:
    (example, *_) = parity(1, solutions=1)
    example = replace(example, reasons=("1", "0 " * 40, "1"))
    longest = len(encoder().encode(example.question, example.steps).ids) + 3
    seen = write_encoded([example], encoder(), tmp_path / "x.arrow", longest=longest, room=512, share=True)
    assert (seen.solutions, seen.cut_steps, seen.reasons, seen.dropped_reasons) == (1, 0, 2, 1)
    assert len([value for value in EncodedExamples(tmp_path / "x.arrow").of_reads("target", 0) if value <= 1]) == 3


def a_record(label: tuple[int | None, ...], reasons: list[str | None], **more: Any) -> Record:
    steps = tuple(f"step {place}" for place in range(len(label)))
    return Record(a_question(), steps, label, "toy", label_metadata=json.dumps({"reasons": reasons}), **more)


def test_reasons_are_read_where_they_are_asked_for() -> None:
    record = a_record((1, 0, -1, None), ["a", None, " c ", "d"])
    found, bare = (to_example(record, LabelRule(reasons=asked), ExampleCounts()) for asked in (True, False))
    assert found is not None
    assert bare is not None
    # Steps after the first error have no label, and therefore no reason.
    assert (found.reasons, bare.reasons) == (("a", "", "c", ""), ())
    assert replace(found, reasons=()) == bare


def test_a_reason_for_another_verdict_than_the_target_is_left_out() -> None:
    measured = {"value": (0.9, 0.4, 0.2), "provenance": (Provenance.MEASURED,) * 3}
    record = a_record((1, 1, 1), ["a", "b", "c"], **measured)
    for rule in (LabelRule("soft", reasons=True), LabelRule(threshold=0.3, reasons=True)):
        example = to_example(record, rule, ExampleCounts())
        assert example is not None
        assert example.reasons == (("a", "", "") if rule.labels == "soft" else ("a", "b", ""))


def test_reasons_that_do_not_fit_their_steps_are_refused_with_the_labels_that_have_them() -> None:
    with pytest.raises(
        InputError, match=r"metadata of the toy labels of .* are damaged: reasons that are not one .*Import"
    ):
        to_example(a_record((1, -1), ["a"]), LabelRule(reasons=True), ExampleCounts())


# A run.


def rows_with_reasons(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Make the parity task with the number of ones in a step as its reason."""
    found = parity_rows(count, seed)
    for row in found:
        pairs = zip(row["steps"], row["label"], strict=True)
        ones = [str(step.count("1")) if label is not None else "" for step, label in pairs]
        row["label_metadata"] = told_reasons(ones)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(tiny(), tmp_path / "base")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", create=True)


QUICK = Schedule(epochs=1, learning_rate=2e-3, pack_tokens=128, packs_per_step=2, evaluations=1)


def a_config(base: Path, **more: Any) -> PrmConfig:
    options = {"data": "d", "model": str(base), "generative": True, "reasons": True, "schedule": QUICK}
    return PrmConfig(**{**options, **more})


def test_a_run_with_reasons_says_so_and_counts_them(store: Store, base: Path, tmp_path: Path) -> None:
    bring(store, rows_with_reasons(20))
    figures = PrmRun(store, a_config(base, dev_share=0.0), tmp_path / "m").run()
    config = json.loads((tmp_path / "m" / "config.json").read_text())[CONFIG_KEY]
    assert config[WRITES] is True
    assert config["objective"] == "verdict"
    assert config["label_rule"]["reasons"] is True
    rows = store.view("d").sql("select label_metadata from records")["label_metadata"].to_pylist()
    document = sum(item is not None for text in rows for item in json.loads(text)["reasons"])
    assert figures["reasons"] + figures["repeated_reasons"] == document > figures["reasons"] > 20
    # Read separately, reasons would include their whole prefix.
    assert figures["solution_tokens"] > 1.5 * figures["tokens"]
    bare = PrmRun(store, a_config(base, dev_share=0.0, reasons=False), tmp_path / "n").run()
    assert bare["reasons"] == 0
    assert bare["tokens"] < figures["tokens"]
    assert WRITES not in json.loads((tmp_path / "n" / "config.json").read_text())[CONFIG_KEY]
    assert f"It learned {figures['reasons']:,} reasons" in (tmp_path / "m" / "README.md").read_text()
    assert "It learned" not in (tmp_path / "n" / "README.md").read_text()
    with (
        closing(TransformersReward(str(tmp_path / "n"), device="cpu")) as reward,
        pytest.raises(InputError, match="was not trained to write reasons"),
    ):
        asyncio.run(reward.explain("Question 0.", ("1 1",)))


def test_labels_without_reasons_are_refused_with_where_they_come_from(store: Store, base: Path, tmp_path: Path) -> None:
    bring(store, parity_rows(8))
    with pytest.raises(InputError, match=r"No label of d@1 .* has a reason.*label d --given-solutions --method judge"):
        PrmRun(store, a_config(base), tmp_path / "m").run()
    assert not (tmp_path / "m").exists()


def test_reasons_that_are_all_too_long_are_told(store: Store, base: Path, tmp_path: Path) -> None:
    rows = rows_with_reasons(8)
    for row in rows:
        row["label_metadata"] = {"reasons": ["0 " * 200 if label is not None else None for label in row["label"]]}
    bring(store, rows)
    with pytest.raises(InputError, match=r"None of the \d+ reasons of d@1 fits into the context of .* longer context"):
        PrmRun(store, a_config(base), tmp_path / "m").run()


def test_a_classifier_writes_nothing(store: Store, base: Path, tmp_path: Path) -> None:
    bring(store, rows_with_reasons(8))
    for reasons in (False, True):
        with pytest.raises(UsageError, match=r"'trl' has the head 'classes', which cannot write text.*--generative"):
            PrmRun(store, a_config(base, format="trl", reasons=reasons), tmp_path / "m").run()


def test_reasons_are_for_generative_models_and_weigh_something(base: Path) -> None:
    with pytest.raises(ValueError, match="--generative --reasons"):
        a_config(base, generative=False)
    for weight in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="reason_weight is above 0"):
            a_config(base, reason_weight=weight)


@pytest.mark.slow
def test_a_model_learns_to_say_why(store: Store, base: Path, tmp_path: Path) -> None:
    bring(store, rows_with_reasons(400))
    schedule = Schedule(epochs=16, learning_rate=2e-3, pack_tokens=512, packs_per_step=1, evaluations=4)
    PrmRun(store, a_config(base, schedule=schedule), tmp_path / "m").run()
    fresh = parity(60, seed=9)

    async def told(reward: TransformersReward) -> Any:
        return await asyncio.gather(*(reward.explain(item.question, item.steps) for item in fresh))

    with closing(TransformersReward(str(tmp_path / "m"), device="cpu")) as reward:
        outcome = asyncio.run(told(reward))
    right = [
        (step.is_good == (text.count("1") % 2 == 0), step.reason == str(text.count("1")))
        for item, steps in zip(fresh, outcome, strict=True)
        for text, step in zip(item.steps, steps, strict=True)
    ]
    assert sum(verdict for verdict, _ in right) / len(right) > 0.95
    # "0" and "2" are both right, so the reason contains more than the verdict.
    assert sum(reason for _, reason in right) / len(right) > 0.95
