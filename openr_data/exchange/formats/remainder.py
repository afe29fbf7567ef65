"""What of a row the columns cannot hold: kept in the metadata under the format's name, and written as it was."""

import struct
from collections.abc import Mapping
from typing import Any, Final

from ...types import Record
from .format import Group, Row, Tally, decode, encode, plain_value

_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


def extras(row: Row, known: frozenset[str], tally: Tally) -> dict[str, Any]:
    """The fields a format does not know, where they hold a text, a number, a truth value or nothing."""
    if not row.keys() - known:
        return {}
    more = [name for name in row if name not in known]
    found = {name: row[name] for name in more if isinstance(name, str) and type(row[name]) in _PLAIN}
    if len(found) < len(more):
        tally.repair("fields beyond the format that are no plain values left out")
    return found


def remember(name: str, kept: Mapping[str, Any]) -> str:
    """Metadata that holds `kept` for this format; the empty object where there is nothing to keep."""
    return encode({name: kept}) if kept else "{}"


def remainder(metadata: str, name: str) -> dict[str, Any]:
    """What this format kept in the metadata; empty for a record from elsewhere."""
    found = decode(metadata).get(name)
    return found if isinstance(found, dict) else {}


def survives(value: float) -> bool:
    """Whether a number comes out of the store, which holds float32, as it went in."""
    return plain_value(struct.unpack("f", struct.pack("f", value))[0]) == value


def processes(group: Group, tally: Tally) -> list[Record]:
    """The records of a group. A question without any is lost to a format of processes, and counted."""
    if not group.records:
        tally.lose("questions without a process")
    return list(group.records)
