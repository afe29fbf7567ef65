"""Recognises the format of a file by reading its first rows as each format."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..config import build
from ..errors import InputError, UnknownName
from ..registry import FORMATS, load
from .formats.files import PlacedRow
from .formats.format import Format, Tally
from .importer import read_items

AHEAD: Final = 200
"""Rows of a file that are read before anything is written."""


def make_format(name: str, options: Mapping[str, Any], source: str, split: str) -> Format:
    """A format by name with its options. Raises `UnknownName` for a format or an option."""
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    kind = load("format", name)
    form: Format = kind(build(kind.config_type, options), source, split)
    return form


def recognised(file: str, ahead: Sequence[PlacedRow]) -> str:
    """The first format that reads at least half as many of the first rows as the best one. Raises `InputError`."""
    read: dict[str, int] = {}
    for name in FORMATS:
        form = make_format(name, {}, "", "")
        tally = Tally()
        for _ in read_items(form, ahead, tally):
            pass
        read[name] = tally.rows - sum(tally.dropped.values())
    most = max(read.values())
    # Formats are listed from the one that requires most fields to the one that accepts almost any row.
    best = next((name for name, count in read.items() if most and 2 * count >= most), "")
    if not best:
        place, row = ahead[0]
        there = row if isinstance(row, str) else "it has the fields " + ", ".join(map(str, row))
        raise InputError(f"{file} is in no known format ({place}: {there}). See: openr-data catalog ls")
    return best


def check_some(form: Format, name: str, file: str, ahead: Sequence[PlacedRow]) -> None:
    """Raises `InputError` if none of the first rows can be read, before anything is written."""
    tally = Tally()
    for _ in read_items(form, ahead, tally):
        return
    if sum(tally.dropped.values()) < tally.rows:
        return
    reason, count = tally.dropped.most_common(1)[0]
    raise InputError(
        f"No row of {file} could be read as {name}; {count:,} of the first {tally.rows:,}: {reason} "
        f"({tally.places[reason][0]}). See the formats with: openr-data catalog ls"
    )
