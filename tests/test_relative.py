"""Relative progress: its rule by hand, and the same in SQL held against it."""

import random
import struct
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.labels import HardLabel
from openr_data.relative import EPSILON, known_values, relative_label, relative_labels
from openr_data.schema import LABELS, NODES
from openr_data.store import Store
from openr_data.store.sql_views import MACROS, VIEWS
from openr_data.types import Provenance
from tests.store.test_dataset import labels, node, question, solution

MEASURED, CERTIFIED, STOPPED = Provenance.MEASURED, Provenance.CERTIFIED, Provenance.STOPPED
SHARES = st.builds(lambda n, k: min(k, n) / n, st.integers(1, 20), st.integers(0, 20))
VALUES = st.one_of(st.none(), st.just(0.0), SHARES)
STEPS = st.tuples(VALUES, st.sampled_from(list(Provenance)))
PROCESS = st.tuples(st.lists(STEPS, min_size=1, max_size=8), VALUES)


def measured(*values: float | None, root: float | None = 0.5, epsilon: float = EPSILON) -> list[HardLabel]:
    return relative_labels(values, [MEASURED] * len(values), root, epsilon)


# The rule


@pytest.mark.parametrize(
    ("value", "parent", "label"),
    [
        (0.5, 0.5, 1), (0.4, 0.5, 1), (0.375, 0.5, -1), (1.0, 0.25, 1), (0.0, 0.5, -1), (0.0, 0.0, -1), (0.5, 0.0, -1),
        (0.0, None, -1), (0.5, None, None), (None, 0.5, None), (None, None, None),
    ],
)  # fmt: skip
def test_a_step_is_bad_where_it_loses_more_than_a_fifth(
    value: float | None, parent: float | None, label: int | None
) -> None:
    assert relative_label(value, parent) == label


def test_another_epsilon_is_stricter_or_milder() -> None:
    assert [relative_label(0.5, 0.8, epsilon) for epsilon in (0.5, 0.625, 0.63, 0.8)] == [1, 1, -1, -1]
    assert measured(0.4, 0.3, epsilon=0.7) == [1, 1]
    assert measured(0.4, 0.3, epsilon=0.8) == [1, -1]


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_ratio_that_is_epsilon_is_not_below_it_whatever_float32_makes_of_it(n: int, k: int) -> None:
    single = struct.unpack("2f", struct.pack("2f", 4 * min(n, k) / (5 * n), min(n, k) / n))
    assert relative_label(single[0], single[1]) == 1
    assert relative_label(single[0] - 2e-6, single[1]) == -1


def test_from_a_zero_on_everything_is_bad() -> None:
    assert measured(0.5, 0.0, 0.5, None, 1.0) == [1, -1, -1, -1, -1]
    assert measured(0.0, 1.0, root=None) == [-1, -1]


def test_a_step_beside_an_unknown_value_has_no_label() -> None:
    assert measured(0.5, None, 0.5, 0.5) == [1, None, None, 1]
    assert measured(0.5, 0.5, root=None) == [None, 1]
    assert measured(0.5, root=0.0) == [None]


def test_a_certified_zero_is_unknown_and_ends_nothing() -> None:
    kinds = [MEASURED, CERTIFIED, MEASURED, CERTIFIED]
    assert known_values([0.5, 0.0, 0.5, 1.0], kinds) == [0.5, None, 0.5, 1.0]
    assert relative_labels([0.5, 0.0, 0.5, 1.0], kinds, 0.5) == [1, None, None, 1]


def test_a_share_of_rollouts_that_were_stopped_is_good_for_its_zero_alone() -> None:
    assert known_values([0.5, 0.0, 0.7], [STOPPED] * 3) == [None, 0.0, 0.0]
    assert relative_labels([0.5, 0.0, 0.7], [STOPPED] * 3, 0.5) == [None, -1, -1]


def test_values_and_provenances_of_different_number_are_no_process() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        relative_labels([0.5, 0.5], [MEASURED])


@given(PROCESS)
def test_a_bad_step_with_nothing_behind_it_stays_bad_for_every_larger_epsilon(process: Any) -> None:
    steps, root = process
    values, kinds = zip(*steps, strict=True)
    mild, strict = relative_labels(values, kinds, root, 0.5), relative_labels(values, kinds, root, 0.9)
    assert all(b == -1 for a, b in zip(mild, strict, strict=True) if a == -1)
    assert [label is None for label in mild] == [label is None for label in strict]


# The same in SQL


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    for signature, definition in MACROS.items():
        made.execute(f"create macro {signature} as {definition}")
    return made


@settings(deadline=None)
@given(VALUES, VALUES, st.floats(0.1, 1))
def test_sql_has_the_same_label_of_a_step(
    connection: duckdb.DuckDBPyConnection, value: float | None, parent: float | None, epsilon: float
) -> None:
    query = (
        "select relative_label($1::double, $2::double), relative_label($1::double, $2::double, epsilon := $3::double)"
    )
    (row,) = connection.execute(query, [value, parent, epsilon]).fetchall()
    assert row == (relative_label(value, parent), relative_label(value, parent, epsilon))


@settings(deadline=None)
@given(st.lists(PROCESS, min_size=1, max_size=6))
def test_sql_has_the_same_labels_of_a_process(connection: duckdb.DuckDBPyConnection, processes: list[Any]) -> None:
    records, nodes = [], []
    for number, (steps, root) in enumerate(processes):
        name = f"q{number}"
        values, kinds = map(list, zip(*steps, strict=True))
        record = {
            **labels(f"l{number}", f"s{number}", name, [1] * len(steps), f"j{number}"),
            "n_rollouts": [0] * len(steps),
        }
        records.append({**record, "value": values, "provenance": [int(kind) for kind in kinds]})
        if root is not None:
            nodes.append(
                {**node("r", name, f"j{number}"), "policy": "g", "n_correct": round(root * 5040), "n_rollouts": 5040}
            )
    rows = pa.Table.from_pylist(records, schema=LABELS)
    roots = pa.Table.from_pylist(nodes, schema=NODES)
    connection.register("labels", rows)
    connection.register("nodes", roots)
    connection.execute(
        "create or replace view records as select *, list_transform(label, lambda x: 'a') as steps from labels"
    )
    query = (
        f"with v as ({VIEWS['relative_progress']}) select label_id, list(label order by step_index) from v group by 1"
    )
    found = dict(connection.execute(query).fetchall())
    single = rows["value"].to_pylist()
    for number, (steps, root) in enumerate(processes):
        kinds = [kind for _, kind in steps]
        # The root of a job whose labels were stopped early is as biased as they are.
        usable = None if STOPPED in kinds else root
        assert found[f"l{number}"] == relative_labels(single[number], kinds, usable)


def test_the_view_takes_the_root_of_the_job_or_else_the_most_measured_one_of_the_policy(tmp_path: Path) -> None:
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)

    def root(job: str, of: str, n: int, k: int, policy: str = "g") -> dict[str, Any]:
        return {**node(f"root-{of}", of, job), "policy": policy, "n_rollouts": n, "n_correct": k}

    def process(job: str, of: str, kind: int = 0) -> dict[str, Any]:
        made = labels(f"{job}{of}", f"s{of}", of, [1], job)
        return {**made, "value": [0.5], "provenance": [kind]}

    dataset.add_questions([question("a"), question("b")], "x/questions", 1)
    dataset.append(
        "solutions", [solution(f"s{of}", of, ["step"], job) for job in "jkl" for of in "ab"], "x/solutions", 1
    )
    dataset.append(
        "labels", [process("j", "a"), process("k", "a"), process("k", "b"), process("l", "a", 6)], "x/labels", 1
    )
    nodes = [
        root("j", "a", 8, 8),
        root("m", "a", 4, 1),
        root("n", "a", 20, 10),
        root("l", "a", 90, 9),
        root("k", "b", 8, 0),
    ]
    dataset.append("nodes", [*nodes, root("o", "b", 8, 8, "other")], "x/nodes", 1)
    rows = (
        dataset.view().sql("select label_id, parent_value, ratio, label from relative_progress order by 1").to_pylist()
    )
    assert [tuple(row.values()) for row in rows] == [
        ("ja", 1.0, 0.5, -1),
        # Job k has no root: of m and n the latter measured it more; l stopped early.
        ("ka", 0.5, 1.0, 1),
        # A root from which nothing was reached says nothing, and another policy's is another value.
        ("kb", None, None, None),
        ("la", 0.5, None, None),
    ]


def test_values_that_only_counts_tell_are_read_from_them(tmp_path: Path) -> None:
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    dataset.add_questions([question("q")], "x/questions", 1)
    dataset.append("solutions", [solution("s", "q", ["one", "two", "three"])], "x/solutions", 1)
    row = {**labels("l", "s", "q", [1, 1, -1]), "value": [None] * 3, "n_correct": [6, 3, 0], "n_rollouts": [8, 8, 0]}
    dataset.append("labels", [row], "x/labels", 1)
    columns = "step_index, step, measured, value, parent_value, ratio, label"
    rows = dataset.view().sql(f"select {columns} from relative_progress order by 1").to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (0, "one", 0.75, 0.75, None, None, None),
        (1, "two", 0.375, 0.375, 0.75, 0.5, -1),
        (2, "three", None, None, 0.375, None, None),
    ]


def test_any_epsilon_is_right_over_the_columns_of_the_view(tmp_path: Path) -> None:
    rng = random.Random(5)
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    rows, expected = [], {}
    for number in range(30):
        n = rng.randint(1, 7)
        values = rng.choices([None, 0.0, 0.125, 0.25, 0.5, 0.75, 1.0], k=n)
        kinds = rng.choices([0, 0, 0, 1, 6], k=n)
        rows.append(
            {**labels(f"l{number}", "s", "q", [1] * n), "value": values, "provenance": kinds, "n_rollouts": [0] * n}
        )
        expected[f"l{number}"] = relative_labels(values, kinds, None, 0.5)
    dataset.add_questions([question("q")], "x/questions", 1)
    dataset.append("solutions", [solution("s", "q", ["a"] * 7)], "x/solutions", 1)
    dataset.append("labels", rows, "x/labels", 1)
    query = "select label_id, list(relative_label(value, parent_value, epsilon := 0.5) order by step_index) as found"
    found = dataset.view().sql(f"{query} from relative_progress group by 1").to_pylist()
    assert {row["label_id"]: row["found"] for row in found} == expected
    assert {label for item in expected.values() for label in item} == {1, -1, None}
