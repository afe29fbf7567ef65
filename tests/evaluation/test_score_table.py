"""Step scores stand in the table of the dataset they were made on: once a prefix and reward model, for every command."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr_data.checked_lines import CheckedLines
from openr_data.evaluation.prm import Evaluated, EvaluatePrm, PrmEvaluationConfig
from openr_data.evaluation.scores import case_id
from openr_data.ids import process_ids
from openr_data.jobs.job import Job
from openr_data.store import Dataset, Store
from openr_data.store.verify import verify
from tests.evaluation.rewards import ScriptedReward
from tests.evaluation.test_labels import TRUTH, people, steps
from tests.evaluation.test_prm import by_hand


@pytest.fixture
def dataset(store: Store) -> Dataset:
    dataset = store.dataset("d", create=True)
    people(dataset, *TRUTH)
    dataset.snapshot("import", "five solutions")
    return dataset


def evaluated(
    store: Store, reward: ScriptedReward, *on: str, model: str = "m", limit: int = 0, dev: str = ""
) -> Evaluated:
    return EvaluatePrm(store, PrmEvaluationConfig(model, on or ("d",), limit=limit, dev=dev)).run(store, reward)


def rows(dataset: Dataset) -> dict[tuple[str, str], float]:
    return {(row["node_id"], row["reward"]): row["score"] for row in dataset.view().arrow("scores").to_pylist()}


def test_an_evaluation_stores_one_row_for_each_prefix_and_reward_model(store: Store, dataset: Dataset) -> None:
    evaluated(store, ScriptedReward(by_hand))
    solutions = dataset.view().sql("select s.*, question from solutions s join questions using (question_id)")
    expected = {
        (node, "scripted@1"): score
        for row in solutions.to_pylist()
        for node, score in zip(
            process_ids(row["question_id"], row["steps"])[1], by_hand(row["question"], row["steps"]), strict=True
        )
    }
    assert rows(dataset) == expected
    assert set(dataset.view().sql("select unnest(node_id) as n from labels")["n"].to_pylist()) == {
        n for n, _ in expected
    }
    evaluated(store, ScriptedReward(lambda *given: [1 - score for score in by_hand(*given)], name="scripted@2"))
    assert len(rows(dataset)) == 2 * len(expected)
    assert {key: score for key, score in rows(dataset).items() if key[1] == "scripted@1"} == expected
    assert list(verify(dataset)) == []


def test_another_evaluation_of_the_same_solutions_scores_nothing(store: Store, dataset: Dataset) -> None:
    first = evaluated(store, ScriptedReward(by_hand), limit=3)
    later = ScriptedReward(by_hand)
    second = evaluated(store, later)
    assert (len(later.asked), second.total) == (2, 5)
    assert second.job_id != first.job_id
    silent = ScriptedReward(by_hand, threshold=0.4)
    third = evaluated(store, silent)
    assert silent.asked == []
    assert third.evaluation.rows[0].at_half == second.evaluation.rows[0].at_half


def test_an_evaluation_is_a_snapshot_and_changes_neither_the_facts_nor_its_own_configuration(
    store: Store, dataset: Dataset
) -> None:
    first = evaluated(store, ScriptedReward(by_hand))
    made = dataset.snapshots()[-1]
    assert (made.operation, made.message, made.job_id) == ("eval", "15 step scores of scripted@1", first.job_id)
    assert made.changes == {"+scores": 15}
    reward = ScriptedReward(by_hand)
    assert evaluated(store, reward) == first
    assert evaluated(store, ScriptedReward(by_hand, name="scripted@2")).job_id != first.job_id
    assert evaluated(store, reward) == first
    assert reward.asked == []
    assert [row.operation for row in dataset.snapshots()] == ["import", "eval", "eval"]


def test_a_tag_keeps_its_state_and_the_newest_state_gets_the_scores(store: Store, dataset: Dataset) -> None:
    tag = dataset.tag("v1")
    evaluated(store, ScriptedReward(by_hand), "d@v1")
    assert dataset.view("v1").counts()["scores"] == 0
    assert dataset.view("v1").digest() == tag.digest
    assert dataset.view().counts()["scores"] == 15
    # A tag on a state with scores holds the same facts, and the same solutions are not scored again.
    dataset.tag("v2")
    reward = ScriptedReward(by_hand)
    assert evaluated(store, reward, "d@v2").job_id != evaluated(store, reward, "d@v1").job_id
    assert reward.asked == []


def test_solutions_that_share_a_prefix_share_its_first_score(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    people(dataset, -1)
    (row,) = dataset.view().sql("select * from solutions").to_pylist()
    (labelled,) = dataset.view().sql("select * from labels").to_pylist()
    other = [*row["steps"][:2], "another last step"]
    solution, nodes = process_ids(row["question_id"], other)
    dataset.append("solutions", [{**row, "solution_id": solution, "steps": other}], "x/solutions", 1)
    dataset.append(
        "labels", [{**labelled, "label_id": "other", "solution_id": solution, "node_id": nodes}], "x/labels", 1
    )
    dataset.snapshot("import", "another solution")
    shift = iter((0.0, 1e-7))

    def noisy(question: str, given: Sequence[str]) -> Sequence[float]:
        by = next(shift)
        return [0.5 + by for _ in given]

    evaluated(store, ScriptedReward(noisy))
    scores = rows(dataset)
    assert len(scores) == 4
    assert sorted(scores.values()) == [0.5, 0.5, 0.5, 0.5 + 1e-7]
    assert [row for row in dataset.view().arrow("scores").to_pylist() if row["node_id"] in nodes[:2]] != []


def test_scores_in_the_folder_of_an_older_job_are_read_and_brought_into_the_table(
    store: Store, dataset: Dataset
) -> None:
    old = Job.begin(store, "eval", {"method": "eval search", "source": "x", "into": "m", "reward": "scripted@1"}, {})
    (old.path / "scores").mkdir()
    known = [(f"Question {i}?", tuple(steps(i))) for i in range(4)]
    part = pa.table({"case": [case_id(*case) for case in known], "scores": [list(by_hand(*case)) for case in known]})
    pq.write_table(part, old.path / "scores" / "part-00001.parquet")
    reward = ScriptedReward(by_hand)
    evaluated(store, reward)
    assert reward.asked == [("Question 4?", tuple(steps(4)))]
    assert dataset.view().counts()["scores"] == 15
    # Another model's scores are not those of this one.
    other = ScriptedReward(by_hand, name="scripted@2")
    evaluated(store, other)
    assert len(other.asked) == 5


def test_what_another_killed_job_acknowledged_is_not_scored_again(store: Store, dataset: Dataset) -> None:
    killed = Job.begin(
        store, "eval", {"method": "eval prm", "source": "d", "into": "m", "model_revision": "scripted@1"}, {}
    )
    pending = CheckedLines(killed.path / "scores" / "pending-d.jsonl")
    for row in (
        dataset.view().sql("select question, s.* from solutions s join questions using (question_id)").to_pylist()[:2]
    ):
        nodes = process_ids(row["question_id"], row["steps"])[1]
        pending.append([row["question_id"], nodes, list(by_hand(row["question"], row["steps"]))])
    pending.close()
    reward = ScriptedReward(by_hand)
    evaluated(store, reward)
    assert len(reward.asked) == 3
    assert dataset.view().counts()["scores"] == 15


def test_an_evaluation_in_a_running_event_loop_gives_the_same(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    evaluation = EvaluatePrm(store, PrmEvaluationConfig("m", ("d",)))
    awaited = asyncio.run(evaluation.run_async(store, ScriptedReward(by_hand)))
    other = Store.open(tmp_path / "other", create=True)
    people(other.dataset("d", create=True), *TRUTH)
    other.dataset("d").snapshot("import", "five solutions")
    assert evaluated(other, ScriptedReward(by_hand)).evaluation == awaited.evaluation


@pytest.mark.parametrize("is_upgraded", [False, True])
def test_the_evaluation_that_version_3_finished_is_still_done(tmp_path: Path, is_upgraded: bool) -> None:
    shutil.copytree(Path(__file__).parents[1] / "store" / "stores" / "version3", tmp_path / "version3")
    store = Store.open(tmp_path / "version3")
    name = "arithmetic-reward@57de882f000d.a740d20c"
    if is_upgraded:
        # Another model's evaluation upgrades the store and adds rows to the table of scores.
        other = ScriptedReward(lambda _, given: [0.5] * len(given), name="scripted@1")
        assert evaluated(store, other, "arithmetic", model="arithmetic-reward").job_id != "43ce45e1eea4"
        assert store.view("arithmetic").counts()["scores"] > 0
    reward = ScriptedReward(by_hand, name=name, threshold=0.537178)
    found = evaluated(store, reward, "arithmetic", model="arithmetic-reward")
    assert found.job_id == "43ce45e1eea4"
    assert reward.asked == []
    # Another evaluation by that model finds the scores in the old job's folder.
    assert evaluated(store, reward, "arithmetic", model="arithmetic-reward", limit=3).total == 3
    assert reward.asked == []
    assert list(verify(store.dataset("arithmetic"))) == []


def test_after_a_rollback_the_scores_are_made_again(store: Store, dataset: Dataset) -> None:
    from openr_data.store.rollback import rollback

    evaluated(store, ScriptedReward(by_hand), limit=4)
    rollback(dataset, "1")
    assert dataset.view().counts()["scores"] == 0
    reward = ScriptedReward(by_hand)
    evaluated(store, reward)
    assert len(reward.asked) == 5
    assert dataset.view().counts()["scores"] == 15
