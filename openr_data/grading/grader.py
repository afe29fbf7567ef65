"""The `math` grader behind the `Grader` seam: fast path, memory, workers.

A pair is looked at once: the fast path takes microseconds and decides nearly everything; what is left goes to a
symbolic worker, is remembered in the process by its tokens, and on disk by the version of everything that had a say.
The event loop waits for workers, and never works for them.
"""

import asyncio
import importlib.metadata
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from ..types import Grade, Verdict
from .cache import GradeCache
from .equivalence import Comparison, compare_exactly
from .tokens import Tokens, tokens
from .workers import WorkerLimits, Workers

AT_ONCE: Final = 200
"""Pairs of a batch that are graded before other coroutines get their turn."""


class MathGrader:
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
        self._workers: Workers | None = None
        self._asked: dict[tuple[Tokens, Tokens], Future[Comparison]] = {}

    @classmethod
    def version(cls) -> str:
        """The versions that a remembered verdict depends on."""
        parts = [f"{name} {importlib.metadata.version(name)}" for name in ("math-verify", "sympy")]
        return "; ".join([cls.name, *parts])

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade of an extracted answer. Never raises for any text."""
        found = compare_exactly(answer, gold)
        if found.verdict is Verdict.UNKNOWN and not found.is_final and self._symbolic:
            found = await asyncio.wrap_future(self._ask(answer, gold))
        return Grade(found.verdict, found.reason)

    def grade_now(self, answer: str, gold: str) -> Grade:
        """The same for a caller without an event loop."""
        found = compare_exactly(answer, gold)
        if found.verdict is Verdict.UNKNOWN and not found.is_final and self._symbolic:
            found = self._ask(answer, gold).result()
        return Grade(found.verdict, found.reason)

    async def grade_all(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        """The grades of many (answer, gold) pairs; each distinct pair is graded once, workers side by side."""
        waiting: dict[tuple[str, str], asyncio.Task[Grade] | Grade] = {}
        for count, pair in enumerate(dict.fromkeys(pairs)):
            found = compare_exactly(*pair)
            if found.verdict is not Verdict.UNKNOWN or found.is_final:
                waiting[pair] = Grade(found.verdict, found.reason)
            else:
                waiting[pair] = asyncio.ensure_future(self.grade(*pair))
            if count % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        done = {pair: item if isinstance(item, Grade) else await item for pair, item in waiting.items()}
        return [done[pair] for pair in pairs]

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        self._asked.clear()

    def _ask(self, answer: str, gold: str) -> "Future[Comparison]":
        key = (tokens(answer), tokens(gold))
        future = self._asked.get(key)
        if future is None:
            if self._workers is None:
                self._workers = Workers(self._limits, self._cache)
            future = self._asked[key] = self._workers.submit(answer, gold)
        return future
