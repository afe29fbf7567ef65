"""From what the user asked to a job: layers of options, the questions, the labeler, the policy."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Final

from ..config import as_dict, build
from ..engine.protocols import Backend, Grader, Labeler
from ..errors import JobError, UnknownName, UsageError
from ..grading.graders import check_grader, load_grader
from ..ids import content_hash
from ..models import model_entry
from ..registry import LABELERS, SEARCHES, SOURCES, catalog_entry, check, load
from ..store import Store
from ..store.query import quoted
from ..store.refs import MAIN, DatasetName
from ..store.rows import question_of, solution_of
from ..types import Budget, Question, Sampling, Solution, Verdict
from .job import Job, LabelConfig
from .search_labeler import SearchLabeler

READ_AT_ONCE: Final = 10_000
"""Solutions that are turned from columns into rows at a time."""

_ORDERS: Final = {
    "": "order by question_id",
    # The chance that two rollouts of a question end differently, from those it has: of what is known to be solved, or
    # never solved, there is little to learn.
    "uncertain": """
        left join (
            select question_id as measured, sum(n_correct) as c, sum(n_rollouts) as n
            from prefixes where depth = 0 group by 1
        ) on measured = question_id
        order by (coalesce(c, 0) + 1) * (coalesce(n - c, 0) + 1) / ((coalesce(n, 0) + 2) * (coalesce(n, 0) + 3)) desc,
                 question_id
    """,
}
"""In which order the questions of a dataset are taken."""

SAMPLING = ("temperature", "top_p", "max_tokens")
"""Options of the sampling, which `-o` takes beside those of the labeler."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved job: its configuration, its questions, and the snapshot they were read from.

    `given` are the solutions to label, by question id, where the job does not sample its own.
    """

    config: LabelConfig
    questions: tuple[Question, ...]
    read: str
    given: Mapping[str, tuple[Solution, ...]] = field(default_factory=dict)

    def labeler(self) -> Labeler:
        """The labeler with its options, or the search as one (`search.py`)."""
        kind = _kind(self.config.method)
        sampling = Sampling(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_tokens=self.config.max_tokens,
            seed=self.config.seed,
        )
        made = kind(build(kind.config_type, self.config.options), sampling)
        labeler: Labeler = SearchLabeler(made, sampling) if self.config.method in SEARCHES else made
        return labeler

    def grader(self) -> Grader:
        """The grader by name."""
        return load_grader(self.config.grader)

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
            total += labeler.budget(question, self.given.get(question.question_id, ()))
        return total


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe of the catalogs: a job's `layer`, and what it stands between.

    `needs` says how its questions come into the store, `then` what its labels are for; `expected` is about what it
    will find (`Expected`), so that its cost can be told beforehand.
    """

    name: str
    layer: Mapping[str, Any]
    needs: str = ""
    then: str = ""
    expected: "Expected | None" = None


@dataclass(frozen=True, slots=True)
class Expected:
    """About what a dataset holds that is not there yet: how many, and how long at most."""

    questions: int
    question_bytes: int
    solutions: int = 0
    solution_bytes: int = 0

    def content(self) -> tuple[list[Question], dict[str, tuple[Solution, ...]]]:
        """Stand-ins, to count with."""
        text, steps = "?" * self.question_bytes, ("?" * self.solution_bytes,)
        questions = [Question(f"expected-{i}", text, "?", "expected") for i in range(self.questions)]
        some = tuple(Solution(f"{i}", "", steps, None, Verdict.UNKNOWN) for i in range(self.solutions))
        return questions, {item.question_id: some for item in questions} if some else {}


def recipe(name: str) -> Recipe:
    """A recipe of the catalogs. Raises `UnknownName`."""
    found = tomllib.loads(catalog_entry("recipe", "recipes", name, ".toml"))
    found.pop("summary", None)
    expected = found.pop("expected", None)
    needs, then = found.pop("needs", ""), found.pop("then", "")
    return Recipe(name, found, needs, then, build(Expected, expected) if expected else None)


def plan(
    store: Store | None,
    layers: Sequence[Mapping[str, Any]],
    overrides: Mapping[str, Any],
    expected: Expected | None = None,
) -> Plan:
    """Resolve a job from layers (recipe, TOML file, flags; later ones win) and `-o` overrides.

    A layer holds fields of `LabelConfig` and one table of options by method. `store` None means that
    there is none yet. With `expected` a plan is made, to count with and not to run, also where its dataset is not
    there. Raises `UsageError` and `UnknownName` for what does not exist.
    """
    flat: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    names = {item.name for item in fields(LabelConfig)} - {"options", "questions"}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                if key not in {*LABELERS, *SEARCHES}:
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
    kind = _kind(flat["method"])
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
    if base.source in SOURCES and (base.given_solutions or base.order) and store and base.source in store.names():
        # Solutions and measurements are those of the dataset of that name.
        base = base.changed(source=f"{base.source}@{MAIN}")
    _check_method(kind, base)
    if expected and DatasetName.parse(base.source).name not in {*SOURCES, *(store.names() if store else ())}:
        questions, given = expected.content()
        read = f"{base.source} (not in this store yet)"
    else:
        questions, read = read_questions(store, base)
        given = read_given(store, base, read, questions)
    into = DatasetName.parse(base.into or DatasetName.parse(base.source).name)
    if into.ref != MAIN:
        raise UsageError(f"A job writes to the newest state of a dataset: --into {into.name}, without @.")
    pinned = base.changed(into=into.name, questions=questions_digest(questions, given))
    return Plan(pinned, tuple(questions), read, given)


def _kind(method: str) -> Any:
    return load("search" if method in SEARCHES else "labeler", method)


def _check_method(kind: Any, config: LabelConfig) -> None:
    if getattr(kind, "needs_given", False) and not config.given_solutions:
        raise UsageError(
            f"The method {config.method} judges solutions that are there. Name a dataset that has some, and add "
            "--given-solutions."
        )
    if config.source in SOURCES and (config.given_solutions or config.order):
        raise UsageError(
            f"{config.source} is a source of questions alone: it has no solutions and no measurements. Name a dataset "
            f"instead, for example the one that `openr-data label {config.source}` writes."
        )


def questions_digest(questions: Sequence[Question], given: Mapping[str, Sequence[Solution]] | None = None) -> str:
    """16 hex digits over a set of questions, and over the solutions that are given with them."""
    solutions = sorted(item.solution_id for items in (given or {}).values() for item in items)
    return content_hash("questions", *sorted(item.question_id for item in questions), *solutions)[:16]


def resumed(store: Store, job: Job) -> Plan:
    """The plan of a job that exists, with its questions read from where it read them.

    Raises `JobError` when they are no longer the same.
    """
    config = job.config()
    read = job.described().get("run", {}).get("read", config.source)
    questions, read = read_questions(store, config.changed(source=read))
    given = read_given(store, config, read, questions)
    if questions_digest(questions, given) != config.questions:
        raise JobError(
            f"{read} no longer holds the questions the job {job.job_id} began with. Start a new job with: "
            f"openr-data label {config.source}"
        )
    return Plan(config, tuple(questions), read, given)


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
    told = [f"split = '{quoted(config.split)}'"] if config.split else []
    if config.given_solutions:
        told.append("question_id in (select question_id from solutions)")
    where = f"where {' and '.join(told)}" if told else ""
    rows = view.sql(f"select q.* from (select * from questions {where}) q {_ORDERS[config.order]}").to_pylist()
    if not rows:
        which = " with solutions" if config.given_solutions else ""
        raise UsageError(
            f"{config.source} has no questions{which}{' of the split ' + config.split if config.split else ''}."
        )
    return [question_of(row) for row in rows[:limit]], read


def read_given(
    store: Store | None, config: LabelConfig, read: str, questions: Sequence[Question]
) -> dict[str, tuple[Solution, ...]]:
    """The solutions that a job is to label, each once, by question id; empty where it samples its own."""
    if not config.given_solutions or store is None:
        return {}
    wanted = {item.question_id for item in questions}
    rows = store.view(read).sql(
        "select distinct on (question_id, solution_id) * from solutions order by question_id, solution_id, job_id"
    )
    found: dict[str, list[Solution]] = {}
    for batch in rows.to_batches(max_chunksize=READ_AT_ONCE):
        for row in batch.to_pylist():
            if row["question_id"] in wanted:
                found.setdefault(row["question_id"], []).append(solution_of(row))
    return {name: tuple(items) for name, items in found.items()}
