"""Makes training examples of a process reward model: solutions of a snapshot with a target and a weight per step.

The label rule is a recorded transform of the stored labels; it does not relabel anything:

1. "hard": 1 for good and neutral steps, 0 for bad ones. With a `threshold`, the measured share of correct rollouts
   decides instead, if there is one: good above the threshold, else an error.
2. "soft": the share itself. Shares from sampling that stopped early are biased (`stopped`), and judged or human labels
   have no share: these steps use the hard label as target and are counted.
3. A step without a label is masked: the model reads it but is not trained on it. Steps after a first error have no
   label, and steps after the last label of a solution are not read at all.
4. `weights` "rollouts": a measured step has its number of rollouts as weight (the likelihood of a binomial), at least
   one. `source_weights` NAME:NUMBER multiplies that for records whose question comes from the source NAME or whose
   labels come from the method NAME. Weights are scaled to a mean of 1 over the training data.
5. With `reasons`, a step has the reason of its label (`openr_data/reasons.py`) if there is one and the target agrees
   with the label, because a reason explains either why the step is good or why it is bad.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from openr_data.errors import InputError
from openr_data.exchange.exporter import read_groups
from openr_data.exchange.formats.format import Tally
from openr_data.exchange.selection import Selection
from openr_data.reasons import reasons_of
from openr_data.store import View
from openr_data.types import Provenance, Record


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How stored labels become targets; see the module's docstring."""

    labels: Literal["hard", "soft"] = "hard"
    threshold: float | None = None
    weights: Literal["one", "rollouts"] = "one"
    source_weights: tuple[str, ...] = ()
    reasons: bool = False

    def __post_init__(self) -> None:
        self.factors()
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError("threshold lies in [0, 1)")
        if self.labels == "soft" and self.threshold is not None:
            raise ValueError("a threshold belongs to hard labels")

    def factors(self) -> dict[str, float]:
        """Return the weight factor of each named source or method. Raises `ValueError` for a malformed entry."""
        factors: dict[str, float] = {}
        for entry in self.source_weights:
            name, _, number = entry.rpartition(":")
            try:
                factors[name] = float(number)
            except ValueError:
                factors[name] = math.nan
            if not name or not 0 < factors[name] < math.inf:
                raise ValueError(f"source_weights are NAME:NUMBER with numbers above 0, found {entry!r}")
        return factors


@dataclass(frozen=True, slots=True)
class Example:
    """A solution with targets in [0, 1] (None: masked) and weights, both parallel to its steps.

    `reasons` is parallel too, with "" for a step without one; it is empty if no step has a reason.
    """

    question_id: str
    source: str
    question: str
    steps: tuple[str, ...]
    target: tuple[float | None, ...]
    weight: tuple[float, ...]
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class ExampleCounts:
    """Counts of records and steps, used and left out."""

    records: int = 0
    without_labels: int = 0
    steps: int = 0
    good: int = 0
    masked: int = 0
    without_share: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)

    def add(self, example: "Example", rule: "LabelRule") -> None:
        """Count the steps of an example."""
        judged = [target for target in example.target if target is not None]
        self.steps += len(judged)
        self.masked += len(example.target) - len(judged)
        self.good += sum(target > 0.5 if rule.labels == "soft" else target == 1 for target in judged)


def read_examples(
    view: View, rule: LabelRule, counts: ExampleCounts, *, method: str = "", where: str = "", selection: Selection
) -> Iterator[Example]:
    """Yield the examples of a snapshot in the order of their questions, adding each to `counts`.

    Raises `InputError` for a condition that fails, a balance that cannot be met, a weight for a source without labels,
    and reasons that do not fit their steps.
    """
    tally = Tally()
    for group in read_groups(view, tally, method=method, where=where, selection=selection):
        for record in group.records:
            counts.records += 1
            example = to_example(record, rule, counts)
            if example is not None:
                yield example
    counts.left_out = dict(tally.lost)
    for name in rule.factors():
        if name not in counts.sources:
            sources = ", ".join(sorted(counts.sources))
            raise InputError(
                f"source_weights names {name!r}, which has no labels here. Sources with labels: {sources}."
            )


def to_example(record: Record, rule: LabelRule, counts: ExampleCounts) -> Example | None:
    """Make the example of a record, or None if no step has a label. Raises `InputError` for reasons that do not fit."""
    target: list[float | None] = []
    weight: list[float] = []
    question = record.question
    names = {question.source, record.method} - {""}
    factor = math.prod(number for name, number in rule.factors().items() if name in names)
    is_over = False
    for place, label in enumerate(record.label):
        step_target = None if is_over else _target(record, place, rule, counts)
        is_over = is_over or (label == -1 if rule.labels == "soft" else step_target == 0)
        target.append(step_target)
        measured = record.n_rollouts[place] if record.n_rollouts else 0
        weight.append(factor * (max(1, measured) if rule.weights == "rollouts" else 1))
    if all(each is None for each in target):
        counts.without_labels += 1
        return None
    counts.sources |= names
    reasons = _reasons(record, target) if rule.reasons else ()
    example = Example(
        question.question_id, question.source, question.question, record.steps, tuple(target), tuple(weight), reasons
    )
    counts.add(example, rule)
    return example


def _reasons(record: Record, target: Sequence[float | None]) -> tuple[str, ...]:
    try:
        stored = reasons_of(record.label_metadata, len(record.steps))
    except ValueError as error:
        raise InputError(
            f"The metadata of the {record.method} labels of {record.question.question[:60]!r} are damaged: {error}. "
            "Import those labels again, or train without --reasons."
        ) from error
    agree = [
        wanted is not None and label is not None and (wanted > 0.5) == (label >= 0)
        for wanted, label in zip(target, record.label, strict=True)
    ]
    reasons = tuple(reason if agrees else "" for reason, agrees in zip(stored, agree, strict=bool(stored)))
    return reasons if any(reasons) else ()


def _target(record: Record, place: int, rule: LabelRule, counts: ExampleCounts) -> float | None:
    label = record.label[place]
    if label is None:
        return None
    stored = float(label >= 0)
    if rule.labels == "hard" and rule.threshold is None:
        return stored
    value = record.value[place] if record.value else None
    where = record.provenance[place] if record.provenance else Provenance.IMPORTED
    if value is None or not 0 <= value <= 1 or where in (Provenance.STOPPED, Provenance.CERTIFIED):
        counts.without_share += 1
        return stored
    if rule.labels == "soft":
        return float(value)
    assert rule.threshold is not None
    return float(value > rule.threshold)
