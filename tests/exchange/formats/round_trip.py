"""Reads rows into records and writes them out again, as if a store stood between the two."""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openr_data.exchange.formats.format import Format, QuestionGroup, Row, Tally
from openr_data.ids import question_id
from openr_data.types import Question, Record


def make(kind: type, **options: Any) -> Format:
    """Make a format with these options."""
    found: Format = kind(kind.config_type(**options), "test", "")  # type: ignore[attr-defined]
    return found


def read(kind: type, row: Row, tally: Tally | None = None, **options: Any) -> list[Record]:
    """Read the records of one row."""
    items = list(make(kind, **options).read(row, tally or Tally()))
    assert all(isinstance(item, Record) for item in items)
    return [item for item in items if isinstance(item, Record)]


def stored(record: Record) -> Record:
    """Return the record as the store returns it: values are float32."""
    values = [None if value is None else struct.unpack("f", struct.pack("f", value))[0] for value in record.value]
    return replace(record, value=tuple(values))


def groups(items: Iterable[Question | Record]) -> Iterator[QuestionGroup]:
    """Group the records by question; a solution with one label set appears once."""
    found: dict[str, tuple[Question, dict[tuple[str, ...], Record]]] = {}
    for item in items:
        question = item.question if isinstance(item, Record) else item
        _, records = found.setdefault(question.question_id, (question, {}))
        if isinstance(item, Record):
            records.setdefault(item.steps, stored(item))
    for question, records in found.values():
        yield QuestionGroup(question, list(records.values()))


def rewritten(kind: type, row: Row, **options: Any) -> list[Row]:
    """Read one row and return the rows written from it."""
    tally = Tally()
    form = make(kind, **options)
    rows = [out for group in groups(form.read(row, tally)) for out in form.write(group, tally)]
    assert not tally.lost
    return rows


def write(kind: type, records: Sequence[Record], tally: Tally | None = None, **options: Any) -> list[Row]:
    """Write the records of one question as rows."""
    group = QuestionGroup(records[0].question, records)
    return list(make(kind, **options).write(group, tally or Tally()))


def same(row: object, other: object) -> bool:
    """Report whether two JSON values are the same text up to the order of keys: 1 is neither 1.0 nor true."""
    return json.dumps(row, sort_keys=True) == json.dumps(other, sort_keys=True)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def a_record(label: Sequence[int | None] = (1, -1), text: str = "What is 1 + 1?", **more: Any) -> Record:
    """Make a record from another source, with steps "Step 1: a", "Step 2: b" and so on."""
    steps = tuple(f"Step {i + 1}: {chr(97 + i)}" for i in range(len(label)))
    question = Question(question_id(text, "2"), text, "2", "elsewhere")
    return Record(question, more.pop("steps", steps), tuple(label), "omegaprm", **more)
