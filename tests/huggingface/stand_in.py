"""A stand-in for the Hugging Face Hub: the HTTP API that `huggingface_hub` speaks for datasets, in memory, with faults.

It offers no Xet, and the client does not ask before an upload: with `hf_xet` installed it needs HF_HUB_DISABLE_XET=1
(`StandInHub.environment` sets it for a new process) or `huggingface_hub.constants.HF_HUB_DISABLE_XET = True` in this one.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlencode

# The file types that the .gitattributes of a new dataset sends to LFS, as far as the tests use them.
LFS_SUFFIXES = tuple(".7z .arrow .bin .bz2 .gz .h5 .npy .npz .parquet .pkl .pt .safetensors .tar .xz .zip .zst".split())
LFS_ABOVE = 10 * 2**20
BAD_TOKEN = "Invalid credentials in Authorization header"
Access = Literal["open", "read", "write", "signed"]
Cut = Literal["request", "response"]
When = Callable[[str, str], bool]


class Request(NamedTuple):
    """A received request: `path` without its query, `body` as far as it was read."""

    method: str
    path: str
    body: bytes

    @property
    def files(self) -> list[str]:
        """Return the paths that a commit adds or deletes."""
        return [json.loads(line)["value"]["path"] for line in self.body.splitlines()[1:]]


@dataclass(frozen=True)
class File:
    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def stored(self) -> bytes:
        """Return what git itself stores: the bytes, or the pointer to the LFS object."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return pointer.encode() if self.lfs else self.data

    @cached_property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.stored) + self.stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id

    def lfs_info(self, name: str) -> dict[str, Any]:
        size = len(self.data)
        return {"lfs": {name: self.sha256, "size": size, "pointerSize": len(self.stored)}} if self.lfs else {}


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    date: str
    files: Mapping[str, File]


@dataclass
class Repo:
    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def grow(self, branch: str, files: Mapping[str, File], title: str, message: str = "") -> Commit:
        parent, date = self.branches.get(branch), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        names = [(path, file.blob_id) for path, file in sorted(files.items())]
        seed = json.dumps([self.name, len(self.commits), parent, title, message, names])
        key = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[key] = Commit(key, parent, title, message, date, MappingProxyType(dict(files)))
        self.branches[branch] = key
        return self.commits[key]

    def resolve(self, revision: str) -> Commit:
        if (target := self.branches.get(revision) or self.tags.get(revision)) is not None:
            return self.commits[target]
        matches = [commit for key, commit in self.commits.items() if len(revision) >= 7 and key.startswith(revision)]
        if len(matches) != 1:
            raise Refusal(404, f"Invalid rev id: {revision}", {"X-Error-Code": "RevisionNotFound"})
        return matches[0]

    def history(self, commit: Commit | None) -> Iterator[Commit]:
        while commit is not None:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An error of the Hub; its X-Error-Code header determines which exception the client raises."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}

    def reply(self, path: str) -> Reply:
        said = self.message.encode("ascii", "replace").decode()
        headers = {"Content-Type": "application/json", "X-Error-Message": said, **self.headers}
        # From an https Hub the client reads such a 401 as "no such repo"; over http it needs the header.
        if self.status == 401 and self.message != BAD_TOKEN and re.match(r"/api/datasets/.|.+/resolve/", path):
            headers.setdefault("X-Error-Code", "RepoNotFound")
        return Reply(self.status, json.dumps({"error": self.message}).encode(), headers)


def anything(method: str, path: str) -> bool:
    return True


@dataclass
class Fault:
    """A fault that hits the next `left` requests that `when` accepts; `left` counts down to 0."""

    left: int
    when: When
    refusal: Refusal | None
    carried_out: bool
    cut: Cut | None = None
    reset: bool = False


@dataclass
class Call:
    """A request being handled: `names` are the parts of its path that the route names."""

    method: str
    path: str
    query: dict[str, str]
    headers: Message
    body: bytes
    names: dict[str, str] = field(default_factory=dict)
    repo: Repo = field(default_factory=lambda: Repo("", private=False))

    @cached_property
    def commit(self) -> Commit:
        return self.repo.resolve(self.names.get("rev", "main"))

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


Route = Callable[[Any, Call], Any]
ROUTES: list[tuple[str, re.Pattern[str], Access, Route]] = []


def route(methods: str, path: str, access: Access) -> Callable[[Route], Route]:
    pattern = re.compile(path.replace("{repo}", r"(?P<repo>[^/]+/[^/]+)").replace("{rev}", "(?P<rev>[^/]+)"))

    def register(function: Route) -> Route:
        ROUTES.extend((method, pattern, access, function) for method in methods.split())
        return function

    return register


class StandInHub:
    """The server and all its state: `with StandInHub() as hub: HfApi(endpoint=hub.url)`.

    With a `token`, writes and private repos demand it, and another token is refused everywhere, as by the Hub. Files of
    more than `part_size` bytes are asked for in parts; listings are cut into pages of `page_size`.
    """

    def __init__(
        self, *, token: str | None = None, user: str = "tester", part_size: int = 5 * 10**9, page_size: int = 1000
    ) -> None:
        self.token, self.user, self.part_size, self.page_size = token, user, part_size, page_size
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.crashes: list[Exception] = []
        self.lock, self.key = threading.RLock(), secrets.token_hex(8)
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self.crashes and error is None:
            raise ExceptionGroup("the stand-in itself failed", self.crashes)

    def fail(
        self,
        *,
        next: int = 1,
        status: int = 503,
        when: When = anything,
        message: str = "a fault of the stand-in",
        headers: Mapping[str, str] | None = None,
        carried_out: bool = False,
    ) -> Fault:
        """Answer the next requests with an error; `carried_out` does the work first, like a gateway that times out."""
        self.faults.append(Fault(next, when, Refusal(status, message, headers), carried_out))
        return self.faults[-1]

    def drop(self, *, next: int = 1, when: When = anything, during: Cut = "request", reset: bool = False) -> Fault:
        """Close the connection with half of the body read (nothing is done), or half of the reply sent (all is done).

        The client reads an end of file (`RemoteProtocolError`), or with `reset` an ECONNRESET (`ReadError`).
        """
        self.faults.append(Fault(next, when, None, during == "response", during, reset))
        return self.faults[-1]

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            fault = next((fault for fault in self.faults if fault.left > 0 and fault.when(method, path)), None)
            if fault is not None:
                fault.left -= 1
            return fault

    def asked(self, method: str, path: str) -> list[Request]:
        """Return the requests so far with this method whose path matches the regular expression `path`."""
        return [
            request for request in list(self.requests) if request.method == method and re.search(path, request.path)
        ]

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Return the files of a revision, bypassing the API."""
        with self.lock:
            return {path: file.data for path, file in self.repos[repo].resolve(revision).files.items()}

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment in which a new process uses this server as the Hub and `home` for its caches."""
        settings = {"ENDPOINT": self.url, "HOME": str(home), "HUB_CACHE": f"{home}/hub", "UPDATE_DOWNLOAD_COUNTS": "0"}
        settings |= {f"HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY", "PROGRESS_BARS", "UPDATE_CHECK")}
        settings |= {"DATASETS_CACHE": f"{home}/datasets"} | ({"TOKEN": self.token} if self.token else {})
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return ours | {f"HF_{name}": value for name, value in settings.items()}

    def answer(self, call: Call) -> Reply:
        try:
            for method, pattern, access, function in ROUTES:
                if call.method == method and (match := pattern.fullmatch(call.path)):
                    call.names = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                    with self.lock:
                        self._admit(call, access)
                        reply = function(self, call)
                    if isinstance(reply, Reply):
                        return reply
                    return Reply(200, json.dumps(reply).encode(), {"Content-Type": "application/json"})
            raise Refusal(404, f"The stand-in does not know {call.method} {call.path}")
        except Refusal as refusal:
            return refusal.reply(call.path)
        except Exception as crash:
            self.crashes.append(crash)
            return Refusal(500, f"{type(crash).__name__} in the stand-in").reply(call.path)

    def _admit(self, call: Call, access: Access) -> None:
        repo, sent = self.repos.get(call.names.get("repo", "")), call.headers.get("Authorization")
        hidden = "repo" in call.names and (repo is None or repo.private)
        if access == "signed" and call.query.get("key") != self.key:
            raise Refusal(403, "Signature does not match")
        if access != "signed" and self.token and sent not in (None, f"Bearer {self.token}"):
            raise Refusal(401, BAD_TOKEN)
        if access != "signed" and self.token and sent is None and (hidden or access == "write"):
            raise Refusal(401, "Invalid username or password.")
        if "repo" in call.names and repo is None:
            raise Refusal(404, "Repository not found", {"X-Error-Code": "RepoNotFound"})
        call.repo = repo or call.repo

    def _page(self, call: Call, items: list[dict[str, Any]]) -> Reply:
        start = int(call.query.get("cursor", 0))
        stop = start + self.page_size
        more = f'<{self.url}{call.path}?{urlencode({**call.query, "cursor": stop})}>; rel="next"'
        headers = {"Content-Type": "application/json"} | ({"Link": more} if stop < len(items) else {})
        return Reply(200, json.dumps(items[start:stop]).encode(), headers)

    @route("GET", "/api/agent-harnesses", "open")
    @route("POST", "/api/validate-yaml", "open")
    @route("GET", "/api/datasets/{repo}/auth-check", "read")
    def _nothing_to_say(self, call: Call) -> Any:
        return {}

    @route("GET", "/api/whoami-v2", "open")
    def _whoami(self, call: Call) -> Any:
        if "Authorization" not in call.headers:
            raise Refusal(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "id": "1", "name": self.user, "fullname": self.user, "orgs": [], "auth": auth}

    @route("POST DELETE", "/api/repos/(?:create|delete)", "write")
    def _create_or_delete_repo(self, call: Call) -> Any:
        if call.json.get("type") != "dataset":
            raise Refusal(400, "The stand-in keeps datasets only")
        name = f"{call.json.get('organization') or self.user}/{call.json['name']}"
        made = {"url": f"{self.url}/datasets/{name}", "name": name}
        if call.method == "DELETE" and self.repos.pop(name, None) is None:
            raise Refusal(404, "Repository not found", {"X-Error-Code": "RepoNotFound"})
        if call.method == "POST" and name in self.repos:
            return Reply(409, json.dumps({"error": "You already created this dataset repo", **made}).encode())
        if call.method == "POST":
            self.repos[name] = Repo(name, private=call.json.get("visibility") == "private")
            attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
            self.repos[name].grow("main", {".gitattributes": File(attributes.encode())}, "initial commit")
        return made

    @route("GET", "/api/datasets/{repo}(?:/revision/{rev})?", "read")
    def _info(self, call: Call) -> Any:
        siblings: list[dict[str, Any]] = []
        for path, file in sorted(call.commit.files.items()):
            siblings.append({"rfilename": path})
            if call.query.get("blobs") == "true":
                siblings[-1] |= {"size": len(file.data), "blobId": file.blob_id, **file.lfs_info("sha256")}
        about: dict[str, Any] = {"id": call.repo.name, "author": call.repo.name.split("/")[0], "sha": call.commit.id}
        about |= {"createdAt": [*call.repo.history(call.commit)][-1].date, "lastModified": call.commit.date}
        about |= {"gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        return about | {"private": call.repo.private, "siblings": siblings}

    def _describe(self, call: Call, path: str) -> list[dict[str, Any]]:
        """Describe a file or a folder as listings do; the list is empty if there is neither."""
        if (file := call.commit.files.get(path)) is not None:
            size = len(file.data)
            return [{"type": "file", "path": path, "oid": file.blob_id, "size": size, **file.lfs_info("oid")}]
        inside = [(name, file.blob_id) for name, file in call.commit.files.items() if name.startswith(f"{path}/")]
        tree_id = hashlib.sha1(json.dumps(sorted(inside)).encode()).hexdigest()
        return [{"type": "directory", "path": path, "oid": tree_id, "size": 0}] if inside else []

    @route("GET", "/api/datasets/{repo}/tree/{rev}(?:/(?P<path>.+))?", "read")
    def _tree(self, call: Call) -> Any:
        folder = call.names.get("path", "").strip("/")
        start = len(folder.split("/")) if folder else 0
        paths: set[str] = set()
        for path in call.commit.files:
            if not folder or path.startswith(f"{folder}/"):
                parts = path.split("/")
                stop = len(parts) if call.query.get("recursive") == "true" else start + 1
                paths |= {"/".join(parts[:level]) for level in range(start + 1, stop + 1)}
        if folder and not paths:
            raise Refusal(404, f"{folder} does not exist", {"X-Error-Code": "EntryNotFound"})
        return self._page(call, [entry for path in sorted(paths) for entry in self._describe(call, path)])

    @route("POST", "/api/datasets/{repo}/paths-info/{rev}", "read")
    def _paths_info(self, call: Call) -> Any:
        paths = [value.strip("/") for name, value in parse_qsl(call.body.decode()) if name == "paths"]
        return [entry for path in paths for entry in self._describe(call, path)]

    @route("GET", "/api/datasets/{repo}/commits/{rev}", "read")
    def _commits(self, call: Call) -> Any:
        by, history = [{"user": self.user}], call.repo.history(call.commit)
        shown = [{"id": c.id, "title": c.title, "message": c.message, "date": c.date, "authors": by} for c in history]
        return self._page(call, shown)

    @route("GET", "/api/datasets/{repo}/refs", "read")
    def _refs(self, call: Call) -> Any:
        def listed(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": target} for name, target in refs.items()
            ]

        branches, tags = listed("heads", call.repo.branches), listed("tags", call.repo.tags)
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    @route("POST", "/api/datasets/{repo}/branch/(?P<branch>[^/]+)", "write")
    @route("POST", "/api/datasets/{repo}/tag/{rev}", "write")
    def _create_ref(self, call: Call) -> Any:
        branch = call.names.get("branch")
        refs, name = (call.repo.branches, branch) if branch else (call.repo.tags, call.json["tag"])
        target = call.repo.resolve(call.json.get("startingPoint", "main")) if branch else call.commit
        if name in refs:
            raise Refusal(409, f"Reference already exists: {name}")
        refs[name] = target.id
        return {}

    @route("DELETE", "/api/datasets/{repo}/(?P<kind>branch|tag)/(?P<ref>[^/]+)", "write")
    def _delete_ref(self, call: Call) -> Any:
        refs = call.repo.tags if call.names["kind"] == "tag" else call.repo.branches
        if refs is call.repo.branches and call.names["ref"] == "main":
            raise Refusal(403, "The main branch cannot be deleted")
        if refs.pop(call.names["ref"], None) is None:
            raise Refusal(404, f"No such {call.names['kind']}", {"X-Error-Code": "RevisionNotFound"})
        return {}

    @route("POST", "/api/datasets/{repo}/preupload/{rev}", "write")
    def _preupload(self, call: Call) -> Any:
        files = []
        for asked in call.json["files"]:
            binary = b"\0" in base64.b64decode(asked["sample"])
            mode = "lfs" if asked["path"].endswith(LFS_SUFFIXES) or asked["size"] > LFS_ABOVE or binary else "regular"
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False})
            if (there := call.commit.files.get(asked["path"])) is not None:
                files[-1]["oid"] = there.etag
        return {"files": files}

    @route("POST", r"/datasets/{repo}\.git/info/lfs/objects/batch", "write")
    def _lfs_batch(self, call: Call) -> Any:
        objects: list[dict[str, Any]] = []
        for asked in call.json["objects"]:
            objects.append({"oid": asked["oid"], "size": asked["size"]})
            if asked["oid"] in call.repo.lfs:
                continue
            place, key = f"{self.url}/lfs/{call.repo.name}/{asked['oid']}", f"?key={self.key}"
            upload: dict[str, Any] = {"href": place + key}
            if asked["size"] > self.part_size:
                parts = range(1, -(-asked["size"] // self.part_size) + 1)
                upload["header"] = {str(part): f"{place}/{part}{key}" for part in parts}
                upload["header"]["chunk_size"] = str(self.part_size)
            verify = f"{self.url}/datasets/{call.repo.name}.git/info/lfs/objects/verify"
            objects[-1]["actions"] = {"upload": upload, "verify": {"href": verify}}
        return {"objects": objects}

    @route("PUT POST", "/lfs/{repo}/(?P<oid>[0-9a-f]{64})(?:/(?P<part>[0-9]+))?", "signed")
    def _lfs_store(self, call: Call) -> Any:
        oid, data, parts = call.names["oid"], call.body, call.repo.parts
        if "part" in call.names:
            parts[oid, int(call.names["part"])] = data
            return Reply(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})
        if call.method == "POST":
            data = b"".join(parts.pop((oid, part["partNumber"]), b"") for part in call.json["parts"])
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, f"{len(data)} bytes that are not {oid}")
        call.repo.lfs[oid] = data
        return {}

    @route("POST", r"/datasets/{repo}\.git/info/lfs/objects/verify", "write")
    def _lfs_verify(self, call: Call) -> Any:
        if len(call.repo.lfs.get(call.json["oid"], b"")) != call.json["size"]:
            raise Refusal(404, f"Object {call.json['oid']} is not there in full")
        return {}

    @route("POST", "/api/datasets/{repo}/commit/{rev}", "write")
    def _commit(self, call: Call) -> Any:
        header, *changes = [json.loads(line) for line in call.body.splitlines()]
        branch, about, files = call.names["rev"], header["value"], dict(call.commit.files)
        if branch not in call.repo.branches:
            raise Refusal(400, f"Not a branch: {branch}")
        if not call.commit.id.startswith(about.get("parentCommit", "").lower()):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        for change in changes:
            path = change["value"]["path"]
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            match change["key"]:
                case "file":
                    files[path] = File(base64.b64decode(change["value"]["content"]))
                case "lfsFile" if (data := call.repo.lfs.get(change["value"]["oid"])) is not None:
                    files[path] = File(data, lfs=True)
                case "deletedFile" if path in files:
                    del files[path]
                case "deletedFolder" if inside:
                    files = {name: file for name, file in files.items() if name not in inside}
                case "deletedFile" | "deletedFolder":
                    raise Refusal(404, "A file with this name doesn't exist", {"X-Error-Code": "EntryNotFound"})
                case key:
                    raise Refusal(400, f"{key} {path}: its content was never uploaded")
        made = call.repo.grow(branch, files, about["summary"], about["description"])
        url = f"{self.url}/datasets/{call.repo.name}/commit/{made.id}"
        return {"success": True, "commitOid": made.id, "commitUrl": url, "hookOutput": ""}

    @route("HEAD GET", "/datasets/{repo}/resolve/{rev}/(?P<path>.+)", "read")
    def _resolve(self, call: Call) -> Any:
        headers = {
            "X-Repo-Commit": call.commit.id,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if (file := call.commit.files.get(call.names["path"])) is None:
            raise Refusal(404, "Entry not found", {"X-Error-Code": "EntryNotFound", **headers})
        headers["ETag"], size = f'"{file.etag}"', len(file.data)
        if file.lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("Range", ""))
        if wanted is None or call.method == "HEAD":
            return Reply(200, file.data, headers)
        first, last = wanted.groups()
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            raise Refusal(416, "Range not satisfiable", {"Content-Range": f"bytes */{size}"})
        return Reply(206, file.data[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 64

    def __init__(self, hub: StandInHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; any other error is a mistake in this file or in a `when`."""
        if isinstance(error := sys.exception(), Exception) and not isinstance(error, OSError):
            self.hub.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    """Handles one request per connection, so that no later test meets a socket that was closed."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing; the hub records the requests."""

    def serve(self) -> None:
        self.close_connection = True
        hub, (path, _, query) = self.server.hub, self.path.partition("?")
        fault = hub.fault_for(self.command, path)
        cut, size = fault.cut if fault else None, int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size // 2 if cut == "request" else size)
        hub.requests.append(Request(self.command, path, body))
        if fault and fault.reset:
            # With a zero linger, closing a socket sends a RST instead of a FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if cut == "request" or len(body) < size:
            return self.hang_up()
        reply = Reply()
        if fault is None or fault.carried_out:
            reply = hub.answer(Call(self.command, path, dict(parse_qsl(query)), self.headers, body))
        if fault and fault.refusal:
            reply = fault.refusal.reply(path)
        content = b"" if self.command == "HEAD" else reply.body
        if cut and not content:
            return self.hang_up()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        return self.hang_up() if cut else None

    def hang_up(self) -> None:
        """Close the socket before the server does, because the server would send a FIN first."""
        self.connection.close()


for _method in "GET HEAD POST PUT DELETE".split():
    setattr(_Handler, f"do_{_method}", _Handler.serve)
