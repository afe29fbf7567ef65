"""A memory of step scores, by the ids from the beginning of the solution to the position of the score."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from openr_data.prm_format import Encoded

MOST: Final = 1_000_000
"""Scores that are remembered; those that were used least recently go first."""


def key_of(ids: Sequence[int]) -> str:
    """32 hex digits over a sequence of token ids."""
    return blake2b(_bytes(ids), digest_size=16).hexdigest()


def step_keys(encoded: Encoded) -> tuple[str, ...]:
    """The key of the score of each step: `key_of` the ids up to the position where it is read."""
    digest = blake2b(digest_size=16)
    keys: list[str] = []
    start = 0
    for at in encoded.read:
        digest.update(_bytes(encoded.ids[start : at + 1]))
        keys.append(digest.hexdigest())
        start = at + 1
    return tuple(keys)


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype=np.int64).tobytes()


class ScoreMemory:
    """A bounded memory of scores; not for several threads at once."""

    def __init__(self, most: int = MOST) -> None:
        self._scores: OrderedDict[str, float] = OrderedDict()
        self._most = most

    def get(self, key: str) -> float | None:
        """The remembered score, or None."""
        score = self._scores.get(key)
        if score is not None:
            self._scores.move_to_end(key)
        return score

    def put(self, key: str, score: float) -> None:
        """Remember a score."""
        self._scores[key] = score

    def trim(self) -> None:
        """Forget the scores beyond the bound."""
        while len(self._scores) > self._most:
            self._scores.popitem(last=False)
