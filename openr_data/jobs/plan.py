"""From what the user asked to a job: layers of options, the questions, the labeler, the policy."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from ..config import as_dict, build
from ..engine.protocols import Backend, Grader, Labeler
from ..errors import JobError, UnknownName, UsageError
from ..grading.graders import check_grader, load_grader
from ..ids import content_hash
from ..models import model_entry
from ..registry import LABELERS, SOURCES, catalog_names, catalog_text, check, load
from ..store.dataset import Store
from ..store.refs import MAIN, DatasetName
from ..types import Budget, Question, Sampling
from .job import Job, LabelConfig
from .rows import question_of

SAMPLING = ("temperature", "top_p", "max_tokens")
"""Options of the sampling, which `-o` takes beside those of the labeler."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved job: its configuration, its questions, and the snapshot they were read from."""

    config: LabelConfig
    questions: tuple[Question, ...]
    read: str

    def labeler(self) -> Labeler:
        """The labeler with its options."""
        kind = load("labeler", self.config.method)
        sampling = Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            seed=self.config.seed,
        )
        labeler: Labeler = kind(build(kind.config_type, self.config.options), sampling)
        return labeler

    def grader(self) -> Grader:
        """The grader by name."""
        grader: Grader = load_grader(self.config.grader)
        return grader

    def policy(self, **live: Any) -> Backend:
        """The policy of the backend; `live` are options that do not change its answers. Raises `UsageError`."""
        kind = load("policy", self.config.backend)
        known = getattr(kind, "live_options", tuple(live))
        for name in live:
            if name not in known:
                raise UsageError(
                    f"The backend {self.config.backend!r} has no option --{name.replace('_', '-')}. "
                    "See: openr-data label --help"
                )
        policy: Backend = kind(self.config.policy, **live)
        return policy

    def budget(self) -> Budget:
        """The worst case over all questions."""
        labeler, total = self.labeler(), Budget(0, 0, 0)
        for question in self.questions:
            total += labeler.budget(question)
        return total


def recipe(name: str) -> dict[str, Any]:
    """A recipe of the catalogs. Raises `UnknownName`."""
    names = catalog_names("recipes", ".toml")
    if name not in names:
        raise UnknownName("recipe", name, names)
    return tomllib.loads(catalog_text(f"recipes/{name}.toml"))


def plan(store: Store | None, layers: Sequence[Mapping[str, Any]], overrides: Mapping[str, Any]) -> Plan:
    """Resolve a job from layers (recipe, TOML file, flags; later ones win) and `-o` overrides.

    A layer holds fields of `LabelConfig` and one table of options by method. `store` None means that
    there is none yet. Raises `UsageError` and `UnknownName` for what does not exist.
    """
    flat: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    names = {item.name for item in fields(LabelConfig)} - {"options", "questions"}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                if key not in LABELERS:
                    raise UnknownName("method", key, LABELERS)
                tables.setdefault(key, {}).update(value)
            elif key in names:
                flat[key] = value
            elif key != "summary":
                raise UnknownName("option of a label job", key, names)
    for needed, how in (("source", "a dataset"), ("policy", "--policy"), ("method", "--method")):
        if not flat.get(needed):
            raise UsageError(f"A label job needs {how}. See: openr-data label --help")
    entry = model_entry(flat["policy"])
    kind = load("labeler", flat["method"])
    known = {item.name for item in fields(kind.config_type)}
    options = dict(tables.get(flat["method"], {}))
    for key, value in overrides.items():
        if key in SAMPLING:
            flat[key] = value
        elif key in known:
            options[key] = value
        else:
            raise UnknownName(f"option of {flat['method']}", key, {*known, *SAMPLING})
    resolved = as_dict(build(kind.config_type, options))
    sampling = {name: getattr(entry, name) for name in SAMPLING}
    base = build(LabelConfig, sampling, flat, {"options": resolved})
    check("policy", base.backend)
    check_grader(base.grader)
    questions, read = read_questions(store, base)
    into = DatasetName.parse(base.into or DatasetName.parse(base.source).name)
    if into.ref != MAIN:
        raise UsageError(f"A job writes to the newest state of a dataset: --into {into.name}, without @.")
    return Plan(base.changed(into=into.name, questions=questions_digest(questions)), tuple(questions), read)


def questions_digest(questions: Sequence[Question]) -> str:
    """16 hex digits over a set of questions."""
    return content_hash("questions", *sorted(item.question_id for item in questions))[:16]


def resumed(store: Store, job: Job) -> Plan:
    """The plan of a job that exists, with its questions read from where it read them.

    Raises `JobError` when they are no longer the same.
    """
    config = job.config()
    read = job.described().get("run", {}).get("read", config.source)
    questions, read = read_questions(store, config.changed(source=read))
    if questions_digest(questions) != config.questions:
        raise JobError(
            f"{read} no longer holds the questions the job {job.job_id} began with. Start a new job with: "
            f"openr-data label {config.source}"
        )
    return Plan(config, tuple(questions), read)


def read_questions(store: Store | None, config: LabelConfig) -> tuple[list[Question], str]:
    """The questions of a job, and the name of the snapshot (or the source) they come from."""
    limit = config.limit or None
    if config.source in SOURCES:
        source = load("source", config.source)()
        if limit is None:
            raise UsageError(
                f"The source {config.source} is endless: say how many questions with --limit, for example 64."
            )
        stream = source.read(split=config.split or "test", seed=config.source_seed)
        return list(islice(stream, limit)), config.source
    if store is None:
        raise UnknownName("dataset or source", config.source, SOURCES)
    wanted = DatasetName.parse(config.source)
    if wanted.ref == MAIN and wanted.name not in store.names():
        raise UnknownName("dataset or source", wanted.name, {*store.names(), *SOURCES})
    # `main` means its newest snapshot: what other jobs are writing meanwhile has no part in this one.
    read = config.source
    snapshots = store.dataset(wanted.name).snapshots()
    if wanted.ref == MAIN and snapshots:
        read = f"{wanted.name}@{snapshots[-1].name}"
    view = store.view(read)
    where = f"where split = '{config.split.replace(chr(39), chr(39) * 2)}'" if config.split else ""
    rows = view.sql(f"select * from questions {where} order by question_id").to_pylist()
    if not rows:
        raise UsageError(f"{config.source} has no questions{' of the split ' + config.split if where else ''}.")
    return [question_of(row) for row in rows[:limit]], read
