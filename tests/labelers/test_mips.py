"""MiPS: the share of right completions is the label; a threshold makes it a hard one."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.inference.scripted import Branch, ScriptedPolicy
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.mips import MiPS, MiPSConfig
from openr_data.types import Labeling, Outcome, Provenance, Sampling, Verdict

from . import worlds
from .worlds import Told, World, a_question, by_solution, labelled, right, values, wrong


def mips(seed: int = 0, **options: float) -> MiPS:
    return MiPS(MiPSConfig(**options), Sampling(max_tokens=100, seed=seed))  # type: ignore[arg-type]


def by_steps(labeling: Labeling) -> dict[tuple[str, ...], list[int | None]]:
    return {solution.steps: values(label_set) for solution, label_set in by_solution(labeling)}


def a_fading_chance(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """Three steps, from which 6, 4 and 2 of 8 come out right."""
    if steps and "boxed" in steps[-1]:
        return []
    if len(steps) == 0:
        return [Branch(Fraction(1), "one")]
    chance = (None, Fraction(6, 8), Fraction(4, 8), Fraction(2, 8))[len(steps)]
    assert chance is not None
    if len(steps) < 3:
        go_on = Fraction(1, 8)
        return [
            Branch(chance, right()),
            Branch(1 - chance - go_on, wrong()),
            # Too rare to be drawn from here by eight samples, but there when it is sampled from.
            Branch(go_on, ("two", "three")[len(steps) - 1]),
        ]
    return [Branch(chance, right()), Branch(1 - chance, wrong())]


FADING = ("one", "two", "three", wrong())


class Fading(ScriptedPolicy):
    """Its solutions are the long wrong one; the completions of a prefix are those of the script."""

    async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
        if not prefix.steps:
            self.asked.append((prefix, n))
            return [worlds.said(FADING, sampling.max_tokens)] * n
        self.asked.append((prefix, n))
        texts = {1: 6, 2: 4, 3: 2}[len(prefix.steps)]
        return [worlds.said([right() if i < texts else wrong()], sampling.max_tokens) for i in range(n)]


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
        shares = labelled(mips(seed, threshold=0.0, **options), World(6, 0.8, 2))
        hard = labelled(
            MathShepherd(MathShepherdConfig(**options), Sampling(max_tokens=100, seed=seed)), World(6, 0.8, 2)
        )
        assert (shares.labels, shares.nodes, shares.calls) == (hard.labels, hard.nodes, hard.calls)


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
