"""Grading anew: what follows from a verdict follows again, and nothing else changes."""

from dataclasses import replace
from typing import Any

import pytest

from openr_data.grading import MathGrader
from openr_data.inference.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.jobs.plan import Plan
from openr_data.jobs.regrade import disagreements, regrade
from openr_data.store import Dataset, Store
from openr_data.types import Grade, Verdict
from tests.conftest import a_question

QUESTIONS = tuple(a_question(f"What is 1, question {index}?") for index in range(6))
OPTIONS = {
    "omegaprm": {"k": 4, "searches": 8, "screening": 16},
    "math-shepherd": {"k": 4, "solutions": 6},
}


class Lenient:
    """Accepts the wrong answer of the scripted world too, and knows nothing of one answer."""

    name = "lenient/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.CORRECT)


class Strict:
    """Accepts nothing."""

    name = "strict/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.INCORRECT)


class Silent:
    """Never knows."""

    name = "silent/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.UNKNOWN, "no idea")


def label(store: Store, into: str, policy: ScriptedPolicy, grader: Any, method: str, **changes: Any) -> Dataset:
    config = LabelConfig(source="test", method=method, policy="scripted", into=into, options=OPTIONS[method])
    config = replace(config, **changes)
    plan = Plan(config, QUESTIONS, "test")
    dataset = store.dataset(into, create=True)
    job = Job.create(store, config, {"policy_revision": policy.name})
    run_label(job, config, QUESTIONS, dataset, plan.labeler(), policy, grader)
    return dataset


def content(dataset: Dataset, table: str, *without: str) -> list[dict[str, Any]]:
    rows = dataset.view().arrow(table).to_pylist()
    return sorted(({name: value for name, value in row.items() if name not in without} for row in rows), key=repr)


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("text", [True, False])
def test_the_same_grader_changes_nothing(store: Store, random_policy: ScriptedPolicy, method: str, text: bool) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), method, rollout_text=text)
    before = {table: content(dataset, table) for table in ("solutions", "nodes", "rollouts", "labels")}
    found = regrade(dataset, MathGrader())
    assert found.rollouts == len(before["rollouts"]) > 100
    assert not found.changed
    assert not any(found.rows.values())
    assert {table: content(dataset, table) for table in before} == before
    assert len(dataset.snapshots()) == 1


@pytest.mark.parametrize("grader", [Lenient(), Strict(), Silent()], ids=lambda item: item.name)
def test_math_shepherd_regraded_is_math_shepherd_with_the_other_grader(
    store: Store, random_policy: ScriptedPolicy, grader: Any
) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "math-shepherd")
    fresh = label(store, "fresh", random_policy, grader, "math-shepherd")
    found = regrade(dataset, grader)
    assert sum(found.changed.values()) > 10
    labels = {row["solution_id"]: row for row in content(fresh, "labels")}
    ours = {row["solution_id"]: row for row in content(dataset, "labels")}
    if labels:
        assert set(labels) == set(ours)
        for solution, row in labels.items():
            for name in ("label", "value", "n_correct", "n_rollouts", "first_error", "provenance"):
                assert ours[solution][name] == row[name], name
        nodes = {row["node_id"]: row for row in content(fresh, "nodes", "job_id", "revision")}
        again = {row["node_id"]: row for row in content(dataset, "nodes", "job_id", "revision")}
        for node in nodes.keys() & again.keys():
            assert again[node] == nodes[node]
        assert {node for node, row in nodes.items() if row["certified"]} == {
            node for node, row in again.items() if row["certified"]
        }
    else:
        # Without a verdict the labeler makes no label sets; regraded ones say nothing.
        assert all(item is None for row in ours.values() for item in row["label"])


@pytest.mark.parametrize("method", OPTIONS)
def test_there_and_back_again_is_where_we_were(store: Store, random_policy: ScriptedPolicy, method: str) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), method)
    before = {table: content(dataset, table, "revision") for table in ("solutions", "rollouts", "labels")}
    certified = [row["node_id"] for row in content(dataset, "nodes") if row["certified"]]
    strict = regrade(dataset, Strict())
    assert strict.snapshot is not None
    assert strict.changed["correct", "incorrect"] > 10
    assert dataset.view().sql("select count(*) as n from prefixes where hard = 1 and not certified").to_pylist() == [
        {"n": 0}
    ]
    assert dataset.view().sql("select count(*) as n from rollouts where verdict = 'correct'").to_pylist() == [{"n": 0}]
    regrade(dataset, MathGrader())
    assert {table: content(dataset, table, "revision") for table in before} == before
    assert certified == [row["node_id"] for row in content(dataset, "nodes") if row["certified"]]
    operations = [item.operation for item in dataset.snapshots()]
    assert operations == ["label", "regrade", "regrade"]


def test_an_old_snapshot_keeps_its_verdicts(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    query = "select verdict, grader, count(*) as n from rollouts group by all order by all"
    first = dataset.view("1").sql(query).to_pylist()
    regrade(dataset, Strict())
    assert dataset.view("1").sql(query).to_pylist() == first
    assert {row["grader"] for row in dataset.view("2").sql(query).to_pylist()} == {"strict/1"}
    rows = dataset.view().sql("select kind, totals from jobs where kind = 'regrade'").to_pylist()
    assert len(rows) == 1
    assert "correct to incorrect" in rows[0]["totals"]


def test_a_first_error_that_is_no_longer_located_is_taken_back(store: Store, papers_policy: ScriptedPolicy) -> None:
    # Without any correct rollout nothing is certified: the measured zeros stand, the good steps do not.
    dataset = label(store, "data", papers_policy, MathGrader(), "omegaprm")
    before = content(dataset, "labels")
    assert any(row["first_error"] is not None for row in before)
    found = regrade(dataset, Silent())
    assert found.first_errors_moved == sum(row["first_error"] is not None for row in before)
    for row in content(dataset, "labels"):
        assert set(row["label"]) == {None}
        assert row["first_error"] is None
        assert set(row["n_rollouts"]) == {0}


def test_a_dry_run_writes_nothing(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    digest = dataset.view().digest()
    found = regrade(dataset, Strict(), dry_run=True)
    assert found.snapshot is None
    assert found.changed["correct", "incorrect"] > 10
    assert found.rows["labels"] > 0
    assert dataset.view().digest() == digest
    assert len(dataset.snapshots()) == 1


def test_labels_that_people_gave_are_left_alone(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    row = content(dataset, "labels")[0]
    human = {**row, "label_id": "human", "method": "human", "provenance": [4] * len(row["label"]), "job_id": "people"}
    dataset.append("labels", [human], "people", 1)
    regrade(dataset, Strict())
    (kept,) = [row for row in content(dataset, "labels") if row["label_id"] == "human"]
    assert kept == human


def test_disagreements_are_listed_with_their_weight(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    found = disagreements(dataset.view(), None, Lenient())
    assert {item.answer for item in found} == {"7"}
    counted = dataset.view().sql("select count(*) as n from rollouts where verdict = 'incorrect'").to_pylist()
    assert sum(item.rollouts for item in found) == counted[0]["n"]
    assert [item.rollouts for item in found] == sorted((item.rollouts for item in found), reverse=True)
    assert disagreements(dataset.view(), MathGrader(), MathGrader()) == []


def test_a_question_that_is_gone_is_no_reason_to_fail(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "math-shepherd")
    lonely = {**content(dataset, "rollouts")[0], "question_id": "f" * 32, "rollout_id": "f" * 32}
    dataset.append("rollouts", [lonely], "lonely", 1)
    assert regrade(dataset, MathGrader()).changed.total() <= 1
