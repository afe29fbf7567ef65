"""Reads a whole dataset again and reports what is wrong with it.

Every data file of the newest state and of every snapshot is read to its end. Then ids are hashed again, lists are
counted, references are followed, counts are compared with their rollouts, and every snapshot is compared with its
digest. Ids of rollouts cannot be checked, since their sampling is not stored.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from .. import ids
from ..errors import StoreError
from ..schema import KEYS, LABEL_LISTS, TABLES
from . import query, refs, storage, tables
from .hold import Location
from .remote import Place
from .view import View, view_at

SHOWN: Final = 3
"""How many rows of a kind are named."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong: where, what, how often, and the ids of some rows."""

    where: str
    what: str
    count: int = 1
    examples: tuple[str, ...] = ()


def verify(dataset: Location) -> Iterator[Fault]:
    """All faults of a dataset, one for each kind; none if the dataset is whole."""
    try:
        dataset.check_whole()
    except StoreError as error:
        yield Fault(dataset.name, str(error))
    try:
        refs.read(dataset.refs)
    except StoreError as error:
        yield Fault("refs", str(error))
        return
    damaged = list(_files(dataset))
    yield from damaged
    if damaged:
        # Rows of damaged files cannot be checked.
        return
    try:
        view = view_at(dataset)
        yield from _rows(view)
        yield from _snapshots(dataset)
    except StoreError as error:
        yield Fault(dataset.name, str(error))


def _files(dataset: Location) -> Iterator[Fault]:
    """Files that cannot be read to their end, log entries that are empty, versions that do not open."""
    snapshots = refs.read(dataset.refs)
    seen: set[str] = set()
    for table in (*dataset.tables(), "refs"):
        yield from _log(dataset.path / table, table)
        versions = {row.versions[table] for row in snapshots if table in row.versions}
        for version in [None, *sorted(versions)]:
            try:
                opened = tables.open_table(dataset.path / table, version)
            except StoreError as error:
                yield Fault(table, str(error))
                continue
            for row in tables.data_files(opened):
                if row["path"] not in seen:
                    seen.add(row["path"])
                    yield from _file(storage.child(dataset.path / table, row["path"]), table, row)


def _log(path: Place, table: str) -> Iterator[Fault]:
    """Empty log entries: a power cut leaves them, and delta-rs reads them as commits without rows."""
    if isinstance(path, Path):
        for entry in sorted((path / "_delta_log").glob("*.json")):
            if not entry.stat().st_size:
                yield Fault(table, f"its log entry {entry.name} is empty")


def _file(path: str, table: str, row: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        file = pq.ParquetFile(storage.source(path))
        rows = sum(batch.num_rows for batch in file.iter_batches())
    except (OSError, pa.ArrowException) as error:
        yield Fault(table, f"the file {row['path']} cannot be read: {storage.first_line(error)}")
        return
    if row["num_records"] is not None and rows != row["num_records"]:
        yield Fault(table, f"the file {row['path']} holds {rows} rows, its log says {row['num_records']}")


def _rows(view: View) -> Iterator[Fault]:
    connection = view.connect()
    for where, what, columns, condition in _CHECKS:
        yield from _ask(connection, where, what, columns, condition)
    for table in TABLES:
        if table != "jobs":
            yield from _repeated(view, table)
    yield from _ids(view)


def _ask(connection: duckdb.DuckDBPyConnection, where: str, what: str, column: str, rows: str) -> Iterator[Fault]:
    counted = query.one(
        connection,
        f"select count(*), list({column}::varchar order by {column}::varchar)[:{SHOWN}] from ({rows})",
    )
    if counted[0]:
        yield Fault(where, what, int(counted[0]), tuple(counted[1]))


def _repeated(view: View, table: str) -> Iterator[Fault]:
    """Keys that several files hold although their names exclude it."""
    files = view.files(table)
    if not files or not all(map(storage.is_fresh, files)):
        return
    key = ", ".join(f'"{name}"' for name in KEYS[table])
    connection = query.connect_files({table: files})
    rows = f'select any_value("{KEYS[table][0]}") as id from "{table}" group by {key} having count(*) > 1'
    yield from _ask(connection, table, "keys that stand there twice", "id", rows)


_LISTS = "label is null or " + " or ".join(f"len({name}) is distinct from len(label)" for name in LABEL_LISTS)
_CHECKS: Final = (
    ("solutions", "n_steps is not the number of steps", "solution_id",
     "from solutions where n_steps is distinct from len(steps)"),
    ("solutions", "no question of that id", "solution_id",
     "from solutions anti join questions using (question_id)"),
    ("labels", "lists of different length", "label_id", f"from labels where {_LISTS}"),
    ("labels", "no solution of that id and job", "label_id",
     "from labels anti join solutions using (solution_id, job_id)"),
    ("labels", "not as many labels as steps", "label_id",
     "select label_id from labels join solutions using (solution_id, job_id) where len(label) <> n_steps"),
    ("labels", "a label that is none of 1, 0, -1", "label_id",
     "from labels where len(list_filter(label, lambda x: x not in (1, 0, -1))) > 0"),
    ("labels", "first_error is not the first bad step", "label_id",
     "from labels where first_error is distinct from first_error(label)"),
    ("labels", "more correct rollouts than rollouts", "label_id",
     "from labels where len(list_filter(list_zip(n_correct, n_rollouts), lambda x: x[1] > x[2] or x[1] < 0)) > 0"),
    ("labels", "counts that are not those of the node", "label_id",
     """select distinct label_id from (
            select label_id, job_id, unnest(node_id) as node_id, unnest(n_correct) as c, unnest(n_rollouts) as n,
                   unnest(provenance) as p
            from labels) l
        join nodes using (node_id, job_id)
        -- Labels that stopped early also count the rollouts from earlier prefixes that pass through.
        where (c > 0 or n > 0)
          and if(p in (1, 6), c < n_correct or n < n_rollouts, c <> n_correct or n <> n_rollouts)"""),
    # A prefix that was not measured has no row; the label sets that pass through it contain its id.
    ("nodes", "no parent of that id", "node_id",
     """select n.node_id from nodes n where parent_id is not null
        and not exists (from nodes p where p.node_id = n.parent_id)
        and not exists (from (select unnest(node_id) as passed from labels) where passed = n.parent_id)"""),
    ("nodes", "no question of that id", "node_id", "from nodes anti join questions using (question_id)"),
    ("nodes", "more correct rollouts than rollouts", "node_id",
     "from nodes where n_correct > n_rollouts or n_correct < 0 or n_unknown < 0"),
    ("nodes", "counts that are not those of the rollouts", "node_id",
     """select n.node_id from nodes n join (
            select node_id, job_id, count(*) filter (verdict = 'correct') as c,
                   count(*) filter (verdict <> 'unknown') as g, count(*) filter (verdict = 'unknown') as u
            from rollouts group by node_id, job_id) r using (node_id, job_id)
        where n.n_correct <> c or n.n_rollouts <> g or n.n_unknown <> u"""),
    ("nodes", "counts of rollouts of which none is there", "node_id",
     """select n.node_id from nodes n where n.n_rollouts + n.n_unknown > 0
        and n.job_id in (select job_id from rollouts)
        and not exists (from rollouts r where r.node_id = n.node_id and r.job_id = n.job_id)"""),
    ("search_nodes", "no parent of that id and job", "node_id",
     """select n.node_id from search_nodes n where parent_id is not null
        and not exists (from search_nodes p where p.node_id = n.parent_id and p.job_id = n.job_id)"""),
    ("search_nodes", "no question of that id", "node_id", "from search_nodes anti join questions using (question_id)"),
    ("search_nodes", "a state that is none", "node_id",
     "from search_nodes where state is null or state not in ('kept', 'pruned', 'ended', 'cut')"),
    ("search_nodes", "a verdict that is none", "node_id",
     "from search_nodes where verdict not in ('correct', 'incorrect', 'unknown')"),
    ("scores", "no question of that id", "node_id", "from scores anti join questions using (question_id)"),
    ("scores", "a score that is not a number from 0 to 1", "node_id",
     "from scores where score is null or not (score >= 0 and score <= 1)"),
    ("rollouts", "no node of that id and job", "rollout_id", "from rollouts anti join nodes using (node_id, job_id)"),
    ("rollouts", "no question of that id", "rollout_id", "from rollouts anti join questions using (question_id)"),
    ("rollouts", "a verdict that is none", "rollout_id",
     "from rollouts where verdict not in ('correct', 'incorrect', 'unknown')"),
)  # fmt: skip
"""Table, what is wrong, the column that identifies a row, the faulty rows."""


def _ids(view: View) -> Iterator[Fault]:
    for table, count, examples in ids_are_right(view.connect()):
        yield Fault(table, "ids that are not the hash of what they name", count, examples)


def ids_are_right(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Tables with ids that are not the hash of their rows' content: how many, and some of them."""
    for table, columns, is_right in (
        ("search_nodes", "node_id, question_id, parent_id, step", _right_node),
        ("questions", "question_id, question, answer", _right_question),
        ("solutions", "solution_id, question_id, steps", _right_solution),
        ("labels", "label_id, solution_id, method, job_id, completer", _right_label),
        ("nodes", "node_id, question_id, parent_id, step", _right_node),
    ):
        wrong: list[str] = []
        count = 0
        for batch in connection.sql(f"select {columns} from {table}").to_arrow_reader(10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if not _holds(is_right, row):
                    count += 1
                    if len(wrong) < SHOWN:
                        wrong.append(str(row[0]))
        if count:
            yield table, count, tuple(wrong)


def _holds(is_right: Callable[..., bool], row: tuple[Any, ...]) -> bool:
    """Whether an id is right; an id over a null is not."""
    try:
        return is_right(*row)
    except (AttributeError, TypeError):
        return False


def _right_question(stored: str, question: str, answer: str) -> bool:
    return stored == ids.question_id(question, answer)


def _right_solution(stored: str, question: str, steps: list[str]) -> bool:
    return stored == ids.solution_id(question, steps)


def _right_label(stored: str, solution: str, method: str, job: str, completer: str | None) -> bool:
    # An import may hold several people's labels of one solution; the id then includes the person's name.
    return stored in (
        ids.label_id(solution, method, job),
        ids.label_id(solution, f"{method}/{completer}", job),
    )


def _right_node(stored: str, question: str, parent: str | None, step: str) -> bool:
    return stored == (ids.root_id(question) if parent is None else ids.child_id(parent, step))


def _snapshots(dataset: Location) -> Iterator[Fault]:
    """Snapshots and tags whose content has changed."""
    snapshots = refs.read(dataset.refs)
    numbers = {row.name for row in refs.rows(dataset.refs) if row.kind == "snapshot"}
    for row in snapshots:
        if row.parent is not None and row.parent not in numbers:
            yield Fault(f"@{row.name}", f"its parent {row.parent} is not there")
        connection = View(dataset, row.name, row.versions).connect()
        counts = query.counts(connection)
        lost = [table for table, count in row.counts.items() if counts.get(table, 0) != count]
        if lost:
            yield Fault(f"@{row.name}", f"other numbers of rows than it was made with in {', '.join(lost)}")
        elif query.digest(connection, row.digest) != row.digest:
            yield Fault(f"@{row.name}", "another content than it was made with (its digest does not hold)")
