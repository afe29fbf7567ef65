"""Compares the losses of a reward model with their definitions, in float64 if the function preserves it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from openr_data.training.prm.loss import class_logits, pair_logits, step_loss, verdict_loss

VOCABULARY, GOOD, BAD = 11, 3, 7
TARGETS = torch.tensor([1.0, 0.0, 0.7, 0.25, 1.0, 0.5], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.0, 1.0], dtype=torch.float64)


def some_logits(width: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(len(TARGETS), width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def two_way(pair: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the cross-entropy of two logits (good, bad) against [y, 1 - y]."""
    logs = pair.log_softmax(dim=-1)
    return -(weight * (target * logs[:, 0] + (1 - target) * logs[:, 1])).sum()


@pytest.mark.parametrize("targets", [TARGETS, TARGETS.round()], ids=["soft", "hard"])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
def test_two_way_cross_entropy_is_binary_cross_entropy_of_the_difference(targets: Tensor, scale: float) -> None:
    pair = some_logits(2, scale)
    found = step_loss(pair[:, 0] - pair[:, 1], targets, WEIGHTS)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(two_way(pair, targets, WEIGHTS).item(), rel=1e-12, abs=1e-12)


def test_the_gradient_is_probability_minus_target_times_weight() -> None:
    z = some_logits(1)[:, 0].requires_grad_()
    step_loss(z, TARGETS, WEIGHTS).backward()
    assert torch.allclose(z.grad, WEIGHTS * (z.sigmoid() - TARGETS), rtol=0, atol=1e-12)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.floats(-30, 30), st.floats(0, 1), st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=5)
)
def test_a_prefix_twice_is_one_with_both_weights_and_the_mean_target(
    items: list[tuple[float, float, float, float]],
) -> None:
    """The loss is linear in the target, which allows a trie to hold a shared step once."""
    z, y, w, v = (torch.tensor(column, dtype=torch.float64) for column in zip(*items, strict=True))
    apart = step_loss(z, y, w) + step_loss(z, 1 - y, v)
    mass = w + v
    mean = torch.where(mass > 0, (w * y + v * (1 - y)) / mass.clamp(min=1e-300), 0.0)
    assert step_loss(z, mean, mass).item() == pytest.approx(apart.item(), rel=1e-12, abs=1e-12)


def test_pair_logits_is_the_difference_of_two_columns_in_float32() -> None:
    logits = some_logits(VOCABULARY)
    found = pair_logits(logits, GOOD, BAD)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), logits[:, GOOD] - logits[:, BAD], atol=1e-5)
    assert (pair_logits(logits, BAD, GOOD) == -found).all()
    # In bfloat16 the logits themselves are rounded, but their difference is not rounded again.
    coarse = logits.bfloat16()
    assert (pair_logits(coarse, GOOD, BAD) == coarse[:, GOOD].float() - coarse[:, BAD].float()).all()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_class_logits_give_the_softmax_of_their_class(classes: int) -> None:
    logits = some_logits(classes)
    for good in range(classes):
        found = class_logits(logits, good).sigmoid()
        assert torch.allclose(found.double(), logits.softmax(dim=-1)[:, good], atol=1e-6)


def test_the_logit_of_one_class_is_that_class() -> None:
    logits = some_logits(1)
    assert (class_logits(logits, 0) == logits[:, 0].float()).all()


def test_of_two_classes_the_logit_is_their_difference() -> None:
    logits = some_logits(2)
    assert torch.allclose(class_logits(logits, 1).double(), logits[:, 1] - logits[:, 0], atol=1e-6)
    assert torch.allclose(class_logits(logits, 0), -class_logits(logits, 1))


def test_the_verdict_loss_is_cross_entropy_of_the_whole_vocabulary() -> None:
    logits = some_logits(VOCABULARY)
    wanted = torch.zeros_like(logits)
    wanted[:, GOOD], wanted[:, BAD] = TARGETS, 1 - TARGETS
    expected = (WEIGHTS * functional.cross_entropy(logits, wanted, reduction="none")).sum()
    found = verdict_loss(logits, TARGETS, WEIGHTS, GOOD, BAD)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    hard = functional.cross_entropy(logits, torch.where(TARGETS > 0.5, GOOD, BAD), reduction="none")
    found = verdict_loss(logits, (TARGETS > 0.5).double(), WEIGHTS, GOOD, BAD)
    assert found.item() == pytest.approx((WEIGHTS * hard).sum().item(), rel=1e-6)


def test_the_verdict_loss_of_a_vocabulary_of_two_is_the_step_loss() -> None:
    logits = some_logits(2)
    found = verdict_loss(logits, TARGETS, WEIGHTS, 0, 1)
    assert found.item() == pytest.approx(step_loss(logits[:, 0] - logits[:, 1], TARGETS, WEIGHTS).item(), rel=1e-6)


@pytest.mark.parametrize("objective", ["pair", "classes", "verdict"])
def test_a_weight_of_zero_contributes_nothing(objective: str) -> None:
    logits = some_logits(VOCABULARY if objective != "classes" else 3).requires_grad_()

    def loss(rows: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if objective == "verdict":
            return verdict_loss(rows, target, weight, GOOD, BAD)
        z = pair_logits(rows, GOOD, BAD) if objective == "pair" else class_logits(rows, 1)
        return step_loss(z, target, weight)

    kept = WEIGHTS > 0
    found = loss(logits, TARGETS, WEIGHTS)
    assert found.item() == pytest.approx(loss(logits[kept], TARGETS[kept], WEIGHTS[kept]).item(), rel=1e-12)
    found.backward()
    assert logits.grad is not None
    assert not logits.grad[~kept].any()
    assert (logits.grad[kept] != 0).any(dim=1).all()
