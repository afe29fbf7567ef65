"""Compares packed rows with separate solutions: logits, the whole gradient, and the contents of file and collator."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.errors import InputError
from openr_data.exchange.selection import Selection
from openr_data.prm_format import PrmFormat
from openr_data.store import Store
from openr_data.training.prm.dev import Dev
from openr_data.training.prm.examples import Example, ExampleCounts, LabelRule, read_examples
from openr_data.training.prm.loss import class_logits, pair_logits, step_loss, verdict_loss
from openr_data.training.prm.packing import (
    IGNORED,
    Collator,
    EncodedExamples,
    Fit,
    Packs,
    Row,
    fit,
    plan_packs,
    write_encoded,
)
from openr_data.training.prm.trainer import StepLoss
from tests.training.prm.toys import (
    CLASSES,
    PAIR,
    SCALAR,
    TURNS,
    a_row,
    bring,
    encoder,
    parity,
    tiny,
    tokenizer,
    written,
)

# One by one against packed: the relative distance of the whole gradients. Measured 6.5e-7 at most.
NEAR = 1e-6
ARCHITECTURES = ["qwen2", "qwen3", "llama", "mistral"]


def some_examples() -> list[Example]:
    """Make solutions that share steps with different targets and weights, some of them masked."""
    examples = parity(4, solutions=3)
    first, second, third = (replace(examples[i], question_id="mixed", question="Mixed.") for i in range(3))
    shared, other = "1 1 0", "0 1 0"
    return [
        *examples,
        replace(first, steps=(shared, other, "0"), target=(0.7, None, 1.0), weight=(3.0, 1.0, 1.0)),
        replace(second, steps=(shared, other, "1"), target=(0.0, 1.0, None), weight=(1.0, 2.0, 1.0)),
        replace(third, steps=(shared,), target=(1.0,), weight=(5.0,)),
        replace(third, question_id="twice", steps=("1", "1"), target=(1.0, 0.0), weight=(1.0, 1.0)),
        replace(third, question_id="twice", steps=("1", "1"), target=(0.25, 0.0), weight=(2.0, 1.0)),
    ]


def forward(model: Any, ids: Sequence[int], **more: Any) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits[0]
    return found


def one_by_one(model: Any, examples: Sequence[Example], form: PrmFormat, generative: bool = False) -> torch.Tensor:
    """Compute the loss by definition: every solution separately, with its steps at their positions."""
    total = torch.zeros(())
    read = encoder(form)
    for item in examples:
        encoded = read.encode(item.question, item.steps)
        logits = forward(model, encoded.ids)[list(encoded.read)]
        judged = [at for at, value in enumerate(item.target) if value is not None]
        target = torch.tensor([item.target[at] for at in judged])
        weight = torch.tensor([item.weight[at] for at in judged])
        if generative:
            total = total + verdict_loss(logits[judged], target, weight, read.good, read.bad)
        elif form.head == "lm_pair":
            total = total + step_loss(pair_logits(logits[judged], read.good, read.bad), target, weight)
        else:
            total = total + step_loss(class_logits(logits[judged], form.good_class), target, weight)
    return total


def gradient(model: Any, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return the whole gradient as one vector."""
    model.zero_grad()
    loss().backward()
    return torch.cat([item.grad.flatten() for item in model.parameters() if item.grad is not None]).clone()


def packed_loss(
    model: Any, data: EncodedExamples, form: PrmFormat, *, branches: bool, eager: bool = False, generative: bool = False
) -> torch.Tensor:
    batch = Collator(data, keep=form.head == "lm_pair", branches=branches)([list(range(len(data)))])
    labels = batch.pop("labels")
    if eager and branches:
        # Eager attention adds its mask, whereas the trained models read a boolean mask (sdpa).
        batch["attention_mask"] = torch.where(batch["attention_mask"], 0.0, torch.finfo(torch.float32).min)
    outputs = model(**batch, use_cache=False)
    # Dividing by one item gives the sum itself.
    return StepLoss(encoder(form), generative=generative)(outputs, labels, num_items_in_batch=1)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / first.norm())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_packed_row_has_the_loss_and_gradient_of_its_solutions_one_by_one(
    kind: str, attention: str, tmp_path: Path
) -> None:
    model, examples = tiny(kind, attention=attention), some_examples()
    alone = one_by_one(model, examples, PAIR)
    wanted = gradient(model, lambda: one_by_one(model, examples, PAIR))
    for share in (False, True):
        data = written(examples, tmp_path / f"{share}.arrow", share=share)
        loss = packed_loss(model, data, PAIR, branches=share, eager=attention == "eager")
        assert loss.item() == pytest.approx(alone.item(), rel=NEAR)
        assert distance(wanted, gradient(model, lambda loss=loss: loss)) < NEAR


@pytest.mark.parametrize("form", [PAIR, TURNS, CLASSES, SCALAR], ids=lambda form: form.name)
def test_every_head_and_template_packs_to_the_same_gradient(form: PrmFormat, tmp_path: Path) -> None:
    labels = {"classes": 2, "scalar": 1}
    model = tiny("classifier", num_labels=labels[form.head]) if form.head in labels else tiny()
    examples = some_examples()
    wanted = gradient(model, lambda: one_by_one(model, examples, form))
    for share in (False, True):
        data = written(examples, tmp_path / f"{share}.arrow", form=form, share=share)
        gradients = gradient(model, lambda data=data, share=share: packed_loss(model, data, form, branches=share))
        assert distance(wanted, gradients) < NEAR


def test_the_verdict_objective_packs_to_the_same_gradient(tmp_path: Path) -> None:
    model, examples = tiny(), some_examples()
    wanted = gradient(model, lambda: one_by_one(model, examples, PAIR, generative=True))
    data = written(examples, tmp_path / "x.arrow")
    gradients = gradient(model, lambda: packed_loss(model, data, PAIR, branches=True, generative=True))
    assert distance(wanted, gradients) < NEAR
    assert distance(wanted, gradient(model, lambda: packed_loss(model, data, PAIR, branches=True))) > 0.01


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_logits_of_a_packed_row_are_those_of_each_solution_by_itself(kind: str, tmp_path: Path) -> None:
    model, examples = tiny(kind).eval(), some_examples()
    read = encoder()
    alone = {
        encoded.ids[: at + 1]: row
        for item in examples
        if (encoded := read.encode(item.question, item.steps))
        for at, row in zip(encoded.read, forward(model, encoded.ids)[list(encoded.read)], strict=True)
    }
    for share in (False, True):
        data = written(examples, tmp_path / f"{share}.arrow", share=share)
        batch = Collator(data, keep=True, branches=share)([list(range(len(data)))])
        labels = batch.pop("labels")
        with torch.inference_mode():
            logits = model(**batch, use_cache=False).logits[0]
        places = (labels[0] != IGNORED).nonzero().flatten().tolist()
        assert batch["logits_to_keep"].tolist() == places
        assert len(logits) == len(places)
        for at, row in zip(places, logits, strict=True):
            assert torch.allclose(row, alone[prefix_of(batch, at)], atol=2e-6, rtol=1e-5)


def prefix_of(batch: dict[str, torch.Tensor], at: int) -> tuple[int, ...]:
    """Return the tokens that a position of a row sees, from its mask or from restarting positions."""
    ids, positions = batch["input_ids"][0], batch["position_ids"][0]
    if "attention_mask" in batch:
        return tuple(ids[batch["attention_mask"][0, 0, at]].tolist())
    return tuple(ids[at - int(positions[at]) : at + 1].tolist())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packing_without_positions_that_restart_reads_something_else(attention: str, tmp_path: Path) -> None:
    model, examples = tiny(attention=attention), some_examples()
    wanted = gradient(model, lambda: one_by_one(model, examples, PAIR))
    data = written(examples, tmp_path / "x.arrow", share=False)

    def naive() -> torch.Tensor:
        batch = Collator(data, keep=True, branches=False)([list(range(len(data)))])
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
        labels = batch.pop("labels")
        return StepLoss(encoder(), generative=False)(model(**batch, use_cache=False), labels, num_items_in_batch=1)

    assert distance(wanted, gradient(model, naive)) > 1e-2


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_to_keep_are_the_full_logits_sliced(kind: str, tmp_path: Path) -> None:
    model = tiny(kind).eval()
    data = written(some_examples(), tmp_path / "x.arrow")
    batch = Collator(data, keep=True, branches=True)([list(range(len(data)))])
    batch.pop("labels")
    kept = batch.pop("logits_to_keep")
    with torch.inference_mode():
        full = model(**batch, use_cache=False).logits
        some = model(**batch, logits_to_keep=kept, use_cache=False).logits
    assert len(kept) < batch["input_ids"].shape[1]
    assert torch.allclose(full[:, kept], some, atol=1e-6)


def test_padding_on_the_right_changes_no_score() -> None:
    model = tiny().eval()
    examples = [replace(item, steps=item.steps * n, target=item.target * n, weight=item.weight * n)
                for n, item in enumerate(parity(4, solutions=1), 1)]  # fmt: skip
    together = Dev(examples, encoder(), 0).score(model)
    for item, found in zip(examples, together, strict=True):
        (alone,) = Dev([item], encoder(), 0).score(model)
        assert found == pytest.approx(alone, abs=1e-6)
        encoded = encoder().encode(item.question, item.steps)
        with torch.inference_mode():
            z = pair_logits(forward(model, encoded.ids)[list(encoded.read)], encoder().good, encoder().bad)
        assert alone == pytest.approx(z.sigmoid().tolist(), abs=1e-6)


# Where the loss looks.


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("generative", [False, True])
def test_the_gradient_is_non_zero_exactly_where_a_labelled_step_is_read(
    share: bool, generative: bool, tmp_path: Path
) -> None:
    model, read = tiny(), encoder()
    data = written(some_examples(), tmp_path / "x.arrow", share=share)
    batch = Collator(data, keep=True, branches=share)([list(range(len(data)))])
    labels, kept = batch.pop("labels"), batch.pop("logits_to_keep")
    outputs = model(**batch, use_cache=False)
    full = outputs.logits
    full.retain_grad()
    outputs.logits = full[:, kept]
    StepLoss(read, generative=generative)(outputs, labels).backward()
    touched = full.grad[0] != 0
    assert touched.any(dim=1).nonzero().flatten().tolist() == kept.tolist()
    wanted = set(range(full.shape[-1])) if generative else {read.good, read.bad}
    assert set(touched.any(dim=0).nonzero().flatten().tolist()) == wanted
    # All of them are tags: each ends a labelled step of some solution and is also where scoring reads it.
    judged = {
        encoded.ids[: at + 1]
        for item in some_examples()
        if (encoded := read.encode(item.question, item.steps))
        for at, target in zip(encoded.read, item.target, strict=True)
        if target is not None
    }
    found = [prefix_of(batch, at) for at in kept.tolist()]
    assert set(found) == judged
    assert {prefix[-1] for prefix in found} == set(read.tag)


@pytest.mark.parametrize("form", [CLASSES, SCALAR], ids=lambda form: form.name)
def test_a_classifier_learns_at_the_labelled_tags_alone(form: PrmFormat, tmp_path: Path) -> None:
    model = tiny("classifier", num_labels=2 if form.head == "classes" else 1)
    data = written(some_examples(), tmp_path / "x.arrow", form=form)
    batch = Collator(data, keep=False, branches=True)([list(range(len(data)))])
    assert "logits_to_keep" not in batch
    labels = batch.pop("labels")
    outputs = model(**batch, use_cache=False)
    outputs.logits.retain_grad()
    StepLoss(encoder(form), generative=False)(outputs, labels).backward()
    assert ((outputs.logits.grad[0] != 0).any(dim=1) == (labels[0] != IGNORED)).all()


def test_masked_steps_contribute_nothing(tmp_path: Path) -> None:
    model = tiny()
    example = replace(parity(1, solutions=1)[0], target=(1.0, None, 0.0))
    masked = written([example], tmp_path / "masked.arrow")
    assert len(masked.of_reads("target", 0)) == 2
    wanted = gradient(model, lambda: packed_loss(model, masked, PAIR, branches=True))
    # The weight of a masked step is ignored, and a masked step at the end changes nothing.
    heavy = written([replace(example, weight=(1.0, 9.0, 1.0))], tmp_path / "heavy.arrow")
    assert (gradient(model, lambda: packed_loss(model, heavy, PAIR, branches=True)) == wanted).all()
    longer = replace(example, steps=(*example.steps, "0 0"), target=(*example.target, None), weight=(1.0,) * 4)
    tail = written([longer], tmp_path / "tail.arrow")
    assert distance(wanted, gradient(model, lambda: packed_loss(model, tail, PAIR, branches=True))) < NEAR
    labelled = written([replace(example, target=(1.0, 1.0, 0.0))], tmp_path / "labelled.arrow")
    assert distance(wanted, gradient(model, lambda: packed_loss(model, labelled, PAIR, branches=True))) > 0.01


def test_what_stands_behind_the_last_label_is_left_out_and_changes_no_gradient(tmp_path: Path) -> None:
    model, whole = tiny(), parity(2, solutions=2)
    short = [replace(item, target=(1.0, 0.0, None)) for item in whole]
    cut = [replace(item, steps=item.steps[:2], target=(1.0, 0.0), weight=item.weight[:2]) for item in whole]
    for share in (False, True):
        seen = write_encoded(short, encoder(), tmp_path / "x.arrow", longest=0, room=512, share=share)
        assert seen.solution_tokens == sum(tokens_of(item, 2) for item in whole)
        assert (seen.solutions, seen.cut_solutions, seen.cut_steps, seen.dropped) == (4, 0, 0, 0)
        data, wanted = EncodedExamples(tmp_path / "x.arrow"), written(cut, tmp_path / "y.arrow", share=share)
        assert data.tokens == wanted.tokens == seen.tokens
        loss = packed_loss(model, data, PAIR, branches=share)
        assert loss.item() == pytest.approx(one_by_one(model, short, PAIR).item(), rel=NEAR)
    # Unlabelled steps before it are read, because a later step is judged in their context.
    between = [replace(item, target=(1.0, None, 0.0)) for item in whole]
    seen = write_encoded(between, encoder(), tmp_path / "x.arrow", longest=0, room=512, share=False)
    assert seen.tokens == sum(tokens_of(item, 3) for item in whole)
    # Steps left out for that reason do not count as cut for lack of room.
    seen = write_encoded(short, encoder(), tmp_path / "x.arrow", longest=tokens_of(whole[0], 2), room=512, share=False)
    assert (seen.solutions, seen.cut_steps) == (4, 0)
    nothing = [replace(item, target=(None, None, None)) for item in whole]
    seen = write_encoded(nothing, encoder(), tmp_path / "x.arrow", longest=0, room=512, share=True)
    assert (seen.solutions, seen.dropped) == (0, 4)


# Labels from the store to the row.


def test_labels_survive_the_store_the_file_and_the_collator_exactly(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    steps, shares = ["a", "b", "c", "d", "e"], [1.0, 0.7, 0.1, 0.3, 0.0]
    measured = a_row("Measured?", steps, [1, 1, 0, None, -1], value=shares, n_correct=[10, 7, 1, 3, 0],
                     n_rollouts=[10] * 5, provenance=["measured"] * 5)  # fmt: skip
    bring(store, [measured, a_row("Judged?", steps, [1, 0, None, -1, 1], provenance=["judged"] * 5)])
    # Labels as TRL writes them: truth values in one row, numbers in another.
    marks = [{"prompt": "Marked?", "completions": steps, "labels": [True, True, True, True, False]}]
    numbers = [{"prompt": "Numbered?", "completions": steps, "labels": shares}]
    dataset = bring(store, marks + numbers, form="trl")

    def collated(rule: LabelRule) -> dict[str, list[float]]:
        examples = list(read_examples(dataset.view(), rule, ExampleCounts(), selection=Selection()))
        data = written(examples, tmp_path / "x.arrow")
        found: dict[str, list[float]] = {}
        for place, (question, _) in enumerate(groupby(item.question for item in examples)):
            labels = Collator(data, keep=True, branches=True)([[place]])["labels"]
            assert labels.dtype == torch.float32
            assert ((labels[0] == IGNORED) == (labels[1] == IGNORED)).all()
            found[question] = labels[0][labels[0] != IGNORED].tolist()
        return found

    judged, marked = [1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0]
    exactly = [float(np.float32(value)) for value in shares]
    assert collated(LabelRule()) == {
        "Measured?": [1.0, 1.0, 1.0, 0.0], "Judged?": judged, "Marked?": marked, "Numbered?": [1.0, 1.0, 0.0]
    }  # fmt: skip
    assert collated(LabelRule("soft")) == {
        "Measured?": [*exactly[:3], 0.0], "Judged?": judged, "Marked?": marked, "Numbered?": exactly[:3]
    }  # fmt: skip
    assert collated(LabelRule(threshold=0.05)) == {
        "Measured?": [1.0, 1.0, 1.0, 0.0], "Judged?": judged, "Marked?": marked, "Numbered?": [1.0, 1.0, 1.0, 1.0, 0.0]
    }  # fmt: skip


def test_shared_steps_hold_the_sum_of_their_weights_and_the_mean_of_their_targets(tmp_path: Path) -> None:
    data = written(some_examples(), tmp_path / "x.arrow")
    mixed = next(place for place in range(len(data)) if len(data.of_reads("target", place)) == 3)
    assert data.of_reads("weight", mixed).tolist() == [9.0, 2.0, 1.0]
    assert data.of_reads("target", mixed).tolist() == pytest.approx([(3 * 0.7 + 5) / 9, 1.0, 1.0])


def test_weights_are_scaled_to_a_mean_of_one_over_the_data(tmp_path: Path) -> None:
    data = written(some_examples(), tmp_path / "x.arrow")
    collator = Collator(data, keep=True, branches=True, weight=data.mean_weight())
    labels = collator([list(range(len(data)))])["labels"]
    judged = labels[0] != IGNORED
    assert labels[1][judged].mean().item() == pytest.approx(1.0, abs=1e-6)
    raw = Collator(data, keep=True, branches=True)([list(range(len(data)))])["labels"]
    assert raw[1][judged].mean().item() == pytest.approx(data.mean_weight())
    assert data.mean_weight() > 1.1


def test_a_row_holds_its_packs_one_behind_the_other(tmp_path: Path) -> None:
    data = written(some_examples(), tmp_path / "x.arrow")
    collator = Collator(data, keep=True, branches=True)
    alone, row = [collator([[place]]) for place in (2, 0, 4)], collator([[2, 0], [4]])
    assert torch.equal(row["input_ids"], torch.cat([item["input_ids"] for item in alone], dim=1))
    assert torch.equal(row["position_ids"], torch.cat([item["position_ids"] for item in alone], dim=1))
    assert torch.equal(row["labels"], torch.cat([item["labels"] for item in alone], dim=1))
    blocks = torch.block_diag(*(item["attention_mask"][0, 0].int() for item in alone)).bool()
    assert torch.equal(row["attention_mask"][0, 0], blocks)
    assert row["labels"].shape == (2, row["input_ids"].shape[1])
    assert "attention_mask" not in Collator(data, keep=True, branches=False)([[0]])


# What goes into which row.


@given(st.lists(st.integers(1, 12), max_size=200), st.integers(1, 20), st.integers(0, 3))
@example([12] * 3 + [1] * 5, 10, 0)
@example([7] * 150 + [3] * 150, 10, 1)
def test_every_trie_is_in_one_pack_and_a_pack_has_room_for_all_of_it(lengths: list[int], room: int, seed: int) -> None:
    packs = plan_packs(lengths, room, seed)
    assert sorted(place for pack in packs for place in pack) == list(range(len(lengths)))
    for pack in packs:
        assert pack
        assert sum(lengths[place] for place in pack) <= room or len(pack) == 1
    assert packs == plan_packs(np.array(lengths, dtype=np.int64), room, seed)
    # While all rows are open, at most one may be half empty.
    if len(packs) <= 64:
        assert sum(sum(lengths[place] for place in pack) * 2 <= room for pack in packs) <= 1


def test_packs_are_drawn_from_the_seed() -> None:
    lengths = list(range(1, 60))
    assert plan_packs(lengths, 100, 0) != plan_packs(lengths, 100, 1)
    packs = Packs(plan_packs(lengths, 100, 0))
    assert [packs[place] for place in range(len(packs))] == list(packs) == plan_packs(lengths, 100, 0)


@pytest.mark.parametrize("room", [40, 64, 200])
def test_a_trie_has_at_most_so_many_tokens_unless_one_solution_is_longer(room: int, tmp_path: Path) -> None:
    examples = parity(3, solutions=12)
    data = written(examples, tmp_path / "x.arrow", room=room)
    alone = max(len(encoder().encode(item.question, item.steps).ids) for item in examples)
    assert all(length <= max(room, alone) for length in data.lengths)
    assert len(data) >= 3
    judged = sum(float(data.of_reads("weight", place).sum()) for place in range(len(data)))
    assert judged == sum(len(item.target) for item in examples)


def test_sharing_reads_what_solutions_have_in_common_once(tmp_path: Path) -> None:
    examples = parity(5, solutions=4)
    shared = write_encoded(examples, encoder(), tmp_path / "x.arrow", longest=0, room=4_096, share=True)
    apart = write_encoded(examples, encoder(), tmp_path / "y.arrow", longest=0, room=4_096, share=False)
    alone = [encoder().encode(item.question, item.steps).ids for item in examples]
    assert shared.solutions == apart.solutions == 20
    assert shared.solution_tokens == apart.solution_tokens == apart.tokens == sum(map(len, alone))
    prefixes = {
        (item.question_id, ids[:n]) for item, ids in zip(examples, alone, strict=True) for n in range(1, len(ids) + 1)
    }
    assert shared.tokens == EncodedExamples(tmp_path / "x.arrow").tokens == len(prefixes)
    assert [len(EncodedExamples(tmp_path / name)) for name in ("x.arrow", "y.arrow")] == [5, 20]


# The context of the model.


def tokens_of(example: Example, steps: int, form: PrmFormat = PAIR) -> int:
    return len(encoder(form).encode(example.question, example.steps[:steps]).ids)


@pytest.mark.parametrize("form", [PAIR, TURNS], ids=lambda form: form.name)
def test_a_solution_longer_than_the_context_loses_whole_steps_and_they_are_counted(form: PrmFormat) -> None:
    item = parity(1, solutions=1)[0]
    read = encoder(form)
    sizes = [tokens_of(item, n, form) for n in (1, 2, 3)]
    for longest in range(1, sizes[-1] + 2):
        seen = Fit()
        row = fit(item, read, longest, seen)
        kept = sum(size <= longest for size in sizes)
        if not kept:
            assert row is None
            assert (seen.solutions, seen.dropped, seen.cut_steps) == (0, 1, 0)
            assert seen.dropped_for == [item.question_id]
            continue
        encoded = read.encode(item.question, item.steps[:kept])
        assert row == Row(encoded.ids, encoded.read, item.target[:kept], item.weight[:kept])
        assert len(row.ids) <= longest
        assert (seen.solutions, seen.dropped) == (1, 0)
        assert (seen.cut_solutions, seen.cut_steps) == (int(kept < 3), 3 - kept)
        assert seen.solution_tokens == len(row.ids)
    assert fit(item, read, 0, Fit()) == fit(item, read, sizes[-1], Fit())


def test_a_solution_whose_labels_are_all_cut_off_is_left_out_and_counted() -> None:
    item = replace(parity(1, solutions=1)[0], target=(None, None, 1.0))
    seen = Fit()
    assert fit(item, encoder(), tokens_of(item, 2), seen) is None
    assert (seen.dropped, seen.cut_steps) == (1, 0)
    assert fit(item, encoder(), tokens_of(item, 3), seen) is not None
    for _ in range(5):
        fit(item, encoder(), 3, seen)
    assert (seen.dropped, len(seen.dropped_for)) == (6, 3)


def test_what_is_cut_is_read_by_no_row(tmp_path: Path) -> None:
    examples = parity(6, solutions=2)
    longest = tokens_of(examples[0], 2) + 1
    seen = write_encoded(examples, encoder(), tmp_path / "x.arrow", longest=longest, room=512, share=True)
    data = EncodedExamples(tmp_path / "x.arrow")
    assert data.longest <= longest
    assert (seen.cut_solutions, seen.cut_steps) == (12, 12)
    tag = encoder().tag[0]
    for place in range(len(data)):
        # The last token of every path is a tag, so no step is cut in two.
        ids, end = data.of_tokens("ids", place), data.of_tokens("end", place)
        leaves = np.flatnonzero(end == np.arange(len(end)) + 1)
        assert (ids[leaves] == tag).all()


# The file.


def test_a_file_of_many_batches_is_read_like_one_of_one(tmp_path: Path) -> None:
    short = [
        Example(f"{number:05d}", f"source {number % 3}", f"{number}", ("1",) * (1 + number % 2), (None, 1.0)[-1 - number % 2 :],
                (9.0, 1.0 + number % 3)[-1 - number % 2 :])
        for number in range(4_100)
    ]  # fmt: skip
    data = written(short, tmp_path / "x.arrow")
    assert pa.ipc.open_file(tmp_path / "x.arrow").num_record_batches == 2
    assert len(data) == len(data.lengths) == len(data.sources) == 4_100
    assert data.tokens == data.lengths.sum()
    assert data.sources == [item.source for item in short]
    assert data.mean_weight() == pytest.approx(sum(item.weight[-1] for item in short) / 4_100)
    for place in (0, 1, 4_095, 4_096, 4_097, 4_099):
        encoded = encoder().encode(short[place].question, short[place].steps)
        assert data.of_tokens("ids", place).tolist() == list(encoded.ids)
        assert data.of_tokens("position", place).tolist() == list(range(len(encoded.ids)))
        assert data.of_reads("read", place).tolist() == [encoded.read[-1]]
        assert data.of_reads("weight", place).tolist() == [short[place].weight[-1]]
        assert data.lengths[place] == len(encoded.ids)
    assert data.longest == data.lengths.max()


def test_the_columns_of_a_file_are_not_copied_into_memory(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    data = written([replace(item, question_id=f"{n}") for n in range(4_100) for item in parity(1, solutions=1)],
                   tmp_path / "x.arrow")  # fmt: skip
    assert data.tokens > 80_000
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_file_without_examples_holds_none(tmp_path: Path) -> None:
    seen = write_encoded([], encoder(), tmp_path / "deep" / "x.arrow", longest=0, room=512, share=True)
    data = EncodedExamples(tmp_path / "deep" / "x.arrow")
    assert seen == Fit()
    assert (len(data), data.tokens, data.longest, data.mean_weight()) == (0, 0, 0, 1.0)
    assert data.lengths.tolist() == data.sources == []
    assert plan_packs(data.lengths, 10, 0) == []


@pytest.mark.parametrize("kind", ["absent", "text", "other table"])
def test_another_file_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    if kind == "text":
        path.write_text(json.dumps({"ids": [1]}))
    elif kind == "other table":
        table = pa.table({"ids": [1]})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InputError, match=r"x\.arrow does not hold encoded examples\. Remove it and train again\."):
        EncodedExamples(path)


def test_the_tokenizer_of_these_tests_has_a_token_a_digit() -> None:
    assert [len(tokenizer().encode(text)) for text in ("0", "1", "<|step|>")] == [1, 1, 1]
