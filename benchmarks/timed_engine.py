"""Simulates an engine with the step times of a GPU over recorded replies, to measure how well a job feeds it.

It decodes like vLLM, in steps that give every sequence of the batch one token; sequences that do not fit wait, and take
a place as soon as one is free. A step takes `STEP`, plus `EACH` for every sequence in it. The replies are those of a
real policy, and everything above the engine runs as in a job: only the time of the engine is invented. Reading prompts
takes no time here.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from openr_data.types import Completion, Prefix, Sampling

STEP: Final = 6e-3
EACH: Final = 3e-5
"""Seconds per step, and per sequence in it: invented, in the range of a model with a few billion parameters on one
large GPU."""
PLACES: Final = 256


class TimedEngine:
    """A backend that returns the replies of `recorded` (by request) at the time at which such an engine would."""

    gpus = 0
    retries = 0
    room = None

    def __init__(self, policy: Any, recorded: dict[Any, Sequence[Completion]], places: int = PLACES) -> None:
        self._policy, self._recorded, self.places = policy, recorded, places
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._loop: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return str(self._policy.name)

    @property
    def separator(self) -> str:
        return str(self._policy.separator)

    def steps_of(self, text: str) -> tuple[str, ...]:
        steps: tuple[str, ...] = self._policy.steps_of(text)
        return steps

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """Return the recorded reply once its last token is decoded."""
        reply = self._recorded[prefix, n, sampling]
        futures = [asyncio.get_running_loop().create_future() for _ in reply]
        self._waiting.extend((item.n_tokens, future) for item, future in zip(reply, futures, strict=True))
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._decode())
        await asyncio.gather(*futures)
        return reply

    async def _decode(self) -> None:
        loop = asyncio.get_running_loop()
        active: list[list[Any]] = []
        now = loop.time()
        while active or self._waiting:
            while self._waiting and len(active) < self.places:
                tokens, future = self._waiting.popleft()
                if not future.cancelled():
                    active.append([tokens, future])
            # Follow the clock instead of adding up sleeps: a late wake-up is not time of the engine.
            now = max(now + STEP + EACH * len(active), loop.time() - STEP)
            await asyncio.sleep(max(0.0, now - loop.time()))
            for item in active:
                item[0] -= 1
                if item[0] < 1 and not item[1].done():
                    item[1].set_result(None)
            active = [item for item in active if item[0] > 0 and not item[1].cancelled()]
