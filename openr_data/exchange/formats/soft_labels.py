"""The labels of steps as marks (true and false, 1 and 0, + and -) or as numbers between them, read and written.

A list of marks becomes hard labels. A list of numbers becomes values, and hard labels above a threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ...types import Record
from .format import BadRow, Tally, all_judged, hard, lose_values, plain_value
from .remainder import survives

Mark: TypeAlias = bool | int | float | str
Labels: TypeAlias = Literal["kept", "hard", "soft"]
"""How labels are written: as they were read (hard where they were not), always as marks, as values where known."""

_LARGEST: Final = 3e38
_MARKS: Final[Mapping[type, tuple[Mark, Mark]]] = {bool: (True, False), int: (1, 0), str: ("+", "-")}
_KINDS: Final = {kind.__name__: kind for kind in _MARKS}


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """`kept` is what the columns cannot tell: a kind of marks that is not the usual one, "soft", or the list itself."""

    label: tuple[int, ...]
    value: tuple[float, ...] = ()
    kept: Any = None


def read_labels(found: object, n: int, kinds: tuple[type, ...], threshold: float) -> ReadLabels:
    """The labels of n steps; `kinds` are the marks a format knows, the usual one first. Raises `BadRow`."""
    if not isinstance(found, (list, tuple)) or len(found) != n:
        raise BadRow("not one label a step")
    types = set(map(type, found))
    kind = next(iter(types)) if len(types) == 1 else None
    if kind in kinds:
        good, bad = _MARKS[kind]
        label = tuple([1 if mark == good else -1 for mark in found])
        if found.count(good) + found.count(bad) < n:
            raise BadRow("labels that are neither marks nor values")
        return ReadLabels(label, kept=None if kind is kinds[0] else kind.__name__)
    if not types <= {int, float}:
        raise BadRow("labels that are neither marks nor values")
    if not all(-_LARGEST <= mark <= _LARGEST for mark in found):
        raise BadRow("a label that is no finite number")
    value = tuple(map(float, found))
    label = tuple([1 if number > threshold else -1 for number in value])
    exact = int not in types and all(map(survives, value))
    return ReadLabels(label, value, "soft" if exact else list(found))


def written_labels(
    record: Record, kept: Any, labels: Labels, usual: type, neutral: Literal["good", "bad"], tally: Tally
) -> tuple[tuple[str, ...], list[Any]]:
    """The steps up to the first unjudged one and a mark for each; empty, and counted, where none is judged.

    A neutral label is `neutral` among marks and 0.5 among values.
    """
    kept = kept if labels == "kept" else None
    if isinstance(kept, list) and len(kept) == len(record.steps):
        return record.steps, kept
    steps: tuple[str, ...]
    marks: list[Any]
    if labels == "soft" or kept == "soft":
        steps, marks = _soft(record, tally)
    else:
        lose_values(record, tally)
        steps, judged = all_judged(record, tally, 1 if neutral == "good" else -1)
        good, bad = _MARKS[_KINDS.get(kept, usual) if isinstance(kept, str) else usual]
        marks = [good if label == 1 else bad for label in judged]
    if not steps:
        tally.lose("records without any judged step")
    return steps, marks


def _soft(record: Record, tally: Tally) -> tuple[tuple[str, ...], list[float]]:
    values: Sequence[float | None] = record.value or (None,) * len(record.steps)
    marks: list[float] = []
    for label, value in zip(record.label, values, strict=True):
        if label is None and value is None:
            tally.lose("steps that were not judged, and those behind them", len(values) - len(marks))
            break
        marks.append(plain_value(value) if value is not None else ((label or 0) + 1) / 2)
    differ = sum(label not in (None, hard(None, mark, 0.5)) for label, mark in zip(record.label, marks, strict=False))
    if differ:
        tally.lose("hard labels that are not whether the value is above 0.5", differ)
    if any(record.n_rollouts):
        tally.lose("rollout counts of steps", sum(1 for n in record.n_rollouts if n))
    return record.steps[: len(marks)], marks
