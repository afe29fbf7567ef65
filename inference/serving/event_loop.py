"""An event loop in a thread of its own: the work of a backend outlives the loop of any one caller.

A caller awaits from its own loop; the work runs here, and cancelling the caller cancels the work.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from openr_data.errors import PolicyLost

T = TypeVar("T")


class OwnLoop:
    """The loop, running from its making until `close`; `name` is that of its thread."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]], gone: Callable[[], PolicyLost]) -> T:
        """Run a coroutine here and await it from another loop. Raises the error of `gone` once the loop is closed."""
        return await asyncio.wrap_future(self.hand_over(work, gone))

    def hand_over(self, work: Callable[[], Coroutine[Any, Any, T]], gone: Callable[[], PolicyLost]) -> Future[T]:
        """Run a coroutine here. Raises the error of `gone` once the loop is closed."""
        # What is handed over under the lock begins before the loop ends, and is cancelled with it.
        with self._lock:
            if self.closed:
                raise gone()
            return asyncio.run_coroutine_threadsafe(work(), self.loop)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine here and block until it is done; never called from the loop itself."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self, finish: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Take no more work, run `finish`, and end the thread; a second call does nothing."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
        if finish is not None:
            self.wait(finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel some tasks of the running loop and wait until they have ended."""
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of some coroutines at once; where one fails, or the caller gives up, the others end."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        await end(set(tasks))
        raise
