"""The dev split of a reward model in training: solutions of questions that it is not trained on, and their metrics."""

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
"""Positions of a forward pass with logits over the vocabulary: every row has those of all."""


class NotFinite(ValueError):
    """A score that is no number."""


@dataclass(frozen=True, slots=True)
class DevMetrics:
    """Steps and first errors of the dev split; the threshold is the one with the best F1 of first errors there."""

    steps: StepMetrics
    first_errors: FirstErrorMetrics
    at_threshold: FirstErrorMetrics
    threshold: float

    def figures(self) -> dict[str, float]:
        """The numbers that are logged."""
        found = {
            "log_loss": self.steps.log_loss,
            "auroc": self.steps.auroc,
            "accuracy": self.steps.accuracy,
            "balanced_accuracy": self.steps.balanced_accuracy,
            "brier": self.steps.brier,
            "ece": self.steps.ece,
            "first_error_f1": self.at_threshold.f1,
        }
        return {name: value for name, value in found.items() if value is not None}


class Dev:
    """Encoded solutions of the dev split, in memory."""

    def __init__(self, examples: Sequence[Example], encoder: PrmEncoder, longest: int) -> None:
        self._encoder = encoder
        self.seen = Fit()
        rows = [row for item in examples if (row := fit(item, encoder, longest, self.seen)) is not None]
        self._rows: list[Row] = sorted(rows, key=lambda row: len(row.ids))

    def __len__(self) -> int:
        return len(self._rows)

    def measure(self, model: Any) -> DevMetrics:
        """The metrics of a model as it is now; it is left in the mode in which it was."""
        scores = self.score(model)
        flat: list[float] = []
        truth: list[float] = []
        items: list[Scored] = []
        for row, found in zip(self._rows, scores, strict=True):
            judged = [(value, target) for value, target in zip(found, row.target, strict=True) if target is not None]
            flat += [value for value, _ in judged]
            truth += [target for _, target in judged]
            error = next((i for i, target in enumerate(row.target) if target is not None and target <= 0), None)
            # A solution counts where all is judged up to its end or to its first error.
            known = error if error is not None else len(row.target) - 1
            if all(target is not None for target in row.target[: known + 1]):
                items.append(Scored(tuple(found), error))
        both = {item.first_error is None for item in items} == {True, False}
        threshold = best_threshold(items) if both else 0.5
        return DevMetrics(
            step_metrics(flat, truth),
            first_error_metrics(items),
            first_error_metrics(items, threshold),
            threshold,
        )

    @torch.inference_mode()
    def score(self, model: Any) -> list[list[float]]:
        """P(correct) of every step of every solution, shortest solutions first. Raises `NotFinite`."""
        was_training = model.training
        model.eval()
        scores: list[list[float]] = []
        for rows in self._batches():
            scores += self._forward(model, rows)
        model.train(was_training)
        if not all(math.isfinite(value) for found in scores for value in found):
            raise NotFinite("A score of the dev split is no number")
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
        # Padding stands on the right, where causal attention never looks.
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
        read = sorted({at for row in rows for at in row.read})
        where = {at: place for place, at in enumerate(read)}
        kept = {"logits_to_keep": torch.tensor(read, device=device)} if form.head == "lm_pair" else {}
        logits = model(input_ids=ids.to(device), use_cache=False, **kept).logits
        scores: list[list[float]] = []
        for place, row in enumerate(rows):
            if form.head == "lm_pair":
                found = logits[place, [where[at] for at in row.read]]
                value = pair_logits(found, self._encoder.good, self._encoder.bad)
            else:
                value = class_logits(logits[place, list(row.read)], form.good_class)
            scores.append(torch.sigmoid(value).tolist())
        return scores
