"""Measures a reward model in training on its dev split: solutions of questions that it is not trained on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from openr_data.metrics.first_error import FirstErrorMetrics, Scored, best_threshold, first_error_metrics
from openr_data.metrics.step_metrics import StepMetrics, step_metrics
from openr_data.prm_format import PrmEncoder

from .examples import Example
from .loss import class_logits, pair_logits
from .packing import Fit, Row, fit

BATCH_TOKENS: Final = 16_384
"""Tokens of a forward pass, padding included."""
BATCH_LOGITS: Final = 4_096
"""Positions of a forward pass with logits over the vocabulary: every row of a batch has those of all its rows."""


class NotFinite(ValueError):
    """A score is NaN or infinite."""


@dataclass(frozen=True, slots=True)
class DevMetrics:
    """Step and first-error metrics on the dev split; the threshold has the best F1 of first errors there."""

    steps: StepMetrics
    first_errors: FirstErrorMetrics
    at_threshold: FirstErrorMetrics
    threshold: float

    def figures(self) -> dict[str, float]:
        """Return the figures that are logged."""
        figures = {
            "log_loss": self.steps.log_loss,
            "auroc": self.steps.auroc,
            "accuracy": self.steps.accuracy,
            "balanced_accuracy": self.steps.balanced_accuracy,
            "brier": self.steps.brier,
            "ece": self.steps.ece,
            "first_error_f1": self.at_threshold.f1,
        }
        return {name: value for name, value in figures.items() if value is not None}


class Dev:
    """Holds the encoded solutions of the dev split in memory."""

    def __init__(self, examples: Sequence[Example], encoder: PrmEncoder, longest: int) -> None:
        self._encoder = encoder
        self.seen = Fit()
        rows = [row for example in examples if (row := fit(example, encoder, longest, self.seen)) is not None]
        self._rows: list[Row] = sorted(rows, key=lambda row: len(row.ids))

    def __len__(self) -> int:
        return len(self._rows)

    def measure(self, model: Any) -> DevMetrics:
        """Measure a model in its current state; its training mode is restored afterwards."""
        scores = self.score(model)
        flat: list[float] = []
        truth: list[float] = []
        solutions: list[Scored] = []
        for row, values in zip(self._rows, scores, strict=True):
            judged = [(value, target) for value, target in zip(values, row.target, strict=True) if target is not None]
            flat += [value for value, _ in judged]
            truth += [target for _, target in judged]
            error = next((i for i, target in enumerate(row.target) if target is not None and target <= 0), None)
            # A solution counts if all steps up to its first error, or else to its end, are judged.
            last = error if error is not None else len(row.target) - 1
            if all(target is not None for target in row.target[: last + 1]):
                solutions.append(Scored(tuple(values), error))
        both = {solution.first_error is None for solution in solutions} == {True, False}
        threshold = best_threshold(solutions) if both else 0.5
        return DevMetrics(
            step_metrics(flat, truth),
            first_error_metrics(solutions),
            first_error_metrics(solutions, threshold),
            threshold,
        )

    @torch.inference_mode()
    def score(self, model: Any) -> list[list[float]]:
        """Return P(correct) of every step of every solution, shortest solutions first. Raises `NotFinite`."""
        was_training = model.training
        model.eval()
        scores: list[list[float]] = []
        for rows in self._batches():
            scores += self._forward(model, rows)
        model.train(was_training)
        if not all(math.isfinite(value) for values in scores for value in values):
            raise NotFinite("A score of the dev split is not a number")
        return scores

    def _batches(self) -> Iterator[list[Row]]:
        rows: list[Row] = []
        read: set[int] = set()
        for row in self._rows:
            count = len(rows) + 1
            if rows and (count * len(row.ids) > BATCH_TOKENS or count * len(read.union(row.read)) > BATCH_LOGITS):
                yield rows
                rows, read = [], set()
            rows.append(row)
            read.update(row.read)
        if rows:
            yield rows

    def _forward(self, model: Any, rows: Sequence[Row]) -> list[list[float]]:
        form, device = self._encoder.form, next(model.parameters()).device
        longest = max(len(row.ids) for row in rows)
        # Padding is on the right, which causal attention never reads.
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
        read = sorted({at for row in rows for at in row.read})
        where = {at: place for place, at in enumerate(read)}
        options = {"logits_to_keep": torch.tensor(read, device=device)} if form.head == "lm_pair" else {}
        logits = model(input_ids=ids.to(device), use_cache=False, **options).logits
        scores: list[list[float]] = []
        for place, row in enumerate(rows):
            if form.head == "lm_pair":
                read_logits = logits[place, [where[at] for at in row.read]]
                value = pair_logits(read_logits, self._encoder.good, self._encoder.bad)
            else:
                value = class_logits(logits[place, list(row.read)], form.good_class)
            scores.append(torch.sigmoid(value).tolist())
        return scores
