"""Run one coroutine a question, a bounded number at a time, and yield each result as it finishes.

Questions do not wait for each other: a backend sees the requests of all live questions at once and batches them on its
own. A new question starts when the backend has room for more than the live ones ask for, so the work under way is
bounded by what the backend can hold, and by `live`. A question that fails is a `Failure`, not a lost run. When
`stopping` is set no new question starts; those under way go on to their end.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import BudgetReached, PolicyError, PolicyLost, StoreError
from .admission import Admission

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
    live: int = 256,
    stopping: asyncio.Event | None = None,
    admission: Admission | None = None,
) -> AsyncGenerator[Done[Q, T] | Failure[Q], None]:
    """Yield the outcome of `work(question)` for every question, in the order they finish.

    Questions are drawn from the iterable only when there is room, oldest first. A `StoreError` (a full disk under the
    journal) or a `PolicyLost` ends the run: going on would fail every question. A question that raises `BudgetReached`
    is neither done nor failed, and none starts after it. Leaving the iteration early cancels the questions under way.
    """
    waiting = iter(questions)
    tasks: dict[asyncio.Task[T], Q] = {}
    ended: deque[asyncio.Task[T]] = deque()
    something = asyncio.Event()
    exhausted = False

    async def start(question: Q) -> T:
        return await work(question)

    def finished(task: asyncio.Task[T]) -> None:
        ended.append(task)
        something.set()

    def room() -> None:
        if not exhausted and len(tasks) < live:
            something.set()

    if admission is not None:
        admission.on_room = room
    try:
        while True:
            while not exhausted and len(tasks) < live and not (stopping and stopping.is_set()):
                if admission is not None and tasks and not admission.is_open:
                    break
                try:
                    question = next(waiting)
                except StopIteration:
                    exhausted = True
                    break
                task = asyncio.ensure_future(start(question))
                tasks[task] = question
                task.add_done_callback(finished)
                # It has to send its requests before the room for another one is known.
                await asyncio.sleep(0)
            if not tasks:
                return
            await something.wait()
            something.clear()
            while ended:
                task = ended.popleft()
                question = tasks.pop(task)
                # Cancelled elsewhere, not by this run: the failure of one question.
                error = PolicyError("A request was cancelled.") if task.cancelled() else task.exception()
                if error is None:
                    yield Done(question, task.result())
                elif isinstance(error, BudgetReached):
                    exhausted = True
                elif isinstance(error, (StoreError, PolicyLost)) or not isinstance(error, Exception):
                    raise error
                else:
                    yield Failure(question, error)
    finally:
        if admission is not None:
            admission.on_room = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def as_they_come(work: Iterable[Coroutine[Any, Any, T]]) -> AsyncGenerator[T, None]:
    """The results of several coroutines in the order they finish; leaving early cancels those under way.

    Use it for a result that some of its parts decide (`async with aclosing(as_they_come(...))`): the requests of the
    others are cancelled, and the backend stops working on them. Which requests are cancelled depends on the order of
    replies; a labeler whose rows must not depend on it decides only by what every order gives.
    """
    tasks = {asyncio.ensure_future(item) for item in work}
    try:
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
