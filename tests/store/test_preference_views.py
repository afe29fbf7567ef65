"""Pairs out of rollouts that are there already, with figures worked out by hand."""

import json
from fractions import Fraction
from typing import Any

import pytest

from openr_data.grading import MathGrader
from openr_data.ids import root_id
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Dataset, Store
from openr_data.types import Sampling
from tests.conftest import ASTRAY, RIGHT, WRONG, a_question
from tests.store.test_dataset import node, question, rollout

ASKED = "What is 1?"
LOST = "So \\boxed{7}."


def two_ways(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """Half of the answers begin with "a", of which 3/4 are right, the others with "b", of which 1/4 are."""
    if not steps:
        return [Branch(Fraction(1, 2), "a"), Branch(Fraction(1, 2), "b")]
    if len(steps) > 1:
        return []
    right = Fraction(3 if steps[0] == "a" else 1, 4)
    return [Branch(right, RIGHT), Branch(1 - right, LOST)]


def label(store: Store, labeler: Any, script: Any, seed: int = 0, keep_text: bool = True) -> Dataset:
    policy = ScriptedPolicy(script, exact=True)
    config = LabelConfig(
        source="test", method=labeler.method, policy="scripted", into="d", seed=seed, rollout_text=keep_text
    )
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    dataset = store.dataset("d", create=True)
    run_label(job, config, [a_question()], dataset, labeler, policy, MathGrader())
    return dataset


def shepherd(seed: int = 0, k: int = 4) -> MathShepherd:
    return MathShepherd(MathShepherdConfig(k=k, solutions=8), Sampling(seed=seed))


def rows_of(dataset: Dataset, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in dataset.view().sql(query).to_pylist()]


PAIRS = (
    "select prompt, chosen, rejected, p_chosen, p_rejected, n_chosen, n_rejected, target from sibling_pairs order by 1"
)


# --- steps: relative progress of the same small world


def test_relative_progress_is_that_worked_out_by_hand(store: Store) -> None:
    dataset = label(store, shepherd(), two_ways)
    found = rows_of(
        dataset,
        "select list(step order by step_index), list(value order by step_index), list(parent_value order by step_index), "
        "list(label order by step_index) from relative_progress group by label_id order by 1",
    )
    assert found == [
        (["a", LOST], [0.75, 0.0], [0.5, 0.75], [1, -1]),
        (["a", RIGHT], [0.75, 1.0], [0.5, 0.75], [1, 1]),
        # From 1/2 down to 1/4: bad, although the answer can be reached.
        (["b", LOST], [0.25, 0.0], [0.5, 0.25], [-1, -1]),
        (["b", RIGHT], [0.25, 1.0], [0.5, 0.25], [-1, 1]),
    ]


# --- pairs of steps


def test_siblings_are_paired_by_their_values(store: Store) -> None:
    dataset = label(store, shepherd(), two_ways)
    assert rows_of(dataset, PAIRS) == [
        (f"{ASKED}\n\n", "a", "b", 0.75, 0.25, 4, 4, 0.75),
        (f"{ASKED}\n\na\n\n", RIGHT, LOST, 1.0, 0.0, 0, 0, 1.0),
        (f"{ASKED}\n\nb\n\n", RIGHT, LOST, 1.0, 0.0, 0, 0, 1.0),
    ]
    columns = "question_id, policy, parent_id, question, prefix_steps"
    asked = a_question().question_id
    assert rows_of(dataset, f"select {columns} from sibling_pairs where chosen = 'a'") == [
        (asked, "scripted", root_id(asked), ASKED, [])
    ]
    assert rows_of(dataset, "select prefix_steps from sibling_pairs order by 1") == [([],), (["a"],), (["b"],)]


def test_the_rollouts_of_two_jobs_count_together(store: Store) -> None:
    label(store, shepherd(), two_ways)
    dataset = label(store, shepherd(seed=1, k=8), two_ways, seed=1)
    # 3 of 4 and 6 of 8; 1 of 4 and 2 of 8.
    assert rows_of(dataset, f"{PAIRS} limit 1") == [(f"{ASKED}\n\n", "a", "b", 0.75, 0.25, 12, 12, 0.75)]
    assert len(rows_of(dataset, PAIRS)) == 3


def test_the_papers_example_has_its_two_forks(store: Store, papers_policy: ScriptedPolicy) -> None:
    labeler = OmegaPRM(OmegaPRMConfig(searches=6, screening=8, k=4), Sampling())
    dataset = label(store, labeler, papers_policy.branches)
    five = "\n\n".join((ASKED, *WRONG[:5]))
    assert rows_of(dataset, PAIRS) == [
        (f"{five}\n\n", "s6", ASTRAY, 0.5, 0.0, 4, 0, 0.75),
        (f"{five}\n\ns6\n\n", RIGHT, "s7", 1.0, 0.0, 0, 4, 1.0),
    ]


def a_tree(store: Store, *nodes: dict[str, Any], rollouts: dict[str, str] | None = None) -> Dataset:
    """A dataset with the question q and these nodes; `rollouts` are c and w (correct, wrong) by node."""
    dataset = store.dataset("d", create=True)
    dataset.add_questions([question("q")], "x/questions", 1)
    dataset.append("nodes", nodes, "x/nodes", 1)
    drawn = [
        rollout(f"{at}{place}", "q", at, {"c": "correct", "w": "incorrect", "?": "unknown"}[kind])
        for at, kinds in (rollouts or {}).items()
        for place, kind in enumerate(kinds)
    ]
    dataset.append("rollouts", drawn, "x/rollouts", 1)
    return dataset


def at(name: str, parent: str | None = None, job: str = "j", **more: Any) -> dict[str, Any]:
    return {**node(name, "q", job), "parent_id": parent, "step": name if parent else "", **more}


def pairs_of(dataset: Dataset) -> set[tuple[Any, ...]]:
    return set(rows_of(dataset, "select chosen, rejected, p_chosen, p_rejected, target from sibling_pairs"))


def test_equal_values_are_no_pair(store: Store) -> None:
    dataset = a_tree(store, at("r"), *(at(name, "r") for name in "abc"), rollouts={"a": "cw", "b": "ccww", "c": "w"})
    assert pairs_of(dataset) == {("a", "c", 0.5, 0.0, 0.75), ("b", "c", 0.5, 0.0, 0.75)}


def test_a_certificate_without_rollouts_beats_a_measured_zero_and_nothing_else(store: Store) -> None:
    nodes = [
        at("sure", "r", certified=True),
        at("noisy", "r", certified=True),
        at("half", "r"),
        at("zero", "r"),
        at("?", "r"),
    ]
    dataset = a_tree(store, at("r"), *nodes, rollouts={"noisy": "ww", "half": "cw", "zero": "ww", "?": "??"})
    assert pairs_of(dataset) == {
        ("half", "zero", 0.5, 0.0, 0.75),
        ("sure", "zero", None, 0.0, None),
        ("noisy", "zero", None, 0.0, None),
    }


def test_a_complete_solution_is_worth_its_verdict(store: Store) -> None:
    end = {"terminal": True}
    nodes = [
        at("right", "r", **end, verdict="correct", certified=True), at("wrong", "r", **end, verdict="incorrect"),
        at("dark", "r", **end, verdict="unknown"), at("some", "r"),
        # It states 8 and continues to the right answer.
        at("half way", "r", **end, verdict="incorrect", certified=True),
    ]  # fmt: skip
    dataset = a_tree(store, at("r"), *nodes, rollouts={"some": "cw"})
    assert pairs_of(dataset) == {
        ("right", "wrong", 1.0, 0.0, 1.0),
        ("right", "some", 1.0, 0.5, 0.75),
        ("some", "wrong", 0.5, 0.0, 0.75),
        ("half way", "wrong", None, 0.0, None),
    }


def test_steps_of_two_policies_are_not_compared(store: Store) -> None:
    dataset = a_tree(store, at("r"), at("a", "r"), at("b", "r", policy="other"), at("c", "r", policy="other"))
    drawn = [("a", "correct", "p"), ("b", "incorrect", "other"), ("c", "correct", "other")]
    dataset.append(
        "rollouts", [{**rollout(n, "q", n, verdict), "policy": p} for n, verdict, p in drawn], "x/rollouts", 2
    )
    assert rows_of(dataset, "select policy, chosen, rejected from sibling_pairs") == [("other", "c", "b")]


def test_a_prefix_is_put_together_over_jobs_and_left_out_where_it_is_not_known(store: Store) -> None:
    known = [at("r", job="k"), at("r"), at("one", "r", job="k"), at("one", "r"), at("two", "one", job="k")]
    leaves = [at("a", "two"), at("b", "two"), at("x", "gone"), at("y", "gone")]
    dataset = a_tree(store, *known, *leaves, rollouts={"a": "c", "b": "w", "x": "c", "y": "w"})
    assert rows_of(dataset, "select chosen, rejected, prefix_steps, prompt from sibling_pairs") == [
        ("a", "b", ["one", "two"], "q?\n\none\n\ntwo\n\n")
    ]


def test_a_deep_prefix_is_put_together_in_order(store: Store) -> None:
    chain = [at("0"), *(at(str(depth), str(depth - 1)) for depth in range(1, 200))]
    dataset = a_tree(store, *chain, at("a", "199"), at("b", "199"), rollouts={"a": "c", "b": "w"})
    (found,) = rows_of(dataset, "select prefix_steps from sibling_pairs")
    assert found == ([str(depth) for depth in range(1, 200)],)


# --- whole responses


def test_outcomes_are_the_distinct_responses_to_the_bare_question(store: Store) -> None:
    dataset = label(store, shepherd(), two_ways)
    assert rows_of(dataset, "select question, response, correct from outcomes order by 2") == [
        (ASKED, f"a\n\n{LOST}", False),
        (ASKED, f"a\n\n{RIGHT}", True),
        (ASKED, f"b\n\n{LOST}", False),
        (ASKED, f"b\n\n{RIGHT}", True),
    ]
    assert rows_of(dataset, "select distinct prompt from outcomes") == [(f"{ASKED}\n\n",)]
    assert rows_of(dataset, "select count(*) from rollouts") == [(16,)]


def test_outcome_pairs_take_the_right_and_the_wrong_in_the_order_of_their_rollouts(store: Store) -> None:
    dataset = label(store, shepherd(), two_ways)
    right = [row[0] for row in rows_of(dataset, "select response from outcomes where correct order by rollout_id")]
    wrong = [row[0] for row in rows_of(dataset, "select response from outcomes where not correct order by rollout_id")]
    found = rows_of(dataset, "select prompt, chosen, rejected from outcome_pairs")
    assert sorted(found) == sorted((f"{ASKED}\n\n", good, bad) for good, bad in zip(right, wrong, strict=True))
    assert len(found) == 2


def test_there_are_as_many_pairs_as_there_are_of_the_rarer_side(store: Store) -> None:
    texts = {"1": ("w", "one"), "2": ("c", "two"), "3": ("w", "three"), "4": ("w", "four"), "5": ("c", "five")}
    dataset = a_tree(store, at("r"))
    kinds = {"c": "correct", "w": "incorrect"}
    rows = [{**rollout(name, "q", "r", kinds[kind]), "text": text} for name, (kind, text) in texts.items()]
    dataset.append("rollouts", rows, "x/rollouts", 2)
    assert rows_of(dataset, "select chosen, rejected from outcome_pairs order by 1") == [
        ("five", "three"),
        ("two", "one"),
    ]


def test_what_is_no_response_to_the_bare_question_or_has_no_text_or_verdict_is_no_outcome(store: Store) -> None:
    dataset = a_tree(store, at("r"), at("a", "r"))
    rows = [
        rollout("1", "q", "r", "correct"), {**rollout("2", "q", "r", "correct"), "text": None},
        {**rollout("3", "q", "r", "unknown"), "text": "u"}, {**rollout("4", "q", "a", "correct"), "text": "v"},
        # The same text again, and a rollout of two jobs: once.
        rollout("5", "q", "r", "correct"), rollout("1", "q", "r", "correct", "k"),
        {**rollout("6", "q", "r", "incorrect"), "policy": "other"},
    ]  # fmt: skip
    dataset.append("rollouts", rows, "x/rollouts", 2)
    found = rows_of(dataset, "select policy, rollout_id, response, correct from outcomes order by 1")
    assert found == [("other", "6", "t", False), ("p", "1", "t", True)]
    assert rows_of(dataset, "select * from outcome_pairs") == []


@pytest.mark.parametrize("view", ["relative_progress", "sibling_pairs", "outcomes", "outcome_pairs"])
def test_an_empty_dataset_has_none_of_them(store: Store, view: str) -> None:
    assert store.dataset("d", create=True).view().arrow(view).num_rows == 0


@pytest.mark.parametrize("view", ["sibling_pairs", "outcome_pairs"])
def test_prompt_chosen_and_rejected_are_texts_that_a_preference_trainer_reads(store: Store, view: str) -> None:
    dataset = label(store, shepherd(), two_ways)
    rows = dataset.view().to_datasets(view).select_columns(["prompt", "chosen", "rejected"]).to_list()
    assert rows
    for row in json.loads(json.dumps(rows)):
        assert all(isinstance(text, str) and text for text in row.values())
        assert row["chosen"] != row["rejected"]
        # The prompt ends where the answer begins: together they are the text as the policy wrote it.
        assert row["prompt"].startswith(f"{ASKED}\n\n")
        assert row["prompt"].endswith("\n\n")


def test_where_no_text_of_rollouts_was_kept_there_are_pairs_of_steps_alone(store: Store) -> None:
    dataset = label(store, shepherd(), two_ways, keep_text=False)
    assert rows_of(dataset, "select * from outcomes") == []
    assert len(rows_of(dataset, PAIRS)) == 3
