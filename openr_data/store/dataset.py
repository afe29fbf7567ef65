"""A store is a folder of datasets and jobs; a dataset is a folder of Delta tables; a view is one snapshot.

store = Store.open("openr-store")
view = store.view("math-aps@main")
view.sql("select count(*) from steps where label = -1")
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ..checked_lines import write_whole
from ..errors import MissingDataset, NotAStore, StoreError
from ..schema import KEYS, REFS, SCHEMA_VERSION, TABLES
from . import query, refs, tables
from .refs import MAIN, DatasetName, Snapshot

if TYPE_CHECKING:
    import datasets
    import duckdb
    import polars

MARKER: Final = "openr-store.json"
REGRADE: Final = "regrade-open.json"
"""In a dataset's folder while the rows of a regrade are written."""


@dataclass(frozen=True, slots=True)
class View:
    """A dataset as it was at one moment: a version of every table. Reading it never changes."""

    dataset: "Dataset"
    ref: str
    versions: Mapping[str, int]

    def files(self, table: str) -> list[str]:
        """The Parquet files of a table."""
        return tables.files(self.dataset.path / table, self.versions[table])

    def arrow(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A table, or a view such as `records`, as Arrow."""
        chosen = ", ".join(f'"{name}"' for name in columns) if columns else "*"
        return query.arrow(self.connect(), f'select {chosen} from "{table}"')

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

    def connect(self) -> "duckdb.DuckDBPyConnection":
        """A DuckDB connection with the tables and views of this snapshot; it can change nothing."""
        return query.connect({name: self.files(name) for name in TABLES}, refs.read(self.dataset.path / "refs"))

    def sql(self, statement: str) -> pa.Table:
        """The answer of one SQL query as Arrow. Raises `InputError` for a query that fails."""
        return query.arrow(self.connect(), statement)

    def digest(self) -> str:
        """A hash of the content of all tables, whatever the order of rows and files."""
        for item in self.dataset.snapshots():
            if dict(item.versions) == dict(self.versions):
                return item.digest
        return query.digest(self.connect())

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        return query.counts(self.connect())


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of a store."""

    name: str
    path: Path

    def append(self, table: str, rows: Iterable[Mapping[str, Any]] | pa.Table, app: str, seq: int) -> int:
        """Commit rows to a table exactly once, ordered by question; return how many.

        The same (`app`, `seq`) twice commits once. Raises `StoreError`; see `tables.append`.
        """
        schema = TABLES[table]
        data = rows.cast(schema) if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
        if "question_id" in schema.names:
            order = [(name, "ascending") for name in dict.fromkeys(("question_id", *KEYS[table]))]
            data = data.take(pc.sort_indices(data, sort_keys=order))
        if data.num_rows:
            tables.append(self.path / table, data, app, seq)
        return int(data.num_rows)

    def add_questions(self, rows: Iterable[Mapping[str, Any]], app: str, seq: int) -> int:
        """Commit the questions that are not there yet; return how many were new."""
        known = set(self.view().arrow("questions", ["question_id"])["question_id"].to_pylist())
        fresh: dict[str, Mapping[str, Any]] = {}
        for row in rows:
            if row["question_id"] not in known:
                fresh.setdefault(row["question_id"], row)
        return self.append("questions", fresh.values(), app, seq)

    def committed(self, table: str, app: str) -> int:
        """The number of the last transaction of `app` on a table; 0 before the first."""
        return tables.open_table(self.path / table).transaction_version(app) or 0

    def view(self, ref: str = MAIN) -> View:
        """The dataset at a snapshot, a tag or `main` (the newest of everything).

        Tables are written facts first, labels last, and resolved in reverse: every label found then finds
        its solution and its question. Raises `MissingRef`.
        """
        if ref == MAIN:
            versions = {name: int(tables.open_table(self.path / name).version()) for name in reversed(list(TABLES))}
        else:
            versions = dict(refs.find(self.path / "refs", self.name, ref).versions)
        return View(self, ref, versions)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        return refs.snapshots(self.path / "refs")

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the dataset among the processes of this machine while something is written that belongs together.

        Several may hold it shared (commits of finished questions), or one alone (a regrade). Waits for its turn.
        """
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise tables.storage_error(self.path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)

    def open_regrade(self, grader: str) -> None:
        """Note that rows of a regrade are being written: until `close_regrade` the newest state is half old."""
        try:
            write_whole(self.path / REGRADE, json.dumps({"grader": grader}) + "\n")
        except OSError as error:
            raise tables.storage_error(self.path, error) from error

    def close_regrade(self) -> None:
        """The regrade is complete."""
        (self.path / REGRADE).unlink(missing_ok=True)

    def _check_regrade(self) -> None:
        try:
            grader = str(json.loads((self.path / REGRADE).read_text())["grader"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            grader = "math"
        name = grader.rpartition("/")[0] or grader
        raise StoreError(
            f"A regrade of {self.name} was interrupted, so its newest state is half old. Finish it with: "
            f"openr-data regrade {self.name} --grader {name}"
        )

    def snapshot(self, operation: str, message: str, job: str | None = None, *, held: bool = False) -> Snapshot:
        """Write down what the dataset holds now. Nothing is written where nothing changed.

        `held`: the caller holds the dataset already. Raises `StoreError` where a regrade was interrupted: that
        state is not to be kept.
        """
        with nullcontext() if held else self.hold(exclusive=False):
            self._check_regrade()
            return self._snapshot(operation, message, job)

    def _snapshot(self, operation: str, message: str, job: str | None) -> Snapshot:
        while True:
            # Earlier snapshots first, then the view: a snapshot is never older than the one before it.
            earlier = self.snapshots()
            view = self.view()
            digest, counts = view.digest(), view.counts()
            if earlier and earlier[-1].digest == digest:
                return earlier[-1]
            made = Snapshot(
                name=str(len(earlier) + 1),
                kind="snapshot",
                versions=view.versions,
                digest=digest,
                parent=earlier[-1].name if earlier else None,
                operation=operation,
                message=message,
                counts=counts,
                job_id=job,
                created_at=refs.now(),
            )
            try:
                refs.write(self.path / "refs", made)
            except StoreError as error:
                if "exists already" in str(error):
                    continue
                raise
            return made

    def size(self) -> int:
        """Bytes on disk."""
        return sum(item.stat().st_size for item in self.path.rglob("*") if item.is_file())


@dataclass(frozen=True, slots=True)
class Store:
    """A folder `datasets/NAME/TABLE/` and `jobs/JOB/`, marked by `openr-store.json`."""

    path: Path

    @classmethod
    def open(cls, path: str | Path, create: bool = False) -> "Store":
        """The store in a folder; with `create` an empty or missing folder becomes one.

        Raises `NotAStore` for a folder that is something else, `StoreError` where it cannot be written.
        """
        root = Path(path).expanduser()
        marker = root / MARKER
        if marker.is_file():
            try:
                version = int(json.loads(marker.read_text())["schema_version"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise NotAStore(f"{marker} is damaged: it does not say a schema version.") from error
            if version > SCHEMA_VERSION:
                raise NotAStore(
                    f"The store {root} has schema version {version}, newer than {SCHEMA_VERSION}, which this "
                    "openr-data writes. Update with: pip install -U openr-data"
                )
            return cls(root)
        if root.exists() and not _is_blank(root):
            raise NotAStore(
                f"{root} is not an openr-data store: it has no {MARKER}. Name a store or a new folder with "
                "--store FOLDER"
            )
        if not create:
            raise NotAStore(f"There is no store in {root} yet. Make one with: openr-data label, or openr-data import")
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_whole(marker, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise tables.storage_error(root, error) from error
        return cls(root)

    @classmethod
    def at(cls, path: str | Path) -> "Store | None":
        """The store in a folder, or None where there is nothing yet. Raises `NotAStore`."""
        root = Path(path).expanduser()
        if not root.exists() or _is_blank(root):
            return None
        return cls.open(root)

    @property
    def jobs_path(self) -> Path:
        """Where the job folders lie."""
        return self.path / "jobs"

    def names(self) -> list[str]:
        """The datasets of the store, sorted."""
        root = self.path / "datasets"
        if not root.is_dir():
            return []
        return sorted(item.name for item in root.iterdir() if (item / "refs").is_dir())

    def dataset(self, name: str, create: bool = False) -> Dataset:
        """A dataset by name. Raises `MissingDataset`, or makes it with `create`."""
        DatasetName.parse(name)
        dataset = Dataset(name, self.path / "datasets" / name)
        if create:
            self._upgrade()
            for table, schema in TABLES.items():
                key = "question_id" if "question_id" in schema.names else None
                tables.create(dataset.path / table, schema, key)
            tables.create(dataset.path / "refs", REFS, None)
        elif name not in self.names():
            there = ", ".join(self.names()) or "none yet"
            raise MissingDataset(
                f"No dataset {name!r} in {self.path} (there are: {there}). List them with: openr-data ls"
            )
        return dataset

    def _upgrade(self) -> None:
        """Say that this version writes here: an older one must not take the new columns for its own."""
        marker = self.path / MARKER
        try:
            if json.loads(marker.read_text())["schema_version"] < SCHEMA_VERSION:
                write_whole(marker, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise tables.storage_error(self.path, error) from error

    def view(self, text: str) -> View:
        """The view that `NAME@ref` names. Raises `MissingDataset`, `MissingRef`."""
        wanted = DatasetName.parse(text)
        return self.dataset(wanted.name).view(wanted.ref)


def _is_blank(folder: Path) -> bool:
    """Whether a folder holds nothing but what an interrupted first use may have left."""
    return folder.is_dir() and all(item.name.startswith(f".{MARKER}.") for item in folder.iterdir())
