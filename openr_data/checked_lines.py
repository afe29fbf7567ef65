"""An append-only file of checksummed JSON lines, which survives a kill at any byte.

One line: the CRC-32 of the payload in 8 hex digits, a space, the payload as ASCII JSON, a newline. A torn last
line is cut off when the file is opened for writing; a line with a wrong checksum is skipped and counted.
"""

import errno
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import StoreError


class CheckedLines:
    """The file at `path`, created if missing. Raises `StoreError` if it cannot be written.

    `damaged` counts the lines with a wrong checksum, the torn tail included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        end = sum(len(line) for line in self._whole_lines())
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)

    def _whole_lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
                else:
                    self.damaged += 1

    def read(self) -> Iterator[Any]:
        """The payloads of all intact lines, in order."""
        for line in self._whole_lines():
            try:
                if int(line[:8], 16) != zlib.crc32(line[9:-1]):
                    raise ValueError("checksum")
                yield json.loads(line[9:-1])
            except ValueError:
                self.damaged += 1

    def append(self, payload: Any) -> None:
        """Write one line to the operating system: after this a dead process does not lose it."""
        data = json.dumps(payload, ensure_ascii=True, separators=(",", ":")).encode()
        rest = memoryview(b"%08x %s\n" % (zlib.crc32(data), data))
        start = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            # Half a line would swallow the next one.
            os.ftruncate(self._file, start)
            os.lseek(self._file, start, os.SEEK_SET)
            raise unwritable(self.path, error) from error

    def sync(self) -> None:
        """Flush to the disk itself: after this a power cut does not lose it."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Flush and close."""
        self.sync()
        os.close(self._file)


def write_whole(path: Path, text: str) -> None:
    """Replace a small text file atomically: a reader sees the old one or the new one, also after a power cut.

    Raises `OSError`; then the old file stays and no temporary file is left.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error for a file that cannot be written."""
    if error.errno == errno.ENOSPC:
        return StoreError(f"The disk is full: cannot write {path}. Free some space and run again.")
    return StoreError(f"Cannot write {path}: {error.strerror}.")
