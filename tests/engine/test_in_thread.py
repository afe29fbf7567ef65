"""A function that blocks, awaited."""

import asyncio
import inspect
import threading

import pytest

from openr_data.engine.in_thread import in_thread
from openr_data.errors import InputError


def half(number: int, *, of: int = 2) -> tuple[float, int]:
    """A number divided, and the thread that did it."""
    if number < 0:
        raise InputError("A negative number.")
    return number / of, threading.get_ident()


def test_the_awaitable_form_takes_the_same_arguments_and_leaves_the_loop_free() -> None:
    share, thread = asyncio.run(in_thread(half)(3, of=4))
    assert share == 0.75
    assert thread != threading.get_ident()
    assert inspect.signature(in_thread(half)) == inspect.signature(half)
    assert in_thread(half).__name__ == "half_async"


def test_an_error_of_the_function_is_that_of_its_awaitable_form() -> None:
    with pytest.raises(InputError, match="negative"):
        asyncio.run(in_thread(half)(-1))
