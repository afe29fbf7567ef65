"""Reads and writes rows in containers: JSON lines, a JSON array, Parquet, CSV (each also .gz), a Hugging Face dataset.

Reading streams, so a file of any size needs little memory. Every row comes with its place ("line 7", "row 7"). A line
that is not a row gives a reason instead, so that damage costs only that line; a file that cannot be read at all raises
`InputError`.
"""

import csv
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InputError, MissingDependency, UsageError
from .format import Row

PlacedRow = tuple[str, Row | str]
"""The place of a row, and the row itself or the reason why it could not be read."""

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
HUB: Final = "hf:"
_TEXTS: Final = frozenset(
    ("answer", "final_answer", "ground_truth", "question", "problem", "solution", "text", "input", "label_text")
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BLOCK: Final = 1 << 20
_BATCH: Final = 2_000


def read_rows(source: str, config: str = "", split: str = "") -> Iterator[PlacedRow]:
    """Read the rows of a file, or of a Hugging Face dataset: `hf:ORG/NAME`, or a folder.

    `config` and `split` choose a part of a Hugging Face dataset. Raises `InputError` with the file's name if it is
    missing, damaged or of an unknown kind.
    """
    if source.startswith(HUB):
        return _hugging_face(source.removeprefix(HUB), config, split)
    path = Path(source).expanduser()
    if path.is_dir():
        return _hugging_face(str(path), config, split)
    if not path.exists():
        raise InputError(f"There is no file {path}.")
    kind = kind_of(path)
    if kind == ".parquet":
        return _parquet(path)
    return _guarded(path, _csv if kind in (".csv", ".tsv") else _json)


def kind_of(path: Path) -> str:
    """Return the suffix that names the container, ignoring `.gz`; an unknown suffix is read as JSON lines."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ".jsonl"


def _guarded(path: Path, read: Any) -> Iterator[PlacedRow]:
    """Read the rows of a text file, raising every failure as `InputError`."""
    try:
        with _open(path) as file:
            yield from read(file, path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; expected JSON lines, a JSON array, CSV or Parquet.") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"Cannot read {path}: {reason}.") from error


def _open(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _json(file: IO[str], path: Path) -> Iterator[PlacedRow]:
    start = file.read(_BLOCK)
    file.seek(0)
    head = start.lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        yield from _json_array(file, path)
        return
    first = head.partition("\n")[0]
    if head.startswith("{") and len(start) < _BLOCK and not _is_json(first):
        # MATH was published with one file per problem, each one JSON object over several lines.
        try:
            whole = json.loads(head)
        except ValueError:
            whole = None
        if isinstance(whole, dict):
            yield "the file", _checked(whole, head)
            return
    for number, line in enumerate(file, start=1):
        if not line.isspace():
            yield f"line {number}", _row(line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _row(line: str) -> Row | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    return _checked(row, line)


def _checked(row: Any, text: str) -> Row | str:
    """Return a JSON value as a row, or the reason why it is not one."""
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, not an object"
    if "\\u" in text and _SURROGATE.search(text):
        # A lone surrogate: JSON allows it as an escape, but UTF-8 cannot encode it.
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "a character that is not Unicode text"
    return row


def _json_array(file: IO[str], path: Path) -> Iterator[PlacedRow]:
    """Read the objects of one array, a block at a time."""
    decoder = json.JSONDecoder()
    text, at = file.read(_BLOCK), 0
    at = _SPACE.match(text, at).end() + 1  # type: ignore[union-attr]
    number, needs_comma = 1, False
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        row: Any = None
        wanted = at < len(text)
        if wanted and text[at] == "]" and (needs_comma or number == 1):
            yield from _after_array(file, text[at + 1 :])
            return
        if wanted and needs_comma:
            if text[at] != ",":
                raise _broken(path, number)
            at, needs_comma = at + 1, False
            continue
        if wanted:
            try:
                row, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                wanted = False
        if not wanted:
            # The rest of the object may be in the next block.
            more = file.read(max(_BLOCK, len(text) - at))
            if not more:
                raise _broken(path, number)
            text, at = text[at:] + more, 0
            continue
        yield f"object {number}", _checked(row, text[at:end])
        at, number, needs_comma = end, number + 1, True


def _after_array(file: IO[str], text: str) -> Iterator[PlacedRow]:
    """Report any text after the end of the array: it is not a row."""
    while text or (text := file.read(_BLOCK)):
        if text.strip():
            yield "the end of the file", "text after the end of the JSON array"
            return
        text = ""


def _broken(path: Path, number: int) -> InputError:
    return InputError(f"{path} is incomplete: the JSON array ends early or is damaged at its object {number}.")


def _csv(file: IO[str], path: Path) -> Iterator[PlacedRow]:
    csv.field_size_limit(1 << 28)
    try:
        reader = csv.DictReader(file, delimiter="\t" if kind_of(path) == ".tsv" else ",", strict=True)
        names = list(reader.fieldnames or ())
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f'{path} has two columns named "{duplicate}". Rename one of them.')
        for row in reader:
            if None in row or None in row.values():
                yield f"line {reader.line_num}", "not as many cells as the header has"
            else:
                cells = {name: _cell(name, value) for name, value in row.items()}
                yield f"line {reader.line_num}", _checked(cells, "".join(row.values()))
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}.") from error


def _cell(name: str, text: str) -> Any:
    """Parse a cell; CSV holds lists and objects as JSON, but an answer like [0,2] stays text."""
    if text[:1] not in ("[", "{", '"') or name in _TEXTS:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # `_plain` quotes a text only if it would otherwise parse as something else; any other quoted text is literal.
    return text if isinstance(value, str) and _cell(name, value) == value else value


def _parquet(path: Path) -> Iterator[PlacedRow]:
    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"{path} is not a complete Parquet file: {reason}.") from error


def _hugging_face(name: str, config: str, split: str) -> Iterator[PlacedRow]:
    """Stream the rows of one split of a Hub dataset or of a folder of data files."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Reading a Hugging Face dataset needs the package 'datasets'. Install it with: pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    try:
        dataset = datasets.load_dataset(name, config or None, split=split or None, streaming=True)
        if isinstance(dataset, Mapping):
            if len(dataset) > 1:
                raise UsageError(f"{name} has the splits {', '.join(map(str, dataset))}. Choose one with --split.")
            dataset = next(iter(dataset.values()))
        rows = iter(dataset)
        for number in itertools.count(1):
            row = next(rows, None)
            if row is None:
                return
            yield f"row {number}", row
    except UsageError:
        raise
    except Exception as error:
        # The loader raises many kinds of errors (network, files, features, names); all concern this dataset.
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise InputError(f"Cannot load the Hugging Face dataset {name}: {reason}.") from error


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows into the container that the suffix names and return their number. An `OSError` leaves no file."""
    if not path.name or path.name == "..":
        raise UsageError(f"{path} is not a file name.")
    temporary = path.with_name(f".{path.name}.part")
    try:
        count = _write(temporary, path, rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(temporary: Path, path: Path, rows: Iterable[Row]) -> int:
    kind = kind_of(path)
    if kind == ".parquet":
        return _write_parquet(temporary, rows)
    with _create(temporary, path.suffix == ".gz") as file:
        if kind in (".csv", ".tsv"):
            return _write_csv(file, rows, "\t" if kind == ".tsv" else ",")
        count = 0
        for row in rows:
            if kind == ".json":
                file.write("[\n" if not count else ",\n")
            file.write(json_line(row))
            file.write("" if kind == ".json" else "\n")
            count += 1
        if kind == ".json":
            file.write("\n]\n" if count else "[]\n")
    return count


def _create(path: Path, compressed: bool) -> IO[str]:
    return cast(IO[str], gzip.open(path, "wt", encoding="utf-8")) if compressed else path.open("w", encoding="utf-8")


def json_line(row: Row) -> str:
    """Encode a row as one line of JSON."""
    return json.dumps(dict(row), ensure_ascii=False)


def _write_csv(file: IO[str], rows: Iterable[Row], delimiter: str) -> int:
    writer: csv.DictWriter[str] | None = None
    count = 0
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(file, list(row), delimiter=delimiter)
            writer.writeheader()
        if row.keys() != set(writer.fieldnames):
            raise UsageError("The rows differ in their fields, which CSV cannot hold. Export to .jsonl.")
        writer.writerow({name: _plain(name, value) for name, value in row.items()})
        count += 1
    return count


def _plain(name: str, value: Any) -> Any:
    """Return the cell that `_cell` reads back as this value."""
    is_json = isinstance(value, (list, tuple, dict, bool)) or (isinstance(value, str) and _cell(name, value) != value)
    return json.dumps(value, ensure_ascii=False) if is_json else value


def _loose(rows: Sequence[Row], names: Sequence[str]) -> set[str]:
    """Return the fields whose objects a Parquet column would change; they are stored as JSON text."""
    loose: set[str] = set()
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, (dict, list)) for value in values):
            try:
                if pa.array(values).to_pylist() != values or () in _shapes(values):
                    loose.add(name)
            except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
                loose.add(name)
    return loose


def _shapes(values: Sequence[Any]) -> set[tuple[str, ...]]:
    """Return the field names of every object among some values, at any depth."""
    shapes: set[tuple[str, ...]] = set()
    for value in values:
        if isinstance(value, dict):
            shapes.add(tuple(value))
            shapes |= _shapes(list(value.values()))
        elif isinstance(value, list):
            shapes |= _shapes(value)
    return shapes


def _write_parquet(path: Path, rows: Iterable[Row]) -> int:
    writer: pq.ParquetWriter | None = None
    count = 0
    stream = iter(rows)
    texts: set[str] = set()
    names: list[str] = []
    differ = UsageError("The rows differ in their fields or types, which Parquet cannot hold. Export to .jsonl.")
    try:
        # The first batch fixes the types; a column that is empty throughout it has none.
        while batch := [dict(row) for row in itertools.islice(stream, 20_000)]:
            if writer is None:
                names = list(dict.fromkeys(name for row in batch for name in row))
                texts = _loose(batch, names)
            columns: dict[str, list[Any]] = {name: [row.get(name) for row in batch] for name in names}
            for name in texts:
                columns[name] = [
                    None if value is None else json.dumps(value, ensure_ascii=False) for value in columns[name]
                ]
            try:
                table = pa.table(columns, schema=writer.schema if writer else None)
            except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError) as error:
                raise differ from error
            nested = [name for name in names if pa.types.is_nested(table.schema.field(name).type)]
            if any(row.keys() - set(names) for row in batch) or any(
                table[name].to_pylist() != columns[name] for name in nested
            ):
                raise differ
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            count += len(batch)
        if writer is None:
            pq.write_table(pa.table({}), path)
    finally:
        if writer is not None:
            writer.close()
    return count
