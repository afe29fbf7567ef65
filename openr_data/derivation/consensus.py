"""Consensus filtering keeps the solutions on whose first error several methods agree, and lists the others.

Monte Carlo labels and those of a judge err in different ways (Qwen's "Lessons", arXiv 2501.07301). A solution is
therefore kept if all methods locate the same first error, or none. Stored labels are joined; no model is called.

A kept solution gets a label set of the method `consensus`: good up to the error, bad there, unlabelled after it. A
step before the error that no method judged stays unjudged. Values, counts and provenances up to the error come from
the first named method that has rollouts, else from the first method, so that they belong together. Reasons of steps
(`openr_data/reasons.py`) come from the first named method that has some. The job id is a hash of the label sets that
were joined: the same command adds nothing, whatever else was added to the dataset, and changed labels make another
job. SQL joins the label sets, in bounded memory.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..engine.versions import versions
from ..errors import UsageError
from ..evaluation.labels import MEMORY, Listed, listed_methods, select
from ..ids import config_id, label_id
from ..reasons import KEY as REASONS
from ..schema import LABELS, QUESTIONS, SOLUTIONS
from ..store import Dataset, Snapshot, View, query, storage
from ..store.refs import MAIN, now
from ..types import Provenance

METHOD: Final = "consensus"
NO_ERROR: Final = -1
"""The index that stands for "no error", as in ProcessBench."""
AT_ONCE: Final = 20_000
"""The most label sets in one transaction."""

_READ: Final = "questions solutions labels"


@dataclass(frozen=True, slots=True)
class Voter:
    """A method whose labels count, and the jobs in which it has labelled."""

    name: str
    method: str
    jobs: tuple[str, ...]


@dataclass(slots=True)
class Consensus:
    """The result in solutions: `kept` ones, `errors` of them with an error, and the discarded ones by reason.

    `added` counts the label sets that are new in the dataset; an earlier run wrote the others.
    """

    methods: tuple[str, ...]
    job_id: str
    kept: int = 0
    errors: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    added: int = 0
    snapshot: Snapshot | None = None

    @property
    def solutions(self) -> int:
        """The number of solutions that at least one of the methods has labelled."""
        return self.kept + self.discarded.total()


class Join:
    """The label sets of several methods of a snapshot, by solution; `found` counts what they agree on.

    `methods` are two or more names of methods, ids of jobs (the beginning is enough) or `method/job`. Raises
    `UnknownName`, `UsageError` if the names are ambiguous, and `StoreError` for a damaged file or the state that an
    interrupted regrade has left.
    """

    def __init__(self, view: View, methods: Sequence[str]) -> None:
        if view.ref == MAIN:
            view.dataset.check_whole()
        self._view = view
        self._connection = view.connect(_READ, MEMORY)
        self.voters = _voters(listed_methods(self._connection), methods)
        self._register("voters", _table(self.voters))
        _check_jobs(self._rows(_REPEATED), self.voters)
        names = tuple(item.name for item in self.voters)
        self.found = Consensus(names, config_id(self._inputs()))
        self._register("named", pa.table({"place": range(len(names)), "name": names}))
        self._execute(_JOINED.format(n=len(names)))
        for row in self._rows(_COUNTED):
            if row["kind"] == "kept":
                self.found.kept, self.found.errors = row["solutions"], row["with_error"]
            else:
                self.found.discarded[self._reason(row, in_full=False)] += row["solutions"]

    def _inputs(self) -> dict[str, Any]:
        digest = query.one(self._connection, _DIGEST)
        sets = [[item.method, *item.jobs] for item in self.voters]
        return {"consensus": self._view.dataset.name, "methods": sets, "digest": list(map(str, digest))}

    def discarded(self) -> Iterator[dict[str, Any]]:
        """Every solution that is not kept, with the reason and the first error by each method: an index, -1 or null."""
        for batch in self._batches(_DISCARDED):
            for row in batch.to_pylist():
                errors = dict(zip(row["places"], row["errors"], strict=True))
                yield {
                    "solution_id": row["solution_id"],
                    "question_id": row["question_id"],
                    "reason": self._reason(row, in_full=True),
                    "first_errors": {item.name: errors.get(place) for place, item in enumerate(self.voters)},
                }

    def _reason(self, row: Mapping[str, Any], *, in_full: bool) -> str:
        """The reason why a solution is not kept, without the numbers of steps, so that reasons can be counted."""
        first, second = (None if place is None else self.voters[place].name for place in (row["first"], row["second"]))
        match row["kind"]:
            case "absent":
                return f"not labelled by {first}"
            case "undecided":
                return f"{first} is undecided"
            case "unseen":
                return f"{first} sees an error where {second} sees none"
        if not in_full:
            return "different first errors"
        return f"{first} says step {row['errors'][row['first']]}, {second} says step {row['errors'][row['second']]}"

    def write(self, dataset: Dataset) -> None:
        """Write the kept solutions into a dataset, this one or another, as one snapshot; stored rows stay.

        A run that was killed is finished by the next one. Raises `StoreError`.
        """
        consensus, job = self.found, self.found.job_id
        with storage.lock(dataset.path / "consensus.lock", exclusive=True):
            dataset.check_whole()
            self._register("there", _written(dataset, job))
            # A run that was killed may have left solutions without their labels.
            again = dataset.committed("solutions", f"{job}/solutions") > 0
            if dataset.path != self._view.dataset.path:
                for batch in self._batches(_QUESTIONS):
                    dataset.add_questions(batch, f"{job}/questions", 1)
            for batch in self._batches(_KEPT):
                self._append(dataset, batch, again)
                consensus.added += batch.num_rows
            if consensus.added or not dataset.committed("jobs", f"{job}/end"):
                self._note_end(dataset)
            message = (
                f"{consensus.kept:,} of {consensus.solutions:,} solutions kept: {' and '.join(consensus.methods)} agree"
            )
            consensus.snapshot = dataset.snapshot("consensus", message, job)

    def _append(self, dataset: Dataset, batch: pa.Table, again: bool) -> None:
        job, n = self.found.job_id, batch.num_rows
        ids = [label_id(solution, METHOD, job) for solution in batch["solution_id"].to_pylist()]
        for name, values in (("job_id", [job] * n), ("method", [METHOD] * n), ("label_id", ids)):
            batch = batch.append_column(name, pa.array(values, pa.string()))
        batch = batch.append_column("revision", pa.array([0] * n, pa.int32()))
        labels = batch.select(LABELS.names)
        solutions = batch.drop_columns("metadata").rename_columns({"solution_metadata": "metadata"})
        with dataset.hold(exclusive=False):
            for table, rows in (("solutions", solutions.select(SOLUTIONS.names)), ("labels", labels)):
                app = f"{job}/{table}"
                supersedes = again and table == "solutions"
                dataset.append(table, rows, app, dataset.committed(table, app) + 1, supersedes=supersedes)

    def _note_end(self, dataset: Dataset) -> None:
        consensus = self.found
        sets = {item.name: [f"{item.method}/{job}" for job in item.jobs] for item in self.voters}
        config = {"dataset": self._view.dataset.name, "methods": sets}
        totals = {
            "kept": consensus.kept,
            "errors": consensus.errors,
            "discarded": dict(consensus.discarded),
            "added": consensus.added,
        }
        row = {
            "job_id": consensus.job_id,
            "kind": "consensus",
            "event": "end",
            "config": json.dumps(config),
            "versions": json.dumps(versions()),
            "totals": json.dumps(totals),
            "at": now(),
        }
        app = f"{consensus.job_id}/end"
        dataset.append("jobs", [row], app, dataset.committed("jobs", app) + 1)

    def _register(self, name: str, rows: pa.Table) -> None:
        self._connection.register(name, rows)

    def _execute(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except duckdb.Error as error:
            raise query.unreadable(error) from error

    def _rows(self, statement: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = query.arrow(self._connection, statement).to_pylist()
        return rows

    def _batches(self, statement: str) -> Iterator[pa.Table]:
        try:
            for batch in self._connection.sql(statement).to_arrow_reader(AT_ONCE):
                yield pa.Table.from_batches([batch])
        except duckdb.Error as error:
            raise query.unreadable(error) from error


def _voters(listed: Sequence[Listed], methods: Sequence[str]) -> tuple[Voter, ...]:
    """The methods that the words of the user name. Raises `UnknownName`, `UsageError`."""
    voters: list[Voter] = []
    for text in dict.fromkeys(methods):
        chosen = select(listed, text, "method")
        several = sorted({item.method for item in chosen})
        if len(several) > 1:
            raise UsageError(f"The job {text!r} holds several methods ({', '.join(several)}). Write METHOD/JOB.")
        name = text if text == several[0] else chosen[0].name
        voters.append(Voter(name, several[0], tuple(item.job_id for item in chosen)))
    sets = [(item.method, job) for item in voters for job in item.jobs]
    twice = next((place for place in sets if sets.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"The label sets of {'/'.join(twice)} are named twice: a method has one say.")
    if len(voters) < 2:
        there = ", ".join(sorted({item.name for item in listed})) or "none"
        raise UsageError(f"A consensus needs two methods or more: --methods A,B (there are: {there}).")
    return tuple(voters)


def _check_jobs(repeated: Sequence[Mapping[str, Any]], voters: Sequence[Voter]) -> None:
    """Raises `UsageError` if one method has labelled a solution in several jobs, because only one of them can count."""
    for row in repeated:
        voter = voters[row["place"]]
        raise UsageError(
            f"{voter.name} has labelled {row['solutions']:,} solutions in several jobs. Name the job that counts: "
            + " or ".join(f"{voter.method}/{job}" for job in row["jobs"])
        )


def _table(voters: Sequence[Voter]) -> pa.Table:
    rows = [(place, item.method, job) for place, item in enumerate(voters) for job in item.jobs]
    places, methods, jobs = zip(*rows, strict=True)
    return pa.table({"place": pa.array(places, pa.int32()), "method": methods, "job_id": jobs})


def _written(dataset: Dataset, job: str) -> pa.Table:
    """The solutions whose label sets an earlier run wrote."""
    connection = dataset.view().connect("labels")
    return query.arrow(connection, f"select solution_id from labels where job_id = '{job}'")


_REPEATED: Final = """
    select place, count(*) as solutions, list_sort(list_distinct(flatten(list(jobs)))) as jobs from (
        select place, solution_id, list(distinct job_id) as jobs
        from labels join voters using (method, job_id) group by place, solution_id having count(distinct job_id) > 1
    ) group by place order by place
"""

_DIGEST: Final = f"""
    select count(*), coalesce(sum(md5_number_lower(concat_ws('|', label_id, label::varchar, value::varchar,
           n_correct::varchar, n_rollouts::varchar, provenance::varchar,
           case when contains(metadata, '"{REASONS}"') then metadata end))::hugeint), 0)
    from labels join voters using (method, job_id)
"""

# If one method has several label sets in one job (an import of labels by several people), the set that judges most
# steps counts. Places number the methods from 0. A first error is null if the method is undecided: some step is not
# judged, and none is bad.
_JOINED: Final = f"""
    create table joined as with judged as (
        select distinct on (solution_id, place) solution_id, question_id, place, label_id,
               coalesce(first_error::int, case when list_count(label) = len(label) then {NO_ERROR} end) as error,
               coalesce(list_sum(n_rollouts), 0) > 0 as is_counted,
               list_filter(range(coalesce(first_error, 0)::bigint), lambda i: label[i + 1] is null) as unjudged
        from labels join voters using (method, job_id)
        order by solution_id, place, list_count(label) desc, label_id
    ), gathered as (
        select solution_id, any_value(question_id) as question_id, list(place order by place) as places,
               list(error order by place) as errors, list(label_id order by place) as label_ids,
               coalesce(min_by(label_id, place) filter (is_counted), min_by(label_id, place)) as source,
               list_reduce(list(unjudged order by place), lambda a, b: list_intersect(a, b)) as unjudged
        from judged group by solution_id
    ), placed as (
        select *, list_filter(range({{n}}), lambda i: not list_contains(places, i))[1] as absent,
               list_filter(range(len(places)), lambda i: errors[i + 1] is null)[1] as undecided,
               list_filter(range(len(places)), lambda i: errors[i + 1] = {NO_ERROR})[1] as clearing,
               list_filter(range(len(places)), lambda i: errors[i + 1] <> {NO_ERROR})[1] as blaming,
               list_filter(range(len(places)), lambda i: errors[i + 1] <> errors[1])[1] as differing
        from gathered
    )
    select solution_id, question_id, places, errors, label_ids, source, unjudged,
           case when absent is not null then 'absent' when undecided is not null then 'undecided'
                when differing is null then 'kept' when clearing is not null then 'unseen' else 'different' end as kind,
           case kind when 'absent' then absent when 'undecided' then undecided when 'unseen' then blaming
                     when 'different' then 0 end as first,
           case kind when 'unseen' then clearing when 'different' then differing end as second
    from placed
"""

_COUNTED: Final = f"""
    select kind, first, second, count(*) as solutions, count(*) filter (errors[1] <> {NO_ERROR}) as with_error
    from joined group by kind, first, second order by kind, first, second
"""

_DISCARDED: Final = """
    select solution_id, question_id, kind, first, second, places, errors
    from joined where kind <> 'kept' order by question_id, solution_id
"""

_QUESTIONS: Final = f"""
    select {", ".join(QUESTIONS.names)} from questions
    where question_id in (select question_id from joined where kind = 'kept')
"""

_KEPT: Final = f"""
    with agreed as (
        select * exclude (kind, first, second), errors[1] as error from joined anti join there using (solution_id)
        where kind = 'kept'
    ), reasoned as (
        select solution_id, min_by(said, place) as reasons
        from (
            select solution_id, place, len(label) as n,
                   try_cast(json_extract(metadata, '$.{REASONS}') as varchar[]) as said
            from (
                select solution_id, unnest(label_ids) as label_id, generate_subscripts(label_ids, 1) as place
                from agreed
            ) join labels using (label_id, solution_id)
            where contains(metadata, '"{REASONS}"') and json_valid(metadata)
        )
        where len(said) = n and len(list_filter(said, lambda x: trim(x) <> '')) > 0
        group by solution_id
    )
    select k.solution_id, k.question_id, s.steps, s.n_steps, s.final_answer, s.outcome, s.generator, s.n_tokens,
           s.metadata as solution_metadata, l.completer, l.node_id, nullif(k.error, {NO_ERROR}) as first_error,
           if(k.error = {NO_ERROR}, len(l.label), k.error + 1) as n_judged,
           list_transform(l.label, lambda x, i: case when i > n_judged or list_contains(k.unjudged, i - 1) then null
                                                     when i = k.error + 1 then -1 else 1 end) as label,
           list_transform(l.value, lambda x, i: case when i <= n_judged then x end) as value,
           list_transform(l.n_correct, lambda x, i: if(i <= n_judged, x, 0)) as n_correct,
           list_transform(l.n_rollouts, lambda x, i: if(i <= n_judged, x, 0)) as n_rollouts,
           list_transform(l.provenance, lambda x, i: if(i <= n_judged, x, {int(Provenance.INFERRED)})) as provenance,
           to_json({{'consensus': {{'methods': v.names, 'label_ids': k.label_ids}}}})::varchar as origin,
           list_transform(r.reasons, lambda x, i: case when i <= n_judged then x end) as said,
           if(said is null, origin, json_merge_patch(origin, json_object('{REASONS}', said)))::varchar as metadata
    from agreed k
    left join reasoned r on r.solution_id = k.solution_id
    cross join (select list(name order by place) as names from named) v
    join labels l on l.label_id = k.source
    join solutions s on s.solution_id = k.solution_id and s.job_id = l.job_id
    order by k.question_id, k.solution_id
"""
