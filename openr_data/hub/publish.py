"""Publish a snapshot: write its files, send those that the Hub does not have, commit them together, tag.

Resumable: big files are uploaded first and found there by their hash when the command runs again; one commit then
makes all of them visible at once. Files of an earlier snapshot that are no part of this one go in the same commit.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..errors import HubError, UsageError
from ..store import Dataset, Snapshot, View, refs, storage
from .card import card
from .client import KIND, hub_api, status_of, told
from .layout import MANIFEST, Layout, write_layout

ATTEMPTS: Final = 4
AT_ONCE: Final = 20
"""Files uploaded between two looks at what happened."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """One file of the publication: `state` is new, changed, unchanged or gone."""

    path: str
    state: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it. `revision` is the commit on the Hub, or "" after a dry run."""

    repo: str
    snapshot: str
    tag: str
    revision: str
    files: tuple[Planned, ...]
    url: str


def publish(
    dataset: Dataset,
    ref: str,
    repo: str,
    *,
    private: bool = False,
    license_: str = "other",
    rollouts: bool = True,
    dry_run: bool = False,
    report: Report | None = None,
) -> Published:
    """Publish a snapshot to `ORG/NAME`. Raises `HubError`, `MissingRef`, and `UsageError` for what is no such name."""
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"{repo!r} is no name on the Hub: write ORG/NAME, for example openr/math-aps.")
    snapshot = _snapshot(dataset, ref)
    view = View(dataset, snapshot.name, snapshot.versions)
    number = snapshot.name if snapshot.kind == "snapshot" else snapshot.parent
    tag = snapshot.name if snapshot.kind == "tag" else f"snapshot-{number}"
    say = report or (lambda text: None)
    folder = Path(tempfile.mkdtemp(prefix="openr-publish-"))
    try:
        say(f"writing {dataset.name}@{snapshot.name}")
        named = {"tag": snapshot.name} if snapshot.kind == "tag" else {}
        facts = {"dataset": dataset.name, "snapshot": number, **named, "digest": snapshot.digest}
        layout = write_layout(view, folder, facts, rollouts)
        (folder / "README.md").write_text(card(view, layout, repo, license_), encoding="utf-8")
        with told(repo, "the upload"):
            sender = _Sender(repo, layout, say)
            if dry_run:
                return Published(repo, str(number), tag, "", tuple(sender.plan()), sender.url)
            sender.make_repo(private)
            message = f"{dataset.name} snapshot {number}"
            revision, files = sender.send(message, f"{snapshot.message}\n\ndigest {snapshot.digest}")
            sender.tag(tag, revision, snapshot.message)
    except OSError as error:
        raise storage.storage_error(folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _note(dataset, snapshot, repo, revision)
    return Published(repo, str(number), tag, revision, tuple(files), sender.url)


def _snapshot(dataset: Dataset, ref: str) -> Snapshot:
    if ref == refs.MAIN:
        return dataset.snapshot("publish", "the state that was published")
    return refs.find(dataset.path / "refs", dataset.name, ref)


def _note(dataset: Dataset, snapshot: Snapshot, repo: str, revision: str) -> None:
    """Write down where the snapshot went; once for a commit of the Hub."""
    name = f"{repo}@{revision[:12]}"
    if any(row.kind == "published" and row.name == name for row in refs.rows(dataset.path / "refs")):
        return
    note = replace(
        snapshot,
        name=name,
        kind="published",
        operation="publish",
        message=repo,
        parent=snapshot.name if snapshot.kind == "snapshot" else snapshot.parent,
        created_at=refs.now(),
        hub_revision=revision,
        changes={},
    )
    refs.write(dataset.path / "refs", note)


class _Sender:
    """Compares a folder with a repository and makes the repository the folder."""

    def __init__(self, repo: str, layout: Layout, say: Report) -> None:
        self._repo, self._folder, self._say = repo, layout.folder, say
        self._api = hub_api()
        self.url = f"{self._api.endpoint}/datasets/{repo}"

    def make_repo(self, private: bool) -> None:
        """Make the repository where there is none."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self._api.dataset_info(self._repo)
        except RepositoryNotFoundError:
            self._api.create_repo(self._repo, repo_type=KIND, private=private, exist_ok=True)

    def plan(self) -> list[Planned]:
        """What would be sent; a repository that is not there yet has nothing."""
        import httpx2
        from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

        there: dict[str, tuple[str, str]] = {}
        try:
            _, there = self._there()
        except RepositoryNotFoundError:
            self._say(f"{self._repo} is not there yet, or not to be seen without a token")
        except (httpx2.TransportError, OfflineModeIsEnabled):
            self._say("the Hub cannot be reached, so every file counts as new")
        return self._compare(there)

    def send(self, message: str, description: str) -> tuple[str, list[Planned]]:
        """Upload and commit; gives the commit and what was done. Raises what the client raises."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        for attempt in range(ATTEMPTS):
            head, there = self._there()
            files = self._compare(there)
            if all(item.state == "unchanged" for item in files):
                return head, files
            adds = [
                CommitOperationAdd(item.path, str(self._folder / item.path))
                for item in files
                if item.state in ("new", "changed")
            ]
            for start in range(0, len(adds), AT_ONCE):
                batch = adds[start : start + AT_ONCE]
                self._say(f"uploading {min(start + AT_ONCE, len(adds))} of {len(adds)} files")
                self._api.preupload_lfs_files(self._repo, additions=batch, repo_type=KIND, free_memory=False)
            gone = [CommitOperationDelete(item.path) for item in files if item.state == "gone"]
            try:
                done = self._api.create_commit(
                    self._repo,
                    [*adds, *gone],
                    commit_message=message,
                    commit_description=description,
                    repo_type=KIND,
                    parent_commit=head or None,
                )
                return str(done.oid), files
            except Exception as error:
                # The answer may be lost and the commit made, or somebody else committed first: look again.
                if attempt == ATTEMPTS - 1 or status_of(error) in (400, 401, 403, 404, 429):
                    raise
        raise HubError(f"{self._repo} changed under every attempt. Run the same command again.")

    def tag(self, tag: str, revision: str, message: str) -> None:
        """Name the commit as the snapshot is named. Raises `HubError` where the name means another commit."""
        known = {item.name: item.target_commit for item in self._api.list_repo_refs(self._repo, repo_type=KIND).tags}
        if known.get(tag) == revision:
            return
        if tag in known:
            raise HubError(
                f"The data is on the Hub as {revision[:12]}, but its tag {tag} there is another commit "
                f"({str(known[tag])[:12]}), and a tag never moves. Tag the snapshot by another name and publish that."
            )
        self._api.create_tag(self._repo, tag=tag, revision=revision, tag_message=message or None, repo_type=KIND)

    def _there(self) -> tuple[str, dict[str, tuple[str, str]]]:
        """The head of the repository, and path to (kind of hash, hash) of its files."""
        from huggingface_hub import RepoFile

        head = str(self._api.dataset_info(self._repo).sha or "")
        found: dict[str, tuple[str, str]] = {}
        for item in self._api.list_repo_tree(self._repo, recursive=True, revision=head or None, repo_type=KIND):
            if isinstance(item, RepoFile):
                found[item.path] = ("sha256", item.lfs.sha256) if item.lfs else ("git", item.blob_id)
        return head, found

    def _compare(self, there: dict[str, tuple[str, str]]) -> list[Planned]:
        found: list[Planned] = []
        for path in _files(self._folder):
            name = path.relative_to(self._folder).as_posix()
            known = there.get(name)
            same = known is not None and known[1] == _hash(path, known[0])
            state = "unchanged" if same else "new" if known is None else "changed"
            found.append(Planned(name, state, path.stat().st_size))
        ours = {item.path for item in found}
        gone = [name for name in there if name not in ours and (name.startswith("data/") or name == MANIFEST)]
        return found + [Planned(name, "gone", 0) for name in sorted(gone)]


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(item for item in folder.rglob("*") if item.is_file())


def _hash(path: Path, kind: str) -> str:
    """The hash by which the Hub knows a file: of its bytes, or git's of a small one."""
    size = path.stat().st_size
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with contextlib.closing(path.open("rb")) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sizes(files: Sequence[Planned]) -> dict[str, tuple[int, int]]:
    """State to number of files and bytes."""
    found: dict[str, Any] = {}
    for item in files:
        count, size = found.get(item.state, (0, 0))
        found[item.state] = (count + 1, size + item.bytes)
    return found
