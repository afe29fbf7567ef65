"""From layers of options to a planned job: its configuration, questions, method, policy and grader."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final

from ..config import build, resolve
from ..engine.protocols import Backend, Grader, Labeler, RewardBackend, Search
from ..engine.reward import open_reward
from ..errors import JobError, UnknownName, UsageError
from ..grading.graders import check_grader, load_grader
from ..models import model_entry
from ..registry import LABELERS, SEARCHES, SOURCES, check, load
from ..store import Store
from ..store.refs import MAIN, DatasetName
from ..types import Budget, Question, Solution
from .config import CONFIGS, LABEL, SEARCH, JobConfig, LabelConfig, SearchConfig
from .job import Job
from .questions import questions_digest, read_given, read_questions
from .recipe import Expected

SAMPLING: Final = ("temperature", "top_p", "max_tokens")
"""Options of the sampling, which `-o` takes beside those of the method."""
FIXED: Final = ("options", "questions", "reward_revision")
"""Fields of a configuration that the plan sets and a layer does not."""


@dataclass(frozen=True)
class Plan:
    """A resolved job: its configuration, its questions, and the snapshot they were read from.

    `given` are the solutions to label, by question id; it is empty for a job that samples its own.
    """

    config: JobConfig
    questions: tuple[Question, ...]
    read: str
    given: Mapping[str, tuple[Solution, ...]] = field(default_factory=dict)

    @cached_property
    def algorithm(self) -> Labeler | Search:
        """The labeler or the search with its options, made once."""
        kind = load(self.config.registered_as, self.config.method)
        algorithm: Labeler | Search = kind(build(kind.config_type, self.config.options), self.config.sampling())
        return algorithm

    def labeler(self) -> Labeler:
        """The labeler of a labeling job. Raises `UsageError` for another kind."""
        if isinstance(self.config, SearchConfig):
            raise UsageError(f"{self.config.method} is a search: it labels no steps.")
        return self.algorithm  # type: ignore[return-value]

    def search(self) -> Search:
        """The search of a search job. Raises `UsageError` for another kind."""
        if not isinstance(self.config, SearchConfig):
            raise UsageError(f"{self.config.method} is a labeler, not a search.")
        return self.algorithm  # type: ignore[return-value]

    def grader(self) -> Grader:
        """The grader by name."""
        return load_grader(self.config.grader)

    def policy(self, **live: Any) -> Backend:
        """The policy of the backend; `live` are options that do not change its answers. Raises `UsageError`."""
        kind = load("policy", self.config.backend)
        names = getattr(kind, "live_options", tuple(live))
        for name in live:
            if name not in names:
                raise UsageError(
                    f"The backend {self.config.backend!r} has no option --{name.replace('_', '-')}. "
                    "See: openr-data label --help"
                )
        policy: Backend = kind(self.config.policy, **live)
        return policy

    def reward(self, **live: Any) -> RewardBackend | None:
        """The reward model that guides a search, or None; `live` are options that change no score."""
        config = self.config
        if not isinstance(config, SearchConfig) or not config.reward:
            return None
        return open_reward(config.reward_backend, config.reward, config.reward_format, live, "eval search")

    def pinned(self, reward: RewardBackend | None) -> "Plan":
        """The plan with the revision of its reward model in its configuration, and so in the id of its job.

        Raises `JobError` if the job began with another revision.
        """
        if reward is None or not isinstance(self.config, SearchConfig):
            return self
        began = self.config.reward_revision or reward.name
        if began != reward.name:
            raise JobError(
                f"The job {self.config.job_id()} began with the reward model {began}, now it is {reward.name}: its "
                "trees would mix two. Start a new job, for example with another --seed."
            )
        pinned = Plan(self.config.changed(reward_revision=began), self.questions, self.read, self.given)
        # The search stays the one that was made: its options are the same.
        pinned.__dict__["algorithm"] = self.algorithm
        return pinned

    def budget(self) -> Budget:
        """The worst case over all questions."""
        if self.config.kind == SEARCH:
            return sum((self.search().budget() for _ in self.questions), Budget(0, 0, 0))
        labeler = self.labeler()
        budgets = (labeler.budget(item, self.given.get(item.question_id, ())) for item in self.questions)
        return sum(budgets, Budget(0, 0, 0))


def plan(
    store: Store | None,
    layers: Sequence[Mapping[str, Any]],
    overrides: Mapping[str, Any],
    expected: Expected | None = None,
) -> Plan:
    """Resolve a job from layers (recipe, TOML file, flags; later ones win) and `-o` overrides.

    A layer holds fields of `LabelConfig` or `SearchConfig`, depending on its method, and tables of options by method.
    `store` is None if there is none yet. With `expected` the plan of a missing dataset can be estimated, but not
    run. Raises `UsageError` and `UnknownName`.
    """
    method = _needed(layers, "method", "--method")
    kind = SEARCH if method in SEARCHES else LABEL
    of_method = load(CONFIGS[kind].registered_as, method)
    policy = _needed(layers, "policy", "--policy")
    _needed(layers, "source", "a dataset")
    entry = model_entry(policy)
    config = resolve(
        CONFIGS[kind],
        [
            {name: getattr(entry, name) for name in SAMPLING},
            # Every option stands in the configuration, so that a job keeps its meaning when a default changes.
            {"options": {}},
            *_layers(layers, method, CONFIGS[kind], of_method.config_type),
            *_overrides(overrides, method, of_method.config_type),
        ],
        what=f"option of a {kind} job",
        parts={"options": of_method.config_type},
    )
    check("policy", config.backend)
    check_grader(config.grader)
    needs_data = config.order or (isinstance(config, LabelConfig) and config.given_solutions)
    if config.source in SOURCES and needs_data and store and config.source in store.names():
        # Solutions and measurements are those of the dataset of that name.
        config = config.changed(source=f"{config.source}@{MAIN}")
    _check_method(of_method, config)
    if expected and DatasetName.parse(config.source).name not in {*SOURCES, *(store.names() if store else ())}:
        questions, given = expected.content()
        read = f"{config.source} (not in this store yet)"
    else:
        questions, read = read_questions(store, config)
        given = read_given(store, config, read, questions)
    into = DatasetName.parse(config.into or DatasetName.parse(config.source).name)
    if into.ref != MAIN:
        raise UsageError(f"A job writes to the newest state of a dataset: --into {into.name}, without @.")
    pinned = config.changed(into=into.name, questions=questions_digest(questions, given))
    return Plan(pinned, tuple(questions), read, given)


def resumed(store: Store, job: Job) -> Plan:
    """The plan of an existing job, with its questions read from the snapshot it read them from.

    Raises `JobError` if they are no longer the same.
    """
    config = job.config()
    read = job.described().get("run", {}).get("read", config.source)
    questions, read = read_questions(store, config.changed(source=read))
    given = read_given(store, config, read, questions)
    if questions_digest(questions, given) != config.questions:
        command = "label" if config.kind == LABEL else "eval search"
        raise JobError(
            f"{read} no longer holds the questions the job {job.job_id} began with. Start a new job with: "
            f"openr-data {command} {config.source}"
        )
    return Plan(config, tuple(questions), read, given)


def _needed(layers: Iterable[Mapping[str, Any]], name: str, how: str) -> str:
    """The last value of a field that every job has. Raises `UsageError` where no layer has one."""
    value = ""
    for layer in layers:
        value = layer.get(name, value)
    if not value:
        raise UsageError(f"A label job needs {how}. See: openr-data label --help")
    return value


def _layers(
    layers: Iterable[Mapping[str, Any]], method: str, config_type: type, options_type: type
) -> list[dict[str, Any]]:
    """Layers with the options of the method under `options` and those of other methods left out."""
    names = {item.name for item in fields(config_type)} - set(FIXED)
    resolvable: list[dict[str, Any]] = []
    for layer in layers:
        values: dict[str, Any] = {}
        for key, value in layer.items():
            if isinstance(value, Mapping):
                if key not in {*LABELERS, *SEARCHES, method}:
                    raise UnknownName("method", key, {*LABELERS, *SEARCHES})
                if key == method:
                    values["options"] = value
            elif key in names:
                values[key] = value
            elif key != "summary":
                raise UnknownName(f"option of a {config_type.kind} job", key, names)  # type: ignore[attr-defined]
        resolvable.append(values)
    return resolvable


def _overrides(overrides: Mapping[str, Any], method: str, options_type: type) -> list[dict[str, Any]]:
    """`-o` overrides as layers: of the sampling, and of the method."""
    names = {item.name for item in fields(options_type)}
    for key in overrides:
        if key not in names and key not in SAMPLING:
            raise UnknownName(f"option of {method}", key, {*names, *SAMPLING})
    return [
        {key: value for key, value in overrides.items() if key in SAMPLING},
        {"options": {key: value for key, value in overrides.items() if key not in SAMPLING}},
    ]


def _check_method(kind: Any, config: JobConfig) -> None:
    given = isinstance(config, LabelConfig) and config.given_solutions
    if getattr(kind, "needs_given", False) and not given:
        raise UsageError(
            f"The method {config.method} judges solutions that are there. Name a dataset that has some, and add "
            "--given-solutions."
        )
    if getattr(kind, "needs_reward", False) and not (isinstance(config, SearchConfig) and config.reward):
        raise UsageError(f"The search {config.method} is guided by a reward model. Name one with --reward.")
    if isinstance(config, SearchConfig) and config.reward and kind.independent:
        raise UsageError(
            f"The search {config.method} draws independent samples: no reward model takes part in it. Choose among its "
            "candidates with: openr-data eval search --reward MODEL"
        )
    if config.source in SOURCES and (given or config.order):
        raise UsageError(
            f"{config.source} is a source of questions alone: it has no solutions and no measurements. Name a dataset "
            f"instead, for example the one that `openr-data label {config.source}` writes."
        )
