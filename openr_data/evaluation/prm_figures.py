"""The figures of an evaluation of a process reward model, by set of solutions, and in a set by source and generator.

Steps with a known truth count up to and including the first true error; neutral is not wrong. First errors count on
solutions whose truth is decided, at three thresholds: 0.5, the model's own, and the best one on a dev set. A solution
without scores counts as missed in the first-error figures and has no steps in the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from ..metrics.first_error import (
    FirstErrorMetrics,
    Scored,
    best_threshold,
    first_error_curve,
    first_error_metrics,
    last_is_lowest,
)
from ..metrics.step_metrics import ReliabilityBin, StepMetrics, step_metrics
from .judged_solutions import JudgedSet, JudgedSolution
from .scores import case_id

HALF: Final = 0.5
OWN, DEV = "_own", "_dev"
"""The endings of the names of the first-error figures at the other two thresholds."""
MEAN: Final = "mean"
"""The row of the mean over the sets: the headline of ProcessBench."""

_CURVE: Final = ("threshold", "f1", "accuracy_erroneous", "accuracy_correct")
_AT: Final = ("threshold", "f1", "accuracy_erroneous", "accuracy_correct", "exact", "erroneous_hit", "correct_hit")

GRID: Final = tuple(i / 100 for i in range(101))
"""Thresholds at which the curve of F1 always has points."""

ScoresByCase = Mapping[str, Sequence[float]]
"""Step scores by `case_id`; a solution that could not be scored is missing."""
RateCurve = Mapping[str, Sequence[float | None]]
"""Parallel lists: threshold (ascending), f1, accuracy_erroneous, accuracy_correct."""


@dataclass(frozen=True, slots=True)
class PrmFigures:
    """One set of solutions, or one group in it: `by` is "", "source" or "generator", `group` its name.

    `failed` of the `solutions` could not be scored; for `undecided` ones the truth leaves open whether they have an
    error. `at_dev` is None without a dev set.
    """

    name: str
    by: str
    group: str
    solutions: int
    failed: int
    undecided: int
    steps: StepMetrics
    at_half: FirstErrorMetrics
    at_own: FirstErrorMetrics
    at_dev: FirstErrorMetrics | None
    last_is_lowest: float | None
    curve: RateCurve = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The figures as one flat row, without curve and bins."""
        steps = self.steps.as_dict()
        del steps["bins"], steps["threshold"]
        row: dict[str, Any] = {
            "set": self.name,
            "by": self.by,
            "group": self.group,
            "solutions": self.solutions,
            "failed": self.failed,
            "undecided": self.undecided,
            "erroneous": self.at_half.erroneous,
            "correct": self.at_half.correct,
            **_at(self.at_half, ""),
            **_at(self.at_own, OWN),
            **(_at(self.at_dev, DEV) if self.at_dev is not None else {}),
            "last_is_lowest": self.last_is_lowest,
        }
        return {**row, **steps}

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        bins = [asdict(item) for item in self.steps.bins]
        return {**self.row(), "bins": bins, "curve": {name: list(values) for name, values in self.curve.items()}}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "PrmFigures":
        """The inverse of `as_dict`."""
        named = {item.name: plain[item.name] for item in fields(StepMetrics) if item.name not in ("bins", "threshold")}
        bins = tuple(ReliabilityBin(**item) for item in plain["bins"])
        return cls(
            name=plain["set"],
            at_half=_read_at(plain, ""),
            at_own=_read_at(plain, OWN),
            at_dev=_read_at(plain, DEV) if f"threshold{DEV}" in plain else None,
            steps=StepMetrics(**named, bins=bins),
            **{n: plain[n] for n in ("by", "group", "solutions", "failed", "undecided", "last_is_lowest", "curve")},
        )


def _at(metrics: FirstErrorMetrics, ending: str) -> dict[str, Any]:
    plain = metrics.as_dict()
    return {f"{name}{ending}": plain[name] for name in _AT}


def _read_at(plain: Mapping[str, Any], ending: str) -> FirstErrorMetrics:
    return FirstErrorMetrics(
        plain["erroneous"],
        plain[f"erroneous_hit{ending}"],
        plain["correct"],
        plain[f"correct_hit{ending}"],
        plain[f"threshold{ending}"],
    )


@dataclass(frozen=True, slots=True)
class DevThreshold:
    """The threshold with the best first-error F1 on a dev set; `in_common` counts its solutions in the other sets."""

    name: str
    threshold: float
    solutions: int
    failed: int
    in_common: int


@dataclass(frozen=True, slots=True)
class PrmEvaluation:
    """The result of an evaluation: a row of figures for each set, followed by the rows of its groups."""

    model: str
    revision: str
    threshold: float
    rows: tuple[PrmFigures, ...]
    dev: DevThreshold | None = None

    @property
    def sets(self) -> list[PrmFigures]:
        """The rows of whole sets."""
        return [item for item in self.rows if not item.by]

    def mean_row(self) -> dict[str, Any] | None:
        """Unweighted means of F1 over the sets, None with one set; a mean is None if a set has no F1."""
        if len(self.sets) < 2:
            return None
        rows = [item.row() for item in self.sets]
        mean: dict[str, Any] = {"set": MEAN, "by": "", "group": ""}
        for ending in ("", OWN, *([DEV] if self.dev is not None else [])):
            values = [row[f"f1{ending}"] for row in rows]
            mean[f"threshold{ending}"] = rows[0][f"threshold{ending}"]
            mean[f"f1{ending}"] = None if None in values else sum(values) / len(values)
        return mean

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "model": self.model,
            "model_revision": self.revision,
            "threshold": self.threshold,
            "dev": asdict(self.dev) if self.dev is not None else None,
            "mean": self.mean_row(),
            "rows": [item.as_dict() for item in self.rows],
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "PrmEvaluation":
        """The inverse of `as_dict`."""
        return cls(
            plain["model"],
            plain["model_revision"],
            plain["threshold"],
            tuple(map(PrmFigures.read, plain["rows"])),
            DevThreshold(**plain["dev"]) if plain["dev"] is not None else None,
        )


def choose_threshold(dev: JudgedSet, sets: Sequence[JudgedSet], scores: ScoresByCase) -> DevThreshold:
    """The best threshold on the scored solutions of a dev set; those without scores do not count.

    Raises `ValueError` if no solution with an error, or none without an error, has scores.
    """
    items = [item for solution in dev.solutions if (item := _decided(solution, scores)) is not None]
    reported = {_case(item) for each in sets for item in each.solutions}
    return DevThreshold(
        dev.name,
        best_threshold(items),
        len(dev.solutions),
        sum(_case(item) not in scores for item in dev.solutions),
        sum(_case(item) in reported for item in dev.solutions),
    )


def figures_of(judged: JudgedSet, scores: ScoresByCase, own: float, dev: float | None = None) -> Iterator[PrmFigures]:
    """The figures of a set, then those of each source and each generator if the set has several."""
    yield _figures(judged.name, "", "", judged.solutions, scores, own, dev)
    for by in ("source", "generator"):
        groups: dict[str, list[JudgedSolution]] = {}
        for item in judged.solutions:
            groups.setdefault(getattr(item, by), []).append(item)
        for group, items in sorted(groups.items()) if len(groups) > 1 else ():
            yield _figures(judged.name, by, group, items, scores, own, dev)


def _figures(
    name: str,
    by: str,
    group: str,
    solutions: Sequence[JudgedSolution],
    scores: ScoresByCase,
    own: float,
    dev: float | None,
) -> PrmFigures:
    items: list[Scored] = []
    all_scored: list[Scored] = []
    missed = [0, 0]
    step_scores: list[float] = []
    step_truths: list[bool] = []
    for solution in solutions:
        given, error = scores.get(_case(solution)), solution.first_error
        if given is None:
            if not solution.is_undecided:
                missed[error is None] += 1
            continue
        all_scored.append(Scored(tuple(given), error))
        if not solution.is_undecided:
            items.append(all_scored[-1])
        judged = len(given) if error is None else error + 1
        for score, label in zip(given[:judged], solution.truth[:judged], strict=True):
            if label is not None:
                step_scores.append(score)
                step_truths.append(label >= 0)

    def with_missed(point: FirstErrorMetrics) -> FirstErrorMetrics:
        return replace(point, erroneous=point.erroneous + missed[0], correct=point.correct + missed[1])

    # F1 is a step function of the threshold: the points where it changes, and a grid so that plots show the steps.
    turns = [point.threshold for point in first_error_curve(items) if 0 <= point.threshold <= 1]
    curve = [with_missed(point) for point in first_error_curve(items, sorted({*turns, *GRID}))]
    return PrmFigures(
        name=name,
        by=by,
        group=group,
        solutions=len(solutions),
        failed=len(solutions) - len(all_scored),
        undecided=sum(item.is_undecided for item in solutions),
        steps=step_metrics(step_scores, step_truths),
        at_half=with_missed(first_error_metrics(items, HALF)),
        at_own=with_missed(first_error_metrics(items, own)),
        at_dev=None if dev is None else with_missed(first_error_metrics(items, dev)),
        last_is_lowest=last_is_lowest(all_scored),
        curve={name: [getattr(point, name) for point in curve] for name in _CURVE},
    )


def _decided(solution: JudgedSolution, scores: ScoresByCase) -> Scored | None:
    given = scores.get(_case(solution))
    return None if given is None or solution.is_undecided else Scored(tuple(given), solution.first_error)


def _case(solution: JudgedSolution) -> str:
    return case_id(solution.question, solution.steps)
