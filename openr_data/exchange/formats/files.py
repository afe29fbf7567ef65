"""Rows in and out of containers: JSON lines, a JSON array, Parquet, CSV (each .gz too), a Hugging Face dataset.

Reading streams: a file of any size is read in little memory. A place ("line 7", "row 7") comes with every row, and what
is not a row comes as a reason, so that a damaged line costs that line alone; a file that cannot be read at all is an
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

Found = tuple[str, Row | str]
"""Where a row stands, and the row, or the reason why there is none."""

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
HUB: Final = "hf:"
_TEXTS: Final = frozenset(
    ("answer", "final_answer", "ground_truth", "question", "problem", "solution", "text", "input", "label_text")
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BLOCK: Final = 1 << 20
_BATCH: Final = 2_000


def read_rows(source: str, config: str = "", split: str = "") -> Iterator[Found]:
    """The rows of a file, or of a Hugging Face dataset: `hf:ORG/NAME`, or a folder.

    `config` and `split` choose a part of a Hugging Face dataset. Raises `InputError` naming the file for one that is
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
    """The suffix that says the container, `.gz` left out; what is unknown is taken for JSON lines."""
    suffixes = [item.lower() for item in path.suffixes if item.lower() != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ".jsonl"


def _guarded(path: Path, read: Any) -> Iterator[Found]:
    """The rows of a text file, its failures as sentences."""
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


def _json(file: IO[str], path: Path) -> Iterator[Found]:
    start = file.read(_BLOCK)
    file.seek(0)
    head = start.lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        yield from _json_array(file, path)
        return
    first = head.partition("\n")[0]
    if head.startswith("{") and len(start) < _BLOCK and not _is_json(first):
        # One object over several lines, as MATH was published: a file a problem.
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
    """A JSON value as a row, or why it is none."""
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}, not an object"
    if "\\u" in text and _SURROGATE.search(text):
        # Half a character, which no text in UTF-8 can hold: JSON lets it pass as an escape.
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "a character that is no Unicode text"
    return row


def _json_array(file: IO[str], path: Path) -> Iterator[Found]:
    """The objects of one array, read a block at a time."""
    decoder = json.JSONDecoder()
    text, at = file.read(_BLOCK), 0
    at = _SPACE.match(text, at).end() + 1  # type: ignore[union-attr]
    number, needs_comma = 1, False
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        row: Any = None
        wanted = at < len(text)
        if wanted and text[at] == "]" and (needs_comma or number == 1):
            yield from _behind(file, text[at + 1 :])
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
            # The rest of an object may be in the next block.
            more = file.read(max(_BLOCK, len(text) - at))
            if not more:
                raise _broken(path, number)
            text, at = text[at:] + more, 0
            continue
        yield f"object {number}", _checked(row, text[at:end])
        at, number, needs_comma = end, number + 1, True


def _behind(file: IO[str], text: str) -> Iterator[Found]:
    """What stands behind the end of an array is no row, and is said."""
    while text or (text := file.read(_BLOCK)):
        if text.strip():
            yield "the end of the file", "text behind the end of the JSON array"
            return
        text = ""


def _broken(path: Path, number: int) -> InputError:
    return InputError(f"{path} is not whole: the JSON array breaks off or is damaged at its object {number}.")


def _csv(file: IO[str], path: Path) -> Iterator[Found]:
    csv.field_size_limit(1 << 28)
    try:
        reader = csv.DictReader(file, delimiter="\t" if kind_of(path) == ".tsv" else ",", strict=True)
        names = list(reader.fieldnames or ())
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f'{path} has two columns that are called "{twice}". Give one of them another name.')
        for row in reader:
            if None in row or None in row.values():
                yield f"line {reader.line_num}", "not as many cells as the header has"
            else:
                cells = {name: _cell(name, value) for name, value in row.items()}
                yield f"line {reader.line_num}", _checked(cells, "".join(row.values()))
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}.") from error


def _cell(name: str, text: str) -> Any:
    """A cell; lists and objects are written as JSON in CSV, but an answer like [0,2] is a text."""
    if text[:1] not in ("[", "{", '"') or name in _TEXTS:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # A text in JSON's quotes is one that would be taken for something else without them; others are as they stand.
    return text if isinstance(value, str) and _cell(name, value) == value else value


def _parquet(path: Path) -> Iterator[Found]:
    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(f"{path} is no whole Parquet file: {reason}.") from error


def _hugging_face(name: str, config: str, split: str) -> Iterator[Found]:
    """The rows of one split of a dataset of the Hub, or of a folder of data files, streamed."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "Reading a Hugging Face dataset needs the package 'datasets'. Install it with: pip install datasets"
        ) from error
    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(name, config or None, split=split or None, streaming=True)
        if isinstance(found, Mapping):
            if len(found) > 1:
                raise UsageError(f"{name} has the splits {', '.join(map(str, found))}. Choose one with --split.")
            found = next(iter(found.values()))
        rows = iter(found)
        for number in itertools.count(1):
            row = next(rows, None)
            if row is None:
                return
            yield f"row {number}", row
    except UsageError:
        raise
    except Exception as error:
        # Whatever goes wrong inside the loader (network, files, features, names) is about this dataset.
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise InputError(f"Cannot load the Hugging Face dataset {name}: {reason}.") from error


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows into a container by its suffix; return how many. Raises `OSError`; then no file is left."""
    if not path.name or path.name == "..":
        raise UsageError(f"{path} is no name for a file.")
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
    """A row as one line of JSON."""
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
    """What `_cell` reads as the value."""
    is_json = isinstance(value, (list, tuple, dict, bool)) or (isinstance(value, str) and _cell(name, value) != value)
    return json.dumps(value, ensure_ascii=False) if is_json else value


def _loose(rows: Sequence[Row], names: Sequence[str]) -> set[str]:
    """Fields whose objects do not come back from a column as they went in: they become JSON text."""
    found: set[str] = set()
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, (dict, list)) for value in values):
            try:
                if pa.array(values).to_pylist() != values or () in _shapes(values):
                    found.add(name)
            except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
                found.add(name)
    return found


def _shapes(values: Sequence[Any]) -> set[tuple[str, ...]]:
    """The fields of the objects among some values, at any depth."""
    found: set[tuple[str, ...]] = set()
    for value in values:
        if isinstance(value, dict):
            found.add(tuple(value))
            found |= _shapes(list(value.values()))
        elif isinstance(value, list):
            found |= _shapes(value)
    return found


def _write_parquet(path: Path, rows: Iterable[Row]) -> int:
    writer: pq.ParquetWriter | None = None
    count = 0
    stream = iter(rows)
    texts: set[str] = set()
    names: list[str] = []
    differ = UsageError("The rows differ in their fields or types, which Parquet cannot hold. Export to .jsonl.")
    try:
        # The types are those of the first many rows; a column that holds nothing there cannot be told.
        while batch := [dict(row) for row in itertools.islice(stream, 20_000)]:
            if writer is None:
                names = list(dict.fromkeys(name for row in batch for name in row))
                texts = _loose(batch, names)
            columns: dict[str, list[Any]] = {name: [row.get(name) for row in batch] for name in names}
            for name in texts:
                columns[name] = [
                    None if item is None else json.dumps(item, ensure_ascii=False) for item in columns[name]
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
