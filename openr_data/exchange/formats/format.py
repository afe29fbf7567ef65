"""The seam of a format: one row of a file becomes questions or records, the records of a question become rows.

A format knows dictionaries alone: `files.py` reads and writes the containers (JSON lines, JSON, Parquet, CSV), so
every format works with every container. What a reader drops or mends and what a writer loses is counted with
its reason in a `Tally`; nothing is dropped in silence.
"""

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ...types import Question, Record

Row = Mapping[str, Any]
KEPT_PLACES = 3
_FLOAT32 = struct.Struct("f")


class BadRow(ValueError):
    """A row that cannot be read; the message is its reason, the same for all rows of one kind."""


@dataclass(slots=True)
class Tally:
    """What happened to rows, by reason: dropped and repaired on the way in, lost on the way out.

    `places` keeps where the first few of each reason stand; `tell` hears of every one: place, what, reason.
    """

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    place: str = ""
    tell: Callable[[str, str, str], None] | None = None

    def drop(self, reason: str) -> None:
        """The row at `place` is left out."""
        self.dropped[reason] += 1
        self._keep("dropped", reason)

    def repair(self, reason: str) -> None:
        """The row at `place` was mended."""
        self.repaired[reason] += 1
        self._keep("repaired", reason)

    def lose(self, what: str, times: int = 1) -> None:
        """The format written cannot hold this."""
        self.lost[what] += times

    def _keep(self, what: str, reason: str) -> None:
        if self.tell is not None:
            self.tell(self.place, what, reason)
        places = self.places.setdefault(reason, [])
        if len(places) < KEPT_PLACES:
            places.append(self.place)


@dataclass(frozen=True, slots=True)
class Group:
    """All records of one question in the order of their solutions, and where a format asks for them its nodes.

    A node is a mapping with the columns of the table `nodes`; the root is the one without a parent.
    """

    question: Question
    records: Sequence[Record]
    nodes: Sequence[Row] = ()


class Format(Protocol):
    """A dataset format. `config_type` holds its options as a frozen dataclass whose defaults are the usual ones."""

    config_type: ClassVar[type]
    needs_nodes: ClassVar[bool]

    def __init__(self, config: Any, source: str, split: str) -> None: ...

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """What a row holds. Raises `BadRow` for one that cannot be read."""
        ...

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """The rows of one question."""
        ...


@dataclass(frozen=True, slots=True)
class NoOptions:
    """A format without options."""


def text_of(row: Row, *names: str) -> str:
    """The first of these fields that holds text. Raises `BadRow` where there is none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    raise BadRow(f"no text in {' or '.join(f'`{name}`' for name in names)}")


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    """A field that is a list of texts and not empty. Raises `BadRow`."""
    value = row.get(name)
    if value is None or isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise BadRow(f"`{name}` is no list of texts")
    items = tuple(value)
    if not items or not all(isinstance(item, str) for item in items):
        raise BadRow(f"`{name}` is no list of texts")
    return items


def encode(data: Mapping[str, Any]) -> str:
    """Metadata as the JSON text that is stored; nothing is the empty object."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) if data else "{}"


def decode(text: str) -> dict[str, Any]:
    """Stored metadata; what is no JSON object is empty."""
    if not text or text == "{}":
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def hard(label: int | None, value: float | None, threshold: float = 0.0) -> int | None:
    """The hard label of a step: the label where there is one, else whether the value is above the threshold."""
    if label is not None:
        return label
    return None if value is None else 1 if value > threshold else -1


def judged(record: Record) -> int:
    """How many steps from the start on are judged without a gap: labels behind an unjudged step say nothing alone."""
    return next((i for i, label in enumerate(record.label) if label is None), len(record.label))


def plain_value(value: float) -> float:
    """A float32 of the store as the shortest decimal that is that float32: 0.1 and not 0.10000000149."""
    for digits in (7, 8, 9):
        short = float(f"{value:.{digits}g}")
        if _FLOAT32.pack(short) == _FLOAT32.pack(value):
            return short
    return value


def all_judged(record: Record, tally: Tally, neutral: int = 1) -> tuple[tuple[str, ...], list[int]]:
    """Steps with labels 1 and -1 alone, for a format that knows no others; what goes is counted.

    The process ends before its first unjudged step; a neutral step becomes `neutral`. Empty where nothing is judged.
    """
    n = judged(record)
    if n < len(record.steps):
        tally.lose("steps that were not judged, and those behind them", len(record.steps) - n)
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
