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
        with told(repo, "the upload"):
            sender = _Sender(repo, layout, say)
            if dry_run:
                return Published(repo, str(number), tag, "", tuple(sender.plan()), sender.url)
            sender.make_repo(private)
            # Before anything is sent: a publication that cannot have its tag must not replace another one.
            if published := sender.tagged(tag):
                files = [replace(item, state="unchanged") for item in sender.plan() if item.state != "gone"]
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
            f"{repo!r} is no name on the Hub: write ORG/NAME, for example openr/math-aps ({reason})."
        ) from error


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
            return
        except RepositoryNotFoundError:
            self._say(f"making {self._repo}")
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

    def tagged(self, tag: str) -> str:
        """The commit that the tag names already, where that is this very publication; "" where there is no such tag.

        Raises `HubError` where the tag names something else.
        """
        known = {item.name: item.target_commit for item in self._api.list_repo_refs(self._repo, repo_type=KIND).tags}
        if tag not in known:
            return ""
        commit = str(known[tag])
        differing = [item for item in self._compare(self._files_at(commit)) if item.state != "unchanged"]
        if any(item.path != "README.md" for item in differing):
            raise HubError(
                f"The tag {tag} of {self._repo} is another publication already ({commit[:12]}), and a tag never moves. "
                "Nothing was sent. Tag the snapshot by another name and publish that."
            )
        return commit

    def tag(self, tag: str, revision: str, message: str) -> None:
        """Name the commit as the snapshot is named."""
        self._api.create_tag(self._repo, tag=tag, revision=revision, tag_message=message or None, repo_type=KIND)

    def _there(self) -> tuple[str, dict[str, tuple[str, str]]]:
        """The head of the repository, and its files."""
        head = str(self._api.dataset_info(self._repo).sha or "")
        return head, self._files_at(head)

    def _files_at(self, commit: str) -> dict[str, tuple[str, str]]:
        """Path to (kind of hash, hash) of the files of a commit."""
        from huggingface_hub import RepoFile

        found: dict[str, tuple[str, str]] = {}
        for item in self._api.list_repo_tree(self._repo, recursive=True, revision=commit or None, repo_type=KIND):
            if isinstance(item, RepoFile):
                found[item.path] = ("sha256", item.lfs.sha256) if item.lfs else ("git", item.blob_id)
        return found

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
