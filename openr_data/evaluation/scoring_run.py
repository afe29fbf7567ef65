"""The scoring of one evaluation job: its progress events, its progress report, and what it spent."""

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ..engine.protocols import RewardBackend
from ..errors import Interrupted, PolicyError
from ..jobs.job import Job
from ..store.refs import now
from .score_table import EvaluationScores
from .scores import Case, ScoringReport, score_all

EVENT_EVERY: Final = 10.0
"""Seconds between two progress events in the job folder."""
SPENT: Final = ("seconds", "tokens_asked", "tokens_read")
"""What an evaluation spends, as its events and its result name it."""


class ScoringRun:
    """Scores the cases of a job that have no scores yet, and writes its events."""

    def __init__(self, job: Job, reward: RewardBackend, scores: EvaluationScores, cases: Mapping[str, Case]) -> None:
        self._job, self._reward, self._scores, self._cases = job, reward, scores, cases
        self._earlier = job.last_event()
        self._began = self._written = time.monotonic()
        self.total = len(cases)
        self._done = self._known

    @property
    def _known(self) -> int:
        return sum(name in self._scores.known for name in self._cases)

    @property
    def spent(self) -> dict[str, float]:
        """Seconds and tokens of all runs; what a killed run spent after its last event is missing."""
        earlier = {name: self._earlier.get(name, 0) for name in SPENT}
        return {
            "seconds": round(earlier["seconds"] + time.monotonic() - self._began, 1),
            "tokens_asked": earlier["tokens_asked"] + self._reward.tokens_asked,
            "tokens_read": earlier["tokens_read"] + self._reward.tokens_read,
        }

    async def run(self, report: ScoringReport | None, *, signals: bool) -> Mapping[str, str]:
        """Score; return by case why others cannot be scored.

        Raises `Interrupted` after Ctrl-C or SIGTERM; without `signals` the cancellation of the task is passed on.
        """
        events = self._job.open_events()

        def write(name: str, failed: int = 0) -> None:
            status = {"done": self._done - failed, "total": self.total, "failed": failed}
            events.append({"event": name, "at": now(), **status, **self.spent})

        def reported(done: int, total: int) -> None:
            self._done = done
            if time.monotonic() - self._written > EVENT_EVERY:
                self._written = time.monotonic()
                write("progress")
            if report is not None:
                # A progress display on a closed stream is not a failure of the job.
                with suppress(OSError, ValueError):
                    report(done, total)

        event = "error"
        failures: Mapping[str, str] = {}
        write("start")
        try:
            if signals:
                _stop_on_sigterm()
            failures = await score_all(self._reward, self._cases.values(), self._scores, reported)
            event = "end"
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            event = "stop"
            if not signals:
                raise
            raise Interrupted(
                f"Stopped. {self._known:,} of {self.total:,} solutions are scored. The same command goes on."
            ) from stop
        finally:
            write(event, len(failures))
            events.close()
        if len(failures) == self.total:
            raise PolicyError(f"Not one of {self.total:,} solutions could be scored: {next(iter(failures.values()))}")
        return failures


def _stop_on_sigterm() -> None:
    task = asyncio.current_task()
    assert task is not None
    # Outside the main thread a loop receives no signals: then its owner stops it.
    with suppress(ValueError, RuntimeError, NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
