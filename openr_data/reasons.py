"""Reasons of step labels: in a sentence or two, why a step is right or what is wrong with it.

They stand in the metadata of a label set, `{"reasons": ["3 + 4 is 7, as it says.", null]}`: one entry a step, null
where nothing is said. Judges write them (`labelers/judge.py`), imports bring them, a generative reward model learns
them (`training/prm/examples.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KEY: Final = "reasons"
"""Their name in the metadata of a label set."""
MOST: Final = 256
"""Tokens of a reason that a model writes."""


@dataclass(frozen=True, slots=True)
class ReasonedStep:
    """What a generative reward model says of a step: P(correct), the verdict at its threshold, and why."""

    score: float
    is_good: bool
    reason: str


def reasons_of(metadata: str, n_steps: int) -> tuple[str, ...]:
    """One text a step, "" where nothing is said; empty where a label set has no reasons at all.

    `metadata` is JSON text. Raises `ValueError` where there is no entry for each step, or one is no text.
    """
    # Of most label sets there is nothing to parse.
    if f'"{KEY}"' not in metadata:
        return ()
    told = json.loads(metadata)
    entries = told.get(KEY) if isinstance(told, dict) else None
    if entries is None:
        return ()
    if not isinstance(entries, list) or len(entries) != n_steps:
        raise ValueError(f"reasons that are not one entry for each of {n_steps} steps")
    if not all(item is None or isinstance(item, str) for item in entries):
        raise ValueError("reasons that are no texts")
    found = tuple((item or "").strip() for item in entries)
    return found if any(found) else ()


def told_reasons(reasons: Sequence[str]) -> dict[str, list[str | None]]:
    """The entry of the metadata that `reasons_of` reads; nothing where no step has a reason."""
    return {KEY: [item or None for item in reasons]} if any(reasons) else {}
