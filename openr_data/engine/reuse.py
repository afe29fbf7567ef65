"""Rollouts that earlier jobs have paid for: samples of one model from one prefix are as good as new ones.

A sample is independent of the seed it was drawn with, so a job may begin with what other jobs have drawn from a prefix
under the same temperature, top_p, limit and stop strings, and ask for the rest alone. A rollout keeps the seed and the
index it was drawn with: in the tables it stays one rollout, however many jobs use it. The samples that a job has taken
stand in its own journal, so a resumed job takes the same.
"""

from array import array
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..ids import derive_seed
from ..types import Completion, Sampling
from .journal import Journal

READ: Final = 256
"""Questions whose places of samples are kept in memory, sorted by prefix."""


def beyond(sampling: Sampling, n: int) -> Sampling:
    """The sampling of the request beside n reused samples: with the old seed it might draw them again."""
    return replace(sampling, seed=derive_seed(sampling.seed, "beyond", n))


class Rollouts:
    """The samples of some `questions` (`question_key`) in the journals of other jobs; close it after use."""

    def __init__(self, journals: Iterable[Path], questions: Collection[bytes]) -> None:
        self._journals: list[Journal] = []
        # Places are plain numbers: each reply of a journal takes 32 bytes.
        self._places: dict[bytes, array[int]] = {}
        self._stems: dict[bytes, dict[bytes, list[tuple[int, int, int]]]] = {}
        self._names: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        for path in journals:
            # A job that has not asked anything has no journal.
            if path.is_file():
                self._journals.append(Journal(path, read_only=True))
                self._read(len(self._journals) - 1, set(questions))

    def _read(self, number: int, questions: Collection[bytes]) -> None:
        for entry in self._journals[number].entries():
            if entry.place is None or entry.is_scores or entry.question not in questions:
                continue
            name = self._names.setdefault(entry.stem, len(self._keys))
            if name == len(self._keys):
                self._keys.append(entry.stem)
            self._places.setdefault(entry.question, array("q")).extend((name, number, *entry.place))

    def __len__(self) -> int:
        """Questions with at least one sample."""
        return len(self._places)

    def take(self, question: bytes, stem: bytes, skip: int, n: int) -> tuple[Completion, ...]:
        """Up to n samples of a prefix in the order they were drawn, without the first `skip`."""
        samples: dict[tuple[int, int], Completion] = {}
        for number, start, index in self._of(question).get(stem, ()):
            seed, reply = self._journals[number].at((start, index))
            for position, item in enumerate(reply):
                # A sample that the donor itself had reused is that of another donor.
                draw = item.draw or (seed, position)
                if item.ended != "abort":
                    samples.setdefault(draw, replace(item, draw=draw, reused=True))
            if len(samples) >= skip + n:
                break
        return tuple(list(samples.values())[skip : skip + n])

    def close(self) -> None:
        """Close the journals."""
        for journal in self._journals:
            journal.close()

    def _of(self, question: bytes) -> dict[bytes, list[tuple[int, int, int]]]:
        places = self._stems.get(question)
        if places is None:
            places = {}
            numbers = self._places.get(question, array("q"))
            for i in range(0, len(numbers), 4):
                name, number, start, index = numbers[i : i + 4]
                places.setdefault(self._keys[name], []).append((number, start, index))
            while len(self._stems) >= READ:
                self._stems.pop(next(iter(self._stems)))
            self._stems[question] = places
        return places
