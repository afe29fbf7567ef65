"""A store is a folder of datasets and jobs; a dataset is a folder of Delta tables; a view is one snapshot.

store = Store.open("openr-store")
view = store.view("math-aps@main")
view.sql("select count(*) from steps where label = -1")
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import MissingDataset, NotAStore, UsageError
from ..schema import REFS, SCHEMA_VERSION, TABLES
from . import storage, tables
from .dataset import Dataset
from .refs import MAIN, DatasetName, Snapshot
from .remote import Place, RemotePath, place
from .view import View

MARKER: Final = "openr-store.json"


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """One line on a dataset: row counts of its last snapshot (or of its tables before the first), and bytes on disk."""

    name: str
    counts: Mapping[str, int]
    snapshot: Snapshot | None
    size: int


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
                raise NotAStore(f"{marker} is damaged: it holds no schema version.") from error
            if version > SCHEMA_VERSION:
                raise NotAStore(
                    f"The store {root} has schema version {version}, newer than {SCHEMA_VERSION}, which this "
                    "openr-data writes. Update with: pip install -U openr-data"
                )
            return cls(root)
        if root.exists() and not _is_blank(root):
            if marker.is_file():
                # Another process has created the store meanwhile.
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
        """The store in a folder, or None if the folder is empty or missing. Raises `NotAStore`."""
        root = place(path)
        if not root.exists() or _is_blank(root):
            return None
        return cls.open(root)

    @property
    def jobs_path(self) -> Path:
        """The folder of the job folders: in the store, or on this machine for a store in an object store.

        A journal needs appends and flushes, which an object store lacks; OPENR_JOBS names another folder.
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
        """A dataset by name; with `create` it is created if missing, else `MissingDataset` is raised.

        With `write` a dataset of an older schema version is upgraded.
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

    def summaries(self) -> list[DatasetSummary]:
        """A summary of every dataset, sorted by name."""
        summaries = []
        for name in self.names():
            dataset = self.dataset(name)
            snapshots = dataset.snapshots()
            last = snapshots[-1] if snapshots else None
            counts = dict(last.counts) if last else dataset.view().counts()
            summaries.append(DatasetSummary(name, counts, last, dataset.size()))
        return summaries

    def _upgrade(self) -> None:
        """Record that this version writes here, so that an older one refuses the store and its new columns."""
        marker = self.path / MARKER
        try:
            if json.loads(marker.read_text())["schema_version"] < SCHEMA_VERSION:
                storage.write_text(marker, json.dumps({"schema_version": SCHEMA_VERSION}) + "\n")
        except OSError as error:
            raise storage.storage_error(self.path, error) from error

    def view(self, text: str) -> View:
        """The view of `NAME@ref`. Raises `MissingDataset`, `MissingRef`."""
        wanted = DatasetName.parse(text)
        return self.dataset(wanted.name).view(wanted.ref)


def _is_blank(folder: Place) -> bool:
    """Whether a folder is empty but for files of an interrupted creation."""
    return folder.is_dir() and all(item.name.startswith(f".{MARKER}.") for item in folder.iterdir())
