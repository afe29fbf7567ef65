"""A dataset at one moment, read as Arrow, polars, a Hugging Face dataset or SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from ..errors import UsageError
from ..schema import LATER_TABLES, TABLES
from . import query, refs, tables
from .hold import Location
from .refs import MAIN, DatasetName
from .remote import RemotePath
from .sql_views import VIEWS
from .storage import is_current, is_fresh, read_tables

if TYPE_CHECKING:
    import datasets
    import duckdb
    import polars

_LABEL_SETS: Final = """
    select method, completer as policy, count(*) as label_sets, sum(len(label))::bigint as steps,
           sum(len(list_filter(label, lambda x: x = 1)))::bigint as good,
           sum(len(list_filter(label, lambda x: x = -1)))::bigint as bad,
           count(first_error) as first_errors
    from labels group by all order by 1, 2
"""
ATTEMPTS: Final = 20
"""How often `view_at` reads the table versions again while another process swaps files."""


@dataclass(frozen=True, slots=True)
class View:
    """A dataset at one moment: a version of every table. It never changes."""

    dataset: Location
    ref: str
    versions: Mapping[str, int]
    _files: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)
    """A cache by table; the files of a version never change."""
    _connections: dict[frozenset[str], "duckdb.DuckDBPyConnection"] = field(
        default_factory=dict, compare=False, repr=False
    )
    """A cache by the names that a connection defines."""

    def files(self, table: str) -> list[str]:
        """The Parquet files of a table."""
        if table not in self.versions and table in LATER_TABLES:
            return []
        if table not in self._files:
            self._files[table] = tables.files(self.dataset.path / table, self.versions[table])
        return list(self._files[table])

    def arrow(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table, or a view such as `records`, as Arrow."""
        files = self.files(table) if table in TABLES and table not in VIEWS else []
        if files and all(is_fresh(file) and is_current(file) for file in files):
            return read_tables(files, list(columns or TABLES[table].names), TABLES[table])
        chosen = ", ".join(f'"{name}"' for name in columns) if columns else "*"
        return self.sql(f'select {chosen} from "{table}"')

    def polars(self, table: str) -> "polars.DataFrame":
        """A table, or a view such as `steps`, as a polars frame."""
        import polars

        frame = polars.from_arrow(self.arrow(table))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_datasets(self, table: str = "records") -> "datasets.Dataset":
        """A table, or a view such as `records`, as a Hugging Face dataset."""
        import datasets

        return datasets.Dataset(self.arrow(table))

    def connect(self, statement: str = "", memory: str = "") -> "duckdb.DuckDBPyConnection":
        """A read-only DuckDB connection with the tables, macros and views of this snapshot.

        With a `statement` it defines only what that one needs, and opens faster. With a limit of `memory` ("2GB") it
        sorts on disk what does not fit.
        """
        return query.connect(self.files, lambda: refs.read(self.dataset.refs), statement, memory)

    def sql(self, statement: str) -> pa.Table:
        """Run one SQL query. Raises `InputError` for a query that fails."""
        return query.arrow(self.cursor(statement), statement)

    def explain(self, statement: str) -> str:
        """The plan of a query: the files, columns and filters that it reads. Raises `InputError`."""
        return "\n".join(row["explain_value"] for row in self.sql(f"explain {statement}").to_pylist())

    def cursor(self, statement: str) -> "duckdb.DuckDBPyConnection":
        """A connection for one query, which another thread may `interrupt`.

        The next query reuses the footers that this one has read.
        """
        wanted = query.names_in(statement)
        connection = next((each for names, each in list(self._connections.items()) if wanted <= names), None)
        if connection is None:
            connection = self._connections.setdefault(wanted, self.connect(statement))
        # Each query has its own cursor, so that threads do not share an answer.
        return connection.cursor()

    def find_records(
        self, id_prefix: str = "", *, method: str = "", only_errors: bool = False, limit: int | None = None
    ) -> pa.Table:
        """Rows of `records`, ordered by question, solution and method.

        `id_prefix` is the beginning of a solution's or a question's id, `method` the method of the label set;
        `only_errors` leaves out label sets without a first error. Raises `UsageError` for a malformed id.
        """
        conditions = ["true"]
        if id_prefix:
            if not id_prefix.isalnum():
                raise UsageError(
                    f"{id_prefix!r} is not an id. Ids are hex digits; list some with: openr-data view {self.name}"
                )
            conditions.append(f"(starts_with(solution_id, '{id_prefix}') or starts_with(question_id, '{id_prefix}'))")
        if method:
            conditions.append(f"method = '{query.quoted(method)}'")
        if only_errors:
            conditions.append("first_error is not null")
        limited = "" if limit is None else f" limit {max(limit, 0)}"
        return self.sql(
            f"select * from records where {' and '.join(conditions)} order by question_id, solution_id, method{limited}"
        )

    @property
    def name(self) -> str:
        """`NAME@ref`, or the name alone for the newest state."""
        return str(DatasetName(self.dataset.name, self.ref))

    def label_sets(self) -> pa.Table:
        """What the labels consist of: method, policy, label_sets, steps, good, bad and first_errors, by method."""
        return self.sql(_LABEL_SETS)

    def verdicts(self) -> dict[str, int]:
        """The number of rollouts by verdict, most frequent first."""
        rows = self.sql("select verdict, count(*) as n from rollouts group by 1 order by 2 desc").to_pylist()
        return {row["verdict"]: row["n"] for row in rows}

    def digest(self) -> str:
        """A hash of the content of all tables that does not depend on the order of rows and files."""
        for snapshot in refs.snapshots(self.dataset.refs):
            if dict(snapshot.versions) == dict(self.versions):
                return snapshot.digest
        return query.digest(self.connect())

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return query.counts(self.connect())


def view_at(location: Location, ref: str = MAIN) -> View:
    """A dataset at a snapshot, a tag, a moment or `main` (the newest rows of every table); see `refs.find`.

    Tables are written facts first, labels last, and their versions are read in reverse order: every label of the view
    then has its solution and its question. Raises `MissingRef`.
    """
    if ref != MAIN:
        return View(location, ref, dict(refs.find(location.refs, location.name, ref).versions))
    for _ in range(ATTEMPTS):
        states = {name: tables.newest(location.path / name) for name in reversed(location.tables())}
        # A rollback takes files out of one table after another, labels first: if one ran meanwhile, read again.
        if isinstance(location.path, RemotePath) or all(
            set(states[name][1]) <= set(tables.newest(location.path / name)[1]) for name in states
        ):
            break
    versions = {name: version for name, (version, _) in states.items()}
    return View(location, ref, versions, {name: list(files) for name, (_, files) in states.items()})
