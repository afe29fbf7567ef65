"""Math-Shepherd: every prefix of every solution, k times."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.types import Completion, Labeling, Outcome, Sampling
from tests.conftest import a_question, four_steps


def label(policy: ScriptedPolicy, seed: int = 0, answer: str = "1", **options: int) -> Labeling:
    labeler = MathShepherd(MathShepherdConfig(**options), Sampling(seed=seed))
    return asyncio.run(labeler.label(a_question(answer=answer), policy, MathGrader()))


def test_every_prefix_but_the_last_is_measured_once(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, solutions=8)
    assert papers_policy.asked[0][1] == 8
    assert sorted(len(prefix.steps) for prefix, _ in papers_policy.asked) == list(range(8))
    assert labeling.calls == 64
    wrong = next(item for item in labeling.labels if len(item.labels) == 8 and item.first_error is not None)
    assert [step.label for step in wrong.labels] == [1] * 6 + [-1, -1]
    assert [step.value for step in wrong.labels] == [0.25] * 5 + [0.5, 0.0, 0.0]
    assert labeling.located == 2


def test_the_last_step_is_graded_without_rollouts(papers_policy: ScriptedPolicy) -> None:
    for label_set in label(papers_policy, solutions=8).labels:
        assert label_set.labels[-1].n_rollouts == 0
        assert label_set.labels[-1].value in (0.0, 1.0)


def test_a_step_with_unknown_rollouts_alone_has_no_label() -> None:
    class Mute(ScriptedPolicy):
        async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
            text = "no idea" if prefix.steps else "a\n\n\\boxed{1}"
            return [Completion(text, 2, "end")] * n

    labeling = label(Mute({}), solutions=2)
    assert [step.label for step in labeling.labels[0].labels] == [None, 1]


def test_questions_without_gold_or_gradable_solutions_have_no_labels(papers_policy: ScriptedPolicy) -> None:
    assert label(papers_policy, answer="").outcome is Outcome.NO_GOLD
    assert papers_policy.asked == []

    class Mute(ScriptedPolicy):
        async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
            return [Completion("no idea", 2, "length")] * n

    assert label(Mute({})).outcome is Outcome.NO_GRADED


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_labels_are_the_hard_reading_of_the_counts(seed: int, k: int, solutions: int) -> None:
    policy = ScriptedPolicy(four_steps)
    labeling = label(policy, seed=seed, k=k, solutions=solutions)
    asked = [prefix.steps for prefix, _ in policy.asked]
    assert len(asked) == len(set(asked))
    assert len(labeling.solutions) == len({solution.steps for solution in labeling.solutions})
    for label_set in labeling.labels:
        for step in label_set.labels[:-1]:
            assert step.n_rollouts == k
            assert step.value == pytest.approx(step.n_correct / k)
            assert step.label == (1 if step.n_correct else -1)
    budget = MathShepherd(MathShepherdConfig(k=k, solutions=solutions), Sampling()).budget(a_question())
    assert labeling.calls <= budget.completions


def test_a_correct_solution_that_goes_on_after_a_wrong_one_is_good_throughout() -> None:
    class SecondThought(ScriptedPolicy):
        async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
            texts = ["a\n\n\\boxed{9}", "a\n\n\\boxed{9}\n\nWait: \\boxed{1}"]
            if prefix.steps:
                return [Completion("\\boxed{1}", 2, "end")] * n
            return [Completion(text, 3, "end") for text in texts]

    labeling = label(SecondThought({}), solutions=2)
    by_length = {len(item.labels): [step.label for step in item.labels] for item in labeling.labels}
    assert by_length == {2: [1, -1], 3: [1, 1, 1]}


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MathShepherdConfig(k=0)
