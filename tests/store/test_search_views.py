"""The views over scores and search trees: `step_scores`, `candidates`, and the ready query on disagreement."""

import pytest

from openr_data.store import Dataset, Store
from openr_data.store.rows import score_rows, search_node_rows
from openr_data.store.saved_queries import saved_query
from openr_data.store.verify import verify
from openr_data.types import SearchNode, Verdict
from tests.store.test_dataset import labels, node, question, rollout, solution


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """A solution with two label sets, scores of two reward models, an independent search and a guided one."""
    dataset = store.dataset("d", create=True)
    dataset.add_questions([question("q")], "x/questions", 1)
    dataset.append("solutions", [solution("s", "q", ["a", "b"])], "x/solutions", 1)
    sets = [
        {**labels("l1", "s", "q", [1, -1]), "method": "one", "value": [0.75, 0.0], "node_id": ["na", "nb"]},
        {**labels("l2", "s", "q", [-1, -1]), "method": "two", "node_id": ["na", "nb"]},
    ]
    dataset.append("labels", sets, "x/labels", 1)
    scores = score_rows("q", ["na", "nb"], [0.9, 0.2], "r@1", "e") + score_rows("q", ["na"], [0.4], "r@2", "f")
    dataset.append("scores", scores, "e/scores", 1)
    drawn = {**node("root", "q", "bon"), "method": "best-of-n", "parent_id": None}
    labelled = {**node("root", "q", "lab"), "parent_id": None}
    dataset.append("nodes", [drawn, labelled], "y/nodes", 1)
    rows = [rollout("r1", "q", "root", "correct", "bon"), rollout("r2", "q", "root", "incorrect", "lab")]
    dataset.append("rollouts", rows, "y/rollouts", 1)
    tree = (
        SearchNode(None, "", "kept"),
        SearchNode(0, "a", "kept", 10, 0.8),
        SearchNode(1, "b", "ended", 20, 0.6, finish_reason="stop", answer="7", verdict=Verdict.INCORRECT),
        SearchNode(0, "c", "pruned", 30, 0.1),
    )
    dataset.append("search_nodes", search_node_rows(tree, "q", "beam", "p", "gs"), "gs/search_nodes", 1)
    return dataset


def test_label_value_and_score_of_a_step_stand_side_by_side(dataset: Dataset) -> None:
    rows = (
        dataset.view()
        .sql("select method, reward, step_index, step, label, value, score from step_scores order by all")
        .to_pylist()
    )
    assert [tuple(row.values()) for row in rows] == [
        ("one", "r@1", 0, "a", 1, 0.75, 0.9),
        ("one", "r@1", 1, "b", -1, 0.0, 0.2),
        ("one", "r@2", 0, "a", 1, 0.75, 0.4),
        ("two", "r@1", 0, "a", -1, 0.5, 0.9),
        ("two", "r@1", 1, "b", -1, 0.5, 0.2),
        ("two", "r@2", 0, "a", -1, 0.5, 0.4),
    ]


def test_candidates_are_those_of_searches_alone(dataset: Dataset) -> None:
    rows = (
        dataset.view()
        .sql(
            "select job_id, search, question, answer, verdict, n_tokens, path_score, tokens_spent from candidates order by 1"
        )
        .to_pylist()
    )
    independent, guided = rows
    assert (independent["job_id"], independent["search"], independent["verdict"]) == ("bon", "best-of-n", "correct")
    assert independent["n_tokens"] is not None
    assert (guided["job_id"], guided["search"], guided["answer"], guided["verdict"]) == ("gs", "beam", "7", "incorrect")
    assert (guided["path_score"], guided["tokens_spent"]) == (0.6, 20)


def test_the_ready_query_lists_where_a_reward_model_and_labels_disagree(dataset: Dataset) -> None:
    rows = dataset.view().sql(saved_query("reward-label-disagreement")).to_pylist()
    assert [(row["reward"], row["method"], row["step"], row["label"], row["score"]) for row in rows] == [
        ("r@1", "two", "a", -1, 0.9),
        ("r@2", "one", "a", 1, 0.4),
    ]


def test_a_score_is_written_once_for_a_prefix_and_reward_model(dataset: Dataset) -> None:
    again = score_rows("q", ["nb", "nc"], [0.3, 0.5], "r@1", "g")
    assert dataset.append("scores", [*again, *again], "g/scores", 1) == 1
    assert dataset.view().sql("select score from scores where node_id = 'nb' and reward = 'r@1'").to_pylist() == [
        {"score": 0.2}
    ]
    assert dataset.append("scores", again, "g/scores", 2) == 0


@pytest.mark.parametrize(
    ("table", "change", "what"),
    [
        ("search_nodes", {"state": "gone"}, "a state that is none"),
        ("search_nodes", {"verdict": "maybe"}, "a verdict that is none"),
        ("search_nodes", {"question_id": "other"}, "no question of that id"),
        ("search_nodes", {"parent_id": "nobody"}, "no parent of that id and job"),
        ("search_nodes", {"step": "x"}, "ids that are not the hash of what they name"),
        ("scores", {"score": 1.5, "reward": "new"}, "a score that is not a number from 0 to 1"),
        ("scores", {"question_id": "other", "reward": "new"}, "no question of that id"),
    ],
)
def test_verify_reports_a_wrong_row(dataset: Dataset, table: str, change: dict[str, object], what: str) -> None:
    before = {(problem.where, problem.what) for problem in verify(dataset)}
    assert (table, what) not in before
    row = (
        dataset.view()
        .sql(f"select * from {table} order by {'place desc' if table == 'search_nodes' else 1}")
        .to_pylist()
    )
    dataset.append(table, [{**row[0], "place": 99, **change}], "bad", 1)
    assert (table, what) in {(problem.where, problem.what) for problem in verify(dataset)}
