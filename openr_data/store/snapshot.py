"""Takes a snapshot: the versions of all tables, their digest, row counts and what changed since the last one."""

from contextlib import nullcontext

from ..errors import StoreError
from . import maintenance, query, refs
from .diff import diff
from .hold import Location
from .refs import Snapshot
from .view import View, view_at


def take_snapshot(
    location: Location, operation: str, message: str, job: str | None = None, *, held: bool = False
) -> Snapshot:
    """Write the newest state of a dataset to `refs`; return the last snapshot if nothing changed since.

    With `held` the caller holds the dataset already. Raises `StoreError` after an interrupted regrade or rollback,
    whose state is not worth keeping.
    """
    with nullcontext() if held else location.hold(exclusive=False):
        location.check_whole()
        # Compaction comes first, so that the snapshot itself names few files.
        maintenance.tidy(location)
        return _take(location, operation, message, job)


def _take(location: Location, operation: str, message: str, job: str | None) -> Snapshot:
    while True:
        # Earlier snapshots are read before the tables, so that no snapshot is older than the one before it.
        earlier = refs.snapshots(location.refs)
        view = view_at(location)
        connection = view.connect()
        last_digest = earlier[-1].digest if earlier else ""
        digest, counts = query.digest(connection, last_digest), query.counts(connection)
        if digest == last_digest:
            return earlier[-1]
        digest = digest if query.is_new(digest) else query.digest(connection)
        if earlier:
            changes = diff(View(location, earlier[-1].name, earlier[-1].versions), view).changes()
        else:
            changes = {f"+{name}": count for name, count in counts.items() if count and name != "jobs"}
        snapshot = Snapshot(
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
            changes=changes,
        )
        try:
            refs.write(location.refs, snapshot)
        except StoreError as error:
            if "exists already" in str(error):
                continue
            raise
        return snapshot
