"""Adaptive against worlds whose truth is known: where it looks, what it promises, what it costs."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest

from openr_data.ids import prefix_ids
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.labelers.adaptive import Adaptive, AdaptiveConfig
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.posterior import FirstError
from openr_data.labelers.rollouts import Evidence
from openr_data.types import Completion, Labeling, Outcome, Prefix, Provenance, Sampling, Solution, Verdict

from .worlds import (
    Told,
    Watching,
    World,
    a_question,
    by_solution,
    given,
    labelled,
    labelled_all,
    right,
    true_error,
    values,
    wrong,
)

MANY = 1000
"""Ways to write a step: no two solutions share a text."""


def adaptive(max_tokens: int = 100, seed: int = 0, **options: Any) -> Adaptive:
    return Adaptive(AdaptiveConfig(**options), Sampling(max_tokens=max_tokens, seed=seed))


def theirs(world: World, error: int | None, number: int = 0) -> Solution:
    """A wrong solution that another model has written."""
    return given(a_question(number), *world.solution(number, error))


# --- hand-made worlds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0, 1, 3, 6, 7])
@pytest.mark.parametrize("chance", [0.99, 0.95])
def test_the_first_error_of_a_given_solution_is_found_wherever_it_is(error: int, chance: float) -> None:
    world = World(8, chance, MANY)
    labeling = labelled(adaptive(), world, [theirs(world, error)])
    assert (labeling.outcome, labeling.located) == (Outcome.LABELLED, 1)
    assert values(labeling.labels[0]) == [1] * error + [-1] + [None] * (7 - error)


def two_traps(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """A world in which a quarter falls into a trap at once and a third of the others at the third step, for good."""
    if steps and "boxed" in steps[-1]:
        return []
    bad = any("trap" in step for step in steps)
    if len(steps) == 4:
        return [Branch(Fraction(1), wrong() if bad else right())]
    if not bad and len(steps) == 0:
        return [Branch(Fraction(1, 4), "trap one"), Branch(Fraction(3, 4), "ok")]
    if not bad and len(steps) == 2:
        return [Branch(Fraction(1, 3), "trap two"), Branch(Fraction(2, 3), "ok")]
    return [Branch(Fraction(1), "lost" if bad else "ok")]


@pytest.mark.parametrize("seed", range(6))
def test_two_traps_are_both_found_and_nothing_else(seed: int) -> None:
    policy = ScriptedPolicy(two_traps)
    labeling = labelled(adaptive(seed=seed, screening=24, screening_most=24), policy)
    assert labeling.located == 2
    found = {
        solution.steps[: label_set.first_error + 1]
        for solution, label_set in by_solution(labeling)
        if label_set.first_error is not None
    }
    assert found == {("trap one",), ("ok", "ok", "trap two")}
    # A right solution is there as well, good from end to end.
    assert [values(item) for item in labeling.labels if item.first_error is None] == [[1] * 5]


def test_what_the_root_has_shown_is_not_drawn_again() -> None:
    """Where many have failed through a step already, and others succeeded beside it, the step is known to be bad."""
    right_way, wrong_way = ("ok", "ok", right()), ("no", "ok", wrong())
    policy = Told({(): [wrong_way, right_way, wrong_way, right_way] * 2}, (wrong(),))
    labeling = labelled(adaptive(screening=8), policy)
    assert policy.asked == [(Prefix(a_question().question), 8)]
    assert values(labeling.labels[0]) == [-1, None, None]


def test_a_wrong_step_that_was_never_probed_by_itself_is_labelled_by_what_ran_through_it() -> None:
    policy = Told({(): [("no", "ok", wrong()), ("ok", right())] * 4})
    (bad, _) = labelled(adaptive(screening=8), policy).labels
    assert (bad.labels[0].label, bad.labels[0].n_correct, bad.labels[0].n_rollouts) == (-1, 0, 4)
    assert bad.labels[0].provenance is Provenance.STOPPED


def test_errors_are_looked_for_where_the_policy_erred_before() -> None:
    """Behind the last good prefix `expand` rollouts are drawn, and the wrong ones among them are searched."""
    with_more, without = (labelled(adaptive(expand=expand), World(6, 0.85, 2)) for expand in (8, 0))
    assert with_more.located > without.located


# --- promises ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Truth:
    """First errors as they were located, beside where they are."""

    located: int
    early: int
    late: int
    undecided: int
    calls: int

    @property
    def false_zeros(self) -> float:
        return self.early / max(1, self.located)


def compare(labelings: Sequence[Labeling]) -> Truth:
    """Every located first error of worlds, and whether a good step was called bad (early) or a bad one good (late)."""
    located = early = late = undecided = 0
    for labeling in labelings:
        for solution, label_set in by_solution(labeling):
            truth = true_error(solution.steps)
            if truth is None:
                assert label_set.first_error is None
            elif label_set.first_error is None:
                undecided += 1
            else:
                located += 1
                early += label_set.first_error < truth
                late += label_set.first_error > truth
    return Truth(located, early, late, undecided, sum(item.calls for item in labelings))


def a_mixed_world(texts: int, questions: int = 300, length: int = 8) -> World:
    """From easy to hard: half of all solutions come out right, or one in sixty."""
    return World(length, texts=texts, chances={n: (0.6, 0.7, 0.8, 0.9)[n % 4] for n in range(questions)})


@pytest.mark.parametrize("texts", [1, 3, MANY])
def test_the_share_of_false_zeros_is_what_was_promised(texts: int) -> None:
    truth = compare(labelled_all(adaptive(), a_mixed_world(texts), range(300)))
    assert truth.located > 500
    assert truth.late == 0
    assert truth.false_zeros <= 0.05


def test_more_confidence_costs_more_rollouts_and_errs_less() -> None:
    truths = [
        compare(labelled_all(adaptive(confidence=confidence), a_mixed_world(3), range(120)))
        for confidence in (0.7, 0.9, 0.99)
    ]
    assert min(truth.located for truth in truths) > 250
    prices = [truth.calls / truth.located for truth in truths]
    shares = [truth.false_zeros for truth in truths]
    assert prices == sorted(prices)
    assert prices[-1] > 1.3 * prices[0]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] / 3


def test_where_the_policy_nearly_always_succeeds_a_bad_step_is_never_passed_over() -> None:
    world = World(8, 0.98, MANY)
    solutions = {number: [theirs(world, number % 8, number)] for number in range(160)}
    truth = compare(labelled_all(adaptive(), world, range(160), solutions))
    assert truth.late == 0
    assert truth.undecided <= 2
    assert truth.false_zeros <= 0.05


@pytest.mark.parametrize(("length", "chance"), [(8, 0.7), (16, 0.9)])
def test_false_zeros_of_given_solutions_are_as_rare_where_the_policy_is_weak(length: int, chance: float) -> None:
    world = World(length, chance, MANY)
    solutions = {number: [theirs(world, number % length, number)] for number in range(400)}
    truth = compare(labelled_all(adaptive(), world, range(400), solutions))
    assert truth.false_zeros <= 0.05


def test_a_given_solution_is_left_alone_where_the_policy_is_never_right() -> None:
    world = World(8, 0.0, MANY)
    labeling = labelled(adaptive(), world, [theirs(world, 5)])
    assert labeling.outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("error", [16, 24, 31])
def test_an_error_far_behind_is_found_as_well(error: int) -> None:
    world = World(32, 0.998, MANY)
    labeling = labelled(adaptive(), world, [theirs(world, error)])
    assert labeling.labels[0].first_error == error


def test_it_asks_far_less_than_math_shepherd_for_the_same_first_errors() -> None:
    numbers = range(80)
    ours = labelled_all(adaptive(), a_mixed_world(3), numbers)
    brute = labelled_all(
        MathShepherd(MathShepherdConfig(k=8, solutions=4), Sampling(max_tokens=100)), a_mixed_world(3), numbers
    )
    price = {
        name: sum(item.calls for item in labelings) / sum(item.located for item in labelings)
        for name, labelings in (("ours", ours), ("brute", brute))
    }
    assert price["ours"] < price["brute"] / 4


def test_a_given_solution_costs_far_less_than_with_math_shepherd() -> None:
    world = World(12, 0.98, MANY)
    solutions = {number: [theirs(world, number % 12, number)] for number in range(48)}
    calls = [
        sum(item.calls for item in labelled_all(labeler, world, range(48), solutions))
        for labeler in (adaptive(), MathShepherd(MathShepherdConfig(k=8), Sampling(max_tokens=100)))
    ]
    assert calls[1] == 48 * 11 * 8
    assert calls[0] < calls[1] / 3


# --- where a label comes from -----------------------------------------------------------------------------------------


def test_a_step_is_stopped_where_rollouts_ran_through_it_and_inferred_where_none_did() -> None:
    wrong_one, right_one = ("a", "b", "c", wrong()), ("a", right())
    policy = Told({(): [wrong_one, right_one] * 4}, (wrong(),))
    labeling = labelled(adaptive(screening=8), policy, [])
    by_steps = {solution.steps: label_set for solution, label_set in by_solution(labeling)}
    bad, good = by_steps[wrong_one].labels, by_steps[right_one].labels
    assert {step.provenance for step in (*bad, *good)} == {Provenance.STOPPED}
    assert (bad[0].n_correct, bad[0].label) == (4, 1)
    assert (bad[1].n_correct, bad[1].label) == (0, -1)
    assert (good[-1].n_correct, good[-1].n_rollouts, good[-1].value) == (4, 4, 1.0)
    # The same as a given one: nothing has run through its last steps.
    policy = Told({(): [("a", right()), ("a", "x", wrong())] * 4, ("a",): [("b", wrong(0, 8))] * 32}, (wrong(0, 8),))
    (found,) = labelled(adaptive(screening=8), policy, [given(a_question(), *wrong_one)]).labels
    assert values(found) == [1, -1, None, None]
    assert [step.provenance for step in found.labels[:2]] == [Provenance.STOPPED] * 2
    for step in found.labels[2:]:
        assert step.provenance is (Provenance.STOPPED if step.n_rollouts else Provenance.INFERRED)
    # It is complete: it has no continuations, and its own answer is its value.
    assert (found.labels[3].n_rollouts, found.labels[3].value) == (0, 0.0)


def test_a_failing_step_is_certified_by_a_success_behind_it() -> None:
    solution = given(a_question(), "a", "b", "c", "d", wrong())
    policy = Told(
        {(): [*[("x", right())] * 7, ("x", wrong())], ("a", "b"): [(right(),), (wrong(),)], ("a",): [(wrong(),)] * 40},
        (wrong(),),
    )
    # All places are about equally likely, so it probes after the second step first.
    labeling = labelled(adaptive(screening=8, hazard=0.0, confidence=0.9, most=16), policy, [solution])
    found = labeling.labels[0]
    asked = [prefix.steps for prefix, _ in policy.asked]
    assert ("a", "b") in asked
    first = found.labels[0]
    assert (first.label, first.n_correct, first.provenance) == (1, 0, Provenance.CERTIFIED)
    assert found.labels[1].provenance is Provenance.STOPPED


def test_a_right_given_solution_is_certified_and_not_measured() -> None:
    policy = World(4)
    solution = given(a_question(), *policy.solution(0, None), outcome=Verdict.CORRECT)
    (found,) = labelled(adaptive(), policy, [solution]).labels
    assert policy.asked == []
    assert {step.provenance for step in found.labels} == {Provenance.CERTIFIED}
    assert [step.value for step in found.labels] == [None, None, None, 1.0]
    assert {step.n_rollouts for step in found.labels} == {0}


def test_an_error_is_taken_back_when_a_later_success_runs_through_it() -> None:
    solution = ("a", "b", "c", wrong())
    policy = Told(
        {
            (): [solution, ("a", "x", right())],
            ("a", "b"): [(wrong(),)] * 20,
            # From the last good prefix: the policy does get through "b".
            ("a",): [("b", "z", right())] * 8,
        },
        (wrong(),),
    )
    taken_back = labelled(adaptive(screening=2, wave=2, confidence=0.6, expand=8), policy)
    found = dict(by_solution(taken_back))
    error = next(item for item in found.values() if len(item.labels) == 4)
    assert ("a",) in [prefix.steps for prefix, _ in policy.asked]
    assert values(error)[:2] == [1, 1]
    assert error.first_error in (2, 3)
    # The same without those rollouts: the step stays bad.
    policy = Told({(): [solution, ("a", "x", right())]}, (wrong(),))
    kept = labelled(adaptive(screening=2, wave=2, confidence=0.6, expand=0), policy)
    assert [values(item) for item in kept.labels if item.first_error is not None] == [[1, -1, None, None]]


def test_no_given_solution_keeps_an_error_that_a_later_search_ran_through() -> None:
    question = a_question()
    solutions = [
        given(question, "a", "a", "a", wrong()),
        given(question, "a", "a", "a", "a", "a", wrong()),
        given(question, "a", "a", "b", "a", "b", "a", "a", wrong()),
    ]
    # With hazard 0.4: the third reaches the answer through the error of the others, ("a", "a"). So the first is
    # searched again and has its error at the third "a"; the second draws from there once more and is right.
    for confidence, hazard in itertools.product((0.7, 0.8, 0.9), (0.3, 0.4, 0.5)):
        told = {
            (): [("a", "x", right())],
            ("a", "a", "b"): [("x", right())],
            ("a", "a", "a"): [("x", wrong()), ("x", right())],
        }
        labeler = adaptive(
            confidence=confidence, hazard=hazard, wave=1, screening=1, screening_most=1, shape=1.0, most=16
        )
        labeling = labelled(labeler, Told(told, (wrong(),)), solutions)
        for label_set in labeling.labels:
            for step in label_set.labels:
                assert step.label != -1 or step.n_correct == 0


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "wave"), [(1, 1), (2, 2), (5, 1), (5, 2), (5, 4), (9, 2), (9, 4), (16, 1), (16, 4)])
def test_a_search_draws_at_most_what_it_may(most: int, wave: int) -> None:
    for number in range(20):
        world = World(10, 0.9, 2)
        confidence = (0.7, 0.9, 0.99)[number % 3]
        labeler = adaptive(most=most, wave=wave, confidence=confidence, screening=8, screening_most=8)
        labelled(labeler, world, [theirs(world, number % 10, number)], number)
        probed = sum(n for prefix, n in world.asked if prefix.steps)
        assert probed <= most
        assert probed % wave == 0


def test_a_search_that_cannot_end_sure_does_not_begin() -> None:
    world = World(10, 0.9, MANY)
    labeling = labelled(adaptive(most=2, confidence=0.999), world, [theirs(world, 9)])
    assert [prefix.steps for prefix, _ in world.asked] == [()]
    assert labeling.outcome is Outcome.UNDECIDED


class Mute(World):
    """A policy whose rollouts are all cut."""

    def one(self, prefix: Prefix, rng: Any, index: int, limit: int) -> Completion:
        return Completion("hm", 1, "length")


def test_an_undecided_given_solution_carries_no_error() -> None:
    world = World(6)
    for labeling in (
        labelled(adaptive(), Mute(), [theirs(world, 3)]),
        labelled(adaptive(most=1, wave=1), World(6, 0.9, MANY), [theirs(world, 3)]),
    ):
        assert (labeling.outcome, labeling.located) == (Outcome.UNDECIDED, 0)
        assert -1 not in values(labeling.labels[0])


def test_a_wrong_solution_that_is_certified_from_end_to_end_is_not_searched() -> None:
    """A right rollout has run through all of it: its stored outcome is in doubt, not its steps."""
    steps = ("a", "b", right())
    policy = Told({(): [steps] * 8}, (right(),))
    labeling = labelled(adaptive(), policy, [given(a_question(), *steps, outcome=Verdict.INCORRECT)])
    assert [prefix.steps for prefix, _ in policy.asked] == [()]
    assert labeling.labels[0].first_error is None
    assert labeling.outcome is Outcome.UNDECIDED


@pytest.mark.parametrize(("good", "outcome", "calls"), [(0.0, Outcome.NO_CORRECT, 32), (1.0, Outcome.NO_WRONG, 16)])
def test_a_question_without_two_outcomes_is_screened_out_for_what_that_takes(
    good: float, outcome: Outcome, calls: int
) -> None:
    labeling = labelled(adaptive(), World(6, good))
    assert (labeling.outcome, labeling.calls, labeling.labels) == (outcome, calls, ())


def test_screening_goes_on_until_something_is_right() -> None:
    policy = Told({(): [*[("no", wrong())] * 10, ("ok", right())]}, (wrong(),))
    labeling = labelled(adaptive(screening=4, screening_most=14, searches=0), policy)
    assert [n for _, n in policy.asked] == [4, 4, 4]
    assert labeling.outcome is Outcome.LABELLED
    policy = Told({}, ("no", wrong()))
    labelled(adaptive(screening=4, screening_most=14), policy)
    assert [n for _, n in policy.asked] == [4, 4, 4, 2]


def test_given_solutions_without_a_wrong_one_are_not_screened() -> None:
    policy, world = World(6), World(6)
    unknown = given(a_question(), "a", "b", outcome=Verdict.UNKNOWN)
    labelled(adaptive(), policy, [unknown, given(a_question(), *world.solution(0, None), outcome=Verdict.CORRECT)])
    assert policy.asked == []


def test_a_complete_wrong_solution_is_never_sampled_from() -> None:
    short, long = ("a", wrong()), ("a", wrong(), "Wait.", wrong(0, 8))
    policy = Told({}, (wrong(),))
    solutions = [given(a_question(), *long), given(a_question(), *short)]
    labelled(adaptive(hazard=0.05), policy, solutions)
    assert len(policy.asked) > 1
    assert short not in {prefix.steps for prefix, _ in policy.asked}


def test_a_given_solution_that_is_searched_twice_stays_within_the_budget() -> None:
    solutions = [
        given(a_question(), "a", "b", wrong()),
        given(a_question(), "a", "c", "d", wrong()),
    ]
    # The second reaches the answer through the error of the first, which is searched again.
    policy = Told({("a", "c"): [(right(),)]}, (wrong(),))
    labeler = adaptive(confidence=0.7, wave=1, most=1, screening=1, screening_most=1, shape=1.0)
    labelled(labeler, policy, solutions)
    assert len(policy.asked) <= labeler.budget(a_question(), solutions).requests


def test_a_rollout_counts_where_it_leaves_the_solution_whoever_it_was_drawn_for() -> None:
    """Compare the counts that a belief is based on with those of the posterior's own test."""
    solution = ("a", "b", "c", "d", wrong())
    policy = Told(
        {
            (): [solution, ("a", right()), ("a", "b", "x", wrong())],
            ("a", "b"): [("c", "y", wrong()), ("z", wrong()), ("c", "d", wrong(0, 8))],
            ("a", "b", "c"): [("u", wrong()), ("v", wrong()), ("d", wrong())],
        },
        (wrong(),),
    )
    labeler = adaptive(hazard=0.0)
    evidence = Evidence(a_question(), policy, Watching(), labeler.sampling)

    async def draw() -> None:
        for steps in ((), ("a", "b"), ("a", "b", "c")):
            await evidence.measure(evidence.state(steps), 3)

    asyncio.run(draw())
    nodes = tuple(prefix_ids(a_question().question_id, solution))
    belief = labeler._belief(evidence, nodes)
    assert belief is not None
    # Failures through each prefix, and those of them that go on otherwise than the solution.
    passing, leaving = [2, 2, 5, 6, 3], [0, 0, 2, 3, 1]
    assert (belief.good, belief.passing[1:5]) == (1, passing[1:])
    assert belief.p_error == pytest.approx(FirstError(5, 1, passing, leaving, belief.chance, 0.0).p_error)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"confidence": 0.4},
        {"confidence": 1.0},
        {"screening": 0},
        {"wave": 0},
        {"most": 0},
        {"searches": -1},
        {"correct_solutions": -1},
        {"screening": 9, "screening_most": 8},
        {"shape": 0.0},
        {"pull": 0.0},
        {"overhead": -1.0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|lies in|above 0"):
        AdaptiveConfig(**options)


@pytest.mark.parametrize("options", [{"hazard": 1.0}, {"hazard": -0.5}, {"expand": -1}, {"wave": 4, "most": 2}])
def test_options_that_fail_only_in_the_middle_of_a_job_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"hazard|expand|most"):
        AdaptiveConfig(**options)


def test_of_two_prefixes_that_tell_about_as_much_the_cheaper_one_is_drawn_from() -> None:
    def first_probe(*wordy: int) -> int:
        kinds = ["good"] * 6 + ["bad"] + ["lost"] * 4 + [wrong()]
        steps = [f"{'words ' * 300 * (place in wordy)}{kind}" for place, kind in enumerate(kinds)]
        world = World(12, 0.999, MANY)
        labelled(adaptive(hazard=0.1), world, [given(a_question(), *steps)])
        return next(len(prefix.steps) for prefix, _ in world.asked if prefix.steps)

    # Expensive rows are written by then, or will be written in any case.
    assert first_probe(*range(8)) >= 8
    assert first_probe(11) < 8


@pytest.mark.parametrize("successes", [1, 3])
def test_of_a_chance_that_few_successes_have_shown_little_is_known(successes: int) -> None:
    labeler = adaptive(shape=16.0)
    policy = Told({(): [(right(),)] * successes + [("a", wrong())] * 5})
    evidence = Evidence(a_question(), policy, Watching(), labeler.sampling)
    root = evidence.state(())
    drawn = asyncio.run(evidence.measure(root, successes + 5))[-1]
    belief = labeler._belief(evidence, (root.node_id, *drawn.path))
    assert belief is not None
    assert belief.chance.shape == 1 + successes
