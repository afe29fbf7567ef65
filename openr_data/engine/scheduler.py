"""Run one coroutine a question, a bounded number at a time, and hand over each result as it finishes.

No barrier stands between questions: a backend sees the requests of all live questions at once and batches
them on its own. One question that fails is a `Failure`, never a lost run. When `stopping` is set no new
question starts; those under way go on to their end.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import PolicyLost, StoreError

Q = TypeVar("Q")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[Q, T]):
    """A question whose coroutine returned."""

    question: Q
    result: T


@dataclass(frozen=True, slots=True)
class Failure(Generic[Q]):
    """A question whose coroutine raised."""

    question: Q
    error: Exception


async def run(
    questions: Iterable[Q],
    work: Callable[[Q], Awaitable[T]],
    live: int = 64,
    stopping: asyncio.Event | None = None,
) -> AsyncGenerator[Done[Q, T] | Failure[Q], None]:
    """Yield the outcome of `work(question)` for every question, in the order they finish.

    Questions are drawn from the iterable only when there is room, oldest first. A `StoreError` (a full
    disk under the journal) or a `PolicyLost` ends the run: going on would fail every question. Leaving the
    iteration early cancels what is under way.
    """
    waiting = iter(questions)
    tasks: dict[asyncio.Task[T], Q] = {}

    async def start(question: Q) -> T:
        return await work(question)

    try:
        exhausted = False
        while True:
            while not exhausted and len(tasks) < live and not (stopping and stopping.is_set()):
                try:
                    question = next(waiting)
                except StopIteration:
                    exhausted = True
                    break
                tasks[asyncio.ensure_future(start(question))] = question
            if not tasks:
                return
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                question = tasks.pop(task)
                error = task.exception()
                if error is None:
                    yield Done(question, task.result())
                elif isinstance(error, (StoreError, PolicyLost)) or not isinstance(error, Exception):
                    raise error
                else:
                    yield Failure(question, error)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
