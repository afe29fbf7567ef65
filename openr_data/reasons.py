"""Reasons of step labels: a sentence or two on why a step is right or what is wrong with it.

The metadata of a label set holds them, `{"reasons": ["3 + 4 is 7, as it says.", null]}`: one entry a step, null for a
step without a reason. Judges write them (`labelers/judge.py`), imports bring them, a generative reward model learns
them (`training/prm/examples.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KEY: Final = "reasons"
"""The key of reasons in the metadata of a label set."""
MOST: Final = 256
"""The most tokens that a model writes for a reason."""


@dataclass(frozen=True, slots=True)
class ReasonedStep:
    """A generative reward model's judgement of a step: P(correct), the verdict at its threshold, and the reason."""

    score: float
    is_good: bool
    reason: str


def reasons_of(metadata: str, n_steps: int) -> tuple[str, ...]:
    """One text a step, "" for a step without a reason; an empty tuple if a label set has no reasons at all.

    `metadata` is JSON text. Raises `ValueError` if the number of entries is not that of the steps, or one is not text.
    """
    # Most label sets have no reasons, so that nothing is parsed.
    if f'"{KEY}"' not in metadata:
        return ()
    contents = json.loads(metadata)
    entries = contents.get(KEY) if isinstance(contents, dict) else None
    if entries is None:
        return ()
    if not isinstance(entries, list) or len(entries) != n_steps:
        raise ValueError(f"reasons that are not one entry for each of {n_steps} steps")
    if not all(entry is None or isinstance(entry, str) for entry in entries):
        raise ValueError("reasons that are no texts")
    reasons = tuple((entry or "").strip() for entry in entries)
    return reasons if any(reasons) else ()


def told_reasons(reasons: Sequence[str]) -> dict[str, list[str | None]]:
    """The entry of the metadata that `reasons_of` reads; empty if no step has a reason."""
    return {KEY: [item or None for item in reasons]} if any(reasons) else {}
