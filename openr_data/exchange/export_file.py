"""Exports a snapshot to a file, or row by row, in a format of the field."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import OpenRError
from ..store import View
from ..store.storage import is_full, storage_error
from .exporter import export_rows
from .file_format import make_format
from .formats.files import write_rows
from .formats.format import Row, Tally
from .selection import Selection


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported and how.

    `options` are those of the format; `method` and `where` (a condition of SQL over `records`) choose label sets, and
    `selection` thins them out.
    """

    format: str = "records"
    options: Mapping[str, object] = field(default_factory=dict)
    method: str = ""
    where: str = ""
    selection: Selection = field(default_factory=Selection)


def export_records(view: View, tally: Tally, options: ExportOptions | None = None) -> Iterator[Row]:
    """The rows of an export, streamed; `tally` counts what the format cannot hold and what the selection left out.

    Raises `UnknownName`, `UsageError`, and `InputError` for a condition that fails.
    """
    chosen = options or ExportOptions()
    form = make_format(chosen.format, chosen.options, view.dataset.name, "")
    return export_rows(view, form, tally, method=chosen.method, where=chosen.where, selection=chosen.selection)


@dataclass(frozen=True, slots=True)
class Exported:
    """The number of rows that were written, and what was lost or left out, by reason."""

    rows: int
    tally: Tally


def export_file(view: View, path: Path, options: ExportOptions | None = None) -> Exported:
    """Write a snapshot to .jsonl, .json, .parquet or .csv (also .gz), whole or not at all; see `export_records`.

    Raises `StoreError` or `OpenRError` if the file cannot be written.
    """
    tally = Tally()
    return Exported(write_file(path, export_records(view, tally, options)), tally)


def write_file(path: Path, rows: Iterable[Row]) -> int:
    """Write rows to a file and return their number. Raises `StoreError` for a full disk, else `OpenRError`."""
    try:
        return write_rows(path, rows)
    except OSError as error:
        if is_full(error):
            raise storage_error(path, error) from error
        raise OpenRError(f"Cannot write {path}: {error.strerror}.") from error
