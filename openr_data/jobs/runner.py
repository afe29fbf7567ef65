"""Run a labeling job from where it stands to its end, or to a stop that loses nothing."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, nullcontext, suppress
from typing import Any

from ..checked_lines import CheckedLines
from ..config import as_dict
from ..engine.accounts import Account
from ..engine.journal import Journal
from ..engine.ledger import JournaledPolicy
from ..engine.prices import Price
from ..engine.protocols import Backend, Grader, Labeler
from ..engine.request_keys import question_key
from ..engine.reuse import Rollouts
from ..engine.scheduler import Failure, run
from ..errors import Interrupted, JobError, OpenRError
from ..store import Dataset
from ..store.refs import now
from ..store.rows import labeling_rows, question_row
from ..store.spool import Spool
from ..types import Labeling, Question, Solution
from .job import Job, LabelConfig, versions
from .limits import Limits
from .progress import Status, summary_of
from .spending import spending_row

EVENT_EVERY = 5.0
"""Seconds between two progress events in the job folder."""

INTERRUPTED = "it was interrupted"

Report = Callable[[Status], None]


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
    live: int = 256,
    limits: Limits | None = None,
    price: Price | None = None,
    gpus: int = 0,
    first: int | None = None,
    report: Report | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Status:
    """Label `questions` into `dataset`; return where the job ends. `run_label_async` is the form for a running loop.

    What is finished already is skipped, what the journal knows is not asked again. `given` are the solutions to label,
    by question id, where the labeler is not to sample its own. `live` bounds the questions under
    way. Where `limits` are reached nothing more is asked and the job ends as far as it is, with `stopped_by` in its
    status; `gpus` are those behind a server (a local policy counts its own), and with `first` only so many more
    questions are labelled. The first SIGINT or SIGTERM waits for the requests under way (`on_stop` is called), the
    second stops at once; both raise `Interrupted` after everything finished is committed. Raises `UsageError`
    for a limit of money without a price, `JobError` when the job runs elsewhere or its policy has changed, and
    `StoreError` when the disk fails; the job can then be resumed.
    """
    return asyncio.run(
        run_label_async(
            job,
            config,
            questions,
            dataset,
            labeler,
            policy,
            grader,
            given=given,
            live=live,
            limits=limits,
            price=price,
            gpus=gpus,
            first=first,
            report=report,
            on_stop=on_stop,
            signals=True,
        )
    )


async def run_label_async(
    job: Job,
    config: LabelConfig,
    questions: Sequence[Question],
    dataset: Dataset,
    labeler: Labeler,
    policy: Backend,
    grader: Grader,
    *,
    given: Mapping[str, Sequence[Solution]] | None = None,
    live: int = 256,
    limits: Limits | None = None,
    price: Price | None = None,
    gpus: int = 0,
    first: int | None = None,
    report: Report | None = None,
    on_stop: Callable[[], None] | None = None,
    signals: bool = False,
) -> Status:
    """`run_label` as a coroutine. It takes SIGINT and SIGTERM only with `signals`; cancel its task to stop it."""
    limits = limits or Limits()
    limits.check(price is not None)
    with job.lock():
        _check_same(job, policy, grader)
        events = job.open_events()
        try:
            work = _Work(
                job,
                config,
                questions,
                dataset,
                labeler,
                policy,
                grader,
                given or {},
                events,
                limits,
                price,
                gpus,
                first,
            )
            return await _run(work, live, report, on_stop, signals)
        finally:
            events.close()


def _check_same(job: Job, policy: Backend, grader: Grader) -> None:
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
        policy: Backend,
        grader: Grader,
        given: Mapping[str, Sequence[Solution]],
        events: CheckedLines,
        limits: Limits,
        price: Price | None,
        gpus: int,
        first: int | None,
    ) -> None:
        self.job, self.config, self.dataset = job, config, dataset
        self.labeler, self.grader, self.given, self.events = labeler, grader, given, events
        self.limits, self.price, self.gpus = limits, price, gpus or policy.gpus
        self.started = time.monotonic()
        app = f"{job.job_id}/w0"
        dataset.add_questions((question_row(item) for item in questions), f"{app}/questions", 1)
        self.spool = Spool(job.path / "spool", dataset, app)
        self.failed = CheckedLines(job.path / "failed.jsonl")
        self.journal = Journal(job.path / "journal.bin", {question_key(name) for name in self.spool.finished})
        self.rollouts = self._reused(questions)
        self.policy = JournaledPolicy(policy, self.journal, self.rollouts, self._limit if limits else None)
        self.status = Status(job.job_id, len(questions), max_cost=limits.max_cost)
        self.status.go_on(job.last_event())
        self._age = 0
        self.waiting = [item for item in questions if item.question_id not in self.spool.finished]
        self.waiting = self.waiting[:first]
        for summary in self.spool.finished.values():
            self.status.count(summary, resumed=True)

    def _reused(self, questions: Sequence[Question]) -> Rollouts | None:
        """What the jobs pinned as donors have drawn for the questions that are not finished."""
        donors = self.job.described().get("run", {}).get("reuse", [])
        if not donors:
            return None
        waiting = {question_key(item.question_id) for item in questions} - {
            question_key(name) for name in self.spool.finished
        }
        return Rollouts([self.job.path.parent / name / "journal.bin" for name in donors], waiting)

    def _limit(self) -> str:
        status, seconds = self.status, time.monotonic() - self.started
        hours = self.gpus * seconds / 3600 + status.earlier.get("gpu_hours", 0.0)
        cost = self.price.cost(self.policy.paid, hours) if self.price else None
        return self.limits.reached(self.policy.paid, cost, seconds / 3600, status.located)

    def watch(self) -> None:
        """Bring the status up to date."""
        self.status.watch(self.policy, self.started, self.gpus, self.price)

    async def label(self, question: Question) -> tuple[Labeling, Account]:
        """Label one question on its own account."""
        self._age += 1
        with self.policy.account(question.question_id, self._age) as account:
            given = self.given.get(question.question_id, ())
            labeling = await self.labeler.label(question, self.policy, self.grader, given)
        return labeling, account

    def finished(self, labeling: Labeling, account: Account) -> None:
        """Acknowledge the result of one question."""
        summary = summary_of(labeling)
        rows = labeling_rows(
            labeling,
            self.job.job_id,
            self.labeler.method,
            self.policy.name,
            self.config.rollout_text,
        )
        spent = spending_row(self.job.job_id, labeling.question_id, summary, account, self.price)
        self.spool.add(labeling.question_id, summary, {**rows, "jobs": [spent]})
        self.policy.forget(labeling.question_id)
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
        if self.rollouts is not None:
            self.rollouts.close()


async def _run(
    work: _Work, live: int, report: Report | None, on_stop: Callable[[], None] | None, signals: bool
) -> Status:
    stopping = asyncio.Event()
    status = work.status
    work.watch()
    work.event("start", versions=versions())
    ticking = asyncio.ensure_future(_tick(work, report))

    def stop() -> None:
        stopping.set()
        work.policy.stop(INTERRUPTED)
        if on_stop:
            on_stop()

    outcome = "end"
    try:
        with _signals(stopping, stop) if signals else nullcontext():
            async with aclosing(run(work.waiting, work.label, live, stopping, work.policy.admission)) as finished:
                async for item in finished:
                    if isinstance(item, Failure):
                        work.not_finished(item)
                    else:
                        work.finished(*item.result)
        if status.done + status.failed < status.total:
            outcome = "stopped"
    except asyncio.CancelledError:
        outcome = "stopped"
        work.policy.stop(INTERRUPTED)
    except BaseException:
        outcome = "error"
        raise
    finally:
        ticking.cancel()
        # Whoever watches may have gone (a closed terminal): that must not keep the job from committing.
        await asyncio.gather(ticking, return_exceptions=True)
        work.watch()
        if outcome == "stopped":
            status.stopped_by = work.policy.stopped_by or (INTERRUPTED if stopping.is_set() else "the pilot is over")
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
    if outcome == "stopped" and status.stopped_by == INTERRUPTED:
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
    event = "end" if done else "stop"
    app = f"{work.job.job_id}/{event}"
    if work.waiting or work.dataset.committed("jobs", app) == 0:
        work.dataset.append("jobs", [_job_row(work, event)], app, work.dataset.committed("jobs", app) + 1)
    snapshot = work.dataset.snapshot("label", message, work.job.job_id)
    if done and (work.waiting or work.job.result() is None):
        work.job.finish({"snapshot": snapshot.name, **status.as_dict()})


def _job_row(work: _Work, event: str) -> dict[str, Any]:
    return {
        "job_id": work.job.job_id,
        "kind": "label",
        "event": event,
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


async def _tick(work: _Work, report: Report | None) -> None:
    written = time.monotonic()
    while True:
        await asyncio.sleep(0.5)
        work.watch()
        _tell(report, work.status)
        if time.monotonic() - written > EVENT_EVERY:
            work.event("progress")
            written = time.monotonic()


@contextmanager
def _signals(stopping: asyncio.Event, stop: Callable[[], None]) -> Iterator[None]:
    """First signal: ask for nothing more. Second: cancel the run."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def received() -> None:
        if stopping.is_set():
            task.cancel()
            return
        stop()

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
