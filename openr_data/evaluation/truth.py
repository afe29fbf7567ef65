"""Who knows which steps are wrong: the oracle of a source, people, or a method that is taken at its word.

Truth is a table of `solution_id`, `label` and `first_error`, one row a solution. It is asked for the solutions of the
table `contenders` (`method`, `job_id`) that the connection has.
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
    """The rows, how many solutions each kind of truth judges, and how many an oracle should have but could not."""

    rows: pa.Table
    told: Mapping[str, int]
    unreadable: int = 0


def oracles(connection: duckdb.DuckDBPyConnection, *, needed: bool) -> dict[str, Any]:
    """The sources of the dataset's questions that can judge a solution, by name.

    Raises `MissingDependency` for one that is not installed, only where they are `needed`.
    """
    asked = query.arrow(connection, "select distinct source from questions where source <> '' order by source")
    found = {name: oracle_of(name, needed=needed) for name in asked["source"].to_pylist()}
    return {name: source for name, source in found.items() if source is not None}


def oracle_of(name: str, *, needed: bool) -> Any | None:
    """The source with this name, where it can judge a solution.

    Raises `MissingDependency` for one that is not installed, only where it is `needed`.
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
    """What an oracle says of the steps, or None where it cannot judge them."""
    try:
        return list(source.judge(question, steps))
    except (LookupError, TypeError, ValueError):
        # A question that came from elsewhere under the name of the source, without what the source knows of its own.
        return None


def find_truth(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Any], methods: pa.Table | None, kind: str
) -> Truth:
    """What the oracles say, and of the rest what the label sets of `methods` say, which are told as this kind.

    `methods` has `method`, `job_id` and `by_people`: where that is true only the sets that people made count. Raises
    `StoreError` for a damaged file.
    """
    found: list[pa.Table] = [_SCHEMA.empty_table()]
    unreadable = 0
    for batch, failed in _ask_oracles(connection, sources) if sources else ():
        found.append(batch)
        unreadable += failed
    by_oracle = pa.concat_tables(found)
    told = _SCHEMA.empty_table()
    if methods is not None:
        connection.register("judges", methods)
        told = query.arrow(connection, _TOLD).cast(_SCHEMA)
        told = told.filter(pc.invert(pc.is_in(told["solution_id"], by_oracle["solution_id"].combine_chunks())))
    counted = {name: rows.num_rows for name, rows in ((ORACLE, by_oracle), (kind, told)) if rows.num_rows}
    return Truth(pa.concat_tables([by_oracle, told]), counted, unreadable)


def _ask_oracles(connection: duckdb.DuckDBPyConnection, sources: Mapping[str, Any]) -> Iterator[tuple[pa.Table, int]]:
    """Judged solutions, some at a time, and how many of them could not be judged."""
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

# Of several that judge one solution the one that judges most of it.
_TOLD: Final = f"""
    select distinct on (solution_id) solution_id, label, first_error
    from labels join judges using (method, job_id)
    where solution_id in ({_WANTED}) and (not by_people or {BY_PEOPLE})
    order by solution_id, list_count(label) desc, label_id
"""
