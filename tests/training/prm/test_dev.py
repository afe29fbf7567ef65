"""Checks the dev split: scores are independent of batches, and each solution counts for the right metrics."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from openr_data.training.prm import dev as module
from openr_data.training.prm.dev import Dev, NotFinite
from openr_data.training.prm.examples import Example
from openr_data.training.prm.packing import Row
from tests.training.prm.toys import CLASSES, PAIR, SCALAR, TURNS, encoder, parity, tiny


def an_example(name: str, *target: float | None) -> Example:
    """Make a solution with a distinct length, because scores come shortest first."""
    return Example(name, "test", f"Question {'1 ' * len(name)}", ("1",) * len(target), target, (1.0,) * len(target))


class Scripted(Dev):
    """Make a dev split with given scores, one list per solution, shortest first."""

    def __init__(self, scored: Sequence[tuple[Example, list[float]]]) -> None:
        super().__init__([item for item, _ in scored], encoder(), 0)
        assert [row.target for row in self._rows] == [item.target for item, _ in scored]
        self._given = [scores for _, scores in scored]

    def score(self, model: Any) -> list[list[float]]:
        return self._given


def test_steps_are_measured_where_they_have_a_target_and_whole_solutions_where_all_is_known() -> None:
    measured = Scripted(
        [
            (an_example("a", 1.0, 1.0), [0.9, 0.8]),
            (an_example("bbbb", 1.0, 0.0, None), [0.7, 0.1, 0.9]),
            (an_example("cccccccc", 0.0, None, None), [0.6, 0.2, 0.2]),
            # No error up to an unjudged end: the first error of this solution is unknown.
            (an_example("dddddddddddddd", 1.0, None, None), [0.2, 0.1, 0.1]),
            # It is also unknown for a solution with a gap before its error.
            (an_example("eeeeeeeeeeeeeeeeeeeeee", None, 1.0, 0.0), [0.9, 0.9, 0.9]),
        ]
    ).measure(None)
    assert measured.steps.steps == 8
    assert measured.steps.accuracy == pytest.approx(5 / 8)
    assert (measured.first_errors.erroneous, measured.first_errors.correct) == (2, 1)
    assert (measured.first_errors.erroneous_hit, measured.first_errors.correct_hit) == (1, 1)
    # A threshold between .6 (an error) and .7 (a good step) classifies all three correctly.
    assert measured.threshold == pytest.approx(0.65)
    assert measured.at_threshold.f1 == 1.0
    assert measured.figures()["first_error_f1"] == 1.0


def test_a_soft_target_above_zero_is_no_error() -> None:
    measured = Scripted([(an_example("a", 0.9, 0.1), [0.9, 0.6]), (an_example("bbbb", 0.5, 0.0), [0.9, 0.2])]).measure(
        None
    )
    assert (measured.first_errors.erroneous, measured.first_errors.correct) == (1, 1)
    assert measured.first_errors.f1 == 1.0
    assert measured.steps.good_share == pytest.approx(3 / 4)


def test_without_errors_or_without_right_solutions_the_threshold_is_a_half() -> None:
    measured = Scripted([(an_example("a", 1.0), [0.3]), (an_example("bbbb", 1.0), [0.9])]).measure(None)
    assert measured.threshold == 0.5
    assert "auroc" not in measured.figures()
    assert "first_error_f1" not in measured.figures()
    assert set(measured.figures()) >= {"log_loss", "brier", "ece", "accuracy"}


@pytest.mark.parametrize("form", [PAIR, TURNS, CLASSES, SCALAR], ids=lambda form: form.name)
@pytest.mark.parametrize(("tokens", "logits"), [(1, 10_000), (64, 10_000), (10_000, 1), (10_000, 12)])
def test_scores_do_not_depend_on_the_batches(
    form: Any, tokens: int, logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"classes": 2, "scalar": 1}
    model = tiny("classifier", num_labels=labels[form.head]) if form.head in labels else tiny()
    examples = [replace(item, question=f"Question {'1 ' * n}") for n, item in enumerate(parity(8))]
    dev = Dev(examples, encoder(form), 0)
    together = dev.score(model)
    assert [len(list(Dev(examples, encoder(form), 0)._batches()))] == [1]
    monkeypatch.setattr(module, "BATCH_TOKENS", tokens)
    monkeypatch.setattr(module, "BATCH_LOGITS", logits)
    batches = list(dev._batches())
    assert len(batches) > 1
    assert [row for rows in batches for row in rows] == dev._rows
    for rows in batches:
        assert len(rows) == 1 or len(rows) * len(rows[-1].ids) <= tokens
        assert len(rows) == 1 or len(rows) * len({at for row in rows for at in row.read}) <= logits
    for one, other in zip(together, dev.score(model), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_the_mode_of_the_model_is_left_as_it_was_and_no_gradient_is_kept() -> None:
    dev = Dev(parity(3), encoder(), 0)
    for training in (True, False):
        model = tiny().train(training)
        scores = dev.score(model)
        assert model.training is training
        assert all(item.grad is None for item in model.parameters())
        assert all(0 < value < 1 for found in scores for value in found)


def test_solutions_that_do_not_fit_are_left_out() -> None:
    examples = parity(2)
    dev = Dev(examples, encoder(), 3)
    assert (len(dev), dev.seen.dropped) == (0, 4)
    assert len(Dev(examples, encoder(), 0)) == 4
    assert Dev(examples, encoder(), 3).score(tiny()) == []


def test_a_score_that_is_no_number_is_an_error() -> None:
    model = tiny()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="A score of the dev split is not a number"):
        Dev(parity(2), encoder(), 0).score(model)


def test_rows_stand_shortest_first() -> None:
    examples = [an_example("a" * n, 1.0) for n in (9, 1, 5)]
    rows: list[Row] = Dev(examples, encoder(), 0)._rows
    assert [len(row.ids) for row in rows] == sorted(len(row.ids) for row in rows)
