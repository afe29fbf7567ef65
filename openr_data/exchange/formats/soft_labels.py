"""Reads and writes step labels as marks (true and false, 1 and 0, + and -) or as numbers between them.

A list of marks becomes hard labels. A list of numbers becomes values, with hard labels from a threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ...types import Record
from .format import BadRow, Tally, all_judged, hard, lose_values, plain_value
from .remainder import survives

Mark: TypeAlias = bool | int | float | str
Labels: TypeAlias = Literal["kept", "hard", "soft"]
"""How labels are written. "kept": as they were read, as marks if from another source; "hard": always as marks;
"soft": as values where they are known."""

_LARGEST: Final = 3e38
_MARKS: Final[Mapping[type, tuple[Mark, Mark]]] = {bool: (True, False), int: (1, 0), str: ("+", "-")}
_KINDS: Final = {kind.__name__: kind for kind in _MARKS}


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """Labels and values of a row. `form` is what the columns cannot express: the kind of marks if it is not the
    format's usual one, "soft", or the list itself."""

    label: tuple[int, ...]
    value: tuple[float, ...] = ()
    form: Any = None


def read_labels(marks: object, n: int, kinds: tuple[type, ...], threshold: float) -> ReadLabels:
    """Read the labels of n steps; `kinds` are the marks the format allows, the usual one first. Raises `BadRow`."""
    if not isinstance(marks, (list, tuple)) or len(marks) != n:
        raise BadRow("not one label a step")
    types = set(map(type, marks))
    kind = next(iter(types)) if len(types) == 1 else None
    if kind in kinds:
        good, bad = _MARKS[kind]
        label = tuple([1 if mark == good else -1 for mark in marks])
        if marks.count(good) + marks.count(bad) < n:
            raise BadRow("labels that are neither marks nor values")
        return ReadLabels(label, form=None if kind is kinds[0] else kind.__name__)
    if not types <= {int, float}:
        raise BadRow("labels that are neither marks nor values")
    if not all(-_LARGEST <= mark <= _LARGEST for mark in marks):
        raise BadRow("a label that is not a finite number")
    value = tuple(map(float, marks))
    label = tuple([1 if number > threshold else -1 for number in value])
    exact = int not in types and all(map(survives, value))
    return ReadLabels(label, value, "soft" if exact else list(marks))


def written_labels(
    record: Record, form: Any, labels: Labels, usual: type, neutral: Literal["good", "bad"], tally: Tally
) -> tuple[tuple[str, ...], list[Any]]:
    """Return the steps before the first unjudged one and a mark for each; an empty result is counted as a loss.

    `form` is that of `ReadLabels`. A neutral label becomes `neutral` among marks and 0.5 among values.
    """
    form = form if labels == "kept" else None
    if isinstance(form, list) and len(form) == len(record.steps):
        return record.steps, form
    steps: tuple[str, ...]
    marks: list[Any]
    if labels == "soft" or form == "soft":
        steps, marks = _soft(record, tally)
    else:
        lose_values(record, tally)
        steps, judged = all_judged(record, tally, 1 if neutral == "good" else -1)
        good, bad = _MARKS[_KINDS.get(form, usual) if isinstance(form, str) else usual]
        marks = [good if label == 1 else bad for label in judged]
    if not steps:
        tally.lose("records without any judged step")
    return steps, marks


def _soft(record: Record, tally: Tally) -> tuple[tuple[str, ...], list[float]]:
    values: Sequence[float | None] = record.value or (None,) * len(record.steps)
    marks: list[float] = []
    for label, value in zip(record.label, values, strict=True):
        if label is None and value is None:
            tally.lose("steps that were not judged, and those after them", len(values) - len(marks))
            break
        marks.append(plain_value(value) if value is not None else ((label or 0) + 1) / 2)
    differ = sum(label not in (None, hard(None, mark, 0.5)) for label, mark in zip(record.label, marks, strict=False))
    if differ:
        tally.lose("hard labels that differ from whether the value is above 0.5", differ)
    if any(record.n_rollouts):
        tally.lose("rollout counts of steps", sum(1 for n in record.n_rollouts if n))
    return record.steps[: len(marks)], marks
