"""The `math` grader behind the `Grader` seam: fast path, memory, workers.

A pair is looked at once: the fast path takes microseconds and decides nearly everything; what is left goes to a
symbolic worker, is remembered in the process by its tokens, and on disk by the version of everything that had a say.
The event loop waits for workers, and never works for them.
"""

import asyncio
import importlib.metadata
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from ...types import Grade, Verdict
from ..cache import GradeCache
from ..groups import Groups
from ..workers import WorkerLimits, Workers
from .cluster import cluster_by_value
from .equivalence import Comparison, compare_exactly
from .final_answer_grader import FinalAnswerGrader
from .tokens import Tokens, tokens

MOST_REMEMBERED: Final = 100_000
"""Symbolic comparisons kept in the process."""
AT_ONCE: Final = 200
"""Pairs of a batch that are graded before other coroutines get their turn."""


class MathGrader(FinalAnswerGrader):
    """Grades final answers: exactly where they are read, symbolically where not, unknown with a reason elsewhere.

    `name` goes into every rollout: verdicts of two versions of a grader are not mixed up. With `symbolic=False` the
    fast path stands alone. Close it, or leave that to the end of the process.
    """

    name = "math/2"

    def __init__(
        self, *, symbolic: bool = True, limits: WorkerLimits | None = None, cache: GradeCache | None = None
    ) -> None:
        self._symbolic, self._limits = symbolic, limits
        self._cache = cache or GradeCache.default(self.version())
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._workers: Workers | None = None
        self._asked: dict[tuple[Tokens, Tokens], Future[Comparison]] = {}

    @classmethod
    def version(cls) -> str:
        """The versions that a remembered verdict depends on."""
        parts = [f"{name} {importlib.metadata.version(name)}" for name in ("math-verify", "sympy")]
        return "; ".join([cls.name, *parts])

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade of an extracted answer, whatever the text. Raises `OpenRError` where no worker can be started."""
        found = compare_exactly(answer, gold)
        if self._is_open(found):
            # Shielded: the same pair may be waited for by others.
            found = await asyncio.shield(asyncio.wrap_future(self._ask(answer, gold)))
        return _grade(found)

    def grade_now(self, answer: str, gold: str) -> Grade:
        """The same for a caller without an event loop."""
        found = compare_exactly(answer, gold)
        if self._is_open(found):
            found = self._ask(answer, gold).result()
        return _grade(found)

    async def grade_all(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        """The grades of many (answer, gold) pairs; each distinct pair is graded once, workers side by side."""
        waiting: dict[tuple[str, str], asyncio.Task[Grade] | Grade] = {}
        for count, pair in enumerate(dict.fromkeys(pairs)):
            found = compare_exactly(*pair)
            waiting[pair] = asyncio.ensure_future(self.grade(*pair)) if self._is_open(found) else _grade(found)
            if count % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        done = {pair: item if isinstance(item, Grade) else await item for pair, item in waiting.items()}
        return [done[pair] for pair in pairs]

    async def same(self, answers: Sequence[str]) -> Groups:
        """Answers that are mathematically equal. An unknown comparison joins nothing."""
        return await cluster_by_value(answers, self.grade_all)

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            if self._workers is not None:
                self._workers.close()
                self._workers = None
            self._asked.clear()

    def _is_open(self, found: Comparison) -> bool:
        return self._symbolic and found.verdict is Verdict.UNKNOWN and not found.is_final

    def _ask(self, answer: str, gold: str) -> "Future[Comparison]":
        key = (tokens(answer), tokens(gold))
        with self._lock:
            if self._process != os.getpid():
                # After a fork the threads and the server are the parent's.
                if self._workers is not None:
                    self._workers.abandon()
                self._workers, self._process = None, os.getpid()
                self._asked.clear()
            future = self._asked.get(key)
            if future is None or _is_lost(future):
                if self._workers is None:
                    self._workers = Workers(self._limits, self._cache)
                if len(self._asked) >= MOST_REMEMBERED:
                    self._asked.clear()
                future = self._asked[key] = self._workers.submit(answer, gold)
        return future


def _grade(found: Comparison) -> Grade:
    return Grade(found.verdict, found.reason, found.verdict is not Verdict.UNKNOWN or found.is_final)


def _is_lost(future: "Future[Comparison]") -> bool:
    """Whether a comparison ended without an answer that would be the same the next time."""
    if not future.done():
        return False
    return future.cancelled() or future.exception() is not None or not future.result().is_final
