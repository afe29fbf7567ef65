"""OmegaPRM against traces worked out by hand, and against its own invariants."""

import asyncio
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.types import Completion, Labeling, Outcome, Prefix, Provenance, Question, Sampling, Verdict
from tests.conftest import RIGHT, a_question, four_steps, the_papers_example


def label(policy: ScriptedPolicy, question: Question | None = None, seed: int = 0, **options: int) -> Labeling:
    labeler = OmegaPRM(OmegaPRMConfig(**options), Sampling(seed=seed))  # type: ignore[arg-type]
    return asyncio.run(labeler.label(question or a_question(), policy, MathGrader()))


def test_the_papers_example_grows_the_golden_tree(papers_policy: ScriptedPolicy) -> None:
    golden = json.loads((Path(__file__).parent / "golden" / "omegaprm_paper.json").read_text())
    labeling = label(papers_policy, **golden["config"])
    assert [[len(prefix.steps), n] for prefix, n in papers_policy.asked] == golden["asked"]
    tree = {
        str(node.depth): [node.n_correct, node.n_rollouts, node.visits] for node in labeling.nodes if node.n_rollouts
    }
    assert tree == golden["tree"]
    located = labeling.labels[0]
    assert [step.label for step in located.labels] == golden["labels"]
    assert [step.value for step in located.labels] == golden["values"]
    assert located.first_error == golden["first_error"]


def test_provenance_tells_measured_from_certified(papers_policy: ScriptedPolicy) -> None:
    located = label(papers_policy, screening=8, searches=1).labels[0]
    kinds = [step.provenance for step in located.labels]
    assert kinds[:7] == [
        Provenance.CERTIFIED,
        Provenance.CERTIFIED,
        Provenance.CERTIFIED,
        Provenance.MEASURED,
        Provenance.CERTIFIED,
        Provenance.MEASURED,
        Provenance.MEASURED,
    ]
    assert located.labels[0].value is None
    assert located.labels[0].n_rollouts == 0


def test_the_pool_empties_and_the_searches_end(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, screening=8, searches=100)
    # Two distinct first errors exist: step 7 of one path, and the step that leads astray.
    assert labeling.located == 2
    assert labeling.repeated_probes == 0
    assert labeling.calls == 8 * len(papers_policy.asked) < 100


@pytest.mark.parametrize(
    ("branches", "outcome"),
    [
        ([Branch(Fraction(1), RIGHT)], Outcome.NO_WRONG),
        ([Branch(Fraction(1), "So \\boxed{8}.")], Outcome.NO_CORRECT),
        ([Branch(Fraction(1), "I do not know.")], Outcome.NO_GRADED),
    ],
)
def test_a_question_without_two_outcomes_is_screened_out(branches: list[Branch], outcome: Outcome) -> None:
    policy = ScriptedPolicy({(): branches})
    labeling = label(policy)
    assert labeling.outcome is outcome
    assert labeling.labels == ()
    assert len(labeling.rollouts) == labeling.calls == 32


def test_a_question_without_gold_answer_costs_nothing(papers_policy: ScriptedPolicy) -> None:
    labeling = label(papers_policy, a_question(answer=" "))
    assert (labeling.outcome, labeling.calls) == (Outcome.NO_GOLD, 0)


def test_an_error_in_the_first_step_and_one_in_the_last_are_found() -> None:
    first = {(): [Branch(Fraction(1, 2), "bad"), Branch(Fraction(1, 2), RIGHT)],
             ("bad",): [Branch(Fraction(1), "So \\boxed{3}.")]}  # fmt: skip
    labeling = label(ScriptedPolicy(first, exact=True), screening=4, searches=5)
    assert [step.label for step in labeling.labels[0].labels] == [-1, None]
    last = {(): [Branch(Fraction(1), "good")],
            ("good",): [Branch(Fraction(1, 2), RIGHT), Branch(Fraction(1, 2), "So \\boxed{3}.")]}  # fmt: skip
    labeling = label(ScriptedPolicy(last, exact=True), screening=4, searches=5)
    assert [step.label for step in labeling.labels[0].labels] == [1, -1]
    # The whole wrong solution is graded, never sampled from.
    assert labeling.labels[0].labels[1].n_rollouts == 0
    assert labeling.labels[0].labels[1].value == 0.0


def test_a_probe_with_value_one_goes_on_to_the_right() -> None:
    steps = ("a", "b", "c", "So \\boxed{9}.")

    def script(question: str, done: tuple[str, ...]) -> list[Branch]:
        if done and "boxed" in done[-1]:
            return []
        if done == ("a", "b"):
            return [Branch(Fraction(1), RIGHT)]
        if done and done != steps[: len(done)]:
            return [Branch(Fraction(1), RIGHT)]
        return [Branch(Fraction(1), steps[len(done)])]

    class OneWrongRollout(ScriptedPolicy):
        """The root knows a wrong path that its own prefixes never take again."""

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            replies = list(await super().sample(prefix, n, sampling))
            if not prefix.steps:
                replies[0] = Completion("\n\n".join(steps), 9, "end")
            return replies

    labeling = label(OneWrongRollout(script, exact=True), screening=4, searches=3)
    located = labeling.labels[0]
    assert located.labels[1].value == 1.0
    assert [step.label for step in located.labels] == [1, 1, -1, None]


def test_a_zero_on_the_path_of_a_correct_rollout_is_taken_for_noise() -> None:
    class Noisy(ScriptedPolicy):
        """All 8 probes of ("x", "y") fail although the root has solved the question through it."""

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            wrong, right = "x\n\ny\n\nz\n\nSo \\boxed{2}.", f"x\n\ny\n\nz\n\n{RIGHT}"
            if not prefix.steps:
                return [Completion(wrong, 5, "end"), *[Completion(right, 5, "end")] * (n - 1)]
            return [Completion("So \\boxed{2}.", 1, "end")] * n

    labeling = label(Noisy({}), screening=4, searches=3)
    located = next(item for item in labeling.labels if item.first_error is not None)
    assert [step.label for step in located.labels] == [1, 1, 1, -1]
    assert located.labels[1].provenance is Provenance.CERTIFIED
    assert (located.labels[1].n_correct, located.labels[1].n_rollouts) == (0, 8)


def test_truncated_rollouts_are_unknown_and_never_wrong() -> None:
    class Cut(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            cut = [Completion("a\n\n\\boxed{5}", 4, "length")] * (n // 2)
            return [*cut, *[Completion(RIGHT, 3, "end")] * (n - len(cut))]

    labeling = label(Cut({}))
    assert labeling.outcome is Outcome.NO_WRONG
    assert {r.verdict for r in labeling.rollouts if r.finish_reason == "length"} == {Verdict.UNKNOWN}


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_invariants_hold_on_a_random_world(seed: int, k: int, searches: int) -> None:
    policy = ScriptedPolicy(four_steps)
    question = a_question(f"Q{seed}?")
    labeling = label(policy, question, seed=seed, k=k, searches=searches, screening=8)
    asked = [prefix.steps for prefix, _ in policy.asked]
    assert len(asked) == len(set(asked)), "a prefix was measured twice"
    assert labeling.repeated_probes == 0
    terminal = {node.node_id for node in labeling.nodes if node.terminal}
    assert not terminal & {rollout.node_id for rollout in labeling.rollouts}, "a terminal state was sampled from"
    assert sum(node.visits for node in labeling.nodes) <= searches
    assert labeling.calls == sum(n for _, n in policy.asked) == len(labeling.rollouts)
    nodes = {node.node_id: node for node in labeling.nodes}
    for label_set in labeling.labels:
        values = [step.label for step in label_set.labels]
        good = values.index(-1) if -1 in values else len(values)
        assert values[:good] == [1] * good, "a good step follows a bad one"
        assert all(value is None for value in values[good + 1 :])
        for step in label_set.labels[:good]:
            assert nodes[step.node_id].certified, "a good step without a correct rollout behind it"
        for step in label_set.labels[good : good + 1]:
            assert not nodes[step.node_id].certified, "a bad step that a correct rollout passes"
    budget = OmegaPRM(OmegaPRMConfig(k=k, searches=searches, screening=8), Sampling()).budget(question)
    assert labeling.calls <= budget.completions


def test_the_same_seed_gives_the_same_labeling_and_another_seed_another() -> None:
    runs = [label(ScriptedPolicy(four_steps), seed=seed, searches=5) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_q_prefers_states_near_one_and_short_rollouts() -> None:
    from openr_data.labelers.omegaprm import _Candidate
    from openr_data.labelers.rollouts import Evidence

    labeler = OmegaPRM(OmegaPRMConfig(), Sampling())
    evidence = Evidence(a_question(), ScriptedPolicy(the_papers_example, exact=True), MathGrader(), Sampling())
    root = evidence.state(())
    drawn = asyncio.run(evidence.measure(root, 8))
    wrong = next(item for item in drawn if item.row.verdict is Verdict.INCORRECT)
    item = _Candidate(root, wrong)
    # eq. 2 and 3 by hand: MC = 2/8, len in tokens, one visit of the root of two in the tree.
    root.visits = 1
    q = 0.5 ** (1 - 2 / 8) * 0.9 ** (wrong.row.n_tokens / 500)
    assert labeler._priority(item, 2) == pytest.approx(q + 0.125 * 2**0.5 / 2)


@pytest.mark.parametrize("options", [{"k": 0}, {"screening": 0}, {"alpha": 0.0}, {"beta": 1.5}, {"searches": -1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least|lie in"):
        OmegaPRMConfig(**options)  # type: ignore[arg-type]


def test_a_bound_that_is_certified_later_sends_the_search_to_the_right() -> None:
    solution = ("a", "b", "c", "d", "So \\boxed{9}.")

    class Noisy(ScriptedPolicy):
        """The probe at ("a", "b") fails; the one at ("a",) reaches the answer through ("a", "b", "c")."""

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            self.asked.append((prefix, n))
            wrong = Completion("So \\boxed{8}.", 1, "end")
            if not prefix.steps:
                whole = Completion("\n\n".join(solution), 9, "end")
                return [whole, *[Completion(RIGHT, 3, "end")] * (n - 1)]
            if prefix.steps == ("a",):
                return [Completion(f"b\n\nc\n\n{RIGHT}", 5, "end"), *[wrong] * (n - 1)]
            return [wrong] * n

    policy = Noisy({})
    labeling = label(policy, screening=4, searches=1)
    located = next(item for item in labeling.labels if item.first_error is not None)
    assert [step.label for step in located.labels] == [1, 1, 1, -1, None]
    assert [len(prefix.steps) for prefix, _ in policy.asked] == [0, 2, 1, 3, 4]


def test_a_complete_solution_inside_another_is_graded_not_sampled() -> None:
    class GoesOn(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            self.asked.append((prefix, n))
            texts = ["a\n\nSo \\boxed{9}.", "a\n\nSo \\boxed{9}.\n\nI am done.", RIGHT, RIGHT]
            if prefix.steps:
                return [Completion("So \\boxed{9}.", 2, "end")] * n
            return [Completion(text, 3, "end") for text in texts[:n]]

    policy = GoesOn({})
    labeling = label(policy, screening=4, searches=9)
    assert not any("boxed" in step for prefix, _ in policy.asked for step in prefix.steps)
    assert labeling.located >= 1
    assert {r.verdict for r in labeling.rollouts} == {Verdict.CORRECT, Verdict.INCORRECT}


def test_an_answer_that_stands_in_the_prefix_counts_when_the_policy_adds_nothing() -> None:
    from openr_data.labelers.rollouts import Evidence

    class Silent(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> list[Completion]:
            return [Completion("", 1, "end")] * n

    evidence = Evidence(a_question(), Silent({}), MathGrader(), Sampling())
    drawn = asyncio.run(evidence.measure(evidence.state(("a", RIGHT)), 2))
    assert [item.row.verdict for item in drawn] == [Verdict.CORRECT] * 2
