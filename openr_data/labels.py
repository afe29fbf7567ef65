"""The algebra of labels: counts are measured, everything else is derived.

Evidence about one prefix maps jobs to counts. `merge` is a join of a semilattice: it does not depend on order or
grouping, and the same job twice counts once. Hard and soft labels, intervals, first errors and repairs are functions
of the merged counts. `openr_data/store/sql_views.py` defines the same functions in SQL.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WILSON_Z: Final = 1.959964
"""The two-sided 95 % quantile that every interval uses."""

HardLabel = int | None
"""1 is good, 0 neutral, -1 bad; None is not judged."""


@dataclass(frozen=True, slots=True, order=True)
class Counts:
    """The rollouts measured from a prefix: graded ones, correct ones among them, and those without a verdict."""

    n_rollouts: int = 0
    n_correct: int = 0
    n_unknown: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.n_correct <= self.n_rollouts or self.n_unknown < 0:
            raise ValueError(f"{self.n_correct} correct of {self.n_rollouts} rollouts, {self.n_unknown} unknown")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.n_rollouts + other.n_rollouts, self.n_correct + other.n_correct, self.n_unknown + other.n_unknown
        )


Evidence = Mapping[str, Counts]
"""The counts that each job measured on one prefix."""


def merge(*parts: Evidence) -> dict[str, Counts]:
    """The evidence of several jobs together. Of two measurements by one job the larger counts: the job went on."""
    merged: dict[str, Counts] = {}
    for part in parts:
        for job, counts in part.items():
            merged[job] = max(merged.get(job, counts), counts)
    return merged


def total(evidence: Evidence) -> Counts:
    """The sum over jobs."""
    return sum(evidence.values(), Counts())


def soft_label(counts: Counts) -> float | None:
    """The share of correct rollouts (MC value), or None if no rollout was graded."""
    return counts.n_correct / counts.n_rollouts if counts.n_rollouts else None


def hard_label(counts: Counts, threshold: float = 0.0) -> HardLabel:
    """1 if the soft label is above the threshold, else -1; None if no rollout was graded."""
    soft = soft_label(counts)
    return None if soft is None else 1 if soft > threshold else -1


def wilson(counts: Counts, z: float = WILSON_Z) -> tuple[float, float] | None:
    """Wilson's score interval of the soft label (Wilson 1927); None if no rollout was graded."""
    n, k = counts.n_rollouts, counts.n_correct
    if not n:
        return None
    middle, reach = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    # Rounding must not move an end past the share itself, or out of the range from 0 to 1.
    low, high = min((middle - reach) / (n + z * z), k / n), max((middle + reach) / (n + z * z), k / n)
    return max(low, 0.0), min(high, 1.0)


def first_error(labels: Sequence[HardLabel]) -> int | None:
    """0-based index of the first step labelled bad, or None."""
    return next((index for index, label in enumerate(labels) if label == -1), None)


def repair(labels: Sequence[HardLabel]) -> list[HardLabel]:
    """Backward certificates: a good step makes all steps before it good.

    A correct completion from prefix j, preceded by the steps from i to j, is a correct completion from every prefix
    i <= j. A bad step before a good one is therefore noise of the sampling under the hard definition of Math-Shepherd
    (arXiv 2312.08935).
    """
    last_good = max((index for index, label in enumerate(labels) if label == 1), default=-1)
    return [1 if index < last_good else label for index, label in enumerate(labels)]


def pooled_labels(
    path: Sequence[Evidence], certified: Iterable[int] = (), threshold: float = 0.0, outcome: bool | None = None
) -> tuple[list[HardLabel], list[float | None]]:
    """The repaired hard labels and the soft values of a process, from the evidence about each of its prefixes.

    `certified` holds the indexes of steps through which a correct rollout passes. `outcome`, if known, is whether the
    answer of the complete process is correct, and decides the label of its last step.
    """
    counts = [total(evidence) for evidence in path]
    through = set(certified)
    labels = [1 if index in through else hard_label(item, threshold) for index, item in enumerate(counts)]
    if labels and outcome is not None:
        labels[-1] = 1 if outcome else -1
    return repair(labels), [soft_label(item) for item in counts]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of two lists of hard labels of the same steps, over the steps that both judge."""

    both_good: int = 0
    both_bad: int = 0
    good_bad: int = 0
    bad_good: int = 0
    agreeing: int = 0
    steps: int = 0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def rate(self) -> float | None:
        """The share of steps on which both labels are equal."""
        return self.agreeing / self.steps if self.steps else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa over good and bad; None if chance alone agrees or nothing was compared."""
        n = self.both_good + self.both_bad + self.good_bad + self.bad_good
        if not n:
            return None
        good, other_good = self.both_good + self.good_bad, self.both_good + self.bad_good
        expected = (good * other_good + (n - good) * (n - other_good)) / (n * n)
        return None if expected == 1 else ((self.both_good + self.both_bad) / n - expected) / (1 - expected)


def agreement(first: Sequence[HardLabel], second: Sequence[HardLabel]) -> Agreement:
    """The agreement of two methods on one process. Raises `ValueError` if the lists differ in length."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return Agreement(
        both_good=pairs.count((1, 1)),
        both_bad=pairs.count((-1, -1)),
        good_bad=pairs.count((1, -1)),
        bad_good=pairs.count((-1, 1)),
        agreeing=sum(a == b for a, b in pairs),
        steps=len(pairs),
    )
