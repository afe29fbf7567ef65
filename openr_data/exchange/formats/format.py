"""The interface of a dataset format: a row of a file becomes questions or records, a question's records become rows.

A format handles plain dictionaries only: `files.py` reads and writes the containers (JSON lines, JSON, Parquet, CSV),
so every format works with every container. A `Tally` counts every row that a reader drops or repairs and everything
that a writer loses, each with its reason; nothing is dropped silently.
"""

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ...types import Question, Record

Row = Mapping[str, Any]
MAX_PLACES = 3
_FLOAT32 = struct.Struct("f")


class BadRow(ValueError):
    """A row that cannot be read. The message is the reason, with the same wording for every row of its kind."""


@dataclass(slots=True)
class Tally:
    """Counts rows by reason: dropped and repaired when reading, lost when writing.

    `places` holds the positions of the first few rows of each reason. `report`, if set, is called for every dropped
    or repaired row with (place, what, reason).
    """

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    place: str = ""
    report: Callable[[str, str, str], None] | None = None

    def drop(self, reason: str) -> None:
        """Count the row at `place` as dropped."""
        self.dropped[reason] += 1
        self._note("dropped", reason)

    def repair(self, reason: str) -> None:
        """Count the row at `place` as repaired."""
        self.repaired[reason] += 1
        self._note("repaired", reason)

    def lose(self, what: str, times: int = 1) -> None:
        """Count something that the written format cannot hold."""
        self.lost[what] += times

    def _note(self, what: str, reason: str) -> None:
        if self.report is not None:
            self.report(self.place, what, reason)
        places = self.places.setdefault(reason, [])
        if len(places) < MAX_PLACES:
            places.append(self.place)


@dataclass(frozen=True, slots=True)
class QuestionGroup:
    """All records of one question in the order of their solutions, with its nodes if the format needs them.

    A node is a mapping with the columns of the table `nodes`; the root is the node without a parent.
    """

    question: Question
    records: Sequence[Record]
    nodes: Sequence[Row] = ()


class Format(Protocol):
    """A dataset format. `config_type` is a frozen dataclass of its options; the defaults suit the usual files."""

    config_type: ClassVar[type]
    needs_nodes: ClassVar[bool]

    def __init__(self, config: Any, source: str, split: str) -> None: ...

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """Read the questions or records of a row. Raises `BadRow` for a row that cannot be read."""
        ...

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write the rows of one question."""
        ...


@dataclass(frozen=True, slots=True)
class NoOptions:
    """A format without options."""


def text_of(row: Row, *names: str) -> str:
    """Return the first of these fields that holds text. Raises `BadRow` if none does."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    raise BadRow(f"no text in {' or '.join(f'`{name}`' for name in names)}")


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    """Return a field that must be a non-empty list of texts. Raises `BadRow` otherwise."""
    value = row.get(name)
    if value is None or isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise BadRow(f"`{name}` is not a list of texts")
    texts = tuple(value)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadRow(f"`{name}` is not a list of texts")
    return texts


def encode(data: Mapping[str, Any]) -> str:
    """Encode metadata as the JSON text that is stored; no metadata becomes the empty object."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) if data else "{}"


def decode(text: str) -> dict[str, Any]:
    """Decode stored metadata; text that is not a JSON object gives an empty dictionary."""
    if not text or text == "{}":
        return {}
    try:
        metadata = json.loads(text)
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def hard(label: int | None, value: float | None, threshold: float = 0.0) -> int | None:
    """Return the hard label of a step: its label if it has one, else whether its value is above the threshold."""
    if label is not None:
        return label
    return None if value is None else 1 if value > threshold else -1


def judged(record: Record) -> int:
    """Count the judged steps before the first unjudged one: a label after a gap means nothing on its own."""
    return next((i for i, label in enumerate(record.label) if label is None), len(record.label))


def plain_value(value: float) -> float:
    """Return the shortest decimal that rounds to a stored float32: 0.1 and not 0.10000000149."""
    for digits in (7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.pack(short) == _FLOAT32.pack(value):
            return short
    return value


def all_judged(record: Record, tally: Tally, neutral: int = 1) -> tuple[tuple[str, ...], list[int]]:
    """Reduce a record to steps labelled 1 or -1, for formats without other labels, and count what is lost.

    The process ends before its first unjudged step; a neutral step becomes `neutral`. The result is empty if the first
    step is not judged.
    """
    n = judged(record)
    if n < len(record.steps):
        tally.lose("steps that were not judged, and those after them", len(record.steps) - n)
    labels = [neutral if label == 0 else int(label or 0) for label in record.label[:n]]
    neutrals = record.label[:n].count(0)
    if neutrals:
        tally.lose("neutral labels (now good or bad)", neutrals)
    return record.steps[:n], labels


def lose_values(record: Record, tally: Tally) -> None:
    """Count the soft values and counts that a format of hard labels cannot hold."""
    values = sum(value is not None for value in record.value)
    if values:
        tally.lose("values of steps (soft labels)", values)
    if any(record.n_rollouts):
        tally.lose("rollout counts of steps", sum(1 for n in record.n_rollouts if n))
