"""The awaitable form of a function that blocks: one place, so that the two forms take the same arguments."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`function` run in another thread, so that the event loop goes on meanwhile.

    Arguments, result and errors are those of `function`. Cancelling the task stops the wait, not the thread.
    """

    @wraps(function)
    async def awaitable(*args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(function, *args, **kwargs)

    awaitable.__name__ = awaitable.__qualname__ = f"{function.__name__}_async"
    awaitable.__doc__ = f"`{function.__name__}` in another thread, so that the event loop goes on meanwhile."
    return awaitable
