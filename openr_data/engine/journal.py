"""The append-only record of a job's replies: it makes a job resumable, and asks nothing twice.

    file    := segment*            a segment is one deflate stream, at most 256 KiB before compression
    segment := record+             its first record has flag 1
    record  := header payload      payload: the next piece of the stream, flushed to a byte
    header  := magic, crc32 of all that follows, length, flags, question, key, stem, what it cost
    flags   := 1 (first of its segment), 2 (scores of a reward model; without it a record holds a policy's completions)

A reply goes to the operating system before it is used, so `kill -9` loses at most the replies in flight; an fsync a
second bounds what a power cut can take. A record that does not check is asked again, never believed, and so is what
follows it in its segment. Headers alone hold what was paid and by whom, so opening decompresses nothing. Memory
holds the places of what unfinished questions have asked, not the replies. Keys: `request_keys.py`, payloads:
`replies.py`.
"""

import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..checked_lines import unwritable
from ..errors import StoreError
from ..types import Completion, Usage
from .replies import completions_of, completions_payload, scores_of, scores_payload, usage_of

FSYNC_EVERY: Final = 1.0
"""Seconds between two fsyncs of the journal."""
SEGMENT: Final = 1 << 18
"""Bytes before compression after which a new segment begins: a look at an old reply decodes at most that."""
KEPT: Final = 64
"""Decoded segments in memory."""

_MAGIC: Final = b"\xf5oj2"
_HEADER: Final = struct.Struct("<4sIIB8s16s16sIiIIIIII")
_FIRST: Final = 1
_SCORES: Final = 2
_UNKNOWN: Final = -1

Place = tuple[int, int]
"""The place of a reply: the offset of its segment, and the number of its record in there."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The header of one record: the question that asked, the request, and what was paid.

    `place` is None if the payload cannot be read. `is_scores`: a reward model's record, not a policy's.
    """

    place: Place | None
    question: bytes
    key: bytes
    stem: bytes
    usage: Usage
    is_scores: bool = False


class Journal:
    """The file at `path`, created when missing.

    `read_only` is for `entries` and `at` alone, also while another process writes. Replies of `finished` questions
    (`question_key`) are counted and otherwise skipped. `paid` is all that was ever paid for, `damaged` the number of
    records that do not check. Raises `StoreError` when the file cannot be read or written.
    """

    def __init__(self, path: Path, finished: Collection[bytes] = (), *, read_only: bool = False) -> None:
        self.path = path
        self.paid = Usage()
        self.damaged = 0
        self._places: dict[bytes, Place] = {}
        self._keys_of: dict[bytes, list[bytes]] = {}
        self._decoded: OrderedDict[int, list[bytes]] = OrderedDict()
        self._failure: OSError | None = None
        self._dirty, self._closed = False, threading.Event()
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT, 0o644)
            self._end = 0
            if not read_only:
                for entry in self.entries():
                    self.paid.add(entry.usage)
                    if entry.place and entry.question not in finished:
                        self._remember(entry.key, entry.place, entry.question)
                os.ftruncate(self._file, self._end)
                os.lseek(self._file, self._end, os.SEEK_SET)
            # Held open, so that a removed file can still be read; without a buffer, because the file may grow.
            self._reader = path.open("rb", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        # A stream cannot go on where a dead process left it.
        self._begin()
        if read_only:
            self._open_start = -1
        self._syncing: threading.Thread | None = None
        if not read_only:
            self._syncing = threading.Thread(target=self._sync_often, name="journal", daemon=True)
            self._syncing.start()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> tuple[Completion, ...] | None:
        """The policy's reply to an earlier request with this key, or None."""
        place = self._places.get(key)
        return None if place is None else self.at(place)[1]

    def at(self, place: Place) -> tuple[int, tuple[Completion, ...]]:
        """The seed and the reply of the record at a place. Raises `StoreError` where the file has changed."""
        return completions_of(self._payload(place))

    def put(self, key: bytes, stem: bytes, question: bytes, seed: int, reply: Sequence[Completion]) -> Usage:
        """Remember a reply of the policy: after this call a crash of the process does not lose it. Returns its cost."""
        usage = usage_of(reply)
        self._append(completions_payload(seed, reply), 0, question, key, stem, usage)
        return usage

    def get_scores(self, key: bytes) -> tuple[tuple[float, ...], Usage] | None:
        """The scores of an earlier request with this key and their cost, or None."""
        place = self._places.get(key)
        return None if place is None else scores_of(self._payload(place))

    def put_scores(self, key: bytes, stem: bytes, question: bytes, scores: Sequence[float], usage: Usage) -> None:
        """Remember scores and their cost: after this call a crash of the process does not lose them.

        `stem` is the key of the question without steps.
        """
        self._append(scores_payload(scores, usage), _SCORES, question, key, stem, usage)

    def _append(self, payload: bytes, flags: int, question: bytes, key: bytes, stem: bytes, usage: Usage) -> None:
        if self._failure is not None:
            raise unwritable(self.path, self._failure)
        if self._written > SEGMENT:
            self._begin()
        piece = self._stream.compress(payload) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        flags |= 0 if self._open_pieces else _FIRST
        self._write(_pack(piece, flags, question, key, stem, usage))
        self._remember(key, (self._open_start, len(self._open_pieces)), question)
        self._open_pieces.append(payload)
        self._written += len(payload)
        self.paid.add(usage)

    def forget(self, question: bytes) -> None:
        """Drop the places of a finished question: it asks nothing any more."""
        for key in self._keys_of.pop(question, ()):
            self._places.pop(key, None)

    def close(self) -> None:
        """Flush and close; a closed journal is not used again."""
        if self._syncing is not None:
            self._closed.set()
            self._syncing.join()
            self._sync()
        self._reader.close()
        os.close(self._file)
        if self._failure is not None:
            raise unwritable(self.path, self._failure)

    def _begin(self) -> None:
        self._stream = zlib.compressobj(3, zlib.DEFLATED, -15)
        self._open_start, self._open_pieces = self._end, list[bytes]()
        self._written = 0

    def _remember(self, key: bytes, place: Place, question: bytes) -> None:
        self._places[key] = place
        self._keys_of.setdefault(question, []).append(key)

    def _write(self, record: bytes) -> None:
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            # Half a record would swallow the next one, and the stream has gone on without it.
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            self._begin()
            raise unwritable(self.path, error) from error
        self._end += len(record)
        self._dirty = True

    def entries(self) -> Iterator[JournalEntry]:
        """The headers of all records that check, in order; counts those that do not in `damaged`."""
        self.damaged = 0
        segment, index, broken = 0, 0, True
        with self.path.open("rb") as file:
            offset = 0
            while header := file.read(_HEADER.size):
                record = _checked(header, file)
                if record is None:
                    next_offset = _next_record(file, offset + 1)
                    self.damaged += 1
                    broken = True
                    if next_offset is None:
                        return
                    offset = next_offset
                    file.seek(offset)
                    continue
                fields, length = record
                flags, question, key, stem = fields[3:7]
                if flags & _FIRST:
                    segment, index, broken = offset, 0, False
                offset += _HEADER.size + length
                self._end = max(self._end, offset)
                # A record whose stream has lost a piece cannot be read, but it was paid for.
                self.damaged += broken
                place = None if broken else (segment, index)
                yield JournalEntry(place, question, key, stem, _usage(fields), bool(flags & _SCORES))
                index += 1

    def _payload(self, place: Place) -> bytes:
        start, index = place
        pieces = self._open_pieces if start == self._open_start else self._decode(start, index)
        return pieces[index]

    def _decode(self, start: int, index: int) -> list[bytes]:
        pieces = self._decoded.get(start, [])
        if index >= len(pieces):
            pieces = []
            stream = zlib.decompressobj(-15)
            self._reader.seek(start)
            while record := self._reader.read(_HEADER.size):
                fields = _HEADER.unpack(record) if len(record) == _HEADER.size else (b"",)
                if fields[0] != _MAGIC or (pieces and fields[3] & _FIRST):
                    break
                piece = self._reader.read(fields[2])
                # A record that is still being written counts as missing; a damaged one is never believed.
                if len(piece) < fields[2] or zlib.crc32(piece, zlib.crc32(record[8:])) != fields[1]:
                    break
                pieces.append(stream.decompress(piece))
            if index >= len(pieces):
                raise StoreError(f"{self.path} was changed while it was read. Run the same command again.")
            self._decoded[start] = pieces
        self._decoded.move_to_end(start)
        while len(self._decoded) > KEPT:
            self._decoded.popitem(last=False)
        return pieces

    def _sync_often(self) -> None:
        # In a thread of its own: a slow disk must not hold up what the policy answers.
        while not self._closed.wait(FSYNC_EVERY):
            self._sync()

    def _sync(self) -> None:
        if self._dirty and self._failure is None:
            self._dirty = False
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = error


def _pack(piece: bytes, flags: int, question: bytes, key: bytes, stem: bytes, usage: Usage) -> bytes:
    cached = _UNKNOWN if usage.cached_tokens is None else usage.cached_tokens
    counts = (usage.prompt_tokens, cached, usage.completion_tokens, usage.cut_tokens)
    numbers = (usage.requests, usage.completions, usage.truncated, usage.reused)
    if flags & _SCORES:
        counts = (usage.reward_tokens, _UNKNOWN, usage.reward_tokens_read, 0)
        numbers = (usage.reward_calls, 0, 0, 0)
    header = _HEADER.pack(_MAGIC, 0, len(piece), flags, question, key, stem, *counts, *numbers)
    return _MAGIC + zlib.crc32(piece, zlib.crc32(header[8:])).to_bytes(4, "little") + header[8:] + piece


def _checked(header: bytes, file: BinaryIO) -> tuple[tuple[Any, ...], int] | None:
    """The fields of the record that begins with `header`, read to its end, or None where it does not check."""
    if len(header) < _HEADER.size:
        return None
    fields = _HEADER.unpack(header)
    if fields[0] != _MAGIC or fields[2] > 1 << 30:
        return None
    piece = file.read(fields[2])
    if len(piece) < fields[2] or zlib.crc32(piece, zlib.crc32(header[8:])) != fields[1]:
        return None
    return fields, fields[2]


def _next_record(file: BinaryIO, offset: int) -> int | None:
    """The offset of the next record that checks, at or after `offset`."""
    file.seek(offset)
    rest = file.read()
    at = rest.find(_MAGIC)
    while at >= 0:
        file.seek(offset + at)
        if _checked(file.read(_HEADER.size), file) is not None:
            return offset + at
        at = rest.find(_MAGIC, at + 1)
    return None


def _usage(fields: tuple[Any, ...]) -> Usage:
    prompt, cached, completion, cut, requests, completions, truncated, reused = fields[7:]
    if fields[3] & _SCORES:
        return Usage(reward_calls=requests, reward_tokens=prompt, reward_tokens_read=completion)
    return Usage(
        requests=requests,
        completions=completions,
        prompt_tokens=prompt,
        cached_tokens=None if cached == _UNKNOWN else cached,
        completion_tokens=completion,
        truncated=truncated,
        cut_tokens=cut,
        reused=reused,
    )
