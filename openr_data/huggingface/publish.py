"""Publishes a snapshot: writes its files, uploads those that the Hub lacks, commits them together and tags the commit.

An interrupted publication can be resumed: big files are uploaded first, and a second run recognises them by their hash.
One commit then makes all files visible at once and deletes the files of earlier snapshots that this one lacks.
"""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..engine.in_thread import in_thread
from ..errors import HubError, UsageError
from ..store import Dataset, Snapshot, View, refs, storage
from .card import card
from .client import KIND, as_hub_error, hub_api, status_of
from .layout import MANIFEST, Layout, write_layout

ATTEMPTS: Final = 4
AT_ONCE: Final = 20
"""Files uploaded between two progress reports."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Planned:
    """One file of the publication. `state` is new, changed, unchanged or gone."""

    path: str
    state: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication. `revision` is the commit on the Hub, or "" after a dry run."""

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
    report: Progress | None = None,
) -> Published:
    """Publish a snapshot to `ORG/NAME`. Raises `HubError`, `MissingRef`, and `UsageError` for an invalid name."""
    _check_name(repo)
    snapshot = _snapshot(dataset, ref)
    if not any(count for table, count in snapshot.counts.items() if table != "jobs"):
        raise UsageError(f"{dataset.name}@{snapshot.name} is empty: there is nothing to publish.")
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
        with as_hub_error(repo, "the upload"):
            sender = _Sender(repo, layout, say)
            if dry_run:
                return Published(repo, str(number), tag, "", tuple(sender.plan()), sender.url)
            sender.make_repo(private)
            # Checked before anything is sent: a publication whose tag is taken must not replace another one.
            if published := sender.tagged(tag):
                files = [replace(file, state="unchanged") for file in sender.plan() if file.state != "gone"]
                return Published(repo, str(number), tag, published, tuple(files), sender.url)
            message = f"{dataset.name} snapshot {number}"
            revision, files = sender.send(message, f"{snapshot.message}\n\ndigest {snapshot.digest}")
            sender.tag(tag, revision, snapshot.message)
    except OSError as error:
        raise storage.storage_error(folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _note(dataset, snapshot, repo, revision)
    return Published(repo, str(number), tag, revision, tuple(files), sender.url)


publish_async = in_thread(publish)
"""`publish` for code that is in an event loop already, such as a notebook."""


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        if repo.count("/") != 1:
            raise HFValidationError("it has no organisation and name")
        validate_repo_id(repo)
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"{repo!r} is not a valid name on the Hub: write ORG/NAME, for example openr/math-aps ({reason})."
        ) from error


def _snapshot(dataset: Dataset, ref: str) -> Snapshot:
    if ref == refs.MAIN:
        return dataset.snapshot("publish", "the state that was published")
    return refs.find(dataset.path / "refs", dataset.name, ref)


def _note(dataset: Dataset, snapshot: Snapshot, repo: str, revision: str) -> None:
    """Record where the snapshot was published, once per commit on the Hub."""
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
    """Compares a folder with a repository and updates the repository to match the folder."""

    def __init__(self, repo: str, layout: Layout, say: Progress) -> None:
        self._repo, self._folder, self._say = repo, layout.folder, say
        self._api = hub_api()
        self.url = f"{self._api.endpoint}/datasets/{repo}"

    def make_repo(self, private: bool) -> None:
        """Create the repository if it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self._api.dataset_info(self._repo)
            return
        except RepositoryNotFoundError:
            self._say(f"creating {self._repo}")
        self._api.create_repo(self._repo, repo_type=KIND, private=private, exist_ok=True)

    def plan(self) -> list[Planned]:
        """List what would be sent; a repository that does not exist yet counts as empty."""
        import httpx2
        from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

        hashes: dict[str, tuple[str, str]] = {}
        try:
            _, hashes = self._head_files()
        except RepositoryNotFoundError:
            self._say(f"{self._repo} does not exist yet, or cannot be read without a token")
        except (httpx2.TransportError, OfflineModeIsEnabled):
            self._say("the Hub cannot be reached, so every file counts as new")
        return self._compare(hashes)

    def send(self, message: str, description: str) -> tuple[str, list[Planned]]:
        """Upload and commit; return the commit and the state of each file. Raises what the client raises."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        for attempt in range(ATTEMPTS):
            head, hashes = self._head_files()
            files = self._compare(hashes)
            if all(file.state == "unchanged" for file in files):
                return head, files
            adds = [
                CommitOperationAdd(file.path, str(self._folder / file.path))
                for file in files
                if file.state in ("new", "changed")
            ]
            for start in range(0, len(adds), AT_ONCE):
                batch = adds[start : start + AT_ONCE]
                self._say(f"uploading {min(start + AT_ONCE, len(adds))} of {len(adds)} files")
                self._api.preupload_lfs_files(self._repo, additions=batch, repo_type=KIND, free_memory=False)
            gone = [CommitOperationDelete(file.path) for file in files if file.state == "gone"]
            try:
                commit = self._api.create_commit(
                    self._repo,
                    [*adds, *gone],
                    commit_message=message,
                    commit_description=description,
                    repo_type=KIND,
                    parent_commit=head or None,
                )
                return str(commit.oid), files
            except Exception as error:
                # The commit may have succeeded although its reply was lost, or another one came first: compare again.
                if attempt == ATTEMPTS - 1 or status_of(error) in (400, 401, 403, 404, 429):
                    raise
        raise HubError(f"{self._repo} changed under every attempt. Run the same command again.")

    def tagged(self, tag: str) -> str:
        """Return the commit that the tag already names if it is this same publication, or "" if there is no such tag.

        Raises `HubError` if the tag names another publication.
        """
        commits = {ref.name: ref.target_commit for ref in self._api.list_repo_refs(self._repo, repo_type=KIND).tags}
        if tag not in commits:
            return ""
        commit = str(commits[tag])
        differing = [file for file in self._compare(self._files_at(commit)) if file.state != "unchanged"]
        if any(file.path != "README.md" for file in differing):
            raise HubError(
                f"The tag {tag} of {self._repo} already names another publication ({commit[:12]}), and a tag never "
                "moves. Nothing was sent. Tag the snapshot with another name and publish that."
            )
        return commit

    def tag(self, tag: str, revision: str, message: str) -> None:
        """Give the commit the name of the snapshot."""
        self._api.create_tag(self._repo, tag=tag, revision=revision, tag_message=message or None, repo_type=KIND)

    def _head_files(self) -> tuple[str, dict[str, tuple[str, str]]]:
        """Return the head commit of the repository and its files."""
        head = str(self._api.dataset_info(self._repo).sha or "")
        return head, self._files_at(head)

    def _files_at(self, commit: str) -> dict[str, tuple[str, str]]:
        """Map the path of each file of a commit to (kind of hash, hash)."""
        from huggingface_hub import RepoFile

        hashes: dict[str, tuple[str, str]] = {}
        for entry in self._api.list_repo_tree(self._repo, recursive=True, revision=commit or None, repo_type=KIND):
            if isinstance(entry, RepoFile):
                hashes[entry.path] = ("sha256", entry.lfs.sha256) if entry.lfs else ("git", entry.blob_id)
        return hashes

    def _compare(self, hashes: dict[str, tuple[str, str]]) -> list[Planned]:
        files: list[Planned] = []
        for path in _files(self._folder):
            name = path.relative_to(self._folder).as_posix()
            remote = hashes.get(name)
            same = remote is not None and remote[1] == _hash(path, remote[0])
            state = "unchanged" if same else "new" if remote is None else "changed"
            files.append(Planned(name, state, path.stat().st_size))
        ours = {file.path for file in files}
        gone = [name for name in hashes if name not in ours and (name.startswith("data/") or name == MANIFEST)]
        return files + [Planned(name, "gone", 0) for name in sorted(gone)]


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path, kind: str) -> str:
    """Return the hash that the Hub stores for a file: SHA-256 of its bytes, or git's blob id for a small file."""
    size = path.stat().st_size
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with contextlib.closing(path.open("rb")) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sizes(files: Sequence[Planned]) -> dict[str, tuple[int, int]]:
    """Return the number of files and bytes for each state."""
    totals: dict[str, Any] = {}
    for file in files:
        count, size = totals.get(file.state, (0, 0))
        totals[file.state] = (count + 1, size + file.bytes)
    return totals
