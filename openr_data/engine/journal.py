"""The append-only record of a job's replies, of its policy and of its reward model: a job resumes from it, and asks
nothing twice.

    file    := segment*            a segment is one deflate stream, at most 256 KiB before compression
    segment := record+             its first record has flag 1
    record  := header payload      payload: the next piece of the stream, flushed to a byte
    header  := magic, crc32 of all that follows, length, flags, question, key, stem, what it cost
    flags   := 1 first of its segment, 2 scores of a reward model: without it a record holds a policy's completions

A reply goes to the operating system before it is used, so `kill -9` loses at most the replies in flight; an fsync a
second bounds what a power cut can take. A record that does not check is asked again, never believed, and so is what
follows it in its segment. The header alone tells what was paid and by whom, so opening decompresses nothing. Memory
holds the places of what unfinished questions have asked, not the replies.
"""

import json
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..checked_lines import unwritable
from ..errors import StoreError
from ..types import Completion, Ended, Prefix, Sampling, Usage

FSYNC_EVERY: Final = 1.0
"""Seconds between two fsyncs of the journal."""
SEGMENT: Final = 1 << 18
"""Bytes before compression after which a new segment begins: what one look at an old reply may have to decode."""
KEPT: Final = 64
"""Decoded segments in memory."""

_MAGIC: Final = b"\xf5oj2"
_HEADER: Final = struct.Struct("<4sIIB8s16s16sIiIIIIII")
_FIRST: Final = 1
_SCORES: Final = 2
_UNTOLD: Final = -1

_WRITTEN: Final[dict[Ended, str]] = {"end": "end", "stop": "stop string", "length": "length", "abort": "abort"}
"""How the journal writes why a completion ended."""
# Earlier versions wrote "stop" for both ways to finish. None of their jobs sent a stop string, so it was the own end.
_READ: Final[dict[str, Ended]] = {text: ended for ended, text in _WRITTEN.items()} | {"stop": "end"}

_COST: Final = struct.Struct("<III")
"""Before the scores of a record: reward calls, tokens asked and tokens read."""

# `json.dumps` with separators makes an encoder for every call.
_as_json: Final = json.JSONEncoder(separators=(",", ":")).encode

Place = tuple[int, int]
"""Where a reply lies: the offset of its segment, and which record of it."""


def stem_key(policy: str, prefix: Prefix, sampling: Sampling) -> bytes:
    """What a sample is drawn from, 16 bytes: model and template (the policy's name), prefix, and all but the seed."""
    # With the number of steps: an empty stop string must not look like the end of them.
    shape = f"{sampling.temperature!r} {sampling.top_p!r} {sampling.max_tokens} {len(prefix.steps)}"
    if prefix.open:
        # Open prefixes came later: the keys of closed ones are what they were.
        shape += " open"
    parts = (policy, shape, prefix.question, *prefix.steps, "", *sampling.stop)
    data = [part.encode("utf-8", "surrogatepass") for part in parts]
    # Length-prefixed: no two lists of parts collide by concatenation.
    return blake2b(b"".join([b"%d:%b" % (len(item), item) for item in data]), digest_size=16).digest()


def request_key(stem: bytes, n: int, seed: int) -> bytes:
    """The content of a request as one id, 16 bytes."""
    return blake2b(b"%b %d %d" % (stem, n, seed), digest_size=16).digest()


def question_key(question: str) -> bytes:
    """A question as the journal knows it, 8 bytes."""
    return blake2b(question.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def score_keys(reward: str, question: str, steps: Sequence[str]) -> tuple[bytes, ...]:
    """The content of a request for scores as one id, 16 bytes: of no step, of the first one, … of all steps.

    `reward` is the name of the reward model: model, revision and format.
    """
    keys: list[bytes] = []
    digest = blake2b(b"scores", digest_size=16)
    for part in (reward, question, *steps):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
        keys.append(digest.digest())
    return tuple(keys[1:])


@dataclass(frozen=True, slots=True)
class Entry:
    """The header of one record: who asked, for what, and what was paid; no `place` where it cannot be read.

    `is_scores`: a reward model's record, not a policy's.
    """

    place: Place | None
    question: bytes
    key: bytes
    stem: bytes
    usage: Usage
    is_scores: bool = False


class Journal:
    """The file at `path`, created when missing.

    `read_only` is for `entries` and `at` alone, also while somebody writes. `finished` questions (`question_key`) are
    counted and otherwise passed over. `paid` is all that was ever paid for, `damaged` the number of records that
    do not check. Raises `StoreError` when the file cannot be read or written.
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
            # Held open: a file that is removed meanwhile can still be read. Without a buffer: it may still grow.
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
        """The reply of an earlier request with this key, or None."""
        place = self._places.get(key)
        return None if place is None else self.at(place)[1]

    def at(self, place: Place) -> tuple[int, tuple[Completion, ...]]:
        """The seed and the reply of the record at a place. Raises `StoreError` where the file has changed."""
        seed, prompt, cached, items = json.loads(self._payload(place))
        return seed, tuple(
            Completion(text, n, _READ[ended], logprob, prompt, cached, tuple(draw) if draw else None, reused)
            for text, n, ended, logprob, draw, reused in items
        )

    def get_scores(self, key: bytes) -> tuple[tuple[float, ...], Usage] | None:
        """The scores of an earlier request with this key and what they cost, or None."""
        place = self._places.get(key)
        if place is None:
            return None
        payload = self._payload(place)
        calls, asked, read = _COST.unpack_from(payload)
        scores = struct.unpack_from(f"<{(len(payload) - _COST.size) // 8}d", payload, _COST.size)
        return scores, Usage(reward_calls=calls, reward_tokens=asked, reward_tokens_read=read)

    def put_scores(self, key: bytes, stem: bytes, question: bytes, scores: Sequence[float], usage: Usage) -> None:
        """Remember the scores of a request, bit by bit, and what they cost: a crash of the process does not lose them.

        `stem` is the key of the question without steps.
        """
        cost = _COST.pack(usage.reward_calls, usage.reward_tokens, usage.reward_tokens_read)
        self._append(cost + struct.pack(f"<{len(scores)}d", *scores), _SCORES, question, key, stem, usage)

    def put(self, key: bytes, stem: bytes, question: bytes, seed: int, reply: Sequence[Completion]) -> Usage:
        """Remember a reply: after this call a crash of the process does not lose it. Returns what it cost."""
        items = [[c.text, c.n_tokens, _WRITTEN[c.ended], c.logprob, c.draw, c.reused] for c in reply]
        first = next((c for c in reply if not c.reused), reply[0] if reply else Completion("", 0, "end"))
        payload = _as_json([seed, first.prompt_tokens, first.cached_tokens, items]).encode()
        usage = usage_of(reply)
        self._append(payload, 0, question, key, stem, usage)
        return usage

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
        """Let go of the places of a question that is finished: it asks nothing any more."""
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

    def entries(self) -> Iterator[Entry]:
        """The headers of all records that check, in order; counts those that do not in `damaged`."""
        self.damaged = 0
        segment, index, broken = 0, 0, True
        with self.path.open("rb") as file:
            offset = 0
            while header := file.read(_HEADER.size):
                record = _checked(header, file)
                if record is None:
                    found = _next_record(file, offset + 1)
                    self.damaged += 1
                    broken = True
                    if found is None:
                        return
                    offset = found
                    file.seek(offset)
                    continue
                fields, length = record
                flags, question, key, stem = fields[3:7]
                if flags & _FIRST:
                    segment, index, broken = offset, 0, False
                offset += _HEADER.size + length
                self._end = max(self._end, offset)
                # Where its stream has lost a piece a record cannot be read, though it was paid for.
                self.damaged += broken
                place = None if broken else (segment, index)
                yield Entry(place, question, key, stem, _usage(fields), bool(flags & _SCORES))
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
                # What somebody is still writing is not there yet; what is damaged is never believed.
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


def usage_of(reply: Sequence[Completion]) -> Usage:
    """What a reply cost; samples that another job had paid for cost nothing here."""
    paid = [item for item in reply if not item.reused]
    cut = [item.n_tokens for item in paid if item.ended == "length"]
    return Usage(
        requests=1 if paid or not reply else 0,
        completions=len(paid),
        prompt_tokens=paid[0].prompt_tokens if paid else 0,
        cached_tokens=paid[0].cached_tokens if paid else None,
        completion_tokens=sum(item.n_tokens for item in paid),
        truncated=len(cut),
        cut_tokens=sum(cut),
        reused=len(reply) - len(paid),
    )


def _pack(piece: bytes, flags: int, question: bytes, key: bytes, stem: bytes, usage: Usage) -> bytes:
    cached = _UNTOLD if usage.cached_tokens is None else usage.cached_tokens
    counts = (usage.prompt_tokens, cached, usage.completion_tokens, usage.cut_tokens)
    numbers = (usage.requests, usage.completions, usage.truncated, usage.reused)
    if flags & _SCORES:
        counts = (usage.reward_tokens, _UNTOLD, usage.reward_tokens_read, 0)
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
    """The offset of the next record that checks, at or behind `offset`."""
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
        cached_tokens=None if cached == _UNTOLD else cached,
        completion_tokens=completion,
        truncated=truncated,
        cut_tokens=cut,
        reused=reused,
    )
