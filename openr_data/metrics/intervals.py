"""Computes confidence intervals of a mean over questions and of a paired difference of two such means.

The method is the percentile bootstrap (Efron and Tibshirani 1993, section 13.3). It draws questions, not candidates,
because candidates of one question are not independent. The interval is too narrow for few questions, and has no width
if all values are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

VALUES_AT_ONCE: Final = 1 << 21
"""Resampled values held in memory at a time; the draws are split into chunks of this size."""

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over n questions, and the ends of its interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def clear_of_zero(self) -> bool:
        """Whether the interval lies on one side of 0; for a difference, that it is unlikely to be chance."""
        return self.low > 0 or self.high < 0

    def as_dict(self, name: str) -> dict[str, float | int]:
        """Return the mean under this name, the ends of its interval, and the number of questions."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_n": self.n}


def bootstrap_mean(values: Values, rng: np.random.Generator, draws: int = 2000, level: float = 0.95) -> Estimate:
    """Return the mean of one value per question, with its percentile bootstrap interval.

    Raises `ValueError` without questions or draws, for a value that is not finite, and for a level not between 0 and 1.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"expected one value for each of at least one question, not an array of {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("values must be finite")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"{draws} draws at level {level}, expected at least 1 draw and a level between 0 and 1")
    n = len(sample)
    rows = max(1, VALUES_AT_ONCE // n)
    means = np.concatenate(
        [
            sample[rng.integers(n, size=(min(rows, draws - start), n), dtype=np.int32)].mean(axis=1)
            for start in range(0, draws, rows)
        ]
    )
    mean = float(sample.mean())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # With few draws, or through rounding, the mean itself could lie outside its interval.
    return Estimate(mean, min(float(low), mean), max(float(high), mean), n)


def paired_difference(
    a: Values, b: Values, rng: np.random.Generator, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """Return the mean of a - b over the same questions in the same order, with its interval.

    Raises `ValueError` as `bootstrap_mean` does, and if the two differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values, expected one each per question")
    return bootstrap_mean(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), rng, draws, level)
