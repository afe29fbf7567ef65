"""The questions of a job, and the solutions it is given with them, read from a source or a snapshot."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from ..errors import UnknownName, UsageError
from ..ids import content_hash
from ..registry import SOURCES, load
from ..store import Store
from ..store.query import quoted
from ..store.refs import MAIN, DatasetName
from ..store.rows import question_of, solution_of
from ..types import Question, Solution
from .config import JobConfig, LabelConfig

READ_AT_ONCE: Final = 10_000
"""Solutions that are turned from columns into rows at a time."""

_ORDERS: Final = {
    "": "order by question_id",
    # The probability that two rollouts of a question end differently, estimated from its rollouts: a question that is
    # always or never solved teaches little.
    "uncertain": """
        left join (
            select question_id as measured, sum(n_correct) as c, sum(n_rollouts) as n
            from prefixes where depth = 0 group by 1
        ) on measured = question_id
        order by (coalesce(c, 0) + 1) * (coalesce(n - c, 0) + 1) / ((coalesce(n, 0) + 2) * (coalesce(n, 0) + 3)) desc,
                 question_id
    """,
}
"""The order in which the questions of a dataset are taken."""


def questions_digest(questions: Sequence[Question], given: Mapping[str, Sequence[Solution]] | None = None) -> str:
    """16 hex digits over a set of questions, and over the solutions that are given with them."""
    solutions = sorted(solution.solution_id for items in (given or {}).values() for solution in items)
    return content_hash("questions", *sorted(question.question_id for question in questions), *solutions)[:16]


def read_questions(store: Store | None, config: JobConfig) -> tuple[list[Question], str]:
    """The questions of a job, and the name of the snapshot (or the source) they come from."""
    limit = config.limit or None
    if config.source in SOURCES:
        source = load("source", config.source)()
        if limit is None:
            raise UsageError(
                f"The source {config.source} is endless: name the number of questions with --limit, for example 64."
            )
        stream = source.read(split=config.split or "test", seed=config.source_seed)
        return list(islice(stream, limit)), config.source
    if store is None:
        raise UnknownName("dataset or source", config.source, SOURCES)
    wanted = DatasetName.parse(config.source)
    if wanted.ref == MAIN and wanted.name not in store.names():
        raise UnknownName("dataset or source", wanted.name, {*store.names(), *SOURCES})
    # `main` means its newest snapshot, so that what running jobs write meanwhile is not read.
    read = config.source
    snapshots = store.dataset(wanted.name).snapshots()
    if wanted.ref == MAIN and snapshots:
        read = f"{wanted.name}@{snapshots[-1].name}"
    conditions = [f"split = '{quoted(config.split)}'"] if config.split else []
    given = isinstance(config, LabelConfig) and config.given_solutions
    if given:
        conditions.append("question_id in (select question_id from solutions)")
    where = f"where {' and '.join(conditions)}" if conditions else ""
    order = _ORDERS[config.order]
    rows = store.view(read).sql(f"select q.* from (select * from questions {where}) q {order}").to_pylist()
    if not rows:
        which = " with solutions" if given else ""
        raise UsageError(
            f"{config.source} has no questions{which}{' of the split ' + config.split if config.split else ''}."
        )
    return [question_of(row) for row in rows[:limit]], read


def read_given(
    store: Store | None, config: JobConfig, read: str, questions: Sequence[Question]
) -> dict[str, tuple[Solution, ...]]:
    """The solutions that a job labels, each once, by question id; empty for a job that samples its own."""
    if not isinstance(config, LabelConfig) or not config.given_solutions or store is None:
        return {}
    wanted = {question.question_id for question in questions}
    rows = store.view(read).sql(
        "select distinct on (question_id, solution_id) * from solutions order by question_id, solution_id, job_id"
    )
    solutions: dict[str, list[Solution]] = {}
    for batch in rows.to_batches(max_chunksize=READ_AT_ONCE):
        for row in batch.to_pylist():
            if row["question_id"] in wanted:
                solutions.setdefault(row["question_id"], []).append(solution_of(row))
    return {name: tuple(items) for name, items in solutions.items()}
