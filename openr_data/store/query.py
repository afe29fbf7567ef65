"""DuckDB over the Parquet files of a snapshot: tables, views, digest.

The file list of a version goes straight to `read_parquet`, which has the speed of bare Parquet. Content ids
make two writers of the same row harmless: each table is read distinct on its key.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, StoreError
from ..schema import KEYS, TABLES
from .refs import Snapshot

WILSON_Z: Final = 1.959964
"""The two-sided 95 % quantile behind the interval of `prefixes`."""

_EXPLAIN: Final = re.compile(r"\A\s*explain\s+(?:\([^)]*\)\s*)?(?:analyze\s+)?", re.IGNORECASE)

VIEWS: Final[Mapping[str, str]] = {
    "records": """
        select l.label_id, l.question_id, l.solution_id, l.method, l.completer, l.job_id,
               q.question, q.answer, q.source, q.split, q.level, q.subject,
               s.steps, s.n_steps, s.final_answer, s.outcome, s.generator,
               l.label, l.value, l.n_correct, l.n_rollouts, l.provenance, l.node_id, l.first_error
        from labels l
        join solutions s using (solution_id, job_id)
        join questions q on q.question_id = l.question_id
    """,
    "steps": """
        select label_id, question_id, solution_id, method, job_id, source, split, level, subject,
               generator, outcome, n_steps, first_error,
               unnest(range(n_steps)) as step_index,
               unnest(steps) as step, unnest(label) as label, unnest(value) as value,
               unnest(n_correct) as n_correct, unnest(n_rollouts) as n_rollouts,
               ['measured', 'certified', 'inferred', 'judged', 'human', 'imported'][
                   unnest(provenance) + 1] as provenance,
               unnest(node_id) as node_id
        from records
    """,
    "prefixes": f"""
        with drawn as (
            select node_id, policy, any_value(question_id) as question_id,
                   count(*) filter (verdict = 'correct') as n_correct,
                   count(*) filter (verdict <> 'unknown') as n_rollouts,
                   count(*) filter (verdict = 'unknown') as n_unknown
            from (select distinct on (rollout_id) * from rollouts order by rollout_id, job_id) group by node_id, policy
        ), counted as (
            select node_id, question_id, policy, any_value(depth) as depth, any_value(step) as step,
                   any_value(parent_id) as parent_id,
                   bool_or(certified) as certified, bool_or(terminal) as terminal,
                   coalesce(any_value(drawn.n_correct), 0) as n_correct,
                   coalesce(any_value(drawn.n_rollouts), 0) as n_rollouts,
                   coalesce(any_value(drawn.n_unknown), 0) as n_unknown,
                   count(distinct job_id) as n_jobs
            from nodes left join drawn using (node_id, question_id, policy) group by node_id, question_id, policy
        )
        select *,
               case when n_rollouts > 0 then n_correct / n_rollouts end as soft,
               case when n_correct > 0 or certified then 1 when n_rollouts > 0 then -1 end as hard,
               case when n_rollouts > 0 then
                   (n_correct + {WILSON_Z**2 / 2}
                    - {WILSON_Z} * sqrt(n_correct * (n_rollouts - n_correct) / n_rollouts + {WILSON_Z**2 / 4}))
                   / (n_rollouts + {WILSON_Z**2}) end as low,
               case when n_rollouts > 0 then
                   (n_correct + {WILSON_Z**2 / 2}
                    + {WILSON_Z} * sqrt(n_correct * (n_rollouts - n_correct) / n_rollouts + {WILSON_Z**2 / 4}))
                   / (n_rollouts + {WILSON_Z**2}) end as high
        from counted
    """,
    "first_errors": """
        select label_id, question_id, solution_id, method, job_id, level, subject, n_steps, first_error,
               steps[first_error + 1] as step
        from records where first_error is not null
    """,
}
"""Name to definition; each may use the tables and the views before it."""


def connect(files: Mapping[str, Sequence[str]], snapshots: Sequence[Snapshot]) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with the tables, the views and `snapshots`; it reads these files alone.

    Raises `StoreError` where a file of the snapshot is missing or damaged.
    """
    try:
        return _connect(files, snapshots)
    except (duckdb.Error, OSError, pa.ArrowException) as error:
        raise _unreadable(error) from error


def _connect(files: Mapping[str, Sequence[str]], snapshots: Sequence[Snapshot]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    for name, schema in TABLES.items():
        if files[name]:
            listed = ", ".join(f"'{_quoted(file)}'" for file in files[name])
            key = ", ".join(f'"{column}"' for column in KEYS[name])
            rows = f"select * from read_parquet([{listed}], union_by_name = true)"
            if not set(schema.names) <= set(pq.read_schema(files[name][0]).names):
                # Files of an older schema version: what they lack is null.
                connection.register(f"empty_{name}", schema.empty_table())
                rows = f'{rows} union all by name select * from "empty_{name}"'
            relation = rows
            if len(files[name]) > 1 or name == "jobs":
                newest = ', "revision" desc nulls last' if "revision" in schema.names else ""
                relation = f"select distinct on ({key}) * from ({rows}) order by {key}{newest}"
            connection.execute(f'create view "{name}" as {relation}')
        else:
            connection.register(f"empty_{name}", schema.empty_table())
            connection.execute(f'create view "{name}" as select * from "empty_{name}"')
    for name, definition in VIEWS.items():
        connection.execute(f'create view "{name}" as {definition}')
    connection.register("snapshot_rows", _snapshot_table(snapshots))
    connection.execute("create view snapshots as select * from snapshot_rows")
    connection.execute("set enable_progress_bar = false")
    # From here on the connection reads the files of this snapshot and nothing else of this machine.
    listed = ", ".join(f"'{_quoted(file)}'" for name in TABLES for file in files[name])
    connection.execute(f"set allowed_paths = [{listed}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set python_enable_replacements = false")
    connection.execute("set lock_configuration = true")
    return connection


def arrow(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.Table:
    """The answer of one query. Raises `InputError` with DuckDB's own words."""
    try:
        # EXPLAIN ANALYZE runs what it explains: it counts as that.
        parsed = connection.extract_statements(_EXPLAIN.sub("", statement))
    except duckdb.Error as error:
        raise InputError(f"SQL: {_first_line(error)}") from error
    if len(parsed) != 1 or parsed[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.RELATION):
        raise InputError("SQL: one SELECT (or EXPLAIN, SUMMARIZE, DESCRIBE) at a time; a dataset is read-only here.")
    try:
        found = connection.sql(statement).to_arrow_table()
    except (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException) as error:
        raise _unreadable(error) from error
    except duckdb.Error as error:
        raise InputError(f"SQL: {_first_line(error)}") from error
    names = found.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'SQL: two columns are called "{twice}". Name one with: ... as another_name')
    return found


def _unreadable(error: Exception) -> StoreError:
    return StoreError(
        f"A file of the dataset is missing or damaged: {_first_line(error)} Check the store with: openr-data doctor"
    )


def digest(connection: duckdb.DuckDBPyConnection) -> str:
    """A hash over all rows of questions, solutions, nodes, rollouts and labels, in any order.

    A sum of row hashes, not an exclusive or: equal rows must not cancel. The text of a rollout is left out: its
    id is a hash over it already. Raises `StoreError` for a damaged file.
    """
    try:
        return _digest(connection)
    except duckdb.Error as error:
        raise _unreadable(error) from error


def _digest(connection: duckdb.DuckDBPyConnection) -> str:
    parts: list[str] = []
    for name, schema in TABLES.items():
        if name == "jobs":
            continue
        row = ", '|', ".join(f"coalesce(\"{column}\"::varchar, '~')" for column in schema.names if column != "text")
        statement = f'select count(*), coalesce(sum(md5_number_lower(concat({row}))::hugeint), 0) from "{name}"'
        found = connection.execute(statement).fetchone()
        assert found is not None
        parts.append(f"{name}:{found[0]}:{int(found[1]) % 2**128:032x}")
    answer = connection.execute("select md5(?)", [";".join(parts)]).fetchone()
    assert answer is not None
    return str(answer[0])


def counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows by table, and the number of steps with a label set under `steps`. Raises `StoreError`."""
    try:
        return _counts(connection)
    except duckdb.Error as error:
        raise _unreadable(error) from error


def _counts(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in TABLES:
        row = connection.execute(f'select count(*) from "{name}"').fetchone()
        found[name] = int(row[0]) if row else 0
    row = connection.execute("select coalesce(sum(len(label)), 0)::bigint from labels").fetchone()
    found["steps"] = int(row[0]) if row else 0
    return found


def _snapshot_table(rows: Sequence[Snapshot]) -> pa.Table:
    fields = ("name", "kind", "digest", "parent", "operation", "message", "job_id", "created_at")
    columns: dict[str, pa.Array] = {
        field: pa.array([getattr(row, field) for row in rows], pa.string()) for field in fields
    }
    columns["counts"] = pa.array([list(row.counts.items()) for row in rows], pa.map_(pa.string(), pa.int64()))
    return pa.table(columns)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
