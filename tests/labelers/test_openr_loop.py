"""Checks that the benchmark's version of OpenR's loop has every documented defect, and that it ends."""

import asyncio
import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.openr_loop import OpenRLoop, OpenRLoopConfig, Tree
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.labelers.rollouts import Evidence
from openr_data.types import Completion, Labeling, Outcome, Prefix, Provenance, Question, Sampling, Verdict
from tests.conftest import RIGHT, WRONG, a_question, four_steps, the_papers_example


def a_loop(seed: int = 0, **options: int) -> OpenRLoop:
    options = {"k": 8, "screening": 8, "searches": 20, **options}
    return OpenRLoop(OpenRLoopConfig(**options), Sampling(seed=seed))  # type: ignore[arg-type]


def label(policy: ScriptedPolicy, question: Question | None = None, seed: int = 0, **options: int) -> Labeling:
    return asyncio.run(a_loop(seed, **options).label(question or a_question(), policy, MathGrader()))


def grow(policy: ScriptedPolicy, question: Question | None = None, seed: int = 0, **options: int) -> Tree:
    evidence = Evidence(question or a_question(), policy, MathGrader(), Sampling(seed=seed))
    tree = asyncio.run(a_loop(seed, **options).grow(evidence))
    assert isinstance(tree, Tree)
    return tree


def ours(policy: ScriptedPolicy, **options: int) -> Labeling:
    labeler = OmegaPRM(OmegaPRMConfig(**{"k": 8, "screening": 8, "searches": 20, **options}), Sampling())  # type: ignore[arg-type]
    return asyncio.run(labeler.label(a_question(), policy, MathGrader()))


class OneWrong(ScriptedPolicy):
    """A world whose root draws one wrong solution of four steps; every other completion, after any prefix, is right."""

    solution = ("a", "b", "c", "So \\boxed{9}.")

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
        self.asked.append((prefix, n))
        replies = [Completion(RIGHT, 5, "end")] * n
        if not prefix.steps:
            replies[0] = Completion("\n\n".join(self.solution), 9, "end")
        return replies


def test_defect_1_the_rollout_just_searched_is_searched_again(papers_policy: ScriptedPolicy) -> None:
    tree = grow(papers_policy, searches=20)
    assert len(tree.searches) == 20
    pairs = [(search.origin, search.drawn.steps) for search in tree.searches]
    # From the second search on nothing is selected but what was selected before it.
    assert pairs[1:] == [pairs[1]] * 19 != [pairs[0]] * 19
    # Everything that was ever wrong is still in the queue, searched or not.
    assert {(item.node, item.drawn.steps) for item in tree.queue} >= set(pairs)


def test_defect_1_prefixes_are_drawn_again_where_our_omegaprm_draws_none_twice() -> None:
    theirs = label(ScriptedPolicy(the_papers_example, exact=True))
    best = ours(ScriptedPolicy(the_papers_example, exact=True))
    assert theirs.repeated_probes > theirs.probes
    assert best.repeated_probes == 0
    # The policy's two distinct first errors are all there is to find, for a fraction of the price.
    assert theirs.located <= best.located == 2
    assert theirs.calls > 3 * best.calls


def test_a_repeated_probe_is_drawn_from_a_seed_of_its_own() -> None:
    class Seeds(ScriptedPolicy):
        seen: dict[tuple[str, ...], list[int]]

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            self.seen.setdefault(prefix.steps, []).append(sampling.seed)
            return list(await super().sample(prefix, n, sampling))

    policy = Seeds(four_steps)
    policy.seen = {}
    labeling = label(policy)
    assert labeling.repeated_probes == sum(len(seeds) - 1 for seeds in policy.seen.values()) > 0
    assert all(len(seeds) == len(set(seeds)) for seeds in policy.seen.values())
    assert len({rollout.rollout_id for rollout in labeling.rollouts}) == len(labeling.rollouts) == labeling.calls


def test_a_value_is_that_of_its_own_probe_whatever_was_drawn_before() -> None:
    tree = grow(ScriptedPolicy(four_steps), seed=7)
    values: dict[tuple[str, ...], set[float | None]] = {}
    for node in tree.nodes:
        if node.rollouts:
            assert len(node.rollouts) == 8
            assert node.value == node.count(Verdict.CORRECT) / 8
            values.setdefault(node.steps, set()).add(node.value)
    assert max(map(len, values.values())) > 1


def test_defect_2_no_state_is_ever_counted_twice(papers_policy: ScriptedPolicy) -> None:
    tree = grow(papers_policy)
    selected = [search.origin for search in tree.searches]
    assert max(selected.count(node) for node in selected) > 1
    assert {node.visits for node in tree.nodes if node.rollouts} == {1}
    assert max(node.visits for node in label(ScriptedPolicy(the_papers_example, exact=True)).nodes) == 1
    assert max(node.visits for node in ours(ScriptedPolicy(four_steps), screening=32).nodes) > 1


def test_defect_3_a_priority_stays_what_it_was_when_its_state_was_drawn() -> None:
    tree = grow(ScriptedPolicy(four_steps), seed=7, searches=6)
    measured = [node for node in tree.nodes if node.rollouts]
    selected = {search.origin for search in tree.searches}
    frozen = [item for item in tree.queue if item.node not in selected]
    assert frozen
    for item in frozen:
        assert item.node.value is not None
        quality = 0.5 ** (1 - item.node.value) * 0.9 ** (item.drawn.row.n_tokens / 500)
        then = measured.index(item.node) + 1
        assert item.score == pytest.approx(quality + 0.125 * math.sqrt(then) / 2)
    assert min(measured.index(item.node) for item in frozen) + 1 < len(measured)
    # Only the state of the last search has current priorities.
    last = tree.searches[-1].origin
    assert last.value is not None
    for item in tree.queue:
        if item.node is last:
            quality = 0.5 ** (1 - last.value) * 0.9 ** (item.drawn.row.n_tokens / 500)
            assert item.score == pytest.approx(quality + 0.125 * math.sqrt(len(measured)) / 2)


def test_defect_4_the_whole_wrong_solution_is_probed() -> None:
    script = {(): [Branch(Fraction(1), "good")],
              ("good",): [Branch(Fraction(1, 2), RIGHT), Branch(Fraction(1, 2), "So \\boxed{3}.")]}  # fmt: skip
    whole = ("good", "So \\boxed{3}.")
    policy, best = ScriptedPolicy(script, exact=True), ScriptedPolicy(script, exact=True)
    labeling = label(policy, searches=1)
    assert whole in [prefix.steps for prefix, _ in policy.asked]
    assert [step.label for step in labeling.labels[0].labels] == [1, -1]
    assert labeling.labels[0].labels[1].n_rollouts == 8
    ours(best)
    assert whole not in [prefix.steps for prefix, _ in best.asked]


def test_defect_4_chance_behind_the_whole_wrong_solution_ends_the_search_without_an_error() -> None:
    policy = OneWrong({})
    tree = grow(policy, searches=1)
    assert tree.searches[0].bad is None
    # A wrong final answer is kept as a positive node.
    assert (tree.searches[0].good.steps, tree.searches[0].good.value) == (OneWrong.solution, 1.0)
    labeling = label(OneWrong({}), searches=3)
    assert (labeling.labels, labeling.located, labeling.outcome) == ((), 0, Outcome.LABELLED)
    assert ours(OneWrong({})).located == 1


def test_defect_5_a_zero_becomes_a_child_and_its_left_half_an_overlapping_sibling() -> None:
    bad = ("bad", "x", "y", "So \\boxed{3}.")
    script = {bad[:n]: [Branch(Fraction(1), bad[n])] for n in (1, 2, 3)}
    script[()] = [Branch(Fraction(1, 2), "bad"), Branch(Fraction(1, 2), RIGHT)]
    tree = grow(ScriptedPolicy(script, exact=True), searches=1)
    probed = [(child.steps, child.value) for child in tree.root.children if child.rollouts]
    assert probed == [(("bad", "x"), 0.0), (("bad",), 0.0)]
    assert [node.parent for node in tree.nodes if node.steps[:1] == ("bad",)] == [tree.root, tree.root]


def test_defect_6_every_correct_rollout_is_one_unmeasured_leaf(papers_policy: ScriptedPolicy) -> None:
    tree = grow(papers_policy, searches=3)
    leaves = [node for node in tree.nodes if not node.rollouts]
    right = [drawn for node in tree.nodes for drawn in node.rollouts if drawn.row.verdict is Verdict.CORRECT]
    assert [leaf.steps for leaf in leaves] == [drawn.solution for drawn in right]
    assert {(leaf.value, leaf.visits) for leaf in leaves} == {(1.0, 0)}
    # Whole, so an edge of many steps; and the same one many times.
    assert [len(leaf.steps) for leaf in leaves if leaf.parent is tree.root] == [7, 7]
    assert len({leaf.steps for leaf in leaves}) == 1


def test_defect_10_the_screening_is_thrown_away_and_the_root_drawn_again(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, screening=32, searches=0)
    assert [(prefix.steps, n) for prefix, n in papers_policy.asked] == [((), 32), ((), 8)]
    assert (labeling.calls, labeling.probes, labeling.repeated_probes) == (40, 1, 1)
    once = ScriptedPolicy(the_papers_example, exact=True)
    labeling = label(once, screening=32, searches=0, resample_root=False)
    assert (labeling.calls, labeling.repeated_probes) == (32, 0)


def test_defect_10_a_root_that_comes_out_one_leaves_an_empty_tree() -> None:
    rare = {(): [Branch(Fraction(1, 16), "So \\boxed{3}."), Branch(Fraction(15, 16), RIGHT)]}
    labeling = label(ScriptedPolicy(rare, exact=True), screening=32, k=4)
    assert (labeling.outcome, labeling.labels, labeling.calls) == (Outcome.LABELLED, (), 36)
    assert label(ScriptedPolicy(rare, exact=True), screening=32, k=4, resample_root=False).located == 1


def test_each_search_that_located_an_error_gives_a_label_set(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, searches=2)
    assert len(labeling.labels) == 2
    assert labeling.located == 1
    first = labeling.labels[0]
    assert labeling.solutions[0].steps == WRONG
    assert [step.label for step in first.labels] == [1, 1, 1, 1, 1, 1, -1, None]
    assert [step.value for step in first.labels] == [None, None, None, 0.25, None, 0.5, 0.0, None]
    measured = [step.provenance is Provenance.MEASURED for step in first.labels]
    assert measured == [False, False, False, True, False, True, True, False]
    # The second search has drawn the same prefixes again; the counts stay those of one probe.
    assert labeling.labels[1] == first
    assert [step.n_rollouts for step in first.labels if step.n_rollouts] == [8, 8, 8]


def test_the_limit_of_rollouts_ends_the_loop_between_two_searches() -> None:
    free = grow(ScriptedPolicy(four_steps))
    limited = grow(ScriptedPolicy(four_steps), rollouts=40)
    assert limited.rollouts < free.rollouts
    assert 40 <= limited.rollouts <= 40 + 8 * 3
    assert [search.drawn for search in limited.searches] == [
        search.drawn for search in free.searches[: len(limited.searches)]
    ]


@pytest.mark.parametrize(
    ("branches", "outcome"),
    [
        ([Branch(Fraction(1), RIGHT)], Outcome.NO_WRONG),
        ([Branch(Fraction(1), "So \\boxed{8}.")], Outcome.NO_CORRECT),
        ([Branch(Fraction(1), "I do not know.")], Outcome.NO_GRADED),
    ],
)
def test_a_question_without_two_outcomes_is_screened_out(branches: list[Branch], outcome: Outcome) -> None:
    labeling = label(ScriptedPolicy({(): branches}), screening=32)
    assert (labeling.outcome, labeling.labels, labeling.calls) == (outcome, (), 32)


def test_a_question_without_gold_answer_costs_nothing(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, a_question(answer=" "))
    assert (labeling.outcome, labeling.calls) == (Outcome.NO_GOLD, 0)


def test_a_probe_that_cannot_be_graded_ends_its_search() -> None:
    class Mute(OneWrong):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            replies = await super().sample(prefix, n, sampling)
            return [Completion("no idea", 2, "length")] * n if prefix.steps else replies

    policy = Mute({})
    labeling = label(policy, searches=3)
    assert [len(prefix.steps) for prefix, _ in policy.asked] == [0, 0, 2, 2, 2]
    assert (labeling.labels, labeling.located) == ((), 0)


def test_given_solutions_are_ignored(papers_policy: ScriptedPolicy) -> None:
    plain = label(ScriptedPolicy(the_papers_example, exact=True), searches=2)
    labeler = a_loop(searches=2)
    assert asyncio.run(labeler.label(a_question(), papers_policy, MathGrader(), plain.solutions)) == plain
    assert labeler.budget(a_question(), plain.solutions) == labeler.budget(a_question())


def test_the_worst_case_is_reached_and_no_more() -> None:
    # Four steps, each probe good: the halving visits 2, 3 and 4 of them, every time.
    policy = OneWrong({})
    labeling = label(policy, searches=3)
    config = OpenRLoopConfig(k=8, screening=8, searches=3)
    budget = OpenRLoop(config, Sampling(max_tokens=4)).budget(a_question())
    assert (len(policy.asked), labeling.calls) == (budget.requests, budget.completions) == (11, 88)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 12), st.sampled_from([0, 1, 20]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_ends_within_its_budget(seed: int, k: int, searches: int, rollouts: int, again: bool) -> None:
    policy, question = ScriptedPolicy(four_steps), a_question(f"Q{seed}?")
    config = OpenRLoopConfig(k=k, searches=searches, screening=8, rollouts=rollouts, resample_root=again)
    # A solution has four steps: the tightest limit of tokens under which the budget must hold.
    budget = OpenRLoop(config, Sampling(max_tokens=4)).budget(question)
    labeling = asyncio.run(OpenRLoop(config, Sampling(seed=seed)).label(question, policy, MathGrader()))
    assert len(policy.asked) == labeling.probes + labeling.repeated_probes <= budget.requests
    assert labeling.calls == len(labeling.rollouts) == sum(n for _, n in policy.asked) <= budget.completions
    assert len(labeling.labels) <= searches
    nodes = {node.node_id for node in labeling.nodes}
    for label_set in labeling.labels:
        values = [step.label for step in label_set.labels]
        error = values.index(-1)
        assert values == [1] * error + [-1] + [None] * (len(values) - error - 1)
        bad = label_set.labels[error]
        assert bad.node_id in nodes
        assert (bad.n_correct, bad.provenance) == (0, Provenance.MEASURED)
    errors = {item.labels[item.first_error].node_id for item in labeling.labels if item.first_error is not None}
    assert labeling.located == len(errors)


def test_the_same_seed_gives_the_same_labeling_and_another_seed_another() -> None:
    runs = [label(ScriptedPolicy(four_steps), seed=seed, searches=5) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"screening": 0}, {"alpha": 0.0}, {"beta": 1.5}, {"searches": -1}, {"rollouts": -1}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least|lie in"):
        OpenRLoopConfig(**options)  # type: ignore[arg-type]
