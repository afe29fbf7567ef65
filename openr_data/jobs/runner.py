"""Run a labeling job from where it stands to its end, or to a stop that loses nothing."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any

from ..checked_lines import CheckedLines
from ..config import as_dict
from ..engine.journal import Journal
from ..engine.ledger import JournaledPolicy
from ..engine.protocols import Grader, Labeler, Policy
from ..engine.scheduler import Failure, run
from ..errors import Interrupted, JobError, OpenRError
from ..store.dataset import Dataset
from ..store.refs import now
from ..store.spool import Spool
from ..types import Labeling, Question
from .job import Job, LabelConfig, versions
from .progress import Status, summary_of
from .rows import labeling_rows, question_row

EVENT_EVERY = 5.0
"""Seconds between two progress events in the job folder."""

Report = Callable[[Status], None]


def run_label(
    job: Job,
    config: LabelConfig,
    questions: Sequence[Question],
    dataset: Dataset,
    labeler: Labeler,
    policy: Policy,
    grader: Grader,
    *,
    live: int = 64,
    report: Report | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Status:
    """Label `questions` into `dataset`; return where the job ends.

    What is finished already is skipped, what the journal knows is not asked again. The first SIGINT or
    SIGTERM lets the live questions finish (`on_stop` is called), the second stops at once; both raise
    `Interrupted` after everything finished is committed. Raises `JobError` when the job runs elsewhere or
    its policy has changed, and `StoreError` when the disk fails; the job can then be resumed.
    """
    with job.lock():
        _check_same(job, policy, grader)
        events = job.open_events()
        try:
            return asyncio.run(
                _run(
                    _Work(job, config, questions, dataset, labeler, policy, grader, events),
                    live,
                    report,
                    on_stop,
                )
            )
        finally:
            events.close()


def _check_same(job: Job, policy: Policy, grader: Grader) -> None:
    began = job.described().get("run", {})
    for kind, name in (("policy", policy.name), ("grader", grader.name)):
        before = began.get(f"{kind}_revision", name)
        if before != name:
            raise JobError(
                f"The job {job.job_id} began with the {kind} {before}, now it is {name}: its labels would "
                f"mix two. Start a new job, for example with another --seed."
            )


class _Work:
    """Everything one run of a job holds."""

    def __init__(
        self,
        job: Job,
        config: LabelConfig,
        questions: Sequence[Question],
        dataset: Dataset,
        labeler: Labeler,
        policy: Policy,
        grader: Grader,
        events: CheckedLines,
    ) -> None:
        self.job, self.config, self.dataset = job, config, dataset
        self.labeler, self.grader, self.events = labeler, grader, events
        app = f"{job.job_id}/w0"
        dataset.add_questions((question_row(item) for item in questions), f"{app}/questions", 1)
        self.spool = Spool(job.path / "spool", dataset, app)
        self.failed = CheckedLines(job.path / "failed.jsonl")
        self.journal = Journal(job.path / "journal.jsonl")
        self.policy = JournaledPolicy(policy, self.journal)
        self.status = Status(job.job_id, len(questions))
        self.waiting = [item for item in questions if item.question_id not in self.spool.finished]
        for summary in self.spool.finished.values():
            self.status.count(summary, resumed=True)

    async def label(self, question: Question) -> Labeling:
        return await self.labeler.label(question, self.policy, self.grader)

    def finished(self, labeling: Labeling) -> None:
        """Acknowledge the result of one question."""
        summary = summary_of(labeling)
        rows = labeling_rows(
            labeling,
            self.job.job_id,
            self.labeler.method,
            self.policy.name,
            self.config.rollout_text,
        )
        self.spool.add(labeling.question_id, summary, rows)
        self.status.count(summary)

    def not_finished(self, failure: Failure[Question]) -> None:
        """Write down why a question failed; it is tried again when the job is resumed."""
        self.status.failed += 1
        reason = f"{type(failure.error).__name__}: {failure.error}"
        self.failed.append([failure.question.question_id, reason])

    def event(self, name: str, **more: Any) -> None:
        """Write down where the job stands."""
        self.events.append({"event": name, "at": now(), **self.status.as_dict(), **more})

    def close(self) -> None:
        """Close the files; what is finished stays acknowledged in the spool."""
        for file in (self.journal, self.failed):
            file.close()


async def _run(work: _Work, live: int, report: Report | None, on_stop: Callable[[], None] | None) -> Status:
    started = time.monotonic()
    stopping = asyncio.Event()
    status = work.status
    work.event("start", versions=versions())
    ticking = asyncio.ensure_future(_tick(work, report, started))
    outcome = "end"
    try:
        with _signals(stopping, on_stop):
            async with aclosing(run(work.waiting, work.label, live, stopping)) as finished:
                async for item in finished:
                    if isinstance(item, Failure):
                        work.not_finished(item)
                    else:
                        work.finished(item.result)
        if status.done + status.failed < status.total:
            outcome = "stopped"
    except asyncio.CancelledError:
        outcome = "stopped"
    except BaseException:
        outcome = "error"
        raise
    finally:
        ticking.cancel()
        # Whoever watches may have gone (a closed terminal): that must not keep the job from committing.
        await asyncio.gather(ticking, return_exceptions=True)
        status.watch(work.policy, started)
        try:
            work.spool.close()
            work.event(outcome)
            work.close()
        except OpenRError:
            # A full disk is told once, by the error that is already on its way.
            if outcome != "error":
                raise
    _tell(report, status)
    _conclude(work, outcome)
    if outcome == "stopped":
        raise Interrupted(
            f"Stopped. {status.done:,} of {status.total:,} questions are safe in {work.dataset.name}. "
            f"Continue with: openr-data jobs resume {work.job.job_id}"
        )
    return status


def _conclude(work: _Work, outcome: str) -> None:
    """Write the job's rows, the snapshot and, at the end, the result."""
    status, config = work.status, work.config
    done = outcome == "end"
    message = (
        f"{config.method} on {config.source}: {status.labelled} labelled, "
        f"{status.done - status.labelled} screened out, {status.failed} failed"
        + ("" if done else f", {status.total - status.done - status.failed} to go")
    )
    if done:
        app = f"{work.job.job_id}/end"
        if work.waiting or work.dataset.committed("jobs", app) == 0:
            work.dataset.append("jobs", [_job_row(work)], app, work.dataset.committed("jobs", app) + 1)
    snapshot = work.dataset.snapshot("label", message, work.job.job_id)
    if done and (work.waiting or work.job.result() is None):
        work.job.finish({"snapshot": snapshot.name, **status.as_dict()})


def _job_row(work: _Work) -> dict[str, Any]:
    return {
        "job_id": work.job.job_id,
        "kind": "label",
        "event": "end",
        "config": json.dumps(as_dict(work.config)),
        "versions": json.dumps(versions()),
        "totals": json.dumps(work.status.as_dict()),
        "at": now(),
    }


def _tell(report: Report | None, status: Status) -> None:
    """Show where the job stands; a stream that is closed is no failure of the job."""
    if report:
        with suppress(OSError, ValueError):
            report(status)


async def _tick(work: _Work, report: Report | None, started: float) -> None:
    written = started
    while True:
        await asyncio.sleep(0.5)
        work.status.watch(work.policy, started)
        _tell(report, work.status)
        if time.monotonic() - written > EVENT_EVERY:
            work.event("progress")
            written = time.monotonic()


@contextmanager
def _signals(stopping: asyncio.Event, on_stop: Callable[[], None] | None) -> Iterator[None]:
    """First signal: stop starting questions. Second: cancel the run."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def received() -> None:
        if stopping.is_set():
            task.cancel()
            return
        stopping.set()
        if on_stop:
            on_stop()

    handled = (signal.SIGINT, signal.SIGTERM)
    # Outside the main thread a loop takes no signals: then its owner stops it.
    with suppress(ValueError, RuntimeError, NotImplementedError):
        for number in handled:
            loop.add_signal_handler(number, received)
    try:
        yield
    finally:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            for number in handled:
                loop.remove_signal_handler(number)
