"""The tree of a question: built from rows in any order, walked without recursion, read question by question."""

import gc
import random
import sys
import weakref
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.engine.rollout_steps import StepCuts
from openr_data.grading import MathGrader
from openr_data.ids import prefix_ids, root_id, solution_id
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.jobs.plan import Plan
from openr_data.labels import Counts
from openr_data.store import Dataset, Store
from openr_data.trees import QuestionTree, read_trees, rows_by_question
from openr_data.types import Verdict
from tests.conftest import a_question

Steps = tuple[str, ...]
paths = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple), max_size=8, unique=True)


def name(steps: Steps, question: str = "q") -> str:
    return [*prefix_ids(question, steps)][-1]


def node_row(steps: Steps, job: str = "j", **more: Any) -> dict[str, Any]:
    return {
        "node_id": name(steps), "parent_id": name(steps[:-1]) if steps else None, "question_id": "q",
        "depth": len(steps), "step": steps[-1] if steps else "", "n_rollouts": 4, "n_correct": 1, "n_unknown": 2,
        "certified": False, "method": "m", "policy": "scripted@1", "job_id": job, **more,
    }  # fmt: skip


def rollout_row(rollout: str, start: Steps, text: str | None, job: str = "j") -> dict[str, Any]:
    return {"rollout_id": rollout, "node_id": name(start), "text": text, "policy": "scripted@1", "job_id": job,
            "question_id": "q", "verdict": "correct"}  # fmt: skip


def solution_row(steps: Steps) -> dict[str, Any]:
    return {"solution_id": solution_id("q", steps), "steps": list(steps), "question_id": "q", "job_id": "j"}


def with_prefixes(found: list[Steps]) -> list[Steps]:
    return sorted({(), *(steps[:n] for steps in found for n in range(1, len(steps) + 1))})


@given(paths, st.randoms(use_true_random=False))
def test_rows_of_nodes_in_any_order_make_the_same_tree(found: list[Steps], rng: random.Random) -> None:
    prefixes = with_prefixes(found)
    rows = [node_row(steps) for steps in prefixes]
    rng.shuffle(rows)
    tree = QuestionTree.from_rows("q", {"nodes": rows})
    assert set(tree.nodes) == {name(steps) for steps in prefixes}
    assert not tree.detached()
    for steps in prefixes:
        node = tree.nodes[name(steps)]
        assert tree.steps(node) == steps
        assert node.depth == len(steps)
        assert [above.node_id for above in tree.above(node)] == [*prefix_ids("q", steps)][::-1]
        below = {child.step for child in node.children.values()}
        assert below == {other[-1] for other in prefixes if other and other[:-1] == steps}
    assert {tree.steps(leaf) for leaf in tree.leaves()} == {
        steps for steps in prefixes if steps and not any(other[:-1] == steps for other in prefixes if other)
    }


@given(paths, paths, paths, st.randoms(use_true_random=False))
def test_a_tree_is_the_same_whichever_table_speaks_of_a_prefix(
    measured: list[Steps], drawn: list[Steps], written: list[Steps], rng: random.Random
) -> None:
    # Some nodes have no parent among the rows: rollouts and solutions bring it, before or after.
    nodes = [node_row(steps) for steps in measured]
    rollouts = [rollout_row(f"r{i}", steps[:-1], steps[-1]) for i, steps in enumerate(drawn)]
    solutions = [solution_row(steps) for steps in written]
    rng.shuffle(nodes)
    cut = StepCuts().steps_of("q", (), ())
    trees = [QuestionTree("q") for _ in range(2)]
    trees[0].add_nodes(nodes)
    trees[0].add_rollouts(rollouts, cut)
    trees[0].add_solutions(solutions)
    trees[1].add_solutions(solutions)
    trees[1].add_nodes(nodes)
    trees[1].add_rollouts(rollouts, cut)
    shapes = [
        {
            node.node_id: (tree.steps(node), node.depth, len(node.rows), len(node.through), len(node.solutions))
            for node in tree.outline()
        }
        for tree in trees
    ]
    assert shapes[0] == shapes[1]
    assert {node.node_id for node in trees[0].detached()} == {node.node_id for node in trees[1].detached()}
    for tree in trees:
        assert {*(node.node_id for node in tree.outline()), *(node.node_id for node in tree.detached())} == set(
            tree.nodes
        )
        for steps in written:
            assert tree.steps(tree.nodes[name(steps)]) == steps


@given(paths)
def test_the_outline_has_each_node_once_before_those_below_it_and_branches_together(found: list[Steps]) -> None:
    tree = QuestionTree("q")
    for steps in found:
        tree.add_path(tree.root, steps)
    order = list(tree.outline())
    place = {node.node_id: at for at, node in enumerate(order)}
    assert len(place) == len(order) == len(tree.nodes)
    sizes: dict[str, int] = {}
    for node in reversed(order):
        sizes[node.node_id] = 1 + sum(sizes[child.node_id] for child in node.children.values())
        below = [other.node_id for other in tree.outline(node)]
        assert below == [other.node_id for other in order[place[node.node_id] :][: sizes[node.node_id]]]


@given(st.lists(st.tuples(st.sampled_from([(), ("a",), ("b",)]), st.sampled_from(["a", "b", "a\n\nb"])), max_size=6))
def test_a_rollout_goes_through_every_prefix_of_what_it_wrote(drawn: list[tuple[Steps, str]]) -> None:
    rows = [rollout_row(f"r{i}", start, text) for i, (start, text) in enumerate(drawn)]
    tree = QuestionTree.from_rows("q", {"nodes": [node_row(("a",)), node_row(("b",))], "rollouts": rows})
    for node in tree.outline():
        steps = tree.steps(node)
        expected = [
            f"r{i}"
            for i, (start, text) in enumerate(drawn)
            if len(start) <= len(steps) and (start + tuple(text.split("\n\n")))[: len(steps)] == steps
        ]
        assert [rollout.row["rollout_id"] for rollout in node.through] == expected
        assert [rollout.row["rollout_id"] for rollout in node.drawn] == [
            f"r{i}" for i, (start, _) in enumerate(drawn) if start == steps
        ]


def test_a_node_waits_for_its_parent_and_comes_with_all_below_it() -> None:
    tree = QuestionTree("q")
    tree.add_nodes([node_row(("a", "b", "c", "d")), node_row(("a", "b", "c"), depth=7)])
    assert [node.step for node in tree.detached()] == ["c", "d"]
    assert list(tree.outline()) == [tree.root]
    tree.add_solutions([solution_row(("a", "b"))])
    assert not tree.detached()
    assert [(node.step, node.depth) for node in tree.outline()] == [("", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 4)]


def test_a_rollout_whose_prefix_no_row_describes_stays_outside_until_the_prefix_comes() -> None:
    tree = QuestionTree.from_rows("q", {"rollouts": [rollout_row("r", ("x",), "y"), rollout_row("s", ("x",), None)]})
    assert [node.node_id for node in tree.detached()] == [name(("x",)), name(("x", "y"))]
    assert tree.rollouts["s", "j"].path == ()
    tree.add_solutions([solution_row(("x",))])
    assert [tree.steps(node) for node in tree.outline()] == [(), ("x",), ("x", "y")]


def test_counts_of_a_node_are_those_of_all_its_jobs() -> None:
    rows = [node_row((), job) for job in "jk"] + [node_row(("a",), certified=True)]
    search = [{**node_row(("a", "b")), "search": "beam"}, {**node_row(("a",)), "search": "beam"}]
    tree = QuestionTree.from_rows("q", {"nodes": rows, "search_nodes": search})
    assert tree.root.counts == Counts(8, 2, 4)
    assert not tree.root.certified
    first = tree.nodes[name(("a",))]
    assert first.certified
    assert (len(first.rows), len(first.search_rows)) == (1, 1)
    searched = tree.nodes[name(("a", "b"))]
    assert (searched.counts, searched.search_rows, searched.rows) == (Counts(), [search[0]], [])


def chain_and_fan(n: int) -> list[dict[str, Any]]:
    """A path of n nodes, and n children of the root."""
    rows, node = [node_row(())], root_id("q")
    for i, deeper in enumerate([*prefix_ids("q", ("d",) * n)][1:]):
        rows.append({**node_row(("d",)), "node_id": deeper, "parent_id": node, "depth": i + 1})
        node = deeper
    return rows + [node_row((f"w{i}",)) for i in range(n)]


def test_a_tree_10_000_deep_and_10_000_wide_is_no_trouble() -> None:
    n = 10_000
    rows = chain_and_fan(n)
    deep = rollout_row("deep", ("d",), "\n\n".join(["d"] * (n - 1)))
    for order in (rows, rows[::-1]):
        tree = QuestionTree.from_rows(
            "q", {"nodes": order, "rollouts": [deep], "solutions": [solution_row(("d",) * n)]}
        )
        assert sum(1 for _ in tree.outline()) == 2 * n + 1
        assert not tree.detached()
        leaves = tree.leaves()
        (bottom,) = [leaf for leaf in leaves if leaf.step == "d"]
        assert len(leaves) == n + 1
        assert bottom.depth == len(tree.path(bottom)) == n
        assert len(bottom.through) == len(bottom.solutions) == 1
        assert len(repr(bottom)) < 200


def test_eight_times_the_tree_takes_eight_times_the_work() -> None:
    def lines_run(n: int) -> int:
        """Lines that run to build and walk a tree whose rows come leaves first, the worst order to look up parents."""
        rows = chain_and_fan(n)[::-1]
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            tree = QuestionTree.from_rows("q", {"nodes": rows})
            assert sum(1 for _ in tree.outline()) == 2 * n + 1
        finally:
            sys.settrace(before)
        return count

    assert lines_run(800) < 9 * lines_run(100)


def test_a_tree_is_freed_without_the_garbage_collector() -> None:
    class Row(dict[str, Any]):
        """A row that can be watched."""

    gc.disable()
    try:
        row = Row(rollout_row("r", (), "a\n\nb"))
        watched = weakref.ref(row)
        tree = QuestionTree.from_rows("q", {"rollouts": [row], "nodes": [node_row(("a", "b", "c"))]})
        del row
        assert watched() is not None
        del tree
        assert watched() is None
    finally:
        gc.enable()


OPTIONS = {"omegaprm": {"k": 4, "searches": 8, "screening": 16}, "math-shepherd": {"k": 4, "solutions": 6}}


@pytest.fixture
def labelled(store: Store, random_policy: ScriptedPolicy) -> Dataset:
    questions = tuple(a_question(f"What is 1, question {index}?") for index in range(4))
    dataset = store.dataset("data", create=True)
    for method, options in OPTIONS.items():
        config = LabelConfig(source="test", method=method, policy="scripted", into="data", options=options)
        job = Job.create(store, config, {"policy_revision": random_policy.name})
        labeler = Plan(config, questions, "test").labeler()
        run_label(job, config, questions, dataset, labeler, random_policy, MathGrader())
    return dataset


def test_the_trees_of_a_snapshot_are_its_rows_question_by_question(labelled: Dataset) -> None:
    view = labelled.view()
    trees = list(read_trees(view))
    assert [tree.question_id for tree in trees] == sorted(view.arrow("questions")["question_id"].to_pylist())
    by_question = dict(rows_by_question(view, ("nodes", "rollouts", "solutions")))
    for tree in trees:
        rows = by_question[tree.question_id]
        assert not tree.detached()
        assert sum(len(node.rows) for node in tree.outline()) == len(rows["nodes"])
        assert sum(len(node.drawn) for node in tree.outline()) == len(rows["rollouts"])
        for row in rows["solutions"]:
            assert row in tree.nodes[name(tuple(row["steps"]), tree.question_id)].solutions
        for row in rows["nodes"]:
            node = tree.nodes[row["node_id"]]
            assert (node.parent_id, node.step, node.depth) == (row["parent_id"], row["step"], row["depth"])
        # What a labeler counted is what the tree has seen drawn.
        for job in {row["job_id"] for row in rows["nodes"]}:
            for row in (item for item in rows["nodes"] if item["job_id"] == job):
                drawn = [item.row for item in tree.nodes[row["node_id"]].drawn if item.row["job_id"] == job]
                assert row["n_correct"] == sum(item["verdict"] == Verdict.CORRECT for item in drawn)


def test_rows_by_question_are_all_rows_of_the_tables_in_the_order_of_the_questions(labelled: Dataset) -> None:
    view = labelled.view()
    groups = list(rows_by_question(view, ("labels", "rollouts")))
    assert [question for question, _ in groups] == sorted({question for question, _ in groups})
    for table in ("labels", "rollouts"):
        assert sum(len(rows[table]) for _, rows in groups) == view.arrow(table).num_rows
        assert all(row["question_id"] == question for question, rows in groups for row in rows[table])
