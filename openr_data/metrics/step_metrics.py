"""Compares step probabilities with the truth of each step: discrimination, sharpness, calibration.

A score is the probability that a step is good. A truth is a verdict (a bool, 0 or 1) or soft: the share of correct
rollouts (MC). Log loss, Brier score and calibration use a soft truth directly; metrics of two classes count a step as
good if its truth is above `good_above`, by default 0 as for the hard MC label (Math-Shepherd, arXiv 2312.08935).

Calibration error is that of Guo et al. (arXiv 1706.04599, eq. 3), with two deviations:
1. Bins have equal mass, not equal width: PRM scores crowd at the ends, and bins in the middle would be noise.
2. Steps of equal score share a bin, even if its mass becomes larger. There may be fewer bins than requested.
Like every binned estimate it is biased upwards on few steps: n steps in n bins do not measure calibration.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LOG_CLIP: Final = 1e-7
"""Log loss clips scores to this distance from 0 and 1, so that one certain mistake costs 16 nats, not infinity."""

HEAVIEST: Final = 1e100
"""Weights up to this keep every sum and product finite."""

Floats = npt.NDArray[np.float64]
Numbers = Sequence[float] | npt.NDArray[Any]
"""Numbers or bools in one dimension."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Steps with scores from `low` to `high`, both included; `share` is their part of the total weight."""

    low: float
    high: float
    steps: int
    share: float
    mean_score: float
    mean_truth: float


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """How well scores separate good steps from bad ones; a rate over zero steps is None.

    `good_share` is the share of good steps, which is also the accuracy of calling everything good. `accuracy` and
    `balanced_accuracy` (the mean of the accuracies on good and on bad steps) call a step good if its score is at least
    `threshold`. `auroc` is the probability that a good step scores above a bad one, ties counted half. `log_loss` is in
    nats; `brier` is the mean square of score minus truth; `ece` the mean over the bins of |mean score - mean truth|.
    `auroc` and `balanced_accuracy` are None where one class is missing.
    """

    steps: int = 0
    good_share: float | None = None
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auroc: float | None = None
    log_loss: float | None = None
    brier: float | None = None
    ece: float | None = None
    bins: tuple[ReliabilityBin, ...] = ()
    threshold: float = 0.5

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a flat dictionary, the bins last."""
        return {
            "steps": self.steps,
            "threshold": self.threshold,
            "good_share": self.good_share,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "auroc": self.auroc,
            "log_loss": self.log_loss,
            "brier": self.brier,
            "ece": self.ece,
            "bins": [asdict(each) for each in self.bins],
        }


def step_metrics(
    scores: Numbers,
    truths: Numbers,
    *,
    threshold: float = 0.5,
    weights: Numbers | None = None,
    bins: int = 15,
    good_above: float = 0.0,
) -> StepMetrics:
    """Compute the metrics of scores against truths; all three columns have one entry per step, in the same order.

    A weight of 2 counts the step twice; steps of weight 0 are left out, also from `steps`. Sorts once: O(n log n).
    Raises `ValueError` for columns that differ in length or have more than one dimension, for a score or truth that is
    NaN or outside 0 to 1, for a negative or infinite weight, and for invalid settings.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, not from 0 to 1")
    if not 0 <= good_above < 1:
        raise ValueError(f"good_above is {good_above}, not from 0 to below 1")
    if bins < 1:
        raise ValueError(f"bins is {bins}, not 1 or more")
    score, truth = _column("scores", scores), _column("truths", truths)
    weight = np.ones(len(score)) if weights is None else _column("weights", weights, HEAVIEST)
    if not len(score) == len(truth) == len(weight):
        raise ValueError(f"{len(score)} scores, {len(truth)} truths and {len(weight)} weights: one of each per step")
    counted = weight > 0
    score, truth, weight = score[counted], truth[counted], weight[counted]
    if not len(score):
        return StepMetrics(threshold=threshold)

    good, called_good = truth > good_above, score >= threshold
    on_good, on_bad = _share(called_good[good], weight[good]), _share(~called_good[~good], weight[~good])
    clipped = np.clip(score, LOG_CLIP, 1 - LOG_CLIP)
    distinct, rank = np.unique(score, return_inverse=True)
    reliability = _reliability(distinct, rank, truth, weight, bins)
    return StepMetrics(
        steps=len(score),
        good_share=_share(good, weight),
        accuracy=_share(called_good == good, weight),
        balanced_accuracy=None if on_good is None or on_bad is None else (on_good + on_bad) / 2,
        auroc=_auroc(_sums(rank, weight * good), _sums(rank, weight * ~good)),
        log_loss=float(np.average(-truth * np.log(clipped) - (1 - truth) * np.log1p(-clipped), weights=weight)),
        brier=float(np.average((score - truth) ** 2, weights=weight)),
        ece=min(sum(each.share * abs(each.mean_score - each.mean_truth) for each in reliability), 1.0),
        bins=reliability,
        threshold=threshold,
    )


def _column(name: str, values: Numbers, highest: float = 1.0) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} have the shape {column.shape}, not one dimension")
    # A NaN fails both comparisons.
    outside = ~((column >= 0) & (column <= highest))
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(f"{name}[{first}] is {column[first]}, not from 0 to {highest:g}")
    return column


def _share(chosen: npt.NDArray[np.bool_], weight: Floats) -> float | None:
    return float(weight[chosen].sum() / weight.sum()) if len(weight) else None


def _sums(group: npt.NDArray[np.intp], values: Floats) -> Floats:
    """Return the sum of the values of each group, indexed by group number."""
    return np.asarray(np.bincount(group, values), dtype=np.float64)


def _auroc(good: Floats, bad: Floats) -> float | None:
    """Return Mann and Whitney's U as a share, from weights of good and bad steps at each distinct score, ascending."""
    all_good, all_bad = good.sum(), bad.sum()
    if not all_good or not all_bad:
        return None
    below = np.cumsum(bad) - bad
    return min(float((good * (below + bad / 2)).sum() / all_good / all_bad), 1.0)


def _reliability(
    distinct: Floats, rank: npt.NDArray[np.intp], truth: Floats, weight: Floats, bins: int
) -> tuple[ReliabilityBin, ...]:
    """Return bins of equal mass; a distinct score belongs to the bin that contains the middle of its mass."""
    ends = np.concatenate(([0.0], np.cumsum(_sums(rank, weight))))
    middle = (ends[:-1] + ends[1:]) / 2
    wanted = np.minimum((bins * middle / ends[-1]).astype(np.intp), bins - 1)
    _, starts, bin_of = np.unique(wanted, return_index=True, return_inverse=True)
    stops = np.append(starts[1:], len(distinct)) - 1
    low, high = distinct[starts], distinct[stops]
    step_bin = bin_of[rank]
    mass = _sums(step_bin, weight)
    # Rounding must not move a mean out of its bin.
    mean_score = np.clip(_sums(step_bin, weight * distinct[rank]) / mass, low, high)
    mean_truth = np.clip(_sums(step_bin, weight * truth) / mass, 0, 1)
    columns = (low, high, np.bincount(step_bin), mass / mass.sum(), mean_score, mean_truth)
    return tuple(ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))
