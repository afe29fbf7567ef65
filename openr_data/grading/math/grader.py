"""The grader `math`: an exact fast path, memory, and worker processes for what is left.

The fast path takes microseconds and decides nearly every pair. The rest goes to a symbolic worker, and its grade is
remembered in the process by the tokens of the pair, and on disk by the versions of everything that had a part in it.
The event loop waits for workers and never works for them.
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
from ..fork_server import WorkerCommand
from ..groups import Groups
from ..workers import WorkerLimits, Workers
from .cluster import cluster_by_value
from .equivalence import Comparison, compare_exactly
from .final_answer_grader import FinalAnswerGrader
from .parsing.tokens import Tokens, tokens

MOST_REMEMBERED: Final = 100_000
"""Symbolic comparisons kept in the process."""
AT_ONCE: Final = 200
"""Pairs of a batch that are graded before other coroutines get their turn."""


def symbolic_workers(limits: WorkerLimits | None = None, cache: GradeCache | None = None) -> Workers:
    """Workers that compare two answers by computer algebra (`symbolic.py`)."""
    command = WorkerCommand.module(
        "openr_data.grading.math.worker", name="symbolic grader", advice="Use --grader numeric."
    )
    return Workers(command, limits, cache)


class MathGrader(FinalAnswerGrader):
    """Grades final answers: exactly where they are read, symbolically where not, else unknown with a reason.

    `name` is stored with every rollout, so that verdicts of two versions are not mixed. With `symbolic=False` only the
    fast path is used. Close it, or leave that to the end of the process.
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
        self._asked: dict[tuple[Tokens, Tokens], Future[Grade]] = {}

    @classmethod
    def version(cls) -> str:
        """The versions that a remembered verdict depends on."""
        parts = [f"{name} {importlib.metadata.version(name)}" for name in ("math-verify", "sympy")]
        return "; ".join([cls.name, *parts])

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade of an extracted answer, whatever the text. Raises `OpenRError` if no worker can be started."""
        comparison = compare_exactly(answer, gold)
        if self._is_open(comparison):
            # Shielded: other coroutines may wait for the same pair.
            return await asyncio.shield(asyncio.wrap_future(self._ask(answer, gold)))
        return _grade(comparison)

    def grade_now(self, answer: str, gold: str) -> Grade:
        """The same for a caller without an event loop."""
        comparison = compare_exactly(answer, gold)
        return self._ask(answer, gold).result() if self._is_open(comparison) else _grade(comparison)

    async def grade_all(self, pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        """The grades of many (answer, gold) pairs; each distinct pair is graded once, workers side by side."""
        waiting: dict[tuple[str, str], asyncio.Task[Grade] | Grade] = {}
        for count, pair in enumerate(dict.fromkeys(pairs)):
            comparison = compare_exactly(*pair)
            is_open = self._is_open(comparison)
            waiting[pair] = asyncio.ensure_future(self.grade(*pair)) if is_open else _grade(comparison)
            if count % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        grades = {pair: grade if isinstance(grade, Grade) else await grade for pair, grade in waiting.items()}
        return [grades[pair] for pair in pairs]

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

    def _is_open(self, comparison: Comparison) -> bool:
        return self._symbolic and comparison.verdict is Verdict.UNKNOWN and not comparison.is_final

    def _ask(self, answer: str, gold: str) -> "Future[Grade]":
        key = (tokens(answer), tokens(gold))
        with self._lock:
            if self._process != os.getpid():
                # After a fork the threads and the server belong to the parent.
                if self._workers is not None:
                    self._workers.abandon()
                self._workers, self._process = None, os.getpid()
                self._asked.clear()
            future = self._asked.get(key)
            if future is None or _is_lost(future):
                if self._workers is None:
                    self._workers = symbolic_workers(self._limits, self._cache)
                if len(self._asked) >= MOST_REMEMBERED:
                    self._asked.clear()
                future = self._asked[key] = self._workers.submit(answer, gold)
        return future


def _grade(comparison: Comparison) -> Grade:
    is_final = comparison.verdict is not Verdict.UNKNOWN or comparison.is_final
    return Grade(comparison.verdict, comparison.reason, is_final)


def _is_lost(future: "Future[Grade]") -> bool:
    """Whether a comparison ended without an answer that would be the same the next time."""
    if not future.done():
        return False
    return future.cancelled() or future.exception() is not None or not future.result().is_final
