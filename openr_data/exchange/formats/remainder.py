"""Stores the parts of a row that the columns cannot hold in the metadata, so that the row can be written unchanged."""

import struct
from collections.abc import Mapping
from typing import Any, Final

from ...types import Record
from .format import QuestionGroup, Row, Tally, decode, encode, plain_value

_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


def extras(row: Row, known: frozenset[str], tally: Tally) -> dict[str, Any]:
    """Return the fields unknown to the format that hold a text, a number, a truth value or null."""
    if not row.keys() - known:
        return {}
    names = [name for name in row if name not in known]
    plain = {name: row[name] for name in names if isinstance(name, str) and type(row[name]) in _PLAIN}
    if len(plain) < len(names):
        tally.repair("fields beyond the format that are not plain values left out")
    return plain


def remember(name: str, rest: Mapping[str, Any]) -> str:
    """Return metadata that holds `rest` under the format's name, or the empty object if `rest` is empty."""
    return encode({name: rest}) if rest else "{}"


def remainder(metadata: str, name: str) -> dict[str, Any]:
    """Return what this format stored in the metadata; empty for a record from another source."""
    rest = decode(metadata).get(name)
    return rest if isinstance(rest, dict) else {}


def survives(value: float) -> bool:
    """Report whether a number survives the store, which holds float32."""
    return plain_value(struct.unpack("f", struct.pack("f", value))[0]) == value


def processes(group: QuestionGroup, tally: Tally) -> list[Record]:
    """Return the records of a group; a question without any is counted as lost."""
    if not group.records:
        tally.lose("questions without a process")
    return list(group.records)
