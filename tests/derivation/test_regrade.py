"""Grading anew: what follows from a verdict follows again, and nothing else changes."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from openr_data.derivation.regrade import disagreements, regrade
from openr_data.derivation.stored_evidence import StoredEvidence
from openr_data.errors import OpenRError, StoreError
from openr_data.grading import FinalAnswerGrader, MathGrader
from openr_data.ids import child_id, root_id
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.jobs.plan import Plan
from openr_data.store import Dataset, Store
from openr_data.trees import QuestionTree
from openr_data.types import Grade, Verdict
from tests.conftest import a_question

QUESTIONS = tuple(a_question(f"What is 1, question {index}?") for index in range(6))
OPTIONS = {
    "omegaprm": {"k": 4, "searches": 8, "screening": 16},
    "math-shepherd": {"k": 4, "solutions": 6},
    "mips": {"k": 4, "solutions": 6, "threshold": 0.3},
    "adaptive": {"searches": 8, "screening": 16},
}


class Lenient(FinalAnswerGrader):
    """Accepts the wrong answer of the scripted world too, and knows nothing of one answer."""

    name = "lenient/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.CORRECT)


class Strict(FinalAnswerGrader):
    """Accepts nothing."""

    name = "strict/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.INCORRECT)


class Silent(FinalAnswerGrader):
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
    regraded = regrade(dataset, MathGrader())
    assert regraded.rollouts == len(before["rollouts"]) > 100
    assert not regraded.changed
    assert not any(regraded.rows.values())
    assert {table: content(dataset, table) for table in before} == before
    assert len(dataset.snapshots()) == 1


@pytest.mark.parametrize("grader", [Lenient(), Strict(), Silent()], ids=lambda item: item.name)
def test_math_shepherd_regraded_is_math_shepherd_with_the_other_grader(
    store: Store, random_policy: ScriptedPolicy, grader: Any
) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "math-shepherd")
    fresh = label(store, "fresh", random_policy, grader, "math-shepherd")
    regraded = regrade(dataset, grader)
    assert sum(regraded.changed.values()) > 10
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
    regraded = regrade(dataset, Silent())
    assert regraded.first_errors_moved == sum(row["first_error"] is not None for row in before)
    for row in content(dataset, "labels"):
        assert set(row["label"]) == {None}
        assert row["first_error"] is None
        assert set(row["n_rollouts"]) == {0}


def test_a_dry_run_writes_nothing(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    digest = dataset.view().digest()
    regraded = regrade(dataset, Strict(), dry_run=True)
    assert regraded.snapshot is None
    assert regraded.changed["correct", "incorrect"] > 10
    assert regraded.rows["labels"] > 0
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
    differing = disagreements(dataset.view(), None, Lenient())
    assert {item.answer for item in differing} == {"7"}
    counted = dataset.view().sql("select count(*) as n from rollouts where verdict = 'incorrect'").to_pylist()
    assert sum(item.rollouts for item in differing) == counted[0]["n"]
    assert [item.rollouts for item in differing] == sorted((item.rollouts for item in differing), reverse=True)
    assert disagreements(dataset.view(), MathGrader(), MathGrader()) == []


def test_a_question_that_is_gone_is_no_reason_to_fail(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "math-shepherd")
    lonely = {**content(dataset, "rollouts")[0], "question_id": "f" * 32, "rollout_id": "f" * 32}
    dataset.append("rollouts", [lonely], "lonely", 1)
    assert regrade(dataset, MathGrader()).changed.total() <= 1


def test_a_job_without_rollouts_of_its_own_and_an_unknown_method_are_left_alone(
    store: Store, random_policy: ScriptedPolicy
) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    row = content(dataset, "labels")[0]
    joined = {**row, "label_id": "joined", "method": "omegaprm", "job_id": "join"}
    foreign = {**row, "label_id": "foreign", "method": "somebody-elses"}
    dataset.append("labels", [joined, foreign], "others", 1)
    regrade(dataset, Strict())
    kept = {row["label_id"]: row for row in content(dataset, "labels")}
    assert kept["joined"] == joined
    assert kept["foreign"] == foreign


class CutOff(FinalAnswerGrader):
    """Reaches a limit at every comparison."""

    name = MathGrader.name

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.UNKNOWN, "no answer in 3 s", is_final=False)


def test_a_comparison_that_was_cut_off_takes_nothing_back(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    before = content(dataset, "rollouts")
    regraded = regrade(dataset, CutOff())
    assert regraded.cut_off > 100
    assert not any(regraded.rows.values())
    assert content(dataset, "rollouts") == before


def test_a_grader_that_fails_changes_nothing(store: Store, random_policy: ScriptedPolicy) -> None:
    class Fails(Strict):
        async def grade(self, answer: str, gold: str) -> Grade:
            raise OpenRError("No process can be started.")

    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    digest = dataset.view().digest()
    with pytest.raises(OpenRError, match="No process"):
        regrade(dataset, Fails())
    assert dataset.view().digest() == digest


def test_solutions_follow_the_rollout_that_wrote_them(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    before = content(dataset, "solutions", "revision")
    # As an older extractor would have left them.
    old = [{**row, "final_answer": "1", "outcome": True, "revision": 1} for row in before]
    dataset.append("solutions", old, "older", 1)
    regrade(dataset, MathGrader())
    assert content(dataset, "solutions", "revision") == before


def test_an_interrupted_regrade_is_no_snapshot_and_the_same_command_finishes_it(
    store: Store, random_policy: ScriptedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    append = Dataset.append

    def dies(self: Dataset, table: str, *arguments: Any) -> int:
        if table == "labels":
            raise KeyboardInterrupt
        return append(self, table, *arguments)

    monkeypatch.setattr(Dataset, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        regrade(dataset, Strict())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="Finish it with: openr-data regrade data --grader strict"):
        dataset.snapshot("label", "of a mixture")
    regrade(dataset, Strict())
    assert dataset.view().sql("select count(*) as n from steps where label = 1").to_pylist() == [{"n": 0}]
    assert [item.operation for item in dataset.snapshots()] == ["label", "regrade"]
    dataset.snapshot("label", "nothing new")


def test_a_complete_solution_inside_a_longer_one_is_good_where_the_longer_one_is() -> None:
    """As Math-Shepherd has it: the shorter ended wrong, what lies beyond it ended right."""
    first, second = child_id(root_id("q"), "a"), child_id(child_id(root_id("q"), "a"), "b")
    shared = {"question_id": "q", "job_id": "j", "policy": "scripted@1", "finish_reason": "stop"}
    rollouts = [
        {**shared, "rollout_id": "1", "node_id": root_id("q"), "text": "a", "verdict": "incorrect", "answer": "7"},
        {**shared, "rollout_id": "2", "node_id": root_id("q"), "text": "a\n\nb", "verdict": "correct", "answer": "1"},
    ]
    labelled = {"question_id": "q", "node_id": [first, second], "method": "math-shepherd", "provenance": [0, 0]}
    group = {"new_rollouts": rollouts, "rollouts": rollouts, "labels": [labelled], "nodes": [], "solutions": []}
    evidence = StoredEvidence(group, QuestionTree.from_rows("q", group))
    assert evidence.relabelled(labelled)["label"] == [1, 1]
    assert evidence.relabelled({**labelled, "node_id": [first]})["label"] == [-1]


def test_regrades_at_once_take_turns(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    graders = {item.name: item for item in (Strict(), Lenient(), Silent())}
    threads = [threading.Thread(target=regrade, args=(dataset, item)) for item in graders.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(dataset.snapshots()) == 4
    assert len({dataset.view().digest() for _ in range(5)}) == 1
    # Whoever came last: verdicts, counts and labels are all of that grader.
    (last,) = dataset.view().sql("select distinct grader from rollouts").to_pylist()
    again = regrade(dataset, graders[last["grader"]])
    assert not any(again.rows.values())


def test_questions_come_in_batches(
    store: Store, random_policy: ScriptedPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "math-shepherd")
    twin = label(store, "twin", random_policy, MathGrader(), "math-shepherd")
    regrade(twin, Lenient())
    monkeypatch.setattr("openr_data.derivation.regrade.QUESTIONS_AT_ONCE", 1)
    monkeypatch.setattr("openr_data.derivation.regrade.ROWS_AT_ONCE", 10)
    seen: list[tuple[int, int]] = []
    regrade(dataset, Lenient(), report=lambda done, total: seen.append((done, total)))
    assert seen == [(count, 6) for count in range(1, 7)]
    for table in ("solutions", "nodes", "rollouts", "labels"):
        assert content(dataset, table, "job_id", "label_id") == content(twin, table, "job_id", "label_id")


def test_it_works_inside_a_running_loop(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")

    async def in_a_notebook() -> int:
        return regrade(dataset, Strict(), dry_run=True).rollouts

    assert asyncio.run(in_a_notebook()) > 100


def test_stored_verdicts_that_differ_are_weighed_apart(store: Store, random_policy: ScriptedPolicy) -> None:
    dataset = label(store, "data", random_policy, MathGrader(), "omegaprm")
    row = next(row for row in content(dataset, "rollouts") if row["answer"] == "1")
    dataset.append("rollouts", [{**row, "verdict": "incorrect", "revision": 1}], "spoiled", 1)
    (found,) = disagreements(dataset.view(), None, MathGrader())
    assert (found.answer, found.first.verdict, found.rollouts) == ("1", Verdict.INCORRECT, 1)
