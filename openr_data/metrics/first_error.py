"""Scores how well step scores locate the first error of a solution: ProcessBench's protocol (arXiv 2412.06559).

The predicted first error is the first step whose score is below a threshold, or none. Two accuracies count: on
solutions with an error (exactly its first step is predicted) and on those without (none is predicted). Their harmonic
mean is the F1 of a subset; the headline of the benchmark is the unweighted mean over its four subsets, so call this
once per subset.

Thresholds: 0.5 for probabilities; for scores in another range, the best one on the GSM8K subset, applied to all
subsets. A threshold tuned on the reported solutions overstates F1; the curve shows by how much.

The running minimum of a solution's scores decides: at threshold t, step i is predicted if score i < t and every earlier
score >= t. So the true first error is hit for t in at most one half-open interval, and a single sweep over the ends of
those intervals gives the counts at every threshold.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one solution, one per step, and the 0-based index of its first error, None if it has none.

    Scores need not be probabilities. Raises `ValueError` for a score that is not finite and for a first error that is
    not one of the scored steps.
    """

    scores: tuple[float, ...]
    first_error: int | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.scores)):
            raise ValueError(f"Scores must be finite, not {self.scores}")
        if self.first_error is not None and not 0 <= self.first_error < len(self.scores):
            raise ValueError(f"The first error is step {self.first_error}, but {len(self.scores)} steps have scores")

    def predicted(self, threshold: float) -> int | None:
        """Return the 0-based index of the first step whose score is below the threshold, or None."""
        return next((index for index, score in enumerate(self.scores) if score < threshold), None)


@dataclass(frozen=True, slots=True)
class FirstErrorMetrics:
    """Hits among the solutions with an error and among those without, at one threshold.

    Fields are counts, rates are derived from them, and a rate over zero solutions is None.
    """

    erroneous: int = 0
    erroneous_hit: int = 0
    correct: int = 0
    correct_hit: int = 0
    threshold: float = 0.5

    @property
    def accuracy_erroneous(self) -> float | None:
        """Share of the solutions with an error whose first error is exactly the predicted one."""
        return self.erroneous_hit / self.erroneous if self.erroneous else None

    @property
    def accuracy_correct(self) -> float | None:
        """Share of the solutions without an error for which none is predicted."""
        return self.correct_hit / self.correct if self.correct else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both accuracies: 0 if both are 0, None if either is None."""
        if not self.erroneous or not self.correct:
            return None
        # Whole numbers make equal F1 equal floats, so that ties between thresholds are detected.
        crossed = self.erroneous_hit * self.correct + self.correct_hit * self.erroneous
        return 2 * self.erroneous_hit * self.correct_hit / crossed if crossed else 0.0

    @property
    def exact(self) -> float | None:
        """Share of all solutions that are hits of either kind."""
        solutions = self.erroneous + self.correct
        return (self.erroneous_hit + self.correct_hit) / solutions if solutions else None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a flat dictionary."""
        return {
            "threshold": self.threshold,
            "f1": self.f1,
            "accuracy_erroneous": self.accuracy_erroneous,
            "accuracy_correct": self.accuracy_correct,
            "exact": self.exact,
            "erroneous": self.erroneous,
            "erroneous_hit": self.erroneous_hit,
            "correct": self.correct,
            "correct_hit": self.correct_hit,
        }


@dataclass(frozen=True, slots=True)
class _Sweep:
    """The hits at every threshold: entry i of both lists applies if exactly i of the ascending `turns` are below it."""

    turns: tuple[float, ...]
    erroneous: int
    erroneous_hits: tuple[int, ...]
    correct: int
    correct_hits: tuple[int, ...]

    def at(self, threshold: float) -> FirstErrorMetrics:
        index = bisect_left(self.turns, threshold)
        return FirstErrorMetrics(
            self.erroneous, self.erroneous_hits[index], self.correct, self.correct_hits[index], threshold
        )

    def points(self) -> list[FirstErrorMetrics]:
        """One for each entry, ascending; outermost thresholds lie between the turns and 0 or 1, or 0.5 beyond them."""
        if not self.turns:
            return [self.at(0.5)]
        lowest, highest = self.turns[0], self.turns[-1]
        floor = 0.0 if lowest >= 0 else lowest - 1
        ceiling = 1.0 if highest < 1 else max(highest + 1, math.nextafter(highest, math.inf))
        return [self.at(_between(low, high)) for low, high in pairwise((floor, *self.turns, ceiling))]


def first_error_metrics(items: Iterable[Scored], threshold: float = 0.5) -> FirstErrorMetrics:
    """The figures at one threshold; a step of exactly that score is not below it."""
    _check(threshold)
    hits = [(item.first_error is None, item.predicted(threshold) == item.first_error) for item in items]
    on_erroneous, on_correct = [hit for correct, hit in hits if not correct], [hit for correct, hit in hits if correct]
    return FirstErrorMetrics(len(on_erroneous), sum(on_erroneous), len(on_correct), sum(on_correct), threshold)


def first_error_curve(
    items: Iterable[Scored], thresholds: Iterable[float] | None = None, *, most: int | None = 200
) -> tuple[FirstErrorMetrics, ...]:
    """Return the figures at each of the thresholds, in order; by default at all thresholds that differ in a count.

    By default each range in which no count changes is represented by its midpoint, ascending. A curve of more than
    `most` points is thinned evenly but keeps its ends and the threshold of `best_threshold`; `most=None` keeps all.
    Takes O(s + n log n) for n solutions with s steps in total, and O(log n) for each threshold.
    """
    sweep = _sweep(items)
    if thresholds is not None:
        return tuple(sweep.at(_check(threshold)) for threshold in thresholds)
    if most is not None and most < 3:
        raise ValueError(f"most is {most}, not 3 or more: both ends and the best are kept")
    points = sweep.points()
    if most is None or len(points) <= most:
        return tuple(points)
    indices = {index * (len(points) - 1) // (most - 2) for index in range(most - 1)}
    best = max(range(len(points)), key=lambda index: _merit(points[index]))
    return tuple(points[index] for index in sorted(indices | {best}))


def best_threshold(items: Iterable[Scored]) -> float:
    """Return the threshold of the highest F1: the midpoint of its range, or of the one nearest to 0.5 if several tie.

    Raises `ValueError` if F1 is undefined because all solutions or none have an error.
    """
    sweep = _sweep(items)
    if not sweep.erroneous or not sweep.correct:
        raise ValueError(
            f"{sweep.erroneous} solutions with an error and {sweep.correct} without: F1 needs some of both"
        )
    return max(sweep.points(), key=_merit).threshold


def last_is_lowest(items: Iterable[Scored]) -> float | None:
    """Return the share of solutions whose last step scores below every other one; None if no solution has two steps.

    A high share indicates a PRM that has become an ORM: it judges the answer and not the steps (arXiv 2501.07301).
    Truths do not matter. A tie for the lowest does not count, so that a constant score does not look like an ORM.
    """
    is_lowest = [item.scores[-1] < min(item.scores[:-1]) for item in items if len(item.scores) > 1]
    return sum(is_lowest) / len(is_lowest) if is_lowest else None


def _check(threshold: float) -> float:
    if math.isnan(threshold):
        raise ValueError("The threshold is NaN, not a number to compare scores with")
    return threshold


def _merit(point: FirstErrorMetrics) -> tuple[float, float, float]:
    return point.f1 or 0.0, -abs(point.threshold - 0.5), -point.threshold


def _between(low: float, high: float) -> float:
    """Return the midpoint in (low, high]: for two neighbouring floats this is the higher one."""
    middle = low / 2 + high / 2
    return middle if low < middle <= high else high


def _sweep(items: Iterable[Scored]) -> _Sweep:
    erroneous = correct = 0
    changes: defaultdict[float, list[int]] = defaultdict(lambda: [0, 0])
    for item in items:
        if item.first_error is None:
            correct += 1
            if item.scores:
                changes[min(item.scores)][1] -= 1
            continue
        erroneous += 1
        own, before = item.scores[item.first_error], min(item.scores[: item.first_error], default=math.inf)
        if own < before:
            changes[own][0] += 1
            if before < math.inf:
                changes[before][0] -= 1
    turns = sorted(score for score, change in changes.items() if any(change))
    return _Sweep(
        tuple(turns),
        erroneous,
        tuple(accumulate((changes[score][0] for score in turns), initial=0)),
        correct,
        tuple(accumulate((changes[score][1] for score in turns), initial=correct)),
    )
