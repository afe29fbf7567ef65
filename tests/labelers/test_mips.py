"""MiPS: the share of right completions is the label; a threshold makes it a hard one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.mips import MiPS, MiPSConfig
from openr_data.types import Completion, Labeling, Outcome, Prefix, Provenance, Sampling, Verdict

from . import worlds
from .worlds import Told, World, a_question, by_solution, labelled, right, said, values, wrong


def mips(seed: int = 0, **options: float) -> MiPS:
    return MiPS(MiPSConfig(**options), Sampling(max_tokens=100, seed=seed))  # type: ignore[arg-type]


def by_steps(labeling: Labeling) -> dict[tuple[str, ...], list[int | None]]:
    return {solution.steps: values(label_set) for solution, label_set in by_solution(labeling)}


FADING = ("one", "two", "three", wrong())


class Fading(ScriptedPolicy):
    """A world with one wrong solution; after its steps 6, 4 and 2 of 8 rollouts are correct."""

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
        self.asked.append((prefix, n))
        if not prefix.steps:
            return [said(FADING, sampling.max_tokens)] * n
        n_right = (6, 4, 2)[len(prefix.steps) - 1]
        return [said([right() if i < n_right else wrong()], sampling.max_tokens) for i in range(n)]


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(0.0, [1, 1, 1, -1]), (0.2, [1, 1, 1, -1]), (0.25, [1, 1, -1, -1]), (0.5, [1, -1, -1, -1]), (0.75, [-1] * 4)],
)
def test_a_step_is_good_above_the_threshold_and_bad_at_it(threshold: float, labels: list[int]) -> None:
    labeling = labelled(mips(k=8, solutions=2, threshold=threshold), Fading({}))
    assert by_steps(labeling) == {FADING: labels}
    (found,) = labeling.labels
    # The proportion is the same under every threshold.
    assert [step.value for step in found.labels] == [0.75, 0.5, 0.25, 0.0]
    assert [(step.n_correct, step.n_rollouts) for step in found.labels] == [(6, 8), (4, 8), (2, 8), (0, 0)]
    assert {step.provenance for step in found.labels[:3]} == {Provenance.MEASURED}


def test_at_threshold_zero_it_is_math_shepherd() -> None:
    for seed in range(10):
        options = {"k": 4, "solutions": 4}
        sampling = Sampling(max_tokens=100, seed=seed)
        shares = labelled(mips(seed, threshold=0.0, **options), World(6, 0.8, 2))
        hard = labelled(MathShepherd(MathShepherdConfig(**options), sampling), World(6, 0.8, 2))
        assert [item.labels for item in shares.labels] == [item.labels for item in hard.labels]
        assert (shares.nodes, shares.calls, shares.located) == (hard.nodes, hard.calls, hard.located)


def test_a_label_set_says_at_which_threshold_it_was_made() -> None:
    for label_set in labelled(mips(threshold=0.25, k=2), World(3, 0.8)).labels:
        assert json.loads(label_set.metadata)["threshold"] == 0.25


def test_the_paper_threshold_is_a_half() -> None:
    assert MiPSConfig().threshold == 0.5


@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0, 0.99))
@settings(max_examples=40, deadline=None)
def test_labels_are_the_proportions_and_the_last_step_is_graded(seed: int, k: int, threshold: float) -> None:
    policy = World(5, 0.8, 2)
    labeling = labelled(mips(seed, k=k, solutions=3, threshold=threshold), policy)
    for solution, label_set in by_solution(labeling):
        *before, last = label_set.labels
        for step in before:
            assert step.n_rollouts == k
            assert step.value == step.n_correct / k
            assert step.label == (1 if step.n_correct / k > threshold else -1)
        assert (last.n_rollouts, last.value) == (0, float(solution.outcome is Verdict.CORRECT))
        assert last.label == (1 if solution.outcome is Verdict.CORRECT else -1)
    # Nobody is asked to go on from an answer.
    assert all("boxed" not in step for prefix, _ in policy.asked for step in prefix.steps)


def test_unknown_completions_count_neither_way() -> None:
    undecided = ("It is hard to say.",)
    policy = Told({(): [("a", "b", wrong())] * 2, ("a",): [undecided, undecided, (right(),), undecided]}, undecided)
    labeling = labelled(mips(k=4, solutions=2), policy)
    (found,) = labeling.labels
    assert values(found) == [1, None, -1]
    assert (found.labels[0].value, found.labels[0].n_rollouts) == (1.0, 1)
    assert (found.labels[1].value, found.labels[1].n_rollouts) == (None, 0)


def test_all_sampled_solutions_are_labelled_once() -> None:
    policy = Told({(): [("a", right()), ("a", wrong()), ("a", right()), ("I do not know.",)]}, (right(),))
    labeling = labelled(mips(k=2, solutions=4), policy)
    assert by_steps(labeling) == {("a", right()): [1, 1], ("a", wrong()): [1, -1]}
    assert [n for _, n in policy.asked] == [4, 2]


def test_a_given_solution_is_measured_at_every_step_but_the_last() -> None:
    solution = worlds.given(a_question(), *FADING)
    policy = Fading({})
    labeling = labelled(mips(k=8), policy, [solution])
    assert [len(prefix.steps) for prefix, _ in policy.asked] == [1, 2, 3]
    assert by_steps(labeling) == {FADING: [1, -1, -1, -1]}
    assert labeling.outcome is Outcome.LABELLED


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"threshold": -0.1}, {"k": 0}, {"solutions": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lies in|at least 1"):
        MiPSConfig(**options)  # type: ignore[arg-type]
