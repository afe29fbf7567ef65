"""Paths in object stores (`s3://BUCKET/FOLDER`), and the file system that DuckDB reads them through.

Commits are delta-rs's, by conditional put; our own bytes go through Arrow's file systems. Both take the usual
variables of the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and for an http
endpoint AWS_ALLOW_HTTP=true). Nothing needs to be installed.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa
from fsspec import AbstractFileSystem
from pyarrow import fs

SCHEMES: Final = ("s3://",)


@cache
def filesystem(bucket: str) -> Any:
    """Arrow's file system of a bucket. It is made from a URI, because only then it reads AWS_ENDPOINT_URL."""
    return fs.FileSystem.from_uri(f"s3://{bucket}?allow_delayed_open=true")[0]


@dataclass(frozen=True, slots=True, order=True)
class RemotePath:
    """A path in an object store, with the methods of `pathlib.Path` that the store needs."""

    key: str
    """BUCKET/FOLDER/NAME, without a slash at either end."""

    @classmethod
    def parse(cls, uri: str) -> "RemotePath":
        """The path of a URI."""
        return cls(uri.partition("://")[2].strip("/"))

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"s3://{self.key}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """The path without its last part."""
        return RemotePath(self.key.rpartition("/")[0])

    @property
    def files(self) -> Any:
        """The file system of the bucket."""
        return filesystem(self.key.partition("/")[0])

    def _info(self) -> Any:
        return self.files.get_file_info(self.key)

    def exists(self) -> bool:
        """Whether there is an object of that name, or one below it."""
        return bool(self._info().type != fs.FileType.NotFound)

    def is_file(self) -> bool:
        """Whether it is an object."""
        return bool(self._info().type == fs.FileType.File)

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return bool(self._info().type == fs.FileType.Directory)

    def size(self) -> int:
        """Bytes of the object. Raises `FileNotFoundError`."""
        info = self._info()
        if info.type != fs.FileType.File:
            raise FileNotFoundError(str(self))
        return int(info.size)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: an object store has no folders."""

    def iterdir(self, recursive: bool = False) -> Iterator["RemotePath"]:
        """The paths below this one."""
        selector = fs.FileSelector(self.key, recursive=recursive, allow_not_found=True)
        for info in self.files.get_file_info(selector):
            yield RemotePath(info.path)

    def open_input(self) -> Any:
        """The object, opened for random access."""
        return self.files.open_input_file(self.key)

    def read_text(self) -> str:
        """Read the whole object. Raises `FileNotFoundError`."""
        with self.open_input() as file:
            return bytes(file.read()).decode()

    def write_bytes(self, data: Any) -> None:
        """Write the whole object, or nothing."""
        # None: otherwise Arrow compresses by the suffix of the name.
        with self.files.open_output_stream(self.key, compression=None) as file:
            file.write(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object. Raises `FileNotFoundError`."""
        try:
            self.files.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise


Place: TypeAlias = Path | RemotePath


def is_remote(text: str) -> bool:
    """Whether a text is the URI of an object store."""
    return text.startswith(SCHEMES)


def place(path: str | Path | RemotePath) -> Place:
    """A path on this machine, or in an object store for a URI."""
    if isinstance(path, RemotePath):
        return path
    return RemotePath.parse(str(path)) if is_remote(str(path)) else Path(path).expanduser()


class _File:
    """One handle that several threads of DuckDB seek and read concurrently: each thread has its own position."""

    def __init__(self, source: Any, size: int) -> None:
        self._source, self._size, self._at = source, size, threading.local()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at.value = (0, self.tell(), self._size)[whence] + offset
        return int(self._at.value)

    def tell(self) -> int:
        return int(getattr(self._at, "value", 0))

    def read(self, size: int = -1) -> bytes:
        start = self.tell()
        left = max(0, self._size - start)
        data = self._source.read_at(left if size < 0 else min(size, left), start)
        self._at.value = start + len(data)
        return bytes(data)

    def close(self) -> None:
        self._source.close()


class SnapshotFiles(AbstractFileSystem):  # type: ignore[misc]
    """A read-only file system of given files in an object store, which never change. For `register_filesystem`."""

    protocol = "s3"
    cachable = False

    def __init__(self, uris: Sequence[str]) -> None:
        super().__init__()
        self._infos: dict[str, dict[str, Any]] = {}
        buckets: dict[str, list[str]] = {}
        for uri in uris:
            key = RemotePath.parse(uri).key
            buckets.setdefault(key.partition("/")[0], []).append(key)
        for bucket, keys in buckets.items():
            for info in filesystem(bucket).get_file_info(keys):
                if info.type == fs.FileType.File:
                    self._infos[info.path] = {"name": info.path, "size": info.size, "type": "file", "mtime": info.mtime}

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Size and time of a file. Raises `FileNotFoundError`."""
        try:
            return self._infos[self._strip_protocol(path)]
        except KeyError:
            raise FileNotFoundError(path) from None

    def exists(self, path: str, **options: Any) -> bool:
        """Whether it is one of the files."""
        return self._strip_protocol(path) in self._infos

    def glob(self, path: str, **options: Any) -> list[str]:
        """The file itself: patterns are not supported."""
        key = self._strip_protocol(path)
        return [key] if key in self._infos else []

    def modified(self, path: str) -> Any:
        """When it was written."""
        return self.info(path)["mtime"]

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file for reading. Raises `PermissionError` for any other mode."""
        if mode != "rb":
            raise PermissionError(f"{path} is read-only here.")
        info = self.info(path)
        return _File(RemotePath(info["name"]).open_input(), info["size"])


def parquet_bytes(rows: pa.Table, **options: Any) -> Any:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()
