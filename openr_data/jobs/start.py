"""Start a planned job as the command line does: open its policy, its store and its dataset, then run it.

`run_plan` blocks until the job ends or stops; `run_plan_async` is the same for code that is in an event loop already,
such as a notebook.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..engine.prices import Price, find_price
from ..engine.protocols import Backend, Grader, Labeler
from ..store import Dataset, Store
from .estimate import donors
from .job import Job
from .limits import Limits
from .plan import Plan
from .progress import Status
from .runner import Report, run_label_async

PRICES: Final = "prices.toml"
"""The file of a store with the user's own prices."""

Progress = Callable[[str], AbstractContextManager[Report]]
"""Given the title of a job: shows its `Status` while it runs."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What shapes a run and not its result.

    `live` bounds the questions under way. `backend` and `reward` are live options of the policy's and the reward
    model's backend, for example `{"base_url": ["http://localhost:8000/v1"]}`. `gpus` counts those of a server, `prices`
    replaces the store's own price file, and `first` ends the run after that many more questions.
    """

    live: int = 256
    backend: Mapping[str, Any] = field(default_factory=dict)
    reward: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    gpus: int = 0
    prices: Path | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True)
class JobRun:
    """A job after its run, with its totals. `status` is None if the job was done before and nothing was run."""

    job: Job
    totals: Mapping[str, Any]
    status: Status | None = None

    @property
    def was_done(self) -> bool:
        """Whether the job was done before: no question was asked."""
        return self.status is None


@contextmanager
def silent(title: str) -> Iterator[Report]:
    """A progress display that shows nothing."""
    yield lambda status: None


def run_plan(
    where: str | Path,
    plan: Plan,
    running: RunOptions | None = None,
    *,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> JobRun:
    """Run a planned job in the store at `where` until it ends, reaches a limit or is stopped.

    A job that is done is returned as it is. The store is created once the policy is open. `announce` receives one line
    on what is about to run, `on_stop` is called on the first Ctrl-C. Raises what `run_label` raises, and what the
    policy's backend raises for a model that it cannot open.
    """
    if (done := done_job(where, plan.config.job_id())) is not None:
        return done
    # The policy is opened outside the event loop, where Ctrl-C interrupts the loading of a model.
    with _opened(where, plan, running or RunOptions(), announce) as opened, progress(opened.title) as report:
        return opened.ended(asyncio.run(opened.run(report, on_stop, signals=True)))


async def run_plan_async(
    where: str | Path,
    plan: Plan,
    running: RunOptions | None = None,
    *,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
) -> JobRun:
    """`run_plan` inside a running event loop. It leaves signals alone: cancel the task to stop the job."""
    if (done := done_job(where, plan.config.job_id())) is not None:
        return done
    with _opened(where, plan, running or RunOptions(), announce) as opened, progress(opened.title) as report:
        return opened.ended(await opened.run(report, None, signals=False))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A job with everything that it runs on."""

    plan: Plan
    running: RunOptions
    job: Job
    dataset: Dataset
    policy: Backend
    labeler: Labeler
    grader: Grader
    price: Price | None

    @property
    def title(self) -> str:
        return f"{self.plan.config.method} → {self.plan.config.into}"

    async def run(self, report: Report, on_stop: Callable[[], None] | None, signals: bool) -> Status:
        return await run_label_async(
            self.job,
            self.plan.config,
            self.plan.questions,
            self.dataset,
            self.labeler,
            self.policy,
            self.grader,
            given=self.plan.given,
            live=self.running.live,
            limits=self.running.limits,
            price=self.price,
            gpus=self.running.gpus,
            first=self.running.first,
            report=report,
            on_stop=on_stop,
            signals=signals,
        )

    def ended(self, status: Status) -> JobRun:
        return JobRun(self.job, self.job.result() or status.as_dict(), status)


@contextmanager
def _opened(
    where: str | Path, plan: Plan, running: RunOptions, announce: Callable[[str], None] | None
) -> Iterator[_Opened]:
    config = plan.config
    labeler = plan.labeler()
    price = price_of(where, plan, running)
    running.limits.check(price is not None)
    if announce:
        announce(
            f"{config.method} on {plan.read} ({len(plan.questions):,} questions) → {config.into}, job {config.job_id()}"
        )
    with closing(plan.grader()) as grader, closing(plan.policy(**running.backend)) as policy:
        store = Store.open(where, create=True)
        dataset = store.dataset(config.into, create=True)
        began: dict[str, Any] = {"policy_revision": policy.name, "grader_revision": grader.name, "read": plan.read}
        if config.reuse:
            began["reuse"] = donors(store, config, policy.name)
        job = Job.create(store, config, {**began, **running.backend})
        yield _Opened(plan, running, job, dataset, policy, labeler, grader, price)


def done_job(where: str | Path, job_id: str) -> JobRun | None:
    """The job if it is done without a failed question, else None."""
    store = Store.at(where)
    job = next((job for job in Job.all(store) if job.job_id == job_id), None) if store else None
    result = job.result() if job else None
    return JobRun(job, result) if job and result and not result["failed"] else None


def price_of(where: str | Path, plan: Plan, running: RunOptions) -> Price | None:
    """The price of a job's policy: in the file that `running` names or that of the store, else in the catalog."""
    own = Path(where) / PRICES
    files = [running.prices] if running.prices else [own] if own.is_file() else []
    return find_price(plan.config.policy, running.backend.get("base_url", ()), files)
