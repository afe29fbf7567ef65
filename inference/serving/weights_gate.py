"""Samples and changes of the weights take turns, so that one version of the weights draws all of a sample."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class WeightsGate:
    """Lets samples pass together and changes one by one; all of them run on one event loop.

    A change waits for the samples under way; samples that arrive after it wait for the change.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._waiting_changes = 0
        self._change = asyncio.Lock()
        self._open, self._idle = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._idle.set()

    @asynccontextmanager
    async def sample(self) -> AsyncGenerator[None, None]:
        """Hold changes back while the block runs."""
        # Between the end of one change and this task's turn another one may have come.
        while not self._open.is_set():
            await self._open.wait()
        self._samples += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._samples -= 1
            if not self._samples:
                self._idle.set()

    @asynccontextmanager
    async def change(self) -> AsyncGenerator[None, None]:
        """Run the block after the samples under way, and alone."""
        self._waiting_changes += 1
        self._open.clear()
        try:
            async with self._change:
                await self._idle.wait()
                yield
        finally:
            self._waiting_changes -= 1
            if not self._waiting_changes:
                self._open.set()
