"""A store is a folder of datasets and jobs; a dataset is a folder of Delta tables; a view is one snapshot.

store = Store.open("openr-store")
view = store.view("math-aps@main")
view.sql("select count(*) from steps where label = -1")
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from ..errors import MissingDataset, NotAStore, StoreError, UsageError
from ..schema import KEYS, REFS, SCHEMA_VERSION, TABLES
from . import diff, maintenance, query, refs, rollback, storage, tables
from .refs import MAIN, DatasetName, Snapshot
from .remote import Place, RemotePath, place
from .view import View

MARKER: Final = "openr-store.json"
ATTEMPTS: Final = 20
"""Looks at the tables while others swap their files."""
MAX_SORTED: Final = 200_000
UNFINISHED: Final = "unfinished.json"
"""In a dataset's folder while the rows of a regrade or a rollback are written."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset of a store."""

    name: str
    path: Place

    def append(
        self, table: str, rows: Iterable[Mapping[str, Any]] | pa.Table, app: str, seq: int, *, supersedes: bool = False
    ) -> int:
        """Commit rows to a table exactly once, ordered by question; return how many.

        The same (`app`, `seq`) twice commits once. Rows with a `revision`, or that `supersedes` says may be there
        already, are told apart by their keys when they are read. Raises `StoreError`; see `tables.append`.
        """
        data = _ordered(rows, table)
        if data.num_rows:
            revised = "revision" in data.column_names and (pc.max(data["revision"]).as_py() or 0) > 0
            tables.append(self.path / table, data, app, seq, supersedes=supersedes or revised)
        return int(data.num_rows)

    def add_questions(self, rows: Iterable[Mapping[str, Any]] | pa.Table, app: str, seq: int) -> int:
        """Commit the questions that are not there yet; return how many were new.

        Two processes that add the same question at once add it once: each looks again at what the other committed.
        """
        data = _ordered(rows, "questions")
        first = pc.equal(pc.index_in(data["question_id"], data["question_id"]), pa.array(range(data.num_rows)))
        data = data.filter(first)
        path = self.path / "questions"
        new = 0

        def fresh(table: DeltaTable) -> pa.Table:
            nonlocal new
            known = query.ids("questions", tables.files_of(path, table))
            found = data.filter(pc.invert(pc.is_in(data["question_id"], known)))
            new = found.num_rows
            return found

        # What is there decides, and not the number alone: a rollback may have taken them away since.
        tables.append(path, fresh, app, max(seq, self.committed("questions", app) + 1), guard="questions")
        return new

    def committed(self, table: str, app: str) -> int:
        """The number of the last transaction of `app` on a table; 0 before the first."""
        return tables.open_table(self.path / table).transaction_version(app) or 0

    def view(self, ref: str = MAIN) -> View:
        """The dataset at a snapshot, a tag, a moment or `main` (the newest of everything); see `refs.find`.

        Tables are written facts first, labels last, and resolved in reverse: every label found then finds
        its solution and its question. Raises `MissingRef`.
        """
        if ref != MAIN:
            return View(self, ref, dict(refs.find(self.path / "refs", self.name, ref).versions))
        for _ in range(ATTEMPTS):
            found = {name: tables.newest(self.path / name) for name in reversed(list(TABLES))}
            # A rollback in between takes files out of the tables one after another, labels first: then look again.
            if isinstance(self.path, RemotePath) or all(
                set(found[name][1]) <= set(tables.newest(self.path / name)[1]) for name in found
            ):
                break
        versions = {name: version for name, (version, _) in found.items()}
        return View(self, ref, versions, {name: list(files) for name, (_, files) in found.items()})

    def snapshots(self) -> list[Snapshot]:
        """All snapshots that are there, oldest first."""
        return refs.snapshots(self.path / "refs")

    def tags(self) -> list[Snapshot]:
        """All tags, by name."""
        return [item for item in refs.read(self.path / "refs") if item.kind == "tag"]

    def tag(self, name: str, ref: str = MAIN, message: str = "") -> Snapshot:
        """Name a snapshot for good; `main` is made a snapshot first where it is none. Raises `StoreError`."""
        refs.check_tag(name)
        # Held, so that gc cannot let the snapshot go before it has its name.
        with self.hold(exclusive=False):
            if ref == MAIN:
                target = self.snapshot("tag", f"the state that {name} names", held=True)
            else:
                found = refs.find(self.path / "refs", self.name, ref)
                target = found if found.kind == "snapshot" else replace(found, name=found.parent or found.name)
            return refs.write_tag(self.path / "refs", self.name, name, target, message)

    def delete_tag(self, name: str) -> Snapshot:
        """Take a tag away. Raises `MissingRef`."""
        return refs.delete_tag(self.path / "refs", self.name, name)

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Hold the dataset among the processes of this machine while something is written that belongs together.

        Several may hold it shared (commits of finished questions), or one alone (a regrade). Waits for its turn.
        """
        with storage.lock(self.path / "lock", exclusive=exclusive):
            yield

    def begin(self, operation: str, command: str) -> None:
        """Note that the tables are being changed by something that is one whole; until `finish` it is half done.

        `command` is what finishes it after a crash.
        """
        try:
            storage.write_text(self.path / UNFINISHED, json.dumps({"operation": operation, "command": command}) + "\n")
        except OSError as error:
            raise storage.storage_error(self.path, error) from error

    def finish(self) -> None:
        """What was begun is complete."""
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def check_whole(self, but: str = "") -> None:
        """Raises `StoreError` where something that was begun did not come to its end, `but` for one operation."""
        try:
            note = json.loads((self.path / UNFINISHED).read_text())
            operation, command = str(note["operation"]), str(note["command"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            operation, command = "change", f"openr-data rollback {self.name} main~0"
        if operation == but:
            return
        raise StoreError(
            f"A {operation} of {self.name} was interrupted, so its newest state is half old. Finish it with: {command}"
        )

    def rollback(self, ref: str, message: str = "") -> Snapshot:
        """Make the newest state what it was at `ref`, as a new snapshot; see `rollback.rollback`."""
        return rollback.rollback(self, ref, message)

    def rolled_back(self) -> dict[str, str]:
        """The jobs whose rows a rollback took away, and a state that has them."""
        return rollback.noted(self)

    def snapshot(self, operation: str, message: str, job: str | None = None, *, held: bool = False) -> Snapshot:
        """Write down what the dataset holds now. Nothing is written where nothing changed.

        `held`: the caller holds the dataset already. Raises `StoreError` where a regrade or a rollback was
        interrupted: that state is not to be kept.
        """
        with nullcontext() if held else self.hold(exclusive=False):
            self.check_whole()
            # Before and not after: so the snapshot itself names few files.
            maintenance.tidy(self)
            return self._snapshot(operation, message, job)

    def _snapshot(self, operation: str, message: str, job: str | None) -> Snapshot:
        while True:
            # Earlier snapshots first, then the view: a snapshot is never older than the one before it.
            earlier = self.snapshots()
            view = self.view()
            connection = view.connect()
            like = earlier[-1].digest if earlier else ""
            digest, counts = query.digest(connection, like), query.counts(connection)
            if digest == like:
                return earlier[-1]
            digest = digest if query.is_new(digest) else query.digest(connection)
            before = View(self, earlier[-1].name, earlier[-1].versions) if earlier else None
            first = {f"+{name}": count for name, count in counts.items() if count and name != "jobs"}
            made = Snapshot(
                name=str(int(earlier[-1].name) + 1 if earlier else 1),
                kind="snapshot",
                versions=view.versions,
                digest=digest,
                parent=earlier[-1].name if earlier else None,
                operation=operation,
                message=message,
                counts=counts,
                job_id=job,
                created_at=refs.now(),
                changes=diff.diff(before, view).changes() if before else first,
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
        return storage.size_below(self.path)


def _ordered(rows: Iterable[Mapping[str, Any]] | pa.Table, table: str) -> pa.Table:
    """Rows as the table has them, ordered by question and key; very many are left for compaction to order."""
    schema = TABLES[table]
    if isinstance(rows, pa.Table):
        missing = [field for field in schema if field.name not in rows.column_names]
        for item in missing:
            rows = rows.append_column(item, pa.nulls(rows.num_rows, item.type))
        data = rows.select(schema.names).cast(schema)
    else:
        data = pa.Table.from_pylist(list(rows), schema=schema)
    if "question_id" not in schema.names or not 1 < data.num_rows <= MAX_SORTED:
        return data
    order = [(name, "ascending") for name in dict.fromkeys(("question_id", *KEYS[table]))]
    places = pc.sort_indices(data, sort_keys=order)
    is_sorted = pc.all(pc.greater(places[1:], places[:-1])).as_py()
    return data if is_sorted else data.take(places)


@dataclass(frozen=True, slots=True)
class Store:
    """A folder `datasets/NAME/TABLE/` and `jobs/JOB/`, marked by `openr-store.json`; also in an object store."""

    path: Place

    @classmethod
    def open(cls, path: str | Path | RemotePath, create: bool = False) -> "Store":
        """The store in a folder; with `create` an empty or missing folder becomes one.

        Raises `NotAStore` for a folder that is something else, `StoreError` where it cannot be written.
        """
        root = place(path)
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
            if marker.is_file():
                # Another process has made it meanwhile.
                return cls.open(path, create)
            raise NotAStore(
                f"{root} is not an openr-data store: it has no {MARKER}. Name a store or a new folder with "
                "--store FOLDER"
            )
        if not create:
            raise NotAStore(f"There is no store in {root} yet. Make one with: openr-data label, or openr-data import")
        try:
            root.mkdir(parents=True, exist_ok=True)
            storage.write_text(marker, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise storage.storage_error(root, error) from error
        return cls(root)

    @classmethod
    def at(cls, path: str | Path | RemotePath) -> "Store | None":
        """The store in a folder, or None where there is nothing yet. Raises `NotAStore`."""
        root = place(path)
        if not root.exists() or _is_blank(root):
            return None
        return cls.open(root)

    @property
    def jobs_path(self) -> Path:
        """Where the job folders lie: in the store, or on this machine for one in an object store.

        A journal is appended to and flushed, which an object store cannot; OPENR_JOBS names another folder.
        """
        if isinstance(self.path, Path):
            return self.path / "jobs"
        folder = Path(os.environ.get("OPENR_JOBS") or "~/.local/share/openr-data/jobs").expanduser()
        return folder / re.sub(r"[^\w.-]+", "-", self.path.key)

    def names(self) -> list[str]:
        """The datasets of the store, sorted."""
        root = self.path / "datasets"
        if not root.is_dir():
            return []
        return sorted(item.name for item in root.iterdir() if (item / "refs").is_dir())

    def dataset(self, name: str, create: bool = False, write: bool = False) -> Dataset:
        """A dataset by name. Raises `MissingDataset`, or makes it with `create`.

        With `write` one of an older schema version is brought up to this one.
        """
        if DatasetName.parse(name).ref != MAIN or "@" in name:
            raise UsageError(f"{name!r} names a state of a dataset; the dataset itself is {name.partition('@')[0]!r}.")
        dataset = Dataset(name, self.path / "datasets" / name)
        if create or (write and name in self.names()):
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
                storage.write_text(marker, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise storage.storage_error(self.path, error) from error

    def view(self, text: str) -> View:
        """The view that `NAME@ref` names. Raises `MissingDataset`, `MissingRef`."""
        wanted = DatasetName.parse(text)
        return self.dataset(wanted.name).view(wanted.ref)


def _is_blank(folder: Place) -> bool:
    """Whether a folder holds nothing but what an interrupted first use may have left."""
    return folder.is_dir() and all(item.name.startswith(f".{MARKER}.") for item in folder.iterdir())
