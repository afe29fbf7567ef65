"""The algebra of labels: its laws as properties, and the same algebra in SQL held against it."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.labels import (
    Agreement,
    Counts,
    HardLabel,
    agreement,
    first_error,
    hard_label,
    merge,
    pooled_labels,
    repair,
    soft_label,
    total,
    wilson,
)
from openr_data.store import Dataset, Store
from openr_data.types import LabelSet, Provenance, Question, Record, StepLabel
from tests.store.test_dataset import labels, node, question, rollout, solution

COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9)).map(
    lambda item: Counts(item[0] + item[1], item[1], item[2])
)
EVIDENCE = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), COUNTS, max_size=4)
LABELS: st.SearchStrategy[list[HardLabel]] = st.lists(st.sampled_from([1, 0, -1, None]), max_size=9)
PAIRS = st.lists(st.tuples(st.sampled_from([1, 0, -1, None]), st.sampled_from([1, 0, -1, None])), max_size=12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Store.open(tmp_path_factory.mktemp("labels") / "store", create=True).dataset("d", create=True)


@pytest.fixture(scope="module")
def connection(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    return dataset.view().connect()


def sql(connection: duckdb.DuckDBPyConnection, expression: str, *values: Any) -> Any:
    (row,) = connection.execute(f"select {expression}", list(values)).fetchall()
    return row[0] if len(row) == 1 else row


# The laws of merging


@given(EVIDENCE, EVIDENCE)
def test_merging_does_not_depend_on_the_order(a: dict[str, Counts], b: dict[str, Counts]) -> None:
    assert merge(a, b) == merge(b, a)


@given(EVIDENCE, EVIDENCE, EVIDENCE)
def test_merging_does_not_depend_on_the_grouping(
    a: dict[str, Counts], b: dict[str, Counts], c: dict[str, Counts]
) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(a, b, c)


@given(EVIDENCE, EVIDENCE)
def test_the_same_evidence_twice_counts_once(a: dict[str, Counts], b: dict[str, Counts]) -> None:
    assert merge(a, a) == a == merge(a, {})
    assert merge(merge(a, b), b) == merge(a, b)
    assert merge() == {}


@given(EVIDENCE, EVIDENCE)
def test_merging_changes_neither_side(a: dict[str, Counts], b: dict[str, Counts]) -> None:
    before = dict(a), dict(b)
    merge(a, b)
    assert (a, b) == before


@given(st.dictionaries(st.sampled_from("ab"), COUNTS), st.dictionaries(st.sampled_from("cd"), COUNTS))
def test_the_counts_of_two_jobs_on_one_prefix_are_summed(a: dict[str, Counts], b: dict[str, Counts]) -> None:
    both = total(merge(a, b))
    assert both == total(a) + total(b)
    assert both.n_rollouts == sum(item.n_rollouts for item in (*a.values(), *b.values()))
    assert both.n_correct == sum(item.n_correct for item in (*a.values(), *b.values()))
    assert both.n_unknown == sum(item.n_unknown for item in (*a.values(), *b.values()))


@given(COUNTS, COUNTS)
def test_of_one_job_the_measurement_that_went_on_counts(counts: Counts, more: Counts) -> None:
    assert merge({"j": counts}, {"j": counts + more}) == {"j": counts + more}


@given(EVIDENCE, EVIDENCE)
def test_merging_loses_no_rollout(a: dict[str, Counts], b: dict[str, Counts]) -> None:
    assert total(merge(a, b)).n_rollouts >= max(total(a).n_rollouts, total(b).n_rollouts)
    assert set(merge(a, b)) == {*a, *b}


@pytest.mark.parametrize(("n", "k", "unknown"), [(1, 2, 0), (3, -1, 0), (-1, -1, 0), (3, 1, -1)])
def test_counts_that_cannot_be_are_refused(n: int, k: int, unknown: int) -> None:
    with pytest.raises(ValueError, match=f"{k} correct of {n} rollouts"):
        Counts(n, k, unknown)


# Labels of one prefix


@given(COUNTS)
def test_soft_and_hard_labels_are_there_where_something_was_graded(counts: Counts) -> None:
    assert (soft_label(counts) is None) == (hard_label(counts) is None) == (wilson(counts) is None)
    assert (soft_label(counts) is None) == (counts.n_rollouts == 0)


@given(COUNTS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_makes_no_bad_prefix_good(counts: Counts, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert not (hard_label(counts, low) == -1 and hard_label(counts, high) == 1)
    assert hard_label(counts) in ((None,) if not counts.n_rollouts else (1,) if counts.n_correct else (-1,))


def test_the_threshold_itself_is_not_above_it() -> None:
    assert hard_label(Counts(4, 1), 0.25) == -1
    assert hard_label(Counts(4, 1), 0.2) == 1


@given(COUNTS.filter(lambda counts: counts.n_rollouts > 0))
def test_wilsons_interval_holds_the_soft_label_and_mirrors(counts: Counts) -> None:
    n, k = counts.n_rollouts, counts.n_correct
    low, high = wilson(counts) or (2.0, -1.0)
    assert 0 <= low < high <= 1
    assert low <= k / n + 1e-12
    assert high >= k / n - 1e-12
    mirrored = wilson(Counts(n, n - k)) or (2.0, -1.0)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)


@pytest.mark.parametrize(
    ("n", "k", "low", "high"),
    [(10, 0, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (10, 5, 0.23659, 0.76341), (100, 95, 0.88825, 0.97846)],
)
def test_wilsons_interval_is_that_of_the_tables(n: int, k: int, low: float, high: float) -> None:
    assert wilson(Counts(n, k)) == (pytest.approx(low, abs=2e-5), pytest.approx(high, abs=2e-5))


@given(COUNTS.filter(lambda counts: counts.n_rollouts > 0), st.integers(2, 9))
def test_more_of_the_same_narrows_the_interval(counts: Counts, times: int) -> None:
    low, high = wilson(counts) or (0.0, 0.0)
    closer = wilson(Counts(counts.n_rollouts * times, counts.n_correct * times)) or (0.0, 1.0)
    assert closer[1] - closer[0] < high - low


def test_the_interval_of_a_prefix_that_never_fails_reaches_one() -> None:
    assert {(n, (wilson(Counts(n, n)) or (0.0, 0.0))[1]) for n in range(1, 300)} == {(n, 1.0) for n in range(1, 300)}


# Labels of a process


@given(LABELS)
def test_the_first_error_is_the_first_step_labelled_bad(found: list[HardLabel]) -> None:
    place = first_error(found)
    if place is None:
        assert -1 not in found
    else:
        assert found[place] == -1
        assert -1 not in found[:place]


@given(LABELS)
def test_label_sets_and_records_have_the_first_error_of_their_labels(found: list[HardLabel]) -> None:
    steps = tuple(StepLabel(cast(Any, label), None, 0, 0, Provenance.IMPORTED, "n") for label in found)
    assert LabelSet("s", steps).first_error == first_error(found)
    if found:
        record = Record(Question("q", "Q", "A", "test"), ("step",) * len(found), tuple(found), "human")
        assert record.first_error == first_error(found)


@given(LABELS)
def test_after_a_repair_nothing_but_good_steps_come_before_a_good_one(found: list[HardLabel]) -> None:
    repaired = repair(found)
    assert len(repaired) == len(found)
    goods = repaired.count(1)
    assert repaired[:goods] == [1] * goods
    # From the last good step on nothing is touched.
    assert repaired[max(goods - 1, 0) :] == found[max(goods - 1, 0) :]
    assert repair(repaired) == repaired
    assert (1 in repaired) == (1 in found)


@given(LABELS)
def test_a_repair_moves_the_first_error_back_and_never_forward(found: list[HardLabel]) -> None:
    before, after = first_error(found), first_error(repair(found))
    if before is None:
        assert after is None
    elif after is not None:
        assert after >= before


@given(LABELS, st.data())
def test_one_more_good_step_takes_no_good_step_away(found: list[HardLabel], data: st.DataObject) -> None:
    if not found:
        return
    place = data.draw(st.integers(0, len(found) - 1))
    more = [1 if index == place else label for index, label in enumerate(found)]
    good = [index for index, label in enumerate(repair(found)) if label == 1]
    assert all(repair(more)[index] == 1 for index in good)


@given(st.lists(st.tuples(EVIDENCE, EVIDENCE), max_size=6), st.sets(st.integers(0, 5)), st.floats(0, 1))
def test_pooled_labels_follow_from_the_merged_counts(
    path: list[tuple[dict[str, Counts], dict[str, Counts]]], certified: set[int], threshold: float
) -> None:
    merged = [merge(a, b) for a, b in path]
    found, values = pooled_labels(merged, certified, threshold)
    assert (found, values) == pooled_labels([merge(b, a) for a, b in path], sorted(certified), threshold)
    assert values == [soft_label(total(item)) for item in merged]
    assert repair(found) == found
    for place in certified:
        if place < len(path):
            assert found[: place + 1] == [1] * (place + 1)
    measured = [hard_label(total(item), threshold) for item in merged]
    assert all(a == b or a == 1 for a, b in zip(found, measured, strict=True))


def test_the_last_step_of_a_process_is_as_good_as_its_answer() -> None:
    path = [{"a": Counts(8, 2)}, {"a": Counts(8, 0)}, {}]
    assert pooled_labels(path, outcome=False)[0] == [1, -1, -1]
    assert pooled_labels(path, outcome=True)[0] == [1, 1, 1]
    assert pooled_labels(path)[0] == [1, -1, None]


# Agreement of two methods


def sides(pairs: Sequence[tuple[HardLabel, HardLabel]]) -> tuple[list[HardLabel], list[HardLabel]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


@given(PAIRS, PAIRS)
def test_the_agreement_of_two_processes_is_the_sum(
    a: list[tuple[HardLabel, HardLabel]], b: list[tuple[HardLabel, HardLabel]]
) -> None:
    assert agreement(*sides(a)) + agreement(*sides(b)) == agreement(*sides(a + b))


@given(PAIRS)
def test_agreement_is_mutual(pairs: list[tuple[HardLabel, HardLabel]]) -> None:
    first, second = sides(pairs)
    one, other = agreement(first, second), agreement(second, first)
    assert (one.both_good, one.both_bad, one.good_bad, one.bad_good, one.agreeing, one.steps) == (
        other.both_good, other.both_bad, other.bad_good, other.good_bad, other.agreeing, other.steps)  # fmt: skip
    assert one.rate == other.rate
    assert one.kappa == pytest.approx(other.kappa)
    assert one.both_good + one.both_bad <= one.agreeing <= one.steps <= len(pairs)


@given(LABELS)
def test_a_method_agrees_with_itself(found: list[HardLabel]) -> None:
    judged = [label for label in found if label is not None]
    same = agreement(found, found)
    assert same.rate == (1.0 if judged else None)
    assert same.kappa == (1.0 if {1, -1} <= set(judged) else None)
    assert (same.good_bad, same.bad_good, same.steps) == (0, 0, len(judged))


def test_lists_of_different_length_are_no_pair() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        agreement([1, 1], [1])


def test_kappa_is_that_of_the_textbook() -> None:
    # Two readers of 50 proposals: 20 both yes, 15 both no, 5 and 10 apart; kappa .4.
    assert Agreement(20, 15, 5, 10, 35, 50).kappa == pytest.approx(0.4)
    assert Agreement(20, 15, 5, 10, 35, 50).rate == 0.7
    assert Agreement(5, 0, 0, 0, 5, 5).kappa is None
    assert Agreement().rate is None


# The same in SQL


@given(COUNTS, st.floats(0, 1))
def test_sql_has_the_same_labels_of_a_prefix(
    connection: duckdb.DuckDBPyConnection, counts: Counts, threshold: float
) -> None:
    n, k = counts.n_rollouts, counts.n_correct
    assert sql(connection, "soft_label(?::int, ?::int)", k, n) == soft_label(counts)
    assert sql(connection, "hard_label(?::int, ?::int)", k, n) == hard_label(counts)
    found = sql(connection, "hard_label(?::int, ?::int, threshold := ?::double)", k, n, threshold)
    assert found == hard_label(counts, threshold)
    low, high = sql(connection, "wilson_low($1::int, $2::int), wilson_high($1::int, $2::int)", k, n)
    assert (low, high) == (pytest.approx(wilson(counts), abs=1e-12) if wilson(counts) else (None, None))


def test_the_intervals_of_sql_stay_between_zero_and_one(connection: duckdb.DuckDBPyConnection) -> None:
    low, high = sql(
        connection,
        "min(wilson_low(k, n)), max(wilson_high(k, n)) from (select unnest(range(1, 200)) as n), "
        "lateral (select unnest(range(0, n + 1)) as k)",
    )
    assert low >= 0
    assert high <= 1


@given(LABELS)
def test_sql_has_the_same_labels_of_a_process(connection: duckdb.DuckDBPyConnection, found: list[HardLabel]) -> None:
    assert sql(connection, "first_error(?::tinyint[])", found) == first_error(found)
    assert sql(connection, "repair(?::tinyint[])", found) == repair(found)
    assert sql(connection, "first_error(repair(?::tinyint[]))", found) == first_error(repair(found))


def test_sql_has_no_labels_of_no_process(connection: duckdb.DuckDBPyConnection) -> None:
    assert sql(connection, "first_error(null::tinyint[]), repair(null::tinyint[])") == (None, None)


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4))
def test_sql_has_the_same_kappa(connection: duckdb.DuckDBPyConnection, cells: list[int]) -> None:
    good_good, good_bad, bad_good, bad_bad = cells
    expected = Agreement(both_good=good_good, both_bad=bad_bad, good_bad=good_bad, bad_good=bad_good).kappa
    found = sql(connection, "cohens_kappa(?::bigint, ?::bigint, ?::bigint, ?::bigint)", *cells)
    assert found == (None if expected is None else pytest.approx(expected))


def test_sql_counts_in_the_millions_without_overflow(connection: duckdb.DuckDBPyConnection) -> None:
    cells = [400_000_000, 30_000_000, 20_000_000, 500_000_000]
    expected = Agreement(cells[0], cells[3], cells[1], cells[2]).kappa
    assert sql(connection, "cohens_kappa(?::bigint, ?::bigint, ?::bigint, ?::bigint)", *cells) == pytest.approx(
        expected
    )


def test_the_view_pooled_is_the_same_as_python(tmp_path: Path) -> None:
    rng = random.Random(7)
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    rows: dict[str, list[dict[str, Any]]] = {"solutions": [], "nodes": [], "rollouts": [], "labels": []}
    expected: dict[str, Any] = {}
    for number in range(60):
        name, length = f"s{number}", rng.randint(1, 6)
        path: list[dict[str, Counts]] = []
        certified: set[int] = set()
        for index in range(length):
            evidence = {}
            for job in rng.sample(("j", "k", "l"), rng.randint(1, 3)):
                n = rng.randint(0, 5)
                verdicts = rng.choices(["correct", "incorrect", "unknown"], [1, 3, 1], k=n)
                through = rng.random() < 0.05
                certified |= {index} if through else set()
                at = f"{name}-{index}"
                rows["nodes"].append(node(at, "q", job, through))
                rows["rollouts"] += [rollout(f"{at}{job}{i}", "q", at, v, job) for i, v in enumerate(verdicts)]
                graded = [verdict for verdict in verdicts if verdict != "unknown"]
                evidence[job] = Counts(len(graded), graded.count("correct"), n - len(graded))
            path.append(evidence)
        outcome = rng.choice([None, True, False])
        rows["solutions"].append({**solution(name, "q", ["a"] * length), "outcome": outcome})
        made = labels(f"l{name}", name, "q", [1] * length)
        rows["labels"].append({**made, "completer": "p", "node_id": [f"{name}-{index}" for index in range(length)]})
        hard, soft = pooled_labels(path, certified, outcome=outcome)
        counts = [total(evidence) for evidence in path]
        expected[name] = (hard, soft, [c.n_correct for c in counts], [c.n_rollouts for c in counts], first_error(hard))
    dataset.add_questions([question("q")], "x/questions", 1)
    for table, found in rows.items():
        dataset.append(table, found, f"x/{table}", 1)
    pooled = dataset.view().sql("select * from pooled").to_pylist()
    assert {
        row["solution_id"]: (row["label"], row["value"], row["n_correct"], row["n_rollouts"], row["first_error"])
        for row in pooled
    } == expected
    # The random world must hold what the view is for: repairs, certificates, prefixes that nobody graded.
    assert any(row["measured"] != row["label"] for row in pooled)
    assert any(None in row["label"] for row in pooled)
    assert len({row["n_jobs"] for row in pooled}) > 1


def test_the_view_agreement_is_the_same_as_python(dataset: Dataset) -> None:
    rng = random.Random(3)
    expected: dict[tuple[str, str], Agreement] = {}
    same: dict[tuple[str, str], list[bool]] = {}
    solutions, rows = [], []
    for number in range(40):
        name, length = f"s{number}", rng.randint(1, 6)
        solutions.append(solution(name, "q", ["a"] * length))
        made: dict[str, list[HardLabel]] = {}
        for method in rng.sample(("aps", "judge", "person"), rng.randint(1, 3)):
            made[method] = rng.choices([1, -1, 0, None], [4, 3, 1, 1], k=length)
            rows.append({**labels(f"{name}{method}", name, "q", list(made[method])), "method": method})
        for a in made:
            for b in made:
                if a < b:
                    expected[a, b] = expected.get((a, b), Agreement()) + agreement(made[a], made[b])
                    same.setdefault((a, b), []).append(first_error(made[a]) == first_error(made[b]))
    dataset.add_questions([question("q")], "x/questions", 1)
    dataset.append("solutions", solutions, "x/solutions", 1)
    dataset.append("labels", rows, "x/labels", 1)
    found = dataset.view().sql("select * from agreement").to_pylist()
    assert {(row["method"], row["other"]) for row in found} == set(expected) != set()
    for row in found:
        pair = row["method"], row["other"]
        mine = expected[pair]
        cells = ("both_good", "both_bad", "good_bad", "bad_good", "agreeing", "steps")
        assert [row.get(name, mine.agreeing) for name in cells] == [getattr(mine, name) for name in cells]
        assert (row["agreement"], row["kappa"]) == (pytest.approx(mine.rate), pytest.approx(mine.kappa))
        assert row["same_first_error"] == pytest.approx(sum(same[pair]) / len(same[pair]))
        assert row["solutions"] == len(same[pair])
