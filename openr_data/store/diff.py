"""Compares two snapshots: rows added and removed by table, steps relabelled.

Rows are compared by key, never by file; files of both snapshots are skipped unless some file supersedes rows of others.
Label sets are matched by id, and the remaining ones by solution, method and completer, so that two jobs that labelled
the same solutions in two datasets can be compared step by step. A step is relabelled if the same prefix has another
label, value or counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import duckdb
import pyarrow as pa

from ..schema import KEYS, TABLES
from . import query
from .storage import is_fresh
from .view import View

COMPARED: Final = ("questions", "solutions", "nodes", "rollouts", "search_nodes", "scores")
CHANGING: Final = {
    "questions": ("source", "split", "level", "subject", "metadata"),
    "solutions": ("final_answer", "outcome", "coalesce(revision, 0)"),
    "nodes": ("n_rollouts", "n_correct", "n_unknown", "certified", "verdict", "coalesce(revision, 0)"),
    "rollouts": ("answer", "verdict", "grader", "coalesce(revision, 0)"),
    "search_nodes": ("state", "answer", "verdict", "coalesce(revision, 0)"),
    "scores": ("score",),
}
"""The columns that can differ between two rows of the same key."""
FINGERPRINT: Final = "hash(label, value, n_correct, n_rollouts, provenance)"

_SETS: Final = f"""
    create temp table sets as
    with old as (select label_id, solution_id, question_id, method, completer, len(label) as n, {FINGERPRINT} as mark
                 from old_labels),
         new as (select label_id, solution_id, question_id, method, completer, len(label) as n, {FINGERPRINT} as mark
                 from new_labels),
         apart as (
             select old.label_id as old_id, new.label_id as new_id, old.n as old_n, new.n as new_n,
                    old.mark as old_mark, new.mark as new_mark,
                    coalesce(old.solution_id, new.solution_id) as solution_id,
                    coalesce(old.question_id, new.question_id) as question_id,
                    coalesce(old.method, new.method) as method, coalesce(old.completer, new.completer) as completer
             from old full join new using (label_id) where old.mark is distinct from new.mark),
         lone as (select *, row_number() over (
                      partition by solution_id, method, completer, old_id is null order by coalesce(old_id, new_id)
                  ) as place from apart where old_id is null or new_id is null),
         matched as (
             select a.old_id, b.new_id, a.old_n, b.new_n, a.old_mark, b.new_mark,
                    coalesce(a.solution_id, b.solution_id) as solution_id,
                    coalesce(a.question_id, b.question_id) as question_id,
                    coalesce(a.method, b.method) as method, coalesce(a.completer, b.completer) as completer
             from (from lone where new_id is null) a full join (from lone where old_id is null) b
               on a.solution_id = b.solution_id and a.method = b.method and a.place = b.place
                  and a.completer is not distinct from b.completer)
    select * from matched where old_mark is distinct from new_mark
    union all by name select * from apart where old_id is not null and new_id is not null
"""
_DESCRIBED: Final = """
    create view described as
    with paired as (
        select s.question_id, s.solution_id, s.method, s.completer, s.old_id, s.new_id,
               unnest(range(greatest(coalesce(s.old_n, 0), coalesce(s.new_n, 0)))) as step_index,
               o.label as ol, o.value as ov, o.n_correct as oc, o.n_rollouts as orr, s.old_n,
               n.label as nl, n.value as nv, n.n_correct as nc, n.n_rollouts as nr, s.new_n
        from sets s left join old_labels o on o.label_id = s.old_id left join new_labels n on n.label_id = s.new_id
    ), placed as (
        select question_id, solution_id, method, completer, step_index,
               step_index < coalesce(old_n, 0) as was, step_index < coalesce(new_n, 0) as is_now,
               ol[step_index + 1] as old_label, nl[step_index + 1] as new_label,
               ov[step_index + 1] as old_value, nv[step_index + 1] as new_value,
               oc[step_index + 1] as old_correct, nc[step_index + 1] as new_correct,
               orr[step_index + 1] as old_rollouts, nr[step_index + 1] as new_rollouts
        from paired
    )
    select case when not was then 'added' when not is_now then 'removed' else 'relabelled' end as change, *
    from placed
    where not was or not is_now or old_label is distinct from new_label or old_value is distinct from new_value
          or old_correct is distinct from new_correct or old_rollouts is distinct from new_rollouts
"""
_CHANGES: Final = """
    create view changes as
    with texts as (
        select solution_id, any_value(steps) as steps from (
            select solution_id, steps from old_all_solutions union all select solution_id, steps from new_all_solutions
        ) where solution_id in (select solution_id from sets) group by solution_id
    ), asked as (
        select question_id, any_value(level) as level, any_value(subject) as subject, any_value(source) as source,
               any_value(question) as question
        from (from old_all_questions union all by name from new_all_questions) group by question_id
    )
    select change, question_id, solution_id, step_index, method, completer,
           old_label, new_label, old_value, new_value, old_correct, new_correct, old_rollouts, new_rollouts,
           steps[step_index + 1] as step, level, subject, source, question
    from described left join texts using (solution_id) left join asked using (question_id)
"""


@dataclass(frozen=True, slots=True)
class TableDiff:
    """How many rows of a table were added, removed or superseded."""

    added: int = 0
    removed: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference. `tables` counts rows by table, `steps` labelled steps (`changed` are relabelled)."""

    tables: Mapping[str, TableDiff] = field(default_factory=dict)
    steps: TableDiff = field(default_factory=TableDiff)

    def __bool__(self) -> bool:
        return any(item != TableDiff() for item in (*self.tables.values(), self.steps))

    def changes(self) -> dict[str, int]:
        """The counts as stored in `refs`: `+questions`, `-steps`, `~steps` and so on, without zeros."""
        counts: dict[str, int] = {}
        for name, item in (*self.tables.items(), ("steps", self.steps)):
            for sign, count in (("+", item.added), ("-", item.removed), ("~", item.changed)):
                if count:
                    counts[sign + name] = count
        return counts


def diff(old: View, new: View) -> Diff:
    """Count the differences between two views, which may be of two datasets."""
    connection = _connect(old, new)
    tables = {table: _table_diff(connection, table) for table in COMPARED}
    connection.execute(_SETS)
    row = query.one(
        connection,
        "select count(*) filter (old_id is null), count(*) filter (new_id is null), "
        "count(*) filter (old_id is not null and new_id is not null), "
        "coalesce(sum(new_n) filter (old_id is null), 0)::bigint, "
        "coalesce(sum(old_n) filter (new_id is null), 0)::bigint from sets",
    )
    tables["labels"] = TableDiff(row[0], row[1], row[2])
    relabelled = 0
    if row[2]:
        connection.execute(_DESCRIBED)
        counted = query.one(
            connection,
            "select count(*) filter (change = 'relabelled'), count(*) filter (change = 'added'), "
            "count(*) filter (change = 'removed') from described",
        )
        relabelled, row = counted[0], (*row[:3], counted[1], counted[2])
    return Diff(tables, TableDiff(row[3], row[4], relabelled))


def changed_steps(old: View, new: View, where: str = "", limit: int = 0) -> pa.Table:
    """The steps that differ, with their old and new labels.

    Columns: change (added, removed, relabelled), question_id, solution_id, step_index, method, completer, old_ and
    new_ label, value, correct and rollouts, step, level, subject, source, question. `where` is a condition of SQL over
    them. Raises `InputError` for one that fails.
    """
    connection = _connect(old, new)
    for statement in (_SETS, _DESCRIBED, _CHANGES):
        connection.execute(statement)
    condition = f" where {where}" if where.strip() else ""
    limited = f" limit {limit}" if limit else ""
    order = "question_id, solution_id, method, step_index, change"
    return query.arrow(connection, f"select * from changes{condition} order by {order}{limited}")


def _connect(old: View, new: View) -> duckdb.DuckDBPyConnection:
    sides: dict[str, list[str]] = {}
    like: dict[str, list[str]] = {}
    for table in TABLES:
        if table == "jobs":
            continue
        before, after = old.files(table), new.files(table)
        both = set(before) & set(after)
        differing = [file for file in (*before, *after) if file not in both]
        if all(map(is_fresh, (*before, *after))):
            # The rows of a file of both sides are on both sides.
            before, after = ([file for file in side if file not in both] for side in (before, after))
        elif both and differing:
            # A newer file may supersede rows of a common one, so the keys of the files that differ are compared.
            like[f"old_{table}"] = like[f"new_{table}"] = differing
        elif not differing:
            before, after = [], []
        sides[f"old_{table}"], sides[f"new_{table}"] = before, after
    # The text of a changed step may be in any file.
    for table in ("questions", "solutions"):
        sides[f"old_all_{table}"], sides[f"new_all_{table}"] = old.files(table), new.files(table)
    return query.connect_files(sides, like)


def _table_diff(connection: duckdb.DuckDBPyConnection, table: str) -> TableDiff:
    key = ", ".join(f'"{name}"' for name in KEYS[table])
    revision = f"hash({', '.join(CHANGING[table])})"
    row = query.one(
        connection,
        f"select count(*) filter (o is null), count(*) filter (n is null), count(*) filter (o <> n) "
        f"from (select {key}, {revision} as o from old_{table}) "
        f"full join (select {key}, {revision} as n from new_{table}) using ({key})",
    )
    return TableDiff(*row)
