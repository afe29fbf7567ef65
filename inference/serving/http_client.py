"""Requests to one or several equal HTTP servers: the least loaded first, retried, never more at once than they bear.

How many requests a server has at a time grows while it is busy and well (by one a reply until it first complains, then
by one a round) and shrinks to four fifths when it says "too many". A server that cannot be reached rests for a moment;
while all of them rest, requests wait, so that a server that dies and comes back costs time alone.
"""

import asyncio
import random
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from openr_data.errors import PolicyError, PolicyLost

FIRST_LIMIT: Final = 32
"""Requests at a time that a server gets before anything is known of it."""
BUSY: Final = 0.8
REST: Final = 0.25
LONGEST_REST: Final = 15.0
"""Seconds that a server rests after its first failure and after many."""
LEAN: Final = 0.25
"""How much more of its limit a server may be in use than the least loaded one, and still get what is near to it."""
TRIES: Final = 5
"""Times that one request may fail while the server is there: with an error of its own (500), without an end, or cut."""

_TOO_MANY: Final = frozenset((429, 503))
_REFUSED: Final = {
    401: "does not accept the key: set OPENAI_API_KEY",
    403: "does not allow this: check OPENAI_API_KEY",
    404: "does not know this: check the address and the name of the model",
}


@dataclass(slots=True, eq=False)
class _Server:
    """One address and what is known of it."""

    url: str
    most: int
    limit: float = FIRST_LIMIT
    in_flight: int = 0
    failures: int = 0
    complained: bool = False
    shrunk_at: float = 0.0
    rests_until: float = 0.0

    def load(self) -> float:
        return self.in_flight / self.limit

    def is_free(self, now: float) -> bool:
        return self.in_flight < int(self.limit) and now >= self.rests_until

    def well(self) -> None:
        """A reply came."""
        self.failures = 0
        if self.in_flight >= BUSY * self.limit:
            self.limit = min(self.most, self.limit + (1 / self.limit if self.complained else 1))

    def too_many(self, now: float) -> None:
        """It said so; what it says of requests sent before it was believed counts once."""
        self.complained = True
        if now - self.shrunk_at > 1.0:
            self.shrunk_at = now
            self.limit = max(1.0, self.limit * BUSY)

    def rest(self, now: float, seconds: float = 0.0) -> float:
        """Leave it alone for a while, longer each time; return how long."""
        if now < self.rests_until:
            # Of a hundred requests that fail together the first one counts; the others may only ask for a longer rest.
            self.rests_until = max(self.rests_until, now + seconds)
            return self.rests_until - now
        longest = min(LONGEST_REST, REST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        pause = max(seconds, longest * (0.5 + random.random() / 2))
        self.rests_until = now + pause
        return pause


class Servers:
    """Use it from one event loop. `most` bounds the requests under way at each server.

    `patience` is how many seconds may pass without any reply at all before the servers count as lost, `timeout` how
    many one reply may take.
    """

    def __init__(self, urls: Sequence[str], key: str, most: int, patience: float, timeout: float) -> None:
        self._servers = [_Server(url, most, min(FIRST_LIMIT, most)) for url in urls]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=most)
        self._client = httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(timeout, connect=10.0), limits=limits)
        self._patience = patience
        self._replied = time.monotonic()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._leaving: set[asyncio.Task[None]] = set()
        self.retries = 0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(server.in_flight for server in self._servers)

    @property
    def places(self) -> int:
        """Requests that all servers together take at a time, as far as is known now."""
        return sum(int(server.limit) for server in self._servers)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        is_whole: Callable[[Mapping[str, Any]], bool] | None = None,
        near: str = "",
    ) -> dict[str, Any]:
        """The JSON object that a server answers; one that is not whole counts as cut off.

        Requests that say the same of what they are `near` go to the same server, whose cache knows them, while it is
        not much busier than the others.

        Raises `PolicyError` for a request that is refused or fails again and again, `PolicyLost` where no server
        answers any more or none lets us in.
        """
        asked = time.monotonic()
        failed = 0
        while True:
            server = await self._take(near)
            sent = time.monotonic()
            try:
                reply = await self._send(f"{server.url}/{path}", body)
                problem = self._judge(server, reply)
                if not problem:
                    answer = reply.json()
                    if isinstance(answer, dict) and (is_whole is None or is_whole(answer)):
                        server.well()
                        self._replied = time.monotonic()
                        return answer
                    if isinstance(answer, dict):
                        raise ValueError("ended a request before its end")
                    problem = "answered with no JSON object"
                failed += reply.status_code not in _TOO_MANY
            except httpx.ReadTimeout:
                problem, failed = "took too long to answer", failed + 1
            except (httpx.RequestError, ValueError) as error:
                # It cannot be reached, cut the connection, or sent half a body: it may be starting again. Where others
                # were answered meanwhile it may be the request that does it, and that must come to an end; it cannot be
                # where it never arrived.
                problem = str(error) or type(error).__name__
                arrived = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                failed += arrived and self._replied > sent
                self._rest(server)
            finally:
                server.in_flight -= 1
                self._wake()
            self.retries += 1
            if failed >= TRIES:
                raise PolicyError(f"{server.url} failed {failed} times to answer one request: {problem}.")
            silent = time.monotonic() - max(asked, self._replied)
            if silent > self._patience:
                raise PolicyLost(
                    f"No server has answered for {silent:.0f} seconds ({server.url}: {problem}). "
                    "Start it again; nothing that was answered is asked twice."
                )
            if failed:
                await asyncio.sleep(min(LONGEST_REST, REST * 2.0**failed) * random.random())

    async def _send(self, url: str, body: Mapping[str, Any]) -> httpx.Response:
        """One request. If cancelled while its connection is made, it ends after that: asyncio would leave it open."""
        is_made = asyncio.Event()
        is_made.set()

        async def watch(event: str, _: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.started":
                is_made.clear()
            elif event in ("connection.connect_tcp.complete", "connection.connect_tcp.failed"):
                is_made.set()

        async def leave() -> None:
            await is_made.wait()
            asked.cancel()
            # Nobody hears how it ends.
            await asyncio.gather(asked, return_exceptions=True)

        asked = asyncio.ensure_future(self._client.post(url, json=body, extensions={"trace": watch}))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            leaving = asyncio.ensure_future(leave())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            raise

    async def settle(self) -> None:
        """Wait for what is left of requests that were given up: at most as long as a connection may take."""
        while self._leaving:
            await asyncio.wait(self._leaving)

    async def close(self) -> None:
        """Drop the connections."""
        await self.settle()
        await self._client.aclose()

    def _judge(self, server: _Server, reply: httpx.Response) -> str:
        """What is wrong with a reply, or nothing. Raises for what no second try would change."""
        status = reply.status_code
        if status < 400:
            return ""
        message = _message(reply)
        if status in _TOO_MANY:
            server.too_many(time.monotonic())
            self._rest(server, _seconds(reply.headers.get("retry-after", "")))
            return f"says {status}: {message}"
        if status >= 500 or status == 408:
            return f"says {status}: {message}"
        if status in _REFUSED:
            raise PolicyLost(f"{server.url} {_REFUSED[status]} ({status}: {message}).")
        raise PolicyError(f"{server.url} refuses a request ({status}): {message}")

    def _rest(self, server: _Server, seconds: float = 0.0) -> None:
        pause = server.rest(time.monotonic(), seconds)
        asyncio.get_running_loop().call_later(pause + 0.001, self._wake)

    async def _take(self, near: str) -> _Server:
        """A server with room; waiting requests are served in their order."""
        first = True
        while True:
            now = time.monotonic()
            free = [server for server in self._servers if server.is_free(now)]
            if free and (not first or not self._waiting):
                server = self._choose(free, near)
                server.in_flight += 1
                return server
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._waiting.append if first else self._waiting.appendleft)(turn)
            first = False
            if free:
                self._wake()
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    # Its turn had come: it is the next one's.
                    self._wake()
                raise

    def _choose(self, free: Sequence[_Server], near: str) -> _Server:
        """The least loaded, or the one that knows what is near."""
        least = min(free, key=_Server.load)
        if not near:
            return least
        home = self._servers[zlib.crc32(near.encode()) % len(self._servers)]
        return home if home in free and home.load() <= least.load() + LEAN else least

    def _wake(self) -> None:
        now = time.monotonic()
        room = sum(int(server.limit) - server.in_flight for server in self._servers if server.is_free(now))
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1


def _message(reply: httpx.Response) -> str:
    """The server's own words, short."""
    try:
        content = reply.json()
    except ValueError:
        content = reply.text
    if isinstance(content, dict):
        content = content.get("error", content)
        content = content.get("message", content) if isinstance(content, dict) else content
    return " ".join(str(content).split())[:300] or reply.reason_phrase


def _seconds(text: str) -> float:
    return min(60.0, float(text)) if text.replace(".", "", 1).isdigit() else 0.0
