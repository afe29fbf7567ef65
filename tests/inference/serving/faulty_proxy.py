"""A proxy in front of a real server that does to requests what networks, balancers and tired machines do.

Every request meets at most one fault, drawn from a seed: it waits, is told "too many" (429) or "broken" (500), its
connection is cut before the answer or in the middle of it, or the answer comes in drops. `down` kills the door: what is
under way is cut, and nobody gets in until `up`. It counts what it delivered whole, by content, so that a test can say
what was paid for twice.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

PIECES = 8
"""Drops in which a slow answer comes."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The share of requests that meet each fault; `latency` and `drop` are seconds."""

    late: float = 0.0
    latency: float = 0.2
    too_many: float = 0.0
    broken: float = 0.0
    cut: float = 0.0
    half: float = 0.0
    slow: float = 0.0
    drop: float = 0.02


class FaultyProxy:
    """Listens on a port of its own before `upstream` ("http://127.0.0.1:8000"); close it after use."""

    def __init__(self, upstream: str, faults: Faults | None = None, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.met: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.under_way = 0
        self._upstream, self._rng = upstream, random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)
        self._thread.start()
        self._client: httpx.AsyncClient = self._wait(self._open())
        self._server: asyncio.Server | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def up(self) -> None:
        """Let requests in, on the port of before."""
        self._server = self._wait(self._listen())

    def down(self) -> None:
        """Die: cut what is under way and listen no more."""
        self._wait(self._drop())

    def close(self) -> None:
        """Die for good."""
        self.down()
        self._wait(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def repeats(self) -> int:
        """Requests that were delivered whole more than once, counted for each time beyond the first."""
        return sum(count - 1 for count in self.delivered.values())

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=900.0, limits=httpx.Limits(max_connections=None))

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _drop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            # A client that hangs up, or the proxy's own death, ends a connection.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request on and its answer back; False where the connection has ended."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        fault = self._fault() if method == "POST" else ""
        if fault:
            self.met[fault] += 1
        if fault == "cut":
            return False
        if fault in ("too_many", "broken"):
            status = b"429 Too Many Requests" if fault == "too_many" else b"500 Internal Server Error"
            await _answer(writer, status, b'{"error": {"message": "a fault on demand"}}')
            return True
        if fault == "late":
            await asyncio.sleep(self.faults.latency)
        self.under_way += 1
        try:
            try:
                reply = await self._client.request(
                    method, self._upstream + path, content=body, headers={"content-type": "application/json"}
                )
            except httpx.HTTPError:
                # The server behind is gone: so is this connection.
                return False
            status = f"{reply.status_code} {reply.reason_phrase}".encode()
            if fault == "half":
                writer.write(_head(status, len(reply.content)) + reply.content[: len(reply.content) // 2])
                await writer.drain()
                return False
            if fault == "slow":
                writer.write(_head(status, len(reply.content)))
                size = len(reply.content) // PIECES + 1
                for start in range(0, len(reply.content), size):
                    writer.write(reply.content[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(self.faults.drop)
            else:
                await _answer(writer, status, reply.content)
            if method == "POST" and reply.status_code == 200:
                self.delivered[_content(body)] += 1
            return True
        finally:
            self.under_way -= 1

    def _fault(self) -> str:
        drawn = self._rng.random()
        for name in ("late", "too_many", "broken", "cut", "half", "slow"):
            drawn -= getattr(self.faults, name)
            if drawn < 0:
                return name
        return ""


def _head(status: bytes, length: int) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, length)


async def _answer(writer: asyncio.StreamWriter, status: bytes, body: bytes) -> None:
    writer.write(_head(status, len(body)) + body)
    await writer.drain()


def _content(body: bytes) -> str:
    plain = json.dumps(json.loads(body), sort_keys=True)
    return hashlib.blake2b(plain.encode(), digest_size=16).hexdigest()


@contextmanager
def proxying(upstream: str, faults: Faults | None = None, seed: int = 0) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(upstream, faults, seed)
    try:
        yield proxy
    finally:
        proxy.close()
