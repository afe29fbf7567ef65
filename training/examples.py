"""Training examples of a process reward model: solutions of a snapshot with a target and a weight for each step.

The label rule is a recorded transform of what the store holds; nothing is relabelled:

1. "hard": 1 for good and neutral steps, 0 for bad ones. With a `threshold` the measured share of right rollouts
   decides instead, where there is one: good above it, else an error.
2. "soft": the share itself. Shares whose drawing was stopped early are biased (`stopped`), and judged or human labels
   have none: there the hard label is the target, and both are counted.
3. A step without a label is masked: it is read and not trained on. What comes behind a first error has no label, and
   what comes behind the last label of a solution is not even read.
4. `weights` "rollouts": a measured step weighs as many rollouts as it rests on (the likelihood of a binomial), at
   least one. `source_weights` NAME:NUMBER multiplies that for records whose question comes from the source NAME, or
   whose labels from the method NAME. Weights are scaled to a mean of 1 over the training data.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from openr_data.errors import InputError
from openr_data.formats.format import Tally
from openr_data.jobs.exporter import read_groups
from openr_data.jobs.selection import Selection
from openr_data.store import View
from openr_data.types import Provenance, Record


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How stored labels become targets; see the module."""

    labels: Literal["hard", "soft"] = "hard"
    threshold: float | None = None
    weights: Literal["one", "rollouts"] = "one"
    source_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.factors()
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError("threshold lies in [0, 1)")
        if self.labels == "soft" and self.threshold is not None:
            raise ValueError("a threshold belongs to hard labels")

    def factors(self) -> dict[str, float]:
        """What labels of a source or a method are multiplied with. Raises `ValueError`."""
        found: dict[str, float] = {}
        for item in self.source_weights:
            name, _, number = item.rpartition(":")
            try:
                found[name] = float(number)
            except ValueError:
                found[name] = math.nan
            if not name or not 0 < found[name] < math.inf:
                raise ValueError(f"source_weights are NAME:NUMBER with numbers above 0, found {item!r}")
        return found


@dataclass(frozen=True, slots=True)
class Example:
    """A solution: targets in [0, 1] (None: masked) and weights are parallel to its steps."""

    question_id: str
    source: str
    question: str
    steps: tuple[str, ...]
    target: tuple[float | None, ...]
    weight: tuple[float, ...]


@dataclass(slots=True)
class ExampleCounts:
    """What became of the records."""

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
        judged = [item for item in example.target if item is not None]
        self.steps += len(judged)
        self.masked += len(example.target) - len(judged)
        self.good += sum(item > 0.5 if rule.labels == "soft" else item == 1 for item in judged)


def read_examples(
    view: View, rule: LabelRule, counts: ExampleCounts, *, method: str = "", where: str = "", selection: Selection
) -> Iterator[Example]:
    """The examples of a snapshot in the order of their questions; `counts` grows with them.

    Raises `InputError` for a condition that fails, a balance that cannot be met, a weight of no source there is.
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
            there = ", ".join(sorted(counts.sources))
            raise InputError(f"source_weights names {name!r}, from which no label comes. There are: {there}.")


def to_example(record: Record, rule: LabelRule, counts: ExampleCounts) -> Example | None:
    """The example of a record, or None where no step of it has a label."""
    target: list[float | None] = []
    weight: list[float] = []
    asked = record.question
    names = {asked.source, record.method} - {""}
    factor = math.prod(number for name, number in rule.factors().items() if name in names)
    is_over = False
    for place, label in enumerate(record.label):
        found = None if is_over else _target(record, place, rule, counts)
        is_over = is_over or (label == -1 if rule.labels == "soft" else found == 0)
        target.append(found)
        measured = record.n_rollouts[place] if record.n_rollouts else 0
        weight.append(factor * (max(1, measured) if rule.weights == "rollouts" else 1))
    if all(item is None for item in target):
        counts.without_labels += 1
        return None
    counts.sources |= names
    example = Example(asked.question_id, asked.source, asked.question, record.steps, tuple(target), tuple(weight))
    counts.add(example, rule)
    return example


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
