"""The figures of a comparison of labeling methods: contenders with their cost and their quality, and pairs of them.

Counts are fields, rates are derived from them, and the rate of an empty whole is None. `labels.py` counts in a
snapshot.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..labels import Agreement, Counts, wilson


@dataclass(frozen=True, slots=True)
class Share:
    """`part` of `whole`, with Wilson's 95 % interval."""

    part: int = 0
    whole: int = 0

    @property
    def rate(self) -> float | None:
        """The share, None if `whole` is 0."""
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval, None if `whole` is 0."""
        return wilson(Counts(self.whole, self.part))

    def __add__(self, other: "Share") -> "Share":
        return Share(self.part + other.part, self.whole + other.whole)

    def as_dict(self, name: str) -> dict[str, float | None]:
        """The rate under this name, and the ends of its interval."""
        low, high = self.interval or (None, None)
        return {name: self.rate, f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True, slots=True)
class Bin:
    """Steps whose value lies from `low` up to below `high` (the last bin holds 1 too), `good` of them in truth."""

    low: float
    high: float
    n: int
    mean_value: float
    good: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How close the values of steps are to the chance that the step is good.

    `ece` is the mean distance of value and truth over the bins, weighted by their steps (arXiv 1706.04599, eq. 3),
    `brier` the mean square of value minus truth over all steps. Values outside of 0 to 1 are left out.
    """

    steps: int
    ece: float
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """Labels against truth; the rate of an empty whole is None.

    Steps count up to the first true error, if both sides judge them; neutral is "not wrong". A label set with an
    unjudged step and no bad one is undecided: it neither names a first error nor denies one, so it hits nothing.
    `on_erroneous` are solutions whose first error is exactly the true one, of all solutions with an error;
    `on_correct` are those labelled without an error, of all that have none (ProcessBench, arXiv 2412.06559). If truth
    itself is undecided, its steps count and its solution does not.
    """

    solutions: int = 0
    undecided: int = 0
    on_erroneous: Share = Share()
    on_correct: Share = Share()
    true_bad: int = 0
    false_bad: int = 0
    missed_bad: int = 0
    true_good: int = 0
    calibration: Calibration | None = None

    @property
    def precision(self) -> float | None:
        """The share of the steps labelled bad that are wrong."""
        return Share(self.true_bad, self.true_bad + self.false_bad).rate

    @property
    def recall(self) -> float | None:
        """The share of the wrong steps that are labelled bad."""
        return Share(self.true_bad, self.true_bad + self.missed_bad).rate

    @property
    def f1_bad(self) -> float | None:
        """Harmonic mean of precision and recall of the label "bad"."""
        return Share(2 * self.true_bad, 2 * self.true_bad + self.false_bad + self.missed_bad).rate

    @property
    def f1_good(self) -> float | None:
        """The same for the labels "good" and "neutral"."""
        return Share(2 * self.true_good, 2 * self.true_good + self.false_bad + self.missed_bad).rate

    @property
    def exact_hit(self) -> Share:
        """The solutions with exactly the true first error, or correctly without one."""
        return self.on_erroneous + self.on_correct

    @property
    def processbench_f1(self) -> float | None:
        """Harmonic mean of the accuracies on erroneous and on correct solutions."""
        bad, good = self.on_erroneous.rate, self.on_correct.rate
        if bad is None or good is None:
            return None
        return 2 * bad * good / (bad + good) if bad + good else 0.0

    @property
    def false_zeros(self) -> Share:
        """The share of the steps labelled bad that are not wrong."""
        return Share(self.false_bad, self.true_bad + self.false_bad)

    def as_dict(self) -> dict[str, Any]:
        """All figures, flat; the bins of the calibration last."""
        fit = self.calibration
        return {
            "solutions_with_truth": self.solutions,
            "undecided": self.undecided,
            "precision_bad": self.precision,
            "recall_bad": self.recall,
            "f1_bad": self.f1_bad,
            "f1_good": self.f1_good,
            **self.exact_hit.as_dict("exact_hit"),
            "processbench_erroneous": self.on_erroneous.rate,
            "processbench_correct": self.on_correct.rate,
            "processbench_f1": self.processbench_f1,
            **self.false_zeros.as_dict("false_zeros"),
            "ece": fit and fit.ece,
            "brier": fit and fit.brier,
            "bins": [asdict(item) for item in fit.bins] if fit else [],
        }


@dataclass(frozen=True, slots=True)
class Contender:
    """One method in one job: its labels, their cost and their quality.

    `steps` are the judged ones, `located` counts distinct prefixes that end in a first error. `calls` and `tokens`
    are those of all questions that the job finished, None if it recorded no policy calls (an import).
    """

    name: str
    method: str
    job_id: str
    questions: int = 0
    label_sets: int = 0
    steps: int = 0
    good: int = 0
    bad: int = 0
    unjudged: int = 0
    located: int = 0
    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None
    currency: str = ""
    quality: Quality = field(default_factory=Quality)

    @property
    def calls_per_located(self) -> float | None:
        """Policy calls per distinct first error."""
        return None if self.calls is None else Share(self.calls, self.located).rate

    @property
    def tokens_per_located(self) -> float | None:
        """Completion tokens per distinct first error."""
        return None if self.tokens is None else Share(self.tokens, self.located).rate

    def as_dict(self) -> dict[str, Any]:
        """All figures, flat."""
        return {
            "name": self.name,
            "method": self.method,
            "job_id": self.job_id,
            "questions": self.questions,
            "label_sets": self.label_sets,
            "steps": self.steps,
            "good": self.good,
            "bad": self.bad,
            "unjudged": self.unjudged,
            "first_errors": self.located,
            "calls": self.calls,
            "completion_tokens": self.tokens,
            "cost": self.cost,
            "currency": self.currency or None,
            "calls_per_first_error": self.calls_per_located,
            "tokens_per_first_error": self.tokens_per_located,
            **self.quality.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """Two contenders on the solutions that both labelled; `same_first_error` counts those that both decide."""

    first: str
    second: str
    solutions: int = 0
    agreement: Agreement = field(default_factory=Agreement)
    same_first_error: Share = Share()

    def as_dict(self) -> dict[str, Any]:
        """All figures, flat."""
        return {
            "first": self.first,
            "second": self.second,
            "solutions": self.solutions,
            "steps": self.agreement.steps,
            "agreement": self.agreement.rate,
            "kappa": self.agreement.kappa,
            "same_first_error": self.same_first_error.rate,
        }


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """Contenders in the order asked for, and every pair of them.

    `truth` is the number of solutions by kind of truth, `unreadable` of those that an oracle could not judge because
    their questions lack data.
    """

    dataset: str
    truth: Mapping[str, int]
    contenders: tuple[Contender, ...]
    pairs: tuple[Pair, ...]
    unreadable: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "dataset": self.dataset,
            "truth": dict(self.truth),
            "methods": [item.as_dict() for item in self.contenders],
            "agreement": [item.as_dict() for item in self.pairs],
        }
