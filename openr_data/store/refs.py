"""Snapshots and tags: names for one version of every table of a dataset.

A snapshot is written when an operation ends: the versions of all tables, an order-independent digest of their
content, row counts, what changed, the parent and the job that made it. Snapshots are numbered from 1; a number and a
tag are claimed by a transaction id, so two writers cannot take the same one. The table is append-only: the deletion of
a tag and the expiry of a snapshot by `gc` are rows of their own.
"""

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from ..errors import MissingRef, StoreError, UsageError
from ..schema import REFS
from . import tables
from .remote import Place
from .storage import read_parquet, remove, write_parquet

MAIN: Final = "main"
MAX_FILES: Final = 32
"""More files of refs than this are merged, so that reading a name does not get slower with every snapshot."""

_known: dict[Place, tuple[tables.State, list["Snapshot"]]] = {}
"""The rows of the last read; a version of the table never changes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BEFORE = re.compile(r"(.+?)~(\d*)")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:?\d{2})?)?")
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row of `refs`.

    `kind` is snapshot (`name` is its number), tag, or one of the notes untag (the tag is deleted), expired (`gc`
    removed the snapshot) and published (to the Hub, as `hub_revision`). `parent` of a tag or a note is its snapshot.
    """

    name: str
    kind: str
    versions: Mapping[str, int]
    digest: str
    parent: str | None
    operation: str
    message: str
    counts: Mapping[str, int]
    job_id: str | None
    created_at: str
    hub_revision: str | None = None
    changes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatasetName:
    """The two parts of `NAME@ref`; the reference defaults to `main`."""

    name: str
    ref: str = MAIN

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Parse `NAME` or `NAME@ref`. Raises `UsageError` for a malformed name."""
        name, sign, ref = text.partition("@")
        if not _NAME.fullmatch(name) or (sign and not ref):
            raise UsageError(
                f"{text!r} is not a dataset name. Write NAME or NAME@ref, for example math-aps@v1, with "
                "letters, digits, '.', '_' and '-'."
            )
        return cls(name, ref or MAIN)

    def __str__(self) -> str:
        return self.name if self.ref == MAIN else f"{self.name}@{self.ref}"


def check_tag(name: str) -> None:
    """Raise `UsageError` for a tag that would be read as something else."""
    if not _NAME.fullmatch(name) or name.isdigit() or name == MAIN or _MOMENT.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a tag: numbers are snapshots, dates are moments, main is the newest state. "
            "Take letters, digits, '.', '_' and '-', for example v1."
        )


def now() -> str:
    """This moment in UTC, as it is stored."""
    return datetime.now(UTC).strftime(_FORM)


def rows(path: Place) -> list[Snapshot]:
    """All rows, notes included, in no order."""
    state = tables.newest(path)
    cached = _known.get(path)
    if cached is None or cached[0] != state:
        cached = _known[path] = state, _rows(state[1])
    return list(cached[1])


def _rows(files: Sequence[str]) -> list[Snapshot]:
    return [_of_row(row) for file in files for row in read_parquet(file).to_pylist()]


def _of_row(row: Mapping[str, Any]) -> Snapshot:
    plain: dict[str, Any] = {name: row.get(name) for name in REFS.names}
    for name in ("versions", "counts", "changes"):
        plain[name] = dict(plain[name] or ())
    return Snapshot(**plain)


def read(path: Place) -> list[Snapshot]:
    """The snapshots that exist, oldest first, then the tags that exist."""
    return there(rows(path))


def there(among: Sequence[Snapshot]) -> list[Snapshot]:
    """The snapshots among some rows that still exist, oldest first, then such tags."""
    expired = {row.name for row in among if row.kind == "expired"}
    numbered = [row for row in among if row.kind == "snapshot" and row.name not in expired]
    return sorted(numbered, key=lambda row: int(row.name)) + live_tags(among)


def live_tags(among: Sequence[Snapshot]) -> list[Snapshot]:
    """The tags that were not deleted, by name."""
    newest: dict[str, Snapshot] = {}
    for row in among:
        if row.kind in ("tag", "untag"):
            newer = newest.get(row.name)
            if newer is None or newer.changes.get("sequence", 1) < row.changes.get("sequence", 1):
                newest[row.name] = row
    return sorted((row for row in newest.values() if row.kind == "tag"), key=lambda row: row.name)


def snapshots(path: Place) -> list[Snapshot]:
    """The snapshots that exist, oldest first."""
    return [item for item in read(path) if item.kind == "snapshot"]


def write(path: Place, snapshot: Snapshot) -> None:
    """Add a row. Raises `StoreError` when the name is taken."""
    sequence = snapshot.changes.get("sequence", 1) if snapshot.kind in ("tag", "untag") else 1
    app = f"{'tag' if snapshot.kind == 'untag' else snapshot.kind}/{snapshot.name}"
    taken = StoreError(f"The {snapshot.kind} {snapshot.name!r} exists already.")
    if (tables.open_table(path).transaction_version(app) or 0) >= sequence:
        raise taken
    tables.append(path, _table([snapshot]), app, sequence)
    # Another writer may have committed the same name in between: then ours was left out.
    if snapshot not in rows(path):
        raise taken
    _compact(path)


def write_tag(path: Place, dataset: str, name: str, target: Snapshot, message: str) -> Snapshot:
    """Tag a snapshot. Raises `StoreError` if the tag exists, also if another process creates it concurrently."""
    check_tag(name)
    existing = rows(path)
    live = next((row for row in live_tags(existing) if row.name == name), None)
    if live is not None:
        raise StoreError(
            f"The tag {name!r} exists already: it is snapshot {live.parent} of {dataset}, and a tag never moves. "
            f"Take another name, or delete it first: openr-data tag {dataset} {name} --delete"
        )
    sequence = 1 + Counter(row.name for row in existing if row.kind in ("tag", "untag"))[name]
    made = replace(
        target,
        name=name,
        kind="tag",
        parent=target.name,
        operation="tag",
        message=message,
        created_at=now(),
        # The mark distinguishes two processes that create the same tag in the same second.
        changes={"sequence": sequence, "mark": random.getrandbits(62)},
    )
    write(path, made)
    return made


def delete_tag(path: Place, dataset: str, name: str) -> Snapshot:
    """Delete a tag; return its row. Raises `MissingRef`."""
    existing = rows(path)
    live = next((row for row in live_tags(existing) if row.name == name), None)
    if live is None:
        raise missing(dataset, name, [MAIN, *(row.name for row in live_tags(existing))])
    sequence = live.changes.get("sequence", 1) + 1
    write(path, replace(live, kind="untag", operation="untag", created_at=now(), changes={"sequence": sequence}))
    return live


def find(path: Place, dataset: str, ref: str) -> Snapshot:
    """The snapshot or tag of a reference: `3`, `v1`, `main~2`, `2026-11-24`, `2026-11-24T10:00`.

    `~n` goes n parents back, `main~n` from the newest snapshot. A moment selects the newest snapshot at that time, a
    day the newest one at its end (UTC). Raises `MissingRef`, which lists the names.
    """
    everything = rows(path)
    existing = there(everything)
    # Expired snapshots keep their place among the parents.
    numbered = {row.name: row for row in everything if row.kind == "snapshot"}
    current = [row for row in existing if row.kind == "snapshot"]
    base, back = ref, 0
    if match := _BEFORE.fullmatch(ref):
        base, back = match[1], int(match[2] or 1)
    if base == MAIN and current:
        row: Snapshot | None = current[-1]
    else:
        row = next((item for item in existing if item.name == base), numbered.get(base))
    if row is None and _MOMENT.fullmatch(base):
        # Expired snapshots count too: an earlier one was not the state of that moment.
        moments = sorted(numbered.values(), key=lambda item: int(item.name), reverse=True)
        row = next((item for item in moments if item.created_at <= _until(base)), None)
    if row is not None and row.kind == "tag" and back:
        row = numbered.get(row.parent or "")
    for _ in range(back):
        row = numbered.get(row.parent or "") if row is not None else None
    if row is None:
        raise missing(dataset, ref, [MAIN, *(item.name for item in existing)])
    if row.kind == "snapshot" and row not in current:
        raise MissingRef(
            f"gc removed snapshot {row.name} of {dataset}, which had no tag. List the others with: "
            f"openr-data log {dataset}"
        )
    return row


def before_scores(everything: Sequence[Snapshot], snapshot: Snapshot) -> Snapshot:
    """The oldest snapshot with the same rows as `snapshot` but for step scores, which evaluations add.

    A job pins this one, so that an evaluation in between does not change the configuration of the job.
    """
    numbered = {row.name: row for row in everything if row.kind == "snapshot"}
    facts = numbered.get(snapshot.parent or "", snapshot) if snapshot.kind == "tag" else snapshot
    while facts.operation == "eval" and set(facts.changes) <= {"+scores"} and facts.parent in numbered:
        facts = numbered[facts.parent or ""]
    return facts


def missing(dataset: str, ref: str, names: Sequence[str]) -> MissingRef:
    """The error for a missing reference; of many names it lists the first and the last."""
    listed = [*names[:3], "…", *names[-7:]] if len(names) > 12 else list(names)
    return MissingRef(
        f'No snapshot "{ref}" in {dataset} (there are: {", ".join(listed)}). List them with: openr-data log {dataset}'
    )


def _until(text: str) -> str:
    """The last second a moment covers, in UTC as it is stored. Raises `UsageError` for a day that does not exist."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a moment: {error}. Write 2026-11-24 or 2026-11-24T10:00.") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    match = _MOMENT.fullmatch(text)
    assert match is not None
    covers = (
        timedelta(days=1) if match[1] is None else timedelta(minutes=1) if match[2] is None else timedelta(seconds=1)
    )
    return (moment + covers - timedelta(seconds=1)).strftime(_FORM)


def _table(items: Sequence[Snapshot]) -> pa.Table:
    maps = ("versions", "counts", "changes")
    plain = [
        {name: list(getattr(item, name).items()) if name in maps else getattr(item, name) for name in REFS.names}
        for item in items
    ]
    return pa.Table.from_pylist(plain, schema=REFS)


def _compact(path: Place) -> None:
    table = tables.open_table(path)
    if len(table.file_uris()) <= MAX_FILES:
        return
    everything = _rows(tables.files_of(path, table))
    written = write_parquet(path, _table(everything))
    try:
        tables.swap(path, table, [written], tables.data_files(table))
    except StoreError:
        # Another process is merging them.
        remove(written)
