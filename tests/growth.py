"""How the cost of a work grows with its size: a bound against explosions that holds on any machine, however busy."""

import time
from collections.abc import Callable

TIMES = 4
"""The larger size is this many times the smaller one: linear work costs as many times more, quadratic work its square."""


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Whether `work(4 * size)` costs clearly less than the 16 times `work(size)` of quadratic work, in CPU time."""
    small, large = (min(_cost(work, at) for _ in range(3)) for at in (size, TIMES * size))
    return large < TIMES**1.5 * max(small, 0.001)


def _cost(work: Callable[[int], object], size: int) -> float:
    started = time.thread_time()
    work(size)
    return time.thread_time() - started
