"""Grades on disk, so that no process repeats a slow comparison of another one.

One SQLite file in the user's cache folder (`OPENR_CACHE`, else `XDG_CACHE_HOME/openr-data`, else
`~/.cache/openr-data`), keyed by answer, gold answer and the version of the grader and its libraries. It only saves
time: if it cannot be opened or written, grading continues without it. Time-outs are not stored, since another machine
may be faster.
"""

import hashlib
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from ..types import Verdict


class GradeCache:
    """Remembered grades of one version. Safe to use from several threads and processes."""

    def __init__(self, path: Path | None, version: str) -> None:
        self._path, self._version = path, version
        self._lock = threading.Lock()
        self._process = 0
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection | None:
        """The connection of this process: one inherited by a fork must not be used."""
        if self._process == os.getpid() or self._path is None:
            return self._connection
        self._process, self._connection = os.getpid(), None
        with suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=2, isolation_level=None, check_same_thread=False)
            with suppress(sqlite3.OperationalError):
                # Another process may be doing the same at this moment; the setting is permanent.
                connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = off")
            connection.execute(
                "create table if not exists grades (key blob primary key, verdict text not null, reason text not null)"
                " without rowid"
            )
            self._connection = connection
        return self._connection

    @classmethod
    def default(cls, version: str) -> Self:
        """The cache of this user; with `OPENR_CACHE=off`, none."""
        chosen = os.environ.get("OPENR_CACHE", "")
        if chosen == "off":
            return cls(None, version)
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        try:
            folder = Path(chosen or f"{base}/openr-data").expanduser()
        except RuntimeError:
            # A user without a home.
            return cls(None, version)
        return cls(folder / "grades.sqlite", version)

    def get(self, answer: str, gold: str) -> tuple[Verdict, str] | None:
        """The remembered verdict and reason, or None."""
        with self._lock:
            connection = self._open()
            if connection is None:
                return None
            with suppress(sqlite3.Error, ValueError):
                row = connection.execute(
                    "select verdict, reason from grades where key = ?", [self._key(answer, gold)]
                ).fetchone()
                return (Verdict(row[0]), str(row[1])) if row else None
        return None

    def put(self, answer: str, gold: str, verdict: Verdict, reason: str) -> None:
        """Remember a verdict."""
        with self._lock:
            connection = self._open()
            if connection is None:
                return
            with suppress(sqlite3.Error):
                connection.execute(
                    "insert or replace into grades values (?, ?, ?)", [self._key(answer, gold), verdict.value, reason]
                )

    def _key(self, answer: str, gold: str) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        for part in (self._version, answer, gold):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.digest()
