"""Relative progress: a step is bad where it makes the answer much less likely (GenPRM, arXiv 2504.00891).

A hard label asks whether the answer can still be reached. A relative label asks whether the step lost some of the
chance: a step is bad if its value over that of the step before, MC(s_t) / MC(s_t-1), is below `EPSILON`. A step with
the value 0 is bad, and so are all steps after it. The macro `relative_label` and the view `relative_progress` in
`openr_data/store/sql_views.py` compute the same in SQL.

Decisions where the paper is silent, because it has a value for every step:

1. The step before the first is the question alone. If the question was not measured, the first step has no label,
   unless its own value is 0, which is bad after any value. A question measured 0 is ignored: that is noise if the
   first step is better.
2. A zero of a certified prefix is noise, because a correct rollout passes through it: its value is above 0 and unknown.
3. The share of rollouts that were drawn until the label was sure is biased: zero counts, other values are unknown.
4. A step has no label if its own value or the value before it is unknown.
"""

from collections.abc import Sequence
from typing import Final

from .labels import HardLabel
from .types import Provenance

EPSILON: Final = 0.8
"""The paper's threshold."""

TOLERANCE: Final = 1e-6
"""A ratio this close to the threshold is not below it: values are float32, where 0.24 / 0.3 falls short of 0.8."""


def relative_label(value: float | None, parent: float | None, epsilon: float = EPSILON) -> HardLabel:
    """-1 if the value is 0 or its ratio to the value before is below epsilon, else 1; None if a value is unknown."""
    if value is not None and value <= 0:
        return -1
    if value is None or parent is None:
        return None
    return -1 if parent <= 0 or value / parent < epsilon - TOLERANCE else 1


def known_values(values: Sequence[float | None], provenance: Sequence[int]) -> list[float | None]:
    """The values of a process that may enter a ratio (decisions 2 and 3); all values after a zero are 0."""
    usable: list[float | None] = []
    for value, kind in zip(values, provenance, strict=True):
        if usable and usable[-1] == 0:
            usable.append(0.0)
        elif value is None or kind == (Provenance.STOPPED if value > 0 else Provenance.CERTIFIED):
            usable.append(None)
        else:
            usable.append(value)
    return usable


def relative_labels(
    values: Sequence[float | None], provenance: Sequence[int], root: float | None = None, epsilon: float = EPSILON
) -> list[HardLabel]:
    """The relative labels of a process; `root` is the value of the question alone.

    Raises `ValueError` if values and provenances differ in number.
    """
    usable = known_values(values, provenance)
    parents = [root or None, *usable]
    return [relative_label(value, parent, epsilon) for value, parent in zip(usable, parents, strict=False)]
