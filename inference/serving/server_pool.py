"""The servers of one model, spoken to from a loop of its own: connections outlive the loop of any one caller.

Replies are parsed beside the caller's work; cancelling a call closes its connections, which frees its places.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from openr_data.errors import PolicyLost

from .event_loop import OwnLoop, end
from .http_client import Servers
from .served_model import ServedModel

T = TypeVar("T")


class OwnServers:
    """`servers` from the making until `close`. `what` ("policy", "reward model") and `name` are those of the owner."""

    def __init__(
        self, what: str, name: str, served: ServedModel, *, max_requests: int, patience: float, timeout: float
    ) -> None:
        self._what, self._name = what, name
        self._under_way: set[asyncio.Task[Any]] = set()
        self._own = OwnLoop(f"{what} servers")
        self.servers = self._own.wait(_open(served, max_requests, patience, timeout))

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine that asks the servers, and await it from another loop. Raises `PolicyLost` once closed."""
        return await self._own.call(lambda: self._run(work), self._gone)

    def close(self) -> None:
        """Close the connections; calls under way fail with `PolicyLost`."""
        self._own.close(self._finish)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work()
        except asyncio.CancelledError:
            if self._own.closed:
                raise self._gone() from None
            raise
        finally:
            self._under_way.discard(task)

    def _gone(self) -> PolicyLost:
        return PolicyLost(f"The {self._what} {self._name} is closed.")

    async def _finish(self) -> None:
        await end(self._under_way)
        # What is cancelled while it connects loses its connection: first that comes to an end.
        await self.servers.settle()
        await end(asyncio.all_tasks() - {asyncio.current_task()})
        await self.servers.close()


async def _open(served: ServedModel, most: int, patience: float, timeout: float) -> Servers:
    return Servers(served.urls, served.key, most, patience, timeout)
