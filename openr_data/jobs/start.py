"""Start a planned job as the command line does: open its policy, its store and its dataset, then run it.

`run_plan` blocks until the job ends or stops; `run_plan_async` is the same for code that is in an event loop already,
such as a notebook.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack

from ..engine.prices import Price, find_price
from ..engine.protocols import Backend, Grader, RewardBackend
from ..store import Dataset, Store
from .config import SearchConfig
from .estimate import donors
from .job import Job
from .label import LabelWork
from .limits import Limits
from .plan import Plan
from .plan import plan as plan_job
from .progress import Status
from .recipe import Recipe
from .recipe import recipe as recipe_of
from .runner import Report, Runner
from .search import SearchWork
from .worker import Work, Worker

PRICES: Final = "prices.toml"
"""The file of a store with the user's own prices."""

_REWARD: Final = "reward_"
"""What the live options of a reward model begin with in `job.toml`."""

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


class LabelOptions(TypedDict, total=False):
    """Fields of a labeling job (`LabelConfig`), the `recipe` under them, and `options` of the method and sampling."""

    method: str
    recipe: str
    into: str
    backend: str
    grader: str
    split: str
    source_seed: int
    limit: int
    seed: int
    rollout_text: bool
    reuse: bool
    given_solutions: bool
    order: Literal["", "uncertain"]
    options: Mapping[str, str | float | bool]


def label(
    source: str = "",
    policy: str = "",
    *,
    store: str | Path = "openr-store",
    running: RunOptions | None = None,
    **job: Unpack[LabelOptions],
) -> JobRun:
    """Label the steps of solutions to the questions of `source`, as `openr-data label` does.

    Raises what `plan` and `run_plan` raise.
    """
    return run_plan(store, _label_plan(store, {"source": source, "policy": policy, **job}), running)


async def label_async(
    source: str = "",
    policy: str = "",
    *,
    store: str | Path = "openr-store",
    running: RunOptions | None = None,
    **job: Unpack[LabelOptions],
) -> JobRun:
    """`label` inside a running event loop: await it in a notebook, cancel its task to stop the job."""
    return await run_plan_async(store, _label_plan(store, {"source": source, "policy": policy, **job}), running)


def _label_plan(store: str | Path, job: dict[str, Any]) -> Plan:
    options, name = job.pop("options", {}), job.pop("recipe", "")
    return plan_job(Store.at(store), label_layers([job], name)[0], options)


def label_layers(layers: Sequence[Mapping[str, Any]], name: str = "") -> tuple[list[Mapping[str, Any]], Recipe | None]:
    """The layers of a labeling job over those of a recipe, and the recipe.

    Empty values of a layer are left out. Without a source and a recipe the job is that of the arithmetic world; without
    a method it is labelled by `adaptive`.
    """
    set_layers = [{key: value for key, value in layer.items() if value != ""} for layer in layers]
    source = next((layer["source"] for layer in reversed(set_layers) if "source" in layer), "arithmetic")
    begun = recipe_of(name or "arithmetic") if name or source == "arithmetic" else None
    default = {"method": "adaptive"}
    return [default, *([begun.layer] if begun else []), *set_layers], begun


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
    if (done := done_plan(where, plan)) is not None:
        return done
    # The models are opened outside the event loop, where Ctrl-C interrupts the loading.
    with open_job(where, plan, running, announce=announce) as opened, progress(opened.title) as report:
        return opened.ended(opened.runner(report, on_stop).run())


async def run_plan_async(
    where: str | Path,
    plan: Plan,
    running: RunOptions | None = None,
    *,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
) -> JobRun:
    """`run_plan` inside a running event loop. It leaves signals alone: cancel the task to stop the job."""
    if (done := done_plan(where, plan)) is not None:
        return done
    with open_job(where, plan, running, announce=announce) as opened, progress(opened.title) as report:
        return opened.ended(await opened.runner(report).run_async())


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A planned job with its dataset and the models that it runs on."""

    plan: Plan
    running: RunOptions
    job: Job
    dataset: Dataset
    policy: Backend
    reward: RewardBackend | None
    grader: Grader
    price: Price | None

    @property
    def title(self) -> str:
        """Method and dataset, for a progress display."""
        return f"{self.plan.config.method} → {self.plan.config.into}"

    def runner(self, report: Report | None = None, on_stop: Callable[[], None] | None = None) -> Runner:
        """A runner of the job, which another thread may stop."""
        plan, config, running = self.plan, self.plan.config, self.running
        search = isinstance(config, SearchConfig)
        work: Work = SearchWork(plan.search(), config.sampling()) if search else LabelWork(plan.labeler(), plan.given)
        worker = Worker(
            self.job,
            plan.questions,
            self.dataset,
            work,
            self.policy,
            self.grader,
            reward=self.reward,
            price=self.price,
            text=config.rollout_text,
            first=running.first,
        )
        live, limits, gpus = running.live, running.limits, running.gpus
        return Runner(worker, config, live=live, limits=limits, gpus=gpus, report=report, on_stop=on_stop)

    def ended(self, status: Status) -> JobRun:
        """The job after a run."""
        return JobRun(self.job, self.job.result() or status.as_dict(), status)


@contextmanager
def open_job(
    where: str | Path,
    plan: Plan,
    running: RunOptions | None = None,
    *,
    announce: Callable[[str], None] | None = None,
) -> Iterator[OpenJob]:
    """Open the models of a planned job, and its dataset in the store at `where`; leaving closes the models."""
    running = running or RunOptions()
    price = price_of(where, plan, running)
    running.limits.check(price is not None)
    with ExitStack() as models:
        grader = models.enter_context(closing(plan.grader()))
        reward = plan.reward(**running.reward)
        if reward is not None:
            models.enter_context(closing(reward))
            plan = plan.pinned(reward)
        config = plan.config
        if announce:
            announce(
                f"{config.method} on {plan.read} ({len(plan.questions):,} questions) → {config.into}, "
                f"job {config.job_id()}"
            )
        policy = models.enter_context(closing(plan.policy(**running.backend)))
        store = Store.open(where, create=True)
        dataset = store.dataset(config.into, create=True)
        began: dict[str, Any] = {"policy_revision": policy.name, "grader_revision": grader.name, "read": plan.read}
        if reward is not None:
            began["reward_revision"] = reward.name
        if config.reuse:
            began["reuse"] = donors(store, config, policy.name)
        began |= {f"{_REWARD}{name}": value for name, value in running.reward.items()}
        job = Job.create(store, config, {**began, **running.backend})
        yield OpenJob(plan, running, job, dataset, policy, reward, grader, price)


def began_reward(began: Mapping[str, Any]) -> dict[str, Any]:
    """The live options of the reward model that a job began with, from the table `run` of its `job.toml`."""
    names = {name.removeprefix(_REWARD): value for name, value in began.items() if name.startswith(_REWARD)}
    return {name: value for name, value in names.items() if name != "revision"}


def done_plan(where: str | Path, plan: Plan) -> JobRun | None:
    """The job of a plan if it is done without a failed question, else None.

    A search whose reward model is not pinned yet has no job: its id depends on the revision of the model.
    """
    config = plan.config
    if isinstance(config, SearchConfig) and config.reward and not config.reward_revision:
        return None
    store, job_id = Store.at(where), config.job_id()
    job = next((job for job in Job.all(store) if job.job_id == job_id), None) if store else None
    result = job.result() if job else None
    return JobRun(job, result) if job and result and not result["failed"] else None


def price_of(where: str | Path, plan: Plan, running: RunOptions) -> Price | None:
    """The price of a job's policy: in the file that `running` names or that of the store, else in the catalog."""
    own = Path(where) / PRICES
    files = [running.prices] if running.prices else [own] if own.is_file() else []
    return find_price(plan.config.policy, running.backend.get("base_url", ()), files)
