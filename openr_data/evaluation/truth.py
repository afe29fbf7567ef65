"""Reads the truth about steps: from the oracle of a source, from people, or from a method that is taken at its word.

Truth is a table of `solution_id`, `label` and `first_error`, one row for each solution of the methods and jobs in the
table `contenders` (`method`, `job_id`) of the connection.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import MissingDependency, UnknownName
from ..labels import HardLabel, first_error
from ..registry import check, load
from ..schema import LABELS
from ..store import query
from ..store.rows import question_of
from ..types import Provenance, Question

ORACLE: Final = "oracle"
HUMAN: Final = "human"
AT_ONCE: Final = 5_000
"""Solutions in memory while an oracle judges them."""
BY_PEOPLE: Final = f"coalesce(list_contains(provenance, {int(Provenance.HUMAN)}), false)"
"""Whether people made a label set, as SQL."""

_SCHEMA: Final = pa.schema([(name, LABELS.field(name).type) for name in ("solution_id", "label", "first_error")])
_WANTED: Final = "select solution_id from labels join contenders using (method, job_id)"


@dataclass(frozen=True, slots=True)
class Truth:
    """The rows, the number of solutions by kind of truth (`counts`), and of those an oracle could not judge."""

    rows: pa.Table
    counts: Mapping[str, int]
    unreadable: int = 0


def oracles(connection: duckdb.DuckDBPyConnection, *, needed: bool) -> dict[str, Any]:
    """The sources of the dataset's questions that can judge a solution, by name.

    Raises `MissingDependency` for one that is not installed, but only if they are `needed`.
    """
    names = query.arrow(connection, "select distinct source from questions where source <> '' order by source")
    sources = {name: oracle_of(name, needed=needed) for name in names["source"].to_pylist()}
    return {name: source for name, source in sources.items() if source is not None}


def oracle_of(name: str, *, needed: bool) -> Any | None:
    """The source with this name, or None if it cannot judge a solution.

    Raises `MissingDependency` for one that is not installed, but only if it is `needed`.
    """
    try:
        check("source", name)
        kind = load("source", name)
    except UnknownName:
        return None
    except MissingDependency:
        if needed:
            raise
        return None
    return kind() if hasattr(kind, "judge") else None


def ask(source: Any, question: Question, steps: Sequence[str]) -> list[HardLabel] | None:
    """The labels that an oracle gives the steps, or None if it cannot judge them."""
    try:
        return list(source.judge(question, steps))
    except (LookupError, TypeError, ValueError):
        # The question bears the name of the source but was written elsewhere: the source lacks its own data about it.
        return None


def find_truth(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Any], methods: pa.Table | None, kind: str
) -> Truth:
    """The labels of the oracles, and for the other solutions those of `methods`, counted as truth of this `kind`.

    `methods` has `method`, `job_id` and `by_people`: if that is true, only the sets that people made count. Raises
    `StoreError` for a damaged file.
    """
    batches: list[pa.Table] = [_SCHEMA.empty_table()]
    unreadable = 0
    for batch, failed in _ask_oracles(connection, sources) if sources else ():
        batches.append(batch)
        unreadable += failed
    by_oracle = pa.concat_tables(batches)
    by_methods = _SCHEMA.empty_table()
    if methods is not None:
        connection.register("judges", methods)
        by_methods = query.arrow(connection, _BY_METHODS).cast(_SCHEMA)
        has_oracle = pc.is_in(by_methods["solution_id"], by_oracle["solution_id"].combine_chunks())
        by_methods = by_methods.filter(pc.invert(has_oracle))
    counted = {name: rows.num_rows for name, rows in ((ORACLE, by_oracle), (kind, by_methods)) if rows.num_rows}
    return Truth(pa.concat_tables([by_oracle, by_methods]), counted, unreadable)


def _ask_oracles(connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Any]) -> Iterator[tuple[pa.Table, int]]:
    """Judged solutions, some at a time, and the number of those that could not be judged."""
    connection.register("oracles", pa.table({"source": list(sources)}))
    try:
        for batch in connection.sql(_TO_JUDGE).to_arrow_reader(AT_ONCE):
            rows = batch.to_pylist()
            judged = [row for item in rows if (row := _ask(sources[item["source"]], item)) is not None]
            yield pa.Table.from_pylist(judged, schema=_SCHEMA), len(rows) - len(judged)
    except duckdb.Error as error:
        raise query.unreadable(error) from error


def _ask(source: Any, row: dict[str, Any]) -> dict[str, Any] | None:
    labels = ask(source, question_of(row), row["steps"])
    if labels is None:
        return None
    return {"solution_id": row["solution_id"], "label": labels, "first_error": first_error(labels)}


_TO_JUDGE: Final = f"""
    with wanted as (
        select solution_id, min(job_id) as job_id from solutions where solution_id in ({_WANTED}) group by solution_id
    )
    select solution_id, s.steps, q.*
    from wanted join solutions s using (solution_id, job_id) join questions q using (question_id)
    where source in (select source from oracles)
"""

# If several label sets judge a solution, the one that judges most of its steps counts.
_BY_METHODS: Final = f"""
    select distinct on (solution_id) solution_id, label, first_error
    from labels join judges using (method, job_id)
    where solution_id in ({_WANTED}) and (not by_people or {BY_PEOPLE})
    order by solution_id, list_count(label) desc, label_id
"""
