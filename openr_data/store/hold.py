"""Where a dataset lives and which process may change it.

Commits of finished questions hold a dataset together (shared); a regrade or a rollback holds it alone. An operation
that writes several tables leaves a note until it is complete, so that no snapshot keeps a state that is half changed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ..errors import StoreError
from ..schema import LATER_TABLES, TABLES
from . import storage
from .refs import rows
from .remote import Place
from .tables import is_there

UNFINISHED: Final = "unfinished.json"
"""In a dataset's folder while a regrade or a rollback writes its rows."""


@dataclass(frozen=True, slots=True)
class Location:
    """The name and the folder of a dataset, with its lock and its note of an unfinished operation."""

    name: str
    path: Place

    @property
    def refs(self) -> Place:
        """The table of snapshots and tags."""
        return self.path / "refs"

    def tables(self) -> list[str]:
        """The tables of this dataset, in the order they are written.

        A dataset of an older schema version lacks some until it is written to. The absence of a table that a snapshot
        names is damage, so such a table is listed.
        """
        absent = {name for name in LATER_TABLES if not is_there(self.path / name)}
        if absent:
            absent -= {name for row in rows(self.refs) for name in row.versions}
        return [name for name in TABLES if name not in absent]

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Lock the dataset against the other processes of this machine while rows that belong together are written.

        Several processes may hold it shared, or one alone (`exclusive`). Waits until the lock is free.
        """
        with storage.lock(self.path / "lock", exclusive=exclusive):
            yield

    def begin(self, operation: str, command: str) -> None:
        """Note that an operation has begun to change the tables; the dataset counts as half changed until `finish`.

        `command` completes the operation after a crash.
        """
        try:
            storage.write_text(self.path / UNFINISHED, json.dumps({"operation": operation, "command": command}) + "\n")
        except OSError as error:
            raise storage.storage_error(self.path, error) from error

    def finish(self) -> None:
        """Remove the note of `begin`: the operation is complete."""
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def check_whole(self, but: str = "") -> None:
        """Raise `StoreError` if an operation other than `but` was interrupted."""
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
