"""Compares the quality and the cost of labeling methods, from a snapshot and without a policy.

A contender is the label sets of one method in one job. SQL counts them, so they never come into memory one by one; an
oracle alone is asked in Python, some solutions at a time (`truth.py`). `label_figures.py` defines the figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ..errors import UnknownName, UsageError
from ..labels import Agreement
from ..store import View, query
from ..store.refs import DatasetName
from .label_figures import Bin, Calibration, Contender, MethodComparison, Pair, Quality, Share
from .truth import BY_PEOPLE, HUMAN, ORACLE, find_truth, oracles

if TYPE_CHECKING:
    import duckdb

BINS: Final = 10
"""Of equal width, for the calibration of values."""
MEMORY: Final = "2GB"
SHORT: Final = 6
"""Hex digits of a job in the name of a contender, if they are enough to distinguish all of them."""

_READ: Final = "questions solutions labels jobs question_costs"


def compare(view: View, methods: Sequence[str] = (), truth: str = "") -> MethodComparison:
    """Compare methods of a snapshot, by default all but the labels of people.

    `methods` are names of methods, ids of jobs (the beginning is enough) or `method/job`; `truth` is "oracle", "human"
    or one of those, by default the oracle if the questions have one, else people. Raises `UsageError` if nothing is
    labelled, `UnknownName` for a method or a truth that the snapshot lacks.
    """
    name = str(DatasetName(view.dataset.name, view.ref))
    connection = view.connect(_READ, MEMORY)
    listed = listed_methods(connection)
    if not listed:
        raise UsageError(
            f"{name} has no labels to compare. Label it with: openr-data label {view.dataset.name} --method omegaprm"
        )
    sources = oracles(connection, needed=truth == ORACLE) if truth in ("", ORACLE) else {}
    judges = judges_of(connection, listed, truth, bool(sources))
    chosen = list(dict.fromkeys(item for text in methods for item in select(listed, text, "method")))
    chosen = chosen or [item for item in listed if not item.by_people and item not in judges]
    if not chosen:
        raise UsageError(
            f"{name} has no labels beside those of people and the truth itself. Name what to compare with --methods "
            f"(there are: {', '.join(item.name for item in listed)})."
        )
    connection.register("contenders", method_table(chosen))
    true_labels = find_truth(connection, sources, method_table(judges) if judges else None, truth or HUMAN)
    contenders = _contenders(connection, chosen)
    if true_labels.rows.num_rows:
        connection.register("truth", true_labels.rows)
        qualities = _qualities(connection)
        contenders = [replace(item, quality=qualities.get(i, item.quality)) for i, item in enumerate(contenders)]
    pairs = tuple(_pairs(connection, chosen))
    return MethodComparison(name, true_labels.counts, tuple(contenders), pairs, true_labels.unreadable)


@dataclass(frozen=True, slots=True)
class Listed:
    """A method in a job that has label sets, under the name of its contender."""

    name: str
    method: str
    job_id: str
    by_people: bool


def listed_methods(connection: "duckdb.DuckDBPyConnection") -> list[Listed]:
    """Every method of a dataset in every job of it, by name; with several jobs a method is `METHOD/JOB`."""
    rows = _rows(
        connection,
        f"select method, job_id, bool_or({BY_PEOPLE}) as by_people "
        "from labels group by method, job_id order by method, job_id",
    )
    jobs: dict[str, list[str]] = {}
    for row in rows:
        jobs.setdefault(row["method"], []).append(row["job_id"])
    return [Listed(_name(row["method"], row["job_id"], jobs[row["method"]]), **row) for row in rows]


def _name(method: str, job: str, jobs: Sequence[str]) -> str:
    if len(jobs) == 1:
        return method
    length = next(n for n in range(SHORT, len(job) + SHORT) if sum(job[:n] == item[:n] for item in jobs) == 1)
    return f"{method}/{job[:length]}"


def select(listed: Sequence[Listed], text: str, kind: str, more: Sequence[str] = ()) -> list[Listed]:
    """The methods in jobs that a word of the user names. Raises `UnknownName`, `UsageError` for several jobs."""
    matches = [item for item in listed if text == item.method] or [item for item in listed if text == item.name]
    if not matches and text:
        method, slash, job = text.rpartition("/")
        matches = [item for item in listed if item.job_id.startswith(job) and (not slash or item.method == method)]
        jobs = sorted({item.job_id for item in matches})
        if len(jobs) > 1:
            raise UsageError(f"{text!r} begins several jobs ({', '.join(jobs)}). Write more of the id.")
    if not matches:
        raise UnknownName(kind, text, {*(item.method for item in listed), *(item.name for item in listed), *more})
    return matches


def judges_of(
    connection: "duckdb.DuckDBPyConnection", listed: Sequence[Listed], truth: str, has_oracle: bool
) -> list[Listed]:
    """The methods in jobs whose label sets are the truth. Raises `UnknownName`."""
    people = [item for item in listed if item.by_people]
    if truth in ("", HUMAN) and people:
        return people
    if not truth or (truth == ORACLE and has_oracle):
        return []
    return select(listed, truth, "truth", [ORACLE] if oracles(connection, needed=False) else [])


def method_table(rows: Sequence[Listed]) -> pa.Table:
    """The table of methods in jobs that `find_truth` and its `contenders` expect."""
    return pa.table(
        {
            "place": pa.array(range(len(rows)), pa.int32()),
            "method": pa.array([item.method for item in rows], pa.string()),
            "job_id": pa.array([item.job_id for item in rows], pa.string()),
            "by_people": pa.array([item.by_people for item in rows], pa.bool_()),
        }
    )


def _contenders(connection: "duckdb.DuckDBPyConnection", chosen: Sequence[Listed]) -> list[Contender]:
    contenders = [Contender(item.name, item.method, item.job_id) for item in chosen]
    for statement in (_LABELLED, _SPENT):
        for row in _rows(connection, statement):
            place = row.pop("place")
            contenders[place] = replace(contenders[place], **row)
    return contenders


def _qualities(connection: "duckdb.DuckDBPyConnection") -> dict[int, Quality]:
    qualities: dict[int, Quality] = {}
    for row in _rows(connection, _SOLUTIONS):
        qualities[row["place"]] = Quality(
            row["solutions"],
            row["undecided"],
            Share(row["hits"], row["erroneous"]),
            Share(row["cleared"], row["correct"]),
        )
    binned: dict[int, list[dict[str, Any]]] = {}
    for row in _rows(connection, _STEPS):
        binned.setdefault(row["place"], []).append(row)
    for place, rows in binned.items():
        cells = {name: sum(row[name] for row in rows) for name in ("true_bad", "false_bad", "missed_bad", "true_good")}
        valued = [row for row in rows if row["bin"] is not None]
        qualities[place] = replace(qualities[place], **cells, calibration=_calibration(valued))
    return qualities


def _calibration(rows: Sequence[Mapping[str, Any]]) -> Calibration | None:
    steps = sum(row["n"] for row in rows)
    if not steps:
        return None
    bins = tuple(
        Bin(row["bin"] / BINS, (row["bin"] + 1) / BINS, row["n"], row["total"] / row["n"], row["good"] / row["n"])
        for row in rows
    )
    ece = sum(item.n * abs(item.mean_value - item.good) for item in bins) / steps
    return Calibration(steps, ece, sum(row["squares"] for row in rows) / steps, bins)


def _pairs(connection: "duckdb.DuckDBPyConnection", chosen: Sequence[Listed]) -> Iterator[Pair]:
    rows = {(row.pop("place"), row.pop("other")): row for row in _rows(connection, _AGREEMENT)}
    for i, first in enumerate(chosen):
        for j, second in enumerate(chosen[i + 1 :], i + 1):
            if (row := rows.get((i, j))) is None:
                yield Pair(first.name, second.name)
                continue
            same = Share(row.pop("same"), row.pop("decided"))
            yield Pair(first.name, second.name, row.pop("solutions"), Agreement(**row), same)


def _rows(connection: "duckdb.DuckDBPyConnection", statement: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query.arrow(connection, statement).to_pylist()
    return rows


_UNDECIDED: Final = "{0}.first_error is null and list_count({0}.label) < len({0}.label)"
"""Whether a label set has an unjudged step and no bad one, as SQL."""

_LABELLED: Final = """
    select place, count(distinct question_id) as questions, count(*) as label_sets,
           sum(list_count(label))::bigint as steps,
           sum(len(list_filter(label, lambda x: x = 1)))::bigint as good,
           sum(len(list_filter(label, lambda x: x = -1)))::bigint as bad,
           sum(len(label) - list_count(label))::bigint as unjudged,
           count(distinct node_id[first_error + 1]) as located
    from labels join contenders using (method, job_id) group by place
"""

# The cost in the events of a job adds up over its runs and includes GPU hours, which belong to no single question.
_SPENT: Final = """
    with asked as (
        select job_id, sum(calls)::bigint as calls, sum(completion_tokens)::bigint as tokens, sum(cost) as cost,
               any_value(currency) as currency
        from question_costs group by job_id
    ), paid as (
        select job_id, max(cost) as cost, any_value(nullif(currency, '')) as currency from jobs group by job_id
    )
    select place, calls, tokens, greatest(asked.cost, paid.cost) as cost,
           coalesce(paid.currency, asked.currency, '') as currency
    from contenders left join asked using (job_id) left join paid using (job_id)
"""

_PAIRED: Final = f"""
    select place, l.label, l.value, l.first_error, t.first_error as true_error, t.label as truth,
           coalesce(t.first_error + 1, len(t.label)) as known,
           {_UNDECIDED.format("l")} as undecided, {_UNDECIDED.format("t")} as is_open
    from labels l join contenders using (method, job_id)
    join truth t on t.solution_id = l.solution_id and len(t.label) = len(l.label)
"""

_SOLUTIONS: Final = f"""
    select place, count(*) as solutions, count(*) filter (undecided) as undecided,
           count(*) filter (true_error is not null) as erroneous,
           count(*) filter (first_error = true_error) as hits,
           count(*) filter (true_error is null and not is_open) as correct,
           count(*) filter (true_error is null and not is_open and first_error is null and not undecided) as cleared
    from ({_PAIRED}) group by place
"""

# A value is a single float: 0.7 of it is a little less than 0.7, and belongs into the bin from 0.7 on.
_STEPS: Final = f"""
    with placed as (
        select place, unnest(label[:known]) as label, unnest(value[:known]) as value, unnest(truth[:known]) as truth
        from ({_PAIRED})
    ), judged as (
        select place, label = -1 as bad, truth = -1 as wrong,
               case when value between 0 and 1 then value::double end as value
        from placed where truth is not null
    )
    select place, case when value is not null then least(floor(round(value * {BINS}, 5)), {BINS - 1})::int end as bin,
           count(*) filter (bad and wrong) as true_bad, count(*) filter (bad and not wrong) as false_bad,
           count(*) filter (not bad and wrong) as missed_bad, count(*) filter (not bad and not wrong) as true_good,
           count(value) as n, sum(value) as total, count(*) filter (not wrong) as good,
           sum((value - (not wrong)::int) ** 2) as squares
    from judged group by place, bin order by place, bin
"""

_AGREEMENT: Final = f"""
    with sets as (
        select place, solution_id, label, first_error, {_UNDECIDED.format("l")} as undecided
        from labels l join contenders using (method, job_id)
    ), paired as (
        select a.place as place, b.place as other, a.solution_id, not (a.undecided or b.undecided) as decided,
               a.first_error is not distinct from b.first_error as same,
               unnest(a.label) as label_a, unnest(b.label) as label_b, unnest(range(len(a.label))) as step_index
        from sets a join sets b
          on a.solution_id = b.solution_id and a.place < b.place and len(a.label) = len(b.label)
    )
    select place, other, count(distinct solution_id) as solutions,
           count(*) filter (label_a is not null and label_b is not null) as steps,
           count(*) filter (label_a = 1 and label_b = 1) as both_good,
           count(*) filter (label_a = -1 and label_b = -1) as both_bad,
           count(*) filter (label_a = 1 and label_b = -1) as good_bad,
           count(*) filter (label_a = -1 and label_b = 1) as bad_good,
           count(*) filter (label_a = label_b) as agreeing,
           count(*) filter (step_index = 0 and decided) as decided,
           count(*) filter (step_index = 0 and decided and same) as same
    from paired group by place, other
"""
