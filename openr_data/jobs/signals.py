"""SIGINT and SIGTERM for a running job: the first one stops it gently, the second one at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Final

HANDLED: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_handled(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Call `first` on the first signal inside, and `second` on each later one. Does nothing outside the main thread."""
    if current_thread() is not main_thread():
        # Python delivers signals to the main thread alone: another thread stops a job with `Runner.stop`.
        yield
        return
    loop = asyncio.get_running_loop()
    received = 0

    def receive() -> None:
        nonlocal received
        received += 1
        (first if received == 1 else second)()

    for number in HANDLED:
        loop.add_signal_handler(number, receive)
    try:
        yield
    finally:
        for number in HANDLED:
            loop.remove_signal_handler(number)
