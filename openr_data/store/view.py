"""A dataset as it was at one moment, read as Arrow, polars, a Hugging Face dataset or SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from ..schema import TABLES
from . import query, refs, tables
from .sql_views import VIEWS
from .storage import is_current, is_fresh, read_tables

if TYPE_CHECKING:
    import datasets
    import duckdb
    import polars

    from .dataset import Dataset


@dataclass(frozen=True, slots=True)
class View:
    """A dataset as it was at one moment: a version of every table. Reading it never changes."""

    dataset: "Dataset"
    ref: str
    versions: Mapping[str, int]
    _files: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)
    """Those looked up already; what a version holds never changes."""
    _connections: dict[frozenset[str], "duckdb.DuckDBPyConnection"] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Those opened already, by the names that they know."""

    def files(self, table: str) -> list[str]:
        """The Parquet files of a table."""
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
        """A DuckDB connection with the tables, macros and views of this snapshot; it can change nothing.

        With a `statement` it has what that one needs, and is there sooner. With a limit of `memory` ("2GB") it sorts
        on the disk what does not fit.
        """
        return query.connect(self.files, lambda: refs.read(self.dataset.path / "refs"), statement, memory)

    def sql(self, statement: str) -> pa.Table:
        """The answer of one SQL query as Arrow. Raises `InputError` for a query that fails."""
        return query.arrow(self.cursor(statement), statement)

    def cursor(self, statement: str) -> "duckdb.DuckDBPyConnection":
        """A connection for one query, which another thread may `interrupt`.

        The next query finds the footers of the files as this one left them.
        """
        wanted = query.names_in(statement)
        known = next((found for names, found in list(self._connections.items()) if wanted <= names), None)
        if known is None:
            known = self._connections.setdefault(wanted, self.connect(statement))
        # Each query has its own, so that threads do not meet in one answer.
        return known.cursor()

    def digest(self) -> str:
        """A hash of the content of all tables, whatever the order of rows and files."""
        for item in self.dataset.snapshots():
            if dict(item.versions) == dict(self.versions):
                return item.digest
        return query.digest(self.connect())

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return query.counts(self.connect())
