"""Calls under way, by the content of their request: equal requests share one call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCalls(Generic[T]):
    """Use it from one event loop. `under_way` holds the calls that have no reply yet."""

    def __init__(self) -> None:
        self.under_way: dict[bytes, asyncio.Future[T]] = {}

    async def reply(self, key: bytes, remembered: Callable[[], T | None], ask: Callable[[], Awaitable[T]]) -> T:
        """The remembered reply of a request, that of an equal call under way, or that of a new call.

        An error of the call reaches every request that shares it. Where the task that made the call is cancelled, one
        of the others asks again.
        """
        while True:
            reply = remembered()
            if reply is not None:
                return reply
            shared = self.under_way.get(key)
            if shared is None:
                return await self._call(key, ask)
            try:
                return await asyncio.shield(shared)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not shared.cancelled() or (task is not None and task.cancelling()):
                    raise
                # The task that made the call was cancelled and this one was not: it asks itself.

    async def _call(self, key: bytes, ask: Callable[[], Awaitable[T]]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.under_way[key] = future
        try:
            reply = await ask()
            future.set_result(reply)
            return reply
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # Without a reader of the future asyncio would report the error a second time.
            future.exception()
            raise
        finally:
            del self.under_way[key]
