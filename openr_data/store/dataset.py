"""The facade of one dataset: rows go in by transactions, and come out as views of a snapshot."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from ..schema import KEYS, SHARED, TABLES
from . import query, refs, storage, tables
from .hold import Location
from .refs import MAIN, Snapshot
from .snapshot import take_snapshot
from .view import View, view_at

MAX_SORTED: Final = 200_000


@dataclass(frozen=True, slots=True)
class Dataset(Location):
    """One dataset of a store: a folder of Delta tables with snapshots and tags."""

    def append(
        self,
        table: str,
        rows: Iterable[Mapping[str, object]] | pa.Table,
        app: str,
        seq: int,
        *,
        supersedes: bool = False,
    ) -> int:
        """Commit rows to a table exactly once, ordered by question; return how many.

        A second call with the same (`app`, `seq`) commits nothing. Rows that have a `revision`, or that may be in the
        table already (`supersedes`), are deduplicated by key when they are read. Of a `SHARED` table only the rows
        that it lacks are written and counted. Raises `StoreError`; see `tables.append`.
        """
        if table in SHARED:
            return self._add_missing(table, rows, app, seq)
        data = _ordered(rows, table)
        if data.num_rows:
            revised = "revision" in data.column_names and (pc.max(data["revision"]).as_py() or 0) > 0
            tables.append(self.path / table, data, app, seq, supersedes=supersedes or revised)
        return int(data.num_rows)

    def add_questions(self, rows: Iterable[Mapping[str, object]] | pa.Table, app: str, seq: int) -> int:
        """Commit the questions that the dataset lacks; return how many were new."""
        return self._add_missing("questions", rows, app, seq)

    def _add_missing(self, table: str, rows: Iterable[Mapping[str, object]] | pa.Table, app: str, seq: int) -> int:
        """Commit the rows whose key the table lacks; return how many were new.

        Two processes that add the same row at the same time add it once: each reads the other's commit first.
        """
        data = _ordered(rows, table)
        if not data.num_rows:
            return 0
        path = self.path / table
        new = 0

        def missing_rows(opened: DeltaTable) -> pa.Table:
            nonlocal new
            missing = query.absent(table, tables.files_of(path, opened), data)
            new = missing.num_rows
            return missing

        # The rows decide, not the transaction number alone: a rollback may have removed them since.
        tables.append(path, missing_rows, app, max(seq, self.committed(table, app) + 1), guard=table)
        return new

    def committed(self, table: str, app: str) -> int:
        """The number of the last transaction of `app` on a table; 0 before the first."""
        return tables.open_table(self.path / table).transaction_version(app) or 0

    def view(self, ref: str = MAIN) -> View:
        """The dataset at a snapshot, a tag, a moment or `main` (the newest rows); see `refs.find`.

        Raises `MissingRef`.
        """
        return view_at(self, ref)

    def snapshots(self) -> list[Snapshot]:
        """The snapshots that exist, oldest first."""
        return refs.snapshots(self.refs)

    def tags(self) -> list[Snapshot]:
        """The tags that exist, by name."""
        return [row for row in refs.read(self.refs) if row.kind == "tag"]

    def snapshot(self, operation: str, message: str, job: str | None = None, *, held: bool = False) -> Snapshot:
        """Record the newest state as a snapshot; see `snapshot.take_snapshot`."""
        return take_snapshot(self, operation, message, job, held=held)

    def tag(self, name: str, ref: str = MAIN, message: str = "") -> Snapshot:
        """Give a snapshot a permanent name; `main` is made a snapshot first if it is not one. Raises `StoreError`."""
        refs.check_tag(name)
        # Held, so that gc cannot expire the snapshot before it has its name.
        with self.hold(exclusive=False):
            if ref == MAIN:
                target = self.snapshot("tag", f"the state that {name} names", held=True)
            else:
                row = refs.find(self.refs, self.name, ref)
                target = row if row.kind == "snapshot" else replace(row, name=row.parent or row.name)
            return refs.write_tag(self.refs, self.name, name, target, message)

    def delete_tag(self, name: str) -> Snapshot:
        """Delete a tag; return what it named. Raises `MissingRef`."""
        return refs.delete_tag(self.refs, self.name, name)

    def size(self) -> int:
        """Bytes on disk."""
        return storage.size_below(self.path)


def _ordered(rows: Iterable[Mapping[str, object]] | pa.Table, table: str) -> pa.Table:
    """Rows with the columns of the table, ordered by question and key; compaction orders very large batches."""
    schema = TABLES[table]
    if isinstance(rows, pa.Table):
        missing = [field for field in schema if field.name not in rows.column_names]
        for field in missing:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        data = rows.select(schema.names).cast(schema)
    else:
        data = pa.Table.from_pylist(list(rows), schema=schema)
    if "question_id" not in schema.names or not 1 < data.num_rows <= MAX_SORTED:
        return data
    order = [(name, "ascending") for name in dict.fromkeys(("question_id", *KEYS[table]))]
    places = pc.sort_indices(data, sort_keys=order)
    is_sorted = pc.all(pc.greater(places[1:], places[:-1])).as_py()
    return data if is_sorted else data.take(places)
