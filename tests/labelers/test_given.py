"""Solutions that another model has written, labelled by OmegaPRM and Math-Shepherd: the policy completes them."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store.rows import labeling_rows
from openr_data.types import Outcome, Provenance, Sampling, Verdict

from .worlds import Told, Watching, World, a_question, given, labelled, right, said, values, wrong

MANY = 1000
"""Ways to write a step: no rollout runs along a given solution."""


def omegaprm(max_tokens: int = 100, **options: Any) -> OmegaPRM:
    return OmegaPRM(OmegaPRMConfig(**options), Sampling(max_tokens=max_tokens))


def shepherd(**options: Any) -> MathShepherd:
    return MathShepherd(MathShepherdConfig(**options), Sampling(max_tokens=100))


class Sure(World):
    """From a good prefix always right, from a bad one never; no text is that of a given solution."""

    def __init__(self, length: int) -> None:
        super().__init__(length, 1.0, MANY)


# --- a completer of its own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labeler", [omegaprm(), shepherd()], ids=lambda item: item.method)
def test_a_given_solution_keeps_who_wrote_it_and_the_policy_is_its_completer(labeler: Any) -> None:
    world = Sure(4)
    theirs = given(a_question(), *world.solution(0, 2), generator="another model")
    labeling = labelled(labeler, world, [theirs])
    rows = labeling_rows(labeling, "job", labeler.method, world.name, True)
    assert [row["generator"] for row in rows["solutions"]] == ["another model"]
    assert [row["completer"] for row in rows["labels"]] == [world.name]
    assert {row["policy"] for row in rows["rollouts"]} == {world.name}
    # Without a named generator the policy is meant, as for solutions that it sampled itself.
    nameless = labelled(labeler, world, [given(a_question(), *theirs.steps, generator="")])
    rows = labeling_rows(nameless, "job", labeler.method, world.name, True)
    assert [row["generator"] for row in rows["solutions"]] == [world.name]


@pytest.mark.parametrize("labeler", [omegaprm(), shepherd()], ids=lambda item: item.method)
def test_what_is_known_of_a_given_solution_stays(labeler: Any) -> None:
    theirs = given(a_question(), "good", wrong(), outcome=Verdict.UNKNOWN, answer="stored")
    labeling = labelled(labeler, Sure(2), [theirs])
    (found,) = labeling.solutions
    assert (found.solution_id, found.final_answer, found.outcome) == (theirs.solution_id, "stored", Verdict.INCORRECT)
    assert found.metadata == theirs.metadata


@pytest.mark.parametrize("labeler", [omegaprm(), shepherd()], ids=lambda item: item.method)
def test_given_solutions_are_no_rollouts_of_the_policy(labeler: Any) -> None:
    world = Sure(4)
    labeling = labelled(labeler, world, [given(a_question(), *world.solution(0, 1))])
    assert labeling.calls == len(labeling.rollouts) == sum(n for _, n in world.asked)
    root = next((node for node in labeling.nodes if node.depth == 0), None)
    assert root is None or root.n_rollouts == 0
    assert () not in [prefix.steps for prefix, _ in world.asked]


# --- OmegaPRM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "probes"),
    [(0, [4, 2, 1]), (1, [4, 2, 1]), (2, [4, 2, 3]), (5, [4, 6, 5]), (6, [4, 6, 7]), (7, [4, 6, 7])],
)
def test_omegaprm_halves_a_given_wrong_solution(error: int, probes: list[int]) -> None:
    world = Sure(8)
    theirs = given(a_question(), *world.solution(0, error))
    labeling = labelled(omegaprm(k=3), world, [theirs])
    assert [(len(prefix.steps), n) for prefix, n in world.asked] == [(m, 3) for m in probes]
    assert all(prefix.steps == theirs.steps[: len(prefix.steps)] for prefix, _ in world.asked)
    (found,) = labeling.labels
    assert values(found) == [1] * error + [-1] + [None] * (7 - error)
    assert (labeling.outcome, labeling.located) == (Outcome.LABELLED, 1)
    for place, step in enumerate(found.labels):
        measured = place + 1 in probes
        assert step.n_rollouts == (3 if measured else 0)
        assert (step.provenance is Provenance.MEASURED) == measured
    if error == 7:
        # The last step is graded, not probed.
        assert (found.labels[7].value, found.labels[7].provenance) == (0.0, Provenance.INFERRED)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 33])
def test_omegaprm_asks_log2_of_the_steps(length: int) -> None:
    for error in range(length):
        world = Sure(length)
        labeling = labelled(omegaprm(k=2), world, [given(a_question(), *world.solution(0, error))])
        assert labeling.labels[0].first_error == error
        assert len(world.asked) <= math.ceil(math.log2(length))


def test_omegaprm_measures_what_two_given_solutions_share_once() -> None:
    world = Sure(8)
    first, second = (given(a_question(), *world.solution(0, 5)[:6], *ending, wrong()) for ending in ("a", "b"))
    labeling = labelled(omegaprm(), world, [first, second])
    asked = [prefix.steps for prefix, _ in world.asked]
    assert len(asked) == len(set(asked)) == 3
    # One first error, in two solutions.
    assert labeling.located == 1
    assert [item.first_error for item in labeling.labels] == [5, 5]


def test_omegaprm_believes_a_right_given_solution_and_asks_nothing() -> None:
    world, grader = World(4, 0.0), Watching()
    solution = given(a_question(), *world.solution(0, None), outcome=Verdict.UNKNOWN)
    labeling = labelled(omegaprm(), world, [solution], 0, grader)
    assert world.asked == []
    assert grader.asked == [(a_question().answer, a_question().answer)]
    assert {step.provenance for step in labeling.labels[0].labels} == {Provenance.CERTIFIED}


def test_omegaprm_takes_the_steps_of_a_right_solution_for_good_in_a_wrong_one() -> None:
    """The other solution may be given before or after it."""
    question = a_question()
    whole = given(question, "a", "b", "c", right(), outcome=Verdict.CORRECT)
    broken = given(question, "a", "b", "x", "y", wrong())
    for solutions in ([whole, broken], [broken, whole]):
        policy = Told({}, (wrong(),))
        labeling = labelled(omegaprm(k=2), policy, solutions)
        found = {item.solution_id: values(item) for item in labeling.labels}
        assert found == {whole.solution_id: [1] * 4, broken.solution_id: [1, 1, -1, None, None]}
        assert policy.asked[-1][0].steps == ("a", "b", "x")


def test_omegaprm_takes_an_error_back_that_a_later_search_runs_through() -> None:
    question = a_question()
    first = given(question, "a", "b", "c", wrong())
    second = given(question, "a", "b", "d", "e", "f", "g", "h", wrong())
    # All fail after ("a", "b") and ("a",), where the first solution is halved; after "e" the answer is reached.
    alone = labelled(omegaprm(k=2), Told({}, (wrong(),)), [first])
    assert alone.labels[0].first_error == 0
    policy = Told({second.steps[:4]: [(right(),)] * 2}, (wrong(),))
    labeling = labelled(omegaprm(k=2), policy, [first, second])
    assert [item.first_error for item in labeling.labels] == [2, 4]
    assert [step.provenance for step in labeling.labels[0].labels[:2]] == [Provenance.CERTIFIED] * 2
    assert [len(prefix.steps) for prefix, _ in policy.asked] == [2, 1, 4, 6, 5, 3]
    assert labeling.repeated_probes == 0


@pytest.mark.parametrize("cut", [True, False])
def test_omegaprm_says_nothing_behind_the_last_good_step_of_an_undecided_solution(cut: bool) -> None:
    theirs = given(a_question(), *World(8).solution(0, 6), outcome=Verdict.INCORRECT if cut else Verdict.UNKNOWN)
    theirs = given(a_question(), *theirs.steps[:-1], "Perhaps.", outcome=theirs.outcome)
    policy = Told({theirs.steps[:4]: [(right(),)] * 8}, ("It is hard to say.",))
    labeling = labelled(omegaprm(), policy, [theirs])
    good = 4 if cut else 0
    assert values(labeling.labels[0]) == [1] * good + [None] * (8 - good)
    assert (labeling.outcome, labeling.located) == (Outcome.UNDECIDED, 0)
    assert [len(prefix.steps) for prefix, _ in policy.asked] == ([4, 6] if cut else [])


@pytest.mark.parametrize("is_given", [True, False])
def test_omegaprm_stays_within_its_budget_where_zeros_are_noise(is_given: bool) -> None:
    length = 16 if is_given else 5
    steps = (*(f"s{place}" for place in range(length - 1)), wrong())
    # Every second bound is a false zero that the next probe runs through.
    zeros = {2: 4, 5: 7, 9: 11} if is_given else {1: 2, 3: 3}
    told = {steps[:good]: [(*steps[good:bad], right())] * 8 for good, bad in zeros.items()}
    told[()] = [steps, ("x", right())]
    policy = Told(told, (wrong(),))
    labeler = omegaprm(8 if not is_given else 100, k=2, screening=2, searches=1)
    solutions = [given(a_question(), *steps)] if is_given else []
    labelled(labeler, policy, solutions)
    assert len(policy.asked) <= labeler.budget(a_question(), solutions).requests


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in what takes longer."""

    def give_up(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("split_at", [0.25, 0.1, 0.7])
def test_omegaprm_knows_its_budget_wherever_it_splits(split_at: float) -> None:
    world = Sure(9)
    solution = given(a_question(), *world.solution(0, 8))
    labeler = omegaprm(k=2, split_at=split_at)
    labelled(labeler, world, [solution])
    with within(2):
        assert len(world.asked) <= labeler.budget(a_question(), [solution]).requests
        assert labeler.budget(a_question()).requests > 0


# --- Math-Shepherd ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0, 3, 5])
def test_math_shepherd_measures_every_step_of_a_given_solution_but_the_last(error: int) -> None:
    world = Sure(6)
    theirs = given(a_question(), *world.solution(0, error))
    labeling = labelled(shepherd(k=4), world, [theirs])
    assert [(len(prefix.steps), n) for prefix, n in world.asked] == [(m, 4) for m in range(1, 6)]
    (found,) = labeling.labels
    assert values(found) == [1] * error + [-1] * (6 - error)
    assert [step.value for step in found.labels] == [1.0] * error + [0.0] * (6 - error)
    assert (found.labels[-1].n_rollouts, found.labels[-1].provenance) == (0, Provenance.INFERRED)
    budget = shepherd(k=4).budget(a_question(), [theirs])
    assert (budget.requests, budget.completions) == (5, 20) == (len(world.asked), labeling.calls)


def test_math_shepherd_leaves_the_last_step_of_an_unknown_outcome_without_a_label() -> None:
    theirs = given(a_question(), "good 0", "bad 1", "Perhaps.", outcome=Verdict.UNKNOWN)
    labeling = labelled(shepherd(k=2), Sure(3), [theirs])
    assert values(labeling.labels[0]) == [1, -1, None]
    assert labeling.labels[0].labels[2].value is None
    assert labeling.solutions[0].outcome is Verdict.UNKNOWN
    assert labeling.outcome is Outcome.LABELLED


def test_math_shepherd_measures_what_given_solutions_share_once_and_labels_each() -> None:
    world = Sure(6)
    first, second = (given(a_question(), *world.solution(0, 3)[:4], *ending, wrong()) for ending in ("a", "b"))
    labeling = labelled(shepherd(k=2), world, [first, second])
    asked = [prefix.steps for prefix, _ in world.asked]
    assert len(asked) == len(set(asked)) == 6
    assert [item.solution_id for item in labeling.labels] == [first.solution_id, second.solution_id]
    assert labeling.located == 1


def test_math_shepherd_lets_a_wrong_end_be_the_beginning_of_a_right_solution() -> None:
    question = a_question()
    hasty = given(question, "a", wrong())
    careful = given(question, "a", wrong(), "Wait.", right(), outcome=Verdict.CORRECT)
    for solutions in ([hasty, careful], [careful, hasty]):
        policy = Told({}, (right(),))
        labeling = labelled(shepherd(k=1), policy, solutions)
        found = {item.solution_id: values(item) for item in labeling.labels}
        assert found == {hasty.solution_id: [1, -1], careful.solution_id: [1, 1, 1, 1]}
        # A finished solution is not completed.
        assert hasty.steps not in [prefix.steps for prefix, _ in policy.asked]


def test_a_completion_is_cut_at_the_limit_of_the_job_and_counts_neither_way() -> None:
    class Wordy(World):
        async def sample(self, prefix: Any, n: int, sampling: Sampling) -> Any:
            self.asked.append((prefix, n))
            return [said([*["so"] * 9, wrong()], sampling.max_tokens)] * n

    theirs = given(a_question(), "a", "b", wrong())
    labeler = MathShepherd(MathShepherdConfig(k=2), Sampling(max_tokens=8))
    labeling = labelled(labeler, Wordy(), [theirs])
    assert values(labeling.labels[0]) == [None, None, -1]
    assert {node.n_unknown for node in labeling.nodes if node.depth in (1, 2)} == {2}
