"""Relative progress: a step is bad where it makes the answer much less likely (GenPRM, arXiv 2504.00891).

A hard label asks whether the answer can still be reached; the relative one whether the step lost some of it: the value
of the step over that of the step before, MC(s_t) / MC(s_t-1), is below `EPSILON`. A step from which nothing was reached
is bad, and so are all behind it. The same as SQL: the macro `relative_label` and the view `relative_progress` in
`openr_data/store/sql_views.py`.

Decisions where the paper is silent, which knows a value of every step:

1. Before the first step stands the value of the question alone. Where nobody measured that, the first step has no
   label, unless its own value is 0: that is bad after any. A question measured 0 says nothing, as it is noise wherever
   the first step is better.
2. A zero of a certified prefix is noise, as a correct rollout passes through: its value is above 0 and unknown.
3. A share of rollouts that were drawn until the label was sure is biased. Its zero counts, another value is unknown.
4. A step whose own value or that before is unknown has no label.
"""

from collections.abc import Sequence
from typing import Final

from .labels import HardLabel
from .types import Provenance

EPSILON: Final = 0.8
"""The paper's threshold."""

TOLERANCE: Final = 1e-6
"""A ratio so near to the threshold is the threshold: values are stored as float32, and 0.24 / 0.3 is not below 0.8."""


def relative_label(value: float | None, parent: float | None, epsilon: float = EPSILON) -> HardLabel:
    """-1 where the value is 0 or its ratio to that of the step before is below epsilon, else 1; None where unknown."""
    if value is not None and value <= 0:
        return -1
    if value is None or parent is None:
        return None
    return -1 if parent <= 0 or value / parent < epsilon - TOLERANCE else 1


def known_values(values: Sequence[float | None], provenance: Sequence[int]) -> list[float | None]:
    """The values of a process as far as ratios may be made of them (decisions 2 and 3); behind a zero all are 0."""
    found: list[float | None] = []
    for value, kind in zip(values, provenance, strict=True):
        if found and found[-1] == 0:
            found.append(0.0)
        elif value is None or kind == (Provenance.STOPPED if value > 0 else Provenance.CERTIFIED):
            found.append(None)
        else:
            found.append(value)
    return found


def relative_labels(
    values: Sequence[float | None], provenance: Sequence[int], root: float | None = None, epsilon: float = EPSILON
) -> list[HardLabel]:
    """The relative labels of a process; `root` is the value of the question alone.

    Raises `ValueError` where values and provenances differ in number.
    """
    known = known_values(values, provenance)
    parents = [root or None, *known]
    return [relative_label(value, parent, epsilon) for value, parent in zip(known, parents, strict=False)]
