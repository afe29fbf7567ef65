"""Run a job from where it stands to its end, or to a stop that loses nothing.

A `Runner` holds what a worker does not know: the lock of the job, its events, its limits, signals, and the end with its
snapshot and result. `start.py` opens the models of a job and makes its runner.
"""

import asyncio
import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from typing import TypedDict, Unpack

from ..engine.prices import Price
from ..engine.protocols import Backend, Grader, Labeler, RewardBackend, Search
from ..engine.scheduler import Failure, run
from ..engine.versions import versions
from ..errors import Interrupted, OpenRError
from ..store import Dataset
from ..store.refs import now
from ..types import Question, Solution
from .config import JobConfig, LabelConfig, SearchConfig
from .job import Job
from .label import LabelWork
from .limits import Limits
from .outcome import JobOutcome, conclude
from .progress import Status, Summary
from .search import SearchWork
from .signals import signals_handled
from .worker import Worker

EVENT_EVERY = 5.0
"""Seconds between two progress events in the job folder."""
REPORT_EVERY = 0.5
"""Seconds between two reports."""

INTERRUPTED = "it was interrupted"
STOPPED = "it was stopped"
CANCELLED = "it was cancelled"
PILOT_OVER = "the pilot is over"

Report = Callable[[Status], None]


class Running(TypedDict, total=False):
    """What a runner may be given beside its worker, see `Runner`."""

    live: int
    limits: Limits | None
    gpus: int
    report: Report | None
    on_stop: Callable[[], None] | None


class Runner:
    """Runs one worker of a job once. `stop` and `status` may be called from any thread; the constructor writes nothing.

    `live` bounds the questions under way; `gpus` counts the GPUs of a server (a local policy counts its own). `report`
    receives the status twice a second, `on_stop` is called on the first signal.
    """

    def __init__(
        self,
        worker: Worker,
        config: JobConfig,
        *,
        live: int = 256,
        limits: Limits | None = None,
        gpus: int = 0,
        report: Report | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self.worker, self.config, self.live = worker, config, live
        self.limits, self.gpus = limits or Limits(), gpus or worker.gpus
        self._report, self._on_stop = report, on_stop
        # Guards what other threads reach: the status, the loop, and the reason to stop.
        self._lock = threading.Lock()
        self._status = Status(worker.job.job_id, len(worker.questions), config.kind, max_cost=self.limits.max_cost)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reason = ""
        self._started = 0.0
        self._stopping = asyncio.Event()
        self._at_once = self._cancelled = False

    def status(self) -> Status:
        """A copy of the numbers of the job, from any thread."""
        with self._lock:
            return copy.deepcopy(self._status)

    def stop(self, reason: str = STOPPED) -> None:
        """Ask for nothing more, from any thread: the requests under way are waited for, then `run` returns.

        A runner that is stopped before it runs stops as soon as it runs.
        """
        with self._lock:
            self._reason = self._reason or reason
            # Under the lock the loop cannot end meanwhile.
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop_asking)

    def run(self) -> Status:
        """Run the job; return its status at the end.

        The first SIGINT or SIGTERM waits for the requests under way, the second stops at once; both raise `Interrupted`
        after everything that is finished is committed.
        """
        return asyncio.run(self.run_async(signals=True))

    async def run_async(self, signals: bool = False) -> Status:
        """`run` inside a running event loop. It handles signals only with `signals`; cancel its task to stop at once.

        Raises `UsageError` for a limit of money without a price, `JobError` if another process runs the job or its
        policy has changed, and `StoreError` if the disk fails; the job can then be resumed.
        """
        self.limits.check(self.worker.price is not None)
        with self.worker.job.lock():
            self.worker.check_models()
            self._events = self.worker.job.open_events()
            try:
                return await self._run(signals)
            finally:
                self._events.close()

    async def _run(self, signals: bool) -> Status:
        status, worker = self._status, self.worker
        status.go_on(worker.job.last_event())
        self._started = time.monotonic()
        outcome: JobOutcome = "error"
        try:
            with worker.open(self._limit if self.limits else None):
                for summary in worker.spool.finished.values():
                    self._count(summary, resumed=True)
                outcome = await self._work(signals)
        except BaseException:
            # The error on its way is the one to report: the disk that failed may be that of the events.
            with suppress(OpenRError):
                self._event("error")
            raise
        self._event(outcome)
        self._show()
        conclude(worker, self.config, status, outcome)
        if self._cancelled:
            raise asyncio.CancelledError
        if outcome == "stopped" and status.stopped_by == INTERRUPTED:
            raise Interrupted(
                f"Stopped. {status.done:,} of {status.total:,} questions are safe in {worker.dataset.name}. "
                f"Continue with: openr-data jobs resume {worker.job.job_id}"
            )
        return status

    async def _work(self, signals: bool) -> JobOutcome:
        """Work on all questions that wait, or on as many as the limits and the stops allow."""
        status, worker = self._status, self.worker
        self._watch()
        self._event("start", versions=versions())
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._reason:
                self._stop_asking()
        ticking = asyncio.ensure_future(self._tick())
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            self.stop(INTERRUPTED)
            if self._on_stop:
                self._on_stop()

        def interrupt_at_once() -> None:
            self._at_once = True
            task.cancel()

        try:
            with signals_handled(interrupt, interrupt_at_once) if signals else nullcontext():
                results = run(worker.waiting, worker.result, self.live, self._stopping, worker.policy.admission)
                async with aclosing(results):
                    async for item in results:
                        if isinstance(item, Failure):
                            worker.fail(item)
                            self._count_failure()
                        else:
                            self._count(worker.finish(*item.result))
        except asyncio.CancelledError:
            self._cancelled = not self._at_once
            worker.stop(CANCELLED if self._cancelled else INTERRUPTED)
        finally:
            with self._lock:
                self._loop = None
            ticking.cancel()
            # A report may fail, for example on a closed terminal: that does not keep the job from committing.
            await asyncio.gather(ticking, return_exceptions=True)
            self._watch()
        if self._cancelled or self._at_once or status.done + status.failed < status.total:
            status.stopped_by = worker.policy.stopped_by or self._reason or PILOT_OVER
            return "stopped"
        return "end"

    def _stop_asking(self) -> None:
        self._stopping.set()
        self.worker.stop(self._reason)

    def _limit(self) -> str:
        """The limit that is reached, in words, or an empty string."""
        status, seconds, policy = self._status, time.monotonic() - self._started, self.worker.policy
        hours = self.gpus * seconds / 3600 + status.earlier.get("gpu_hours", 0.0)
        cost = self.worker.price.cost(policy.paid, hours) if self.worker.price else None
        return self.limits.reached(policy.paid, cost, seconds / 3600, status.located)

    def _count(self, summary: Summary, resumed: bool = False) -> None:
        with self._lock:
            self._status.count(summary, resumed)

    def _count_failure(self) -> None:
        with self._lock:
            self._status.failed += 1

    def _watch(self) -> None:
        with self._lock:
            self._status.watch(self.worker.policy, self._started, self.gpus, self.worker.price)

    def _event(self, name: str, **more: object) -> None:
        """Write the numbers of the job into its events."""
        self._events.append({"event": name, "at": now(), **self._status.as_dict(), **more})

    def _show(self) -> None:
        """Report the status; a closed stream is not a failure of the job."""
        if self._report:
            with suppress(OSError, ValueError):
                self._report(self._status)

    async def _tick(self) -> None:
        written = time.monotonic()
        while True:
            await asyncio.sleep(REPORT_EVERY)
            self._watch()
            self._show()
            if time.monotonic() - written > EVENT_EVERY:
                self._event("progress")
                written = time.monotonic()


def search_runner(
    job: Job,
    config: SearchConfig,
    questions: Sequence[Question],
    dataset: Dataset,
    search: Search,
    policy: Backend,
    grader: Grader,
    *,
    reward: RewardBackend | None = None,
    price: Price | None = None,
    first: int | None = None,
    **running: Unpack[Running],
) -> Runner:
    """The runner of a search job that answers `questions` into `dataset`; `reward` guides the search, if it has one."""
    work, text = SearchWork(search, config.sampling()), config.rollout_text
    worker = Worker(job, questions, dataset, work, policy, grader, reward=reward, price=price, text=text, first=first)
    return Runner(worker, config, **running)


def run_label(
    job: Job,
    config: LabelConfig,
    questions: Sequence[Question],
    dataset: Dataset,
    labeler: Labeler,
    policy: Backend,
    grader: Grader,
    *,
    given: Mapping[str, Sequence[Solution]] | None = None,
    price: Price | None = None,
    first: int | None = None,
    **running: Unpack[Running],
) -> Status:
    """Label `questions` into `dataset` with models that are open; return the status at the end (`Runner.run`).

    Finished questions are skipped, and nothing that the journal holds is asked again. `given` are the solutions to
    label, by question id; without them the labeler samples its own. `first` bounds how many more questions are
    labelled. When a limit is reached nothing more is asked, and the job ends with `stopped_by` in its status.
    """
    work, text = LabelWork(labeler, given), config.rollout_text
    worker = Worker(job, questions, dataset, work, policy, grader, price=price, text=text, first=first)
    return Runner(worker, config, **running).run()
