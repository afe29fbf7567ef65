"""Runs DuckDB over the Parquet files of a snapshot: tables, views, digest.

The file list of a version goes straight to `read_parquet`, which has the speed of bare Parquet. If a file may hold keys
of another one (`newer-...`, or a file of an older version), the table is read distinct on its key, highest revision
first.
"""

import hashlib
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..errors import InputError, StoreError
from ..schema import ADDED, HASHED, KEYS, LATER_TABLES, TABLES
from .refs import Snapshot
from .remote import SnapshotFiles, is_remote
from .sql_views import EVENTS, MACROS, VIEWS
from .storage import is_current, is_fresh

_EXPLAIN: Final = re.compile(r"\A\s*explain\s+(?:\([^)]*\)\s*)?(?:analyze\s+)?", re.IGNORECASE)
_WORD: Final = re.compile(r"\w+")
_CATALOG: Final = re.compile(r"information_schema|duckdb_|show|describe|summarize|pragma", re.IGNORECASE)

_DIGEST: Final = "2-"
SNAPSHOTS: Final = "snapshots"
_MACRO_NAMES: Final = tuple(signature.partition("(")[0] for signature in MACROS)
NAMES: Final = (*TABLES, EVENTS, *VIEWS, SNAPSHOTS)
"""Every name that a query can use."""


def needed(statement: str) -> frozenset[str]:
    """The tables that a query may read: those it names, and those of the views it names.

    A query about the catalog itself, or one that names nothing, gets all. Too many tables are slower, never wrong.
    """
    if _CATALOG.search(statement):
        return frozenset(TABLES)
    named = set(_WORD.findall(statement.lower())) & set(NAMES)
    return frozenset(_tables_under(named)) or frozenset(TABLES)


def names_in(statement: str) -> frozenset[str]:
    """All tables, views and macros of a connection for a statement."""
    if not statement or _CATALOG.search(statement):
        return frozenset((*NAMES, *_MACRO_NAMES))
    named = " ".join((statement, *(VIEWS[name] for name in _views_in(statement))))
    macros = {name for name in _MACRO_NAMES if name in named}
    snapshots = {SNAPSHOTS} if SNAPSHOTS in statement.lower() else set()
    return needed(statement) | frozenset(_views_in(statement)) | macros | snapshots


def _tables_under(names: Iterable[str]) -> set[str]:
    """The tables that some tables and views read."""
    tables: set[str] = set()
    for name in names:
        if name == EVENTS:
            tables.add("jobs")
        elif name in VIEWS:
            tables |= _tables_under(_inside(name))
        elif name in TABLES:
            tables.add(name)
    return tables


def _inside(view: str) -> set[str]:
    """The tables and views that a view may name: only those defined before it ("steps" is also a column)."""
    earlier = {EVENTS, *TABLES, *list(VIEWS)[: list(VIEWS).index(view)]} - {view}
    return set(_WORD.findall(VIEWS[view])) & earlier


def _views_in(statement: str) -> tuple[str, ...]:
    """The views that a statement may name and the views they read, in order of definition."""
    waiting = set(_WORD.findall(statement.lower())) & set(NAMES)
    names: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in VIEWS and name not in names:
            names.add(name)
            waiting |= _inside(name)
    return tuple(name for name in VIEWS if name in names)


def connect(
    files: Callable[[str], Sequence[str]],
    snapshots: Callable[[], Sequence[Snapshot]],
    statement: str = "",
    memory: str = "",
) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with the tables, macros and views; it reads only the files of a snapshot.

    `files` returns the Parquet files of a table; with a `statement` only the tables it needs are looked up. With a
    limit of `memory` the connection sorts on disk what does not fit; it may read other files, so it is for our own
    queries. Raises `StoreError` if a file of the snapshot is missing or damaged.
    """
    # Defining a view reads the footers of its files, so only the views that the statement may name are defined.
    names = names_in(statement)
    try:
        connection = duckdb.connect(":memory:")
        # A view over a view reads the same footers again.
        connection.execute("set parquet_metadata_cache = true")
        listed = {name: list(files(name)) for name in reversed(list(TABLES)) if name in names}
        _register(connection, [file for paths in listed.values() for file in paths])
        for name in TABLES:
            if name in listed:
                shown = EVENTS if name == "jobs" else name
                connection.execute(f'create view "{shown}" as {_relation(connection, name, listed[name])}')
        for signature, definition in MACROS.items():
            if signature.partition("(")[0] in names:
                connection.execute(f"create macro {signature} as {definition}")
        for name, definition in VIEWS.items():
            if name in names:
                connection.execute(f'create view "{name}" as {definition}')
        if SNAPSHOTS in names:
            _keep(connection, SNAPSHOTS, _snapshot_table(snapshots()))
        if memory:
            _limit(connection, memory)
        else:
            _close_off(connection, [file for paths in listed.values() for file in paths])
        return connection
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise unreadable(error) from error


def _register(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Let DuckDB read those of these files that are in an object store, which it cannot do by itself."""
    if any(map(is_remote, files)):
        connection.register_filesystem(SnapshotFiles([file for file in files if is_remote(file)]))


def _keep(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Create a table from rows; the cursors of a connection do not see rows that are only registered."""
    connection.register(f"arrow_{name}", rows)
    connection.execute(f'create table "{name}" as select * from "arrow_{name}"')
    connection.unregister(f"arrow_{name}")


def _limit(connection: duckdb.DuckDBPyConnection, memory: str) -> None:
    connection.execute(f"set memory_limit = '{memory}'")
    # DuckDB creates the folder on demand and removes it.
    folder = f"{tempfile.gettempdir()}/openr-sort-{uuid.uuid4().hex}"
    connection.execute(f"set temp_directory = '{quoted(folder)}'")
    connection.execute("set enable_progress_bar = false")


def connect_files(
    sides: Mapping[str, Sequence[str]], like: Mapping[str, Sequence[str]] | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection over tables of several snapshots: `old_labels` has the rows of `labels` in these files.

    If `like` lists files for a table, the table has only the rows whose key is in one of them. Raises `StoreError` if a
    file is missing or damaged.
    """
    try:
        connection = duckdb.connect(":memory:")
        read = (*sides.values(), *(like or {}).values())
        _register(connection, [file for files in read for file in files])
        for name, files in sides.items():
            # "old_search_nodes" ends with "nodes" too.
            table = max((item for item in TABLES if name.endswith(item)), key=len)
            only = (like or {}).get(name, ())
            connection.execute(f'create view "{name}" as {_relation(connection, table, files, name, only)}')
        _close_off(connection, [file for files in read for file in files])
        return connection
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise unreadable(error) from error


def connect_sorting(table: str, files: Sequence[str], memory: str) -> duckdb.DuckDBPyConnection:
    """A connection over some files of one table that sorts more than fits into `memory`. Raises `StoreError`."""
    try:
        connection = duckdb.connect(":memory:")
        _limit(connection, memory)
        _register(connection, files)
        connection.execute(f'create view "{table}" as {_relation(connection, table, files)}')
        return connection
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise unreadable(error) from error


def absent(table: str, files: Sequence[str], rows: pa.Table) -> pa.Table:
    """The rows whose key stands in none of these files of a table, each key once. Raises `StoreError`."""
    key = ", ".join(f'"{column}"' for column in KEYS[table])
    connection = connect_files({table: files})
    connection.register("offered", rows.append_column("offered_place", pa.array(range(rows.num_rows), pa.int64())))
    try:
        places = connection.sql(
            f'select min(offered_place) as place from offered anti join "{table}" using ({key}) '
            f"group by {key} order by place"
        ).to_arrow_table()
    except duckdb.Error as error:
        raise unreadable(error) from error
    return rows.take(places["place"])


def _close_off(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Restrict the connection to these files of this machine."""
    connection.execute("set enable_progress_bar = false")
    listed = ", ".join(f"'{quoted(file)}'" for file in files)
    connection.execute(f"set allowed_paths = [{listed}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set python_enable_replacements = false")
    connection.execute("set lock_configuration = true")


def _relation(
    connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[str], view: str = "", like: Sequence[str] = ()
) -> str:
    """The rows of a table as SQL: `read_parquet`, distinct on the key if files may share keys.

    With files `like`, only rows whose key is in one of them.
    """
    schema = TABLES[name]
    empty = f"empty_{view or name}"
    if not files:
        _keep(connection, empty, schema.empty_table())
        return f'select * from "{empty}"'
    columns = ", ".join(f'"{column}"' for column in schema.names)
    listed = ", ".join(map(_literal, files))
    rows = f"select {columns} from read_parquet([{listed}])"
    if not all(map(is_current, files)):
        # Columns that files of an older schema version lack are null.
        _keep(connection, empty, schema.empty_table())
        rows = f'select * from read_parquet([{listed}], union_by_name = true) union all by name select * from "{empty}"'
    if like:
        same = f"read_parquet([{', '.join(_literal(file) for file in like)}])"
        rows = f'select * from ({rows}) where "{KEYS[name][0]}" in (select "{KEYS[name][0]}" from {same})'
    if all(map(is_fresh, files)):
        return rows
    key = ", ".join(f'"{column}"' for column in KEYS[name])
    newest = ', "revision" desc nulls last' if "revision" in schema.names else ""
    return f"select distinct on ({key}) {columns} from ({rows}) order by {key}{newest}"


def arrow(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.Table:
    """The answer of one query. Raises `InputError` with DuckDB's message."""
    try:
        # EXPLAIN ANALYZE runs its statement, so the statement is checked.
        parsed = connection.extract_statements(_EXPLAIN.sub("", statement))
    except duckdb.Error as error:
        raise InputError(f"SQL: {_first_line(error)}") from error
    if len(parsed) != 1 or parsed[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.RELATION):
        raise InputError("SQL: one SELECT (or EXPLAIN, SUMMARIZE, DESCRIBE) at a time; a dataset is read-only here.")
    try:
        table = connection.sql(statement).to_arrow_table()
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException) as error:
        raise unreadable(error) from error
    except duckdb.Error as error:
        if type(error) is duckdb.Error:
            # DuckDB has no class of its own for a page that cannot be decoded.
            raise unreadable(error) from error
        raise InputError(f"SQL: {_first_line(error)}") from error
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'SQL: two columns are called "{twice}". Name one with: ... as another_name')
    return table


def interruptible(cursor: duckdb.DuckDBPyConnection, statement: str) -> pa.Table | None:
    """The answer of one query, or None after Ctrl-C.

    DuckDB runs in another thread: the main thread would not receive the signal until the query has ended.
    """
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(arrow, cursor, statement)
        try:
            while not answer.done():
                wait([answer], timeout=0.1)
        except KeyboardInterrupt:
            # Repeated, because the first interrupt may come before the query has begun.
            while not answer.done():
                cursor.interrupt()
                wait([answer], timeout=0.1)
            return None
    return answer.result()


def unreadable(error: Exception) -> StoreError:
    """The error for a file that is missing or damaged."""
    return StoreError(
        f"A file of the dataset is missing or damaged: {_first_line(error)} Check the store with: openr-data doctor"
    )


def digest(connection: duckdb.DuckDBPyConnection, like: str = "", without: Sequence[str] = ()) -> str:
    """A hash over all rows of all tables but `jobs`, in any order; an empty table of `LATER_TABLES` leaves no mark.

    A sum of row hashes, not an exclusive or: equal rows must not cancel. What an id is a hash over is left out, as
    the id stands for it (`verify` checks that it does). `like` is a digest to compare with: one from before version 3
    left out less. Raises `StoreError` for a damaged file.
    """
    is_old = bool(like) and not is_new(like)
    try:
        return _digest(connection, {"rollouts": ("text",)} if is_old else HASHED, "" if is_old else _DIGEST, without)
    except duckdb.Error as error:
        raise unreadable(error) from error


def is_new(digest: str) -> bool:
    """Whether a digest was made by the current rule."""
    return digest.startswith(_DIGEST)


def table_digests(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """`rows:hash` by table, as they go into `digest`. Raises `StoreError` for a damaged file."""
    try:
        return _parts(connection, HASHED)
    except duckdb.Error as error:
        raise unreadable(error) from error


def _digest(
    connection: duckdb.DuckDBPyConnection, hashed: Mapping[str, tuple[str, ...]], prefix: str, without: Sequence[str]
) -> str:
    parts = ";".join(f"{name}:{part}" for name, part in _parts(connection, hashed).items() if name not in without)
    return f"{prefix}{hashlib.md5(parts.encode(), usedforsecurity=False).hexdigest()}"


def _parts(connection: duckdb.DuckDBPyConnection, hashed: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name, schema in TABLES.items():
        if name == "jobs":
            continue
        later = ADDED.get(name, ())
        out = (*hashed.get(name, ()), *later)
        row = ", '|', ".join(f"coalesce(\"{column}\"::varchar, '~')" for column in schema.names if column not in out)
        # A later column counts only if it holds something, so that an older snapshot keeps its digest.
        row += "".join(f", coalesce('|{column}=' || nullif(\"{column}\"::varchar, '{{}}'), '')" for column in later)
        statement = f'select count(*), coalesce(sum(md5_number_lower(concat({row}))::hugeint), 0) from "{name}"'
        totals = one(connection, statement)
        if name in LATER_TABLES and not totals[0]:
            continue
        parts[name] = f"{totals[0]}:{int(totals[1]) % 2**128:032x}"
    return parts


def counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows by table, and the number of steps with a label set under `steps`. Raises `StoreError`."""
    try:
        return _counts(connection)
    except duckdb.Error as error:
        raise unreadable(error) from error


def _counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in TABLES:
        counts[name] = int(one(connection, f'select count(*) from "{name}"')[0])
    counts["steps"] = int(one(connection, "select coalesce(sum(len(label)), 0)::bigint from labels")[0])
    return counts


def one(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[Any, ...]:
    """The only row of an answer, read to its end: a half-read answer would keep the connection busy."""
    (row,) = connection.execute(statement).fetchall()
    return tuple(row)


def _snapshot_table(rows: Sequence[Snapshot]) -> pa.Table:
    fields = ("name", "kind", "digest", "parent", "operation", "message", "job_id", "created_at")
    columns: dict[str, pa.Array] = {
        field: pa.array([getattr(row, field) for row in rows], pa.string()) for field in fields
    }
    columns["counts"] = pa.array([list(row.counts.items()) for row in rows], pa.map_(pa.string(), pa.int64()))
    return pa.table(columns)


def _literal(text: str) -> str:
    return f"'{quoted(text)}'"


def quoted(text: str) -> str:
    """A text inside single quotes of SQL."""
    return text.replace("'", "''")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
