"""In which format of the field a file is: what its first rows can be read as."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..config import build
from ..errors import InputError, UnknownName
from ..registry import FORMATS, load
from .formats.files import PlacedRow
from .formats.format import Format, Tally
from .importer import read_items

AHEAD: Final = 200
"""Rows that are looked at before anything is done with a file."""


def make_format(name: str, options: Mapping[str, Any], source: str, split: str) -> Format:
    """A format by name with its options. Raises `UnknownName`, also for an option."""
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    kind = load("format", name)
    form: Format = kind(build(kind.config_type, options), source, split)
    return form


def recognised(file: str, ahead: Sequence[PlacedRow]) -> str:
    """The first format that reads the most of the first rows. Raises `InputError` where none reads any."""
    read: dict[str, int] = {}
    for name in FORMATS:
        form = make_format(name, {}, "", "")
        tally = Tally()
        for _ in read_items(form, ahead, tally):
            pass
        read[name] = tally.rows - sum(tally.dropped.values())
    most = max(read.values())
    # The first that reads most of them: what asks for more fields stands before what takes almost anything.
    best = next((name for name, count in read.items() if most and 2 * count >= most), "")
    if not best:
        place, row = ahead[0]
        there = row if isinstance(row, str) else "it has the fields " + ", ".join(map(str, row))
        raise InputError(f"{file} is in no known format ({place}: {there}). See: openr-data catalog ls")
    return best


def check_some(form: Format, name: str, file: str, ahead: Sequence[PlacedRow]) -> None:
    """Raises `InputError` where not one of the first rows can be read, before anything is made."""
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
