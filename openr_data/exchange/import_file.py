"""Imports a file, a folder or a dataset of the Hugging Face Hub into a dataset of a store."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engine.in_thread import in_thread
from ..errors import InputError, OpenRError, UsageError
from ..registry import SOURCES
from ..store import Store
from ..store.refs import DatasetName
from .file_format import AHEAD, check_some, make_format, recognised
from .formats.files import PlacedRow, read_rows
from .formats.format import Format, Tally
from .importer import GoldAnswers, ImportConfig, Imported, check_rows, import_rows, read_items

Report = Callable[[str, str, str], None]
"""Receives the place of a row, what became of it (dropped, repaired) and why."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file is read.

    `format` is recognised by the first rows if it is empty, and `options` are its options. `split` and `config` choose
    a part of a Hugging Face dataset. `source` names where the questions come from (default: the dataset's name), and
    `gold_from` a dataset (`NAME` or `NAME@ref`) whose gold answers fill in missing ones. `strict` refuses a file of
    which a row would be dropped or repaired.
    """

    format: str = ""
    options: Mapping[str, object] | None = None
    split: str = ""
    config: str = ""
    source: str = ""
    gold_from: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class FileImport:
    """The result: the format, the rows by what became of them, and the gold answers that were filled in.

    `imported` is None after a dry run.
    """

    format: str
    tally: Tally
    gold: GoldAnswers | None
    imported: Imported | None


def import_file(
    where: str | Path,
    name: str,
    file: str,
    options: ImportOptions | None = None,
    *,
    report: Path | None = None,
    dry_run: bool = False,
    announce: Callable[[str], None] | None = None,
) -> FileImport:
    """Import `file` into the dataset `name` of the store at `where`; both are created if they do not exist.

    `file` is JSONL, JSON, Parquet or CSV (also .gz), `hf:ORG/NAME`, or a folder that `load_dataset` reads. What the
    dataset holds already stays; changed labels are superseded. `report` lists every dropped or repaired row as JSONL,
    `announce` receives the name of a recognised format. Raises `UsageError`, `UnknownName`, `InputError` and
    `StoreError`; an interrupted import is completed by the same call.
    """
    chosen = options or ImportOptions()
    DatasetName.parse(name)
    if "@" in name:
        raise UsageError(f"An import writes to the newest state of a dataset: {name.partition('@')[0]}, without @.")
    if name in SOURCES:
        raise UsageError(f"{name!r} is a built-in source, which `label {name}` means. Choose another name.")
    gold = GoldAnswers(Store.open(where).view(chosen.gold_from)) if chosen.gold_from else None
    rows = read_rows(file, chosen.config, chosen.split)
    first = list(itertools.islice(rows, AHEAD))
    if not first:
        raise InputError(f"{file} holds no rows.")
    format_ = chosen.format or recognised(file, first)
    if announce is not None and not chosen.format:
        announce(f"{file} is read as {format_}.")
    source, overrides = chosen.source or name, dict(chosen.options or {})
    form = make_format(format_, overrides, source, chosen.split)
    check_some(form, format_, file, first)
    with _reporter(report) as note:
        if chosen.strict or dry_run:
            tally = _read_all(form, read_rows(file, chosen.config, chosen.split), note, gold if dry_run else None)
            if chosen.strict:
                check_rows(tally, file)
            if dry_run:
                return FileImport(format_, tally, gold, None)
        config = ImportConfig(format_, source, chosen.split, overrides, chosen.gold_from)
        dataset = Store.open(where, create=True).dataset(name, create=True)
        stream: Iterable[PlacedRow] = itertools.chain(first, rows)
        # A strict import has reported its rows already.
        imported = import_rows(dataset, config, form, stream, Path(file).name, None if chosen.strict else note, gold)
    return FileImport(format_, imported.tally, gold, imported)


import_file_async = in_thread(import_file)
"""`import_file` for code that is in an event loop already, such as a notebook."""


@contextmanager
def _reporter(path: Path | None) -> Iterator[Report | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise OpenRError(f"Cannot write {path}: {error.strerror}.") from error

    def note(place: str, what: str, reason: str) -> None:
        file.write(json.dumps({"place": place, "what": what, "reason": reason}, ensure_ascii=False) + "\n")

    with file:
        yield note


def _read_all(form: Format, rows: Iterable[PlacedRow], note: Report | None, gold: GoldAnswers | None) -> Tally:
    """Read every row and write nothing."""
    tally = Tally(report=note)
    for item in read_items(form, rows, tally):
        if gold is not None:
            gold.fill(item)
    return tally
