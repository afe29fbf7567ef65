"""Checks that Best-of-N samples once, returns every candidate, and never sees more than the question."""

import asyncio
from collections.abc import Sequence

import pytest

from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.inference.searches.best_of_n import BestOfN, BestOfNConfig
from openr_data.types import Budget, Prefix, Sampling
from tests.conftest import four_steps


class Lengths:
    """A reward model that counts its requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        self.asked.append((question, tuple(steps)))
        return [1 / (1 + len(step)) for step in steps]


def solve(n: int, policy: ScriptedPolicy, seed: int = 0, question: str = "How many?", reward: Lengths | None = None):  # type: ignore[no-untyped-def]
    search = BestOfN(BestOfNConfig(n=n), Sampling(max_tokens=50, seed=seed))
    return asyncio.run(search.solve(question, policy, reward))


def test_one_request_brings_all_candidates_and_holds_the_question_alone() -> None:
    policy = ScriptedPolicy(four_steps)
    found = solve(8, policy)
    assert policy.asked == [(Prefix("How many?"), 8)]
    assert len(found.candidates) == found.calls == 8
    assert found.tokens == sum(item.n_tokens for item in found.candidates) > 0
    assert all(item.steps == policy.steps_of(item.text) for item in found.candidates)
    assert len({item.draw for item in found.candidates}) == 8


def test_the_same_seed_draws_the_same_and_another_seed_or_question_draws_anew() -> None:
    first, again, other, elsewhere = (
        [item.text for item in solve(12, ScriptedPolicy(four_steps), seed, question).candidates]
        for seed, question in ((0, "A?"), (0, "A?"), (1, "A?"), (0, "B?"))
    )
    assert first == again
    assert other != first
    assert elsewhere != first


def test_a_reward_model_scores_each_distinct_solution_once_and_every_step_of_it() -> None:
    reward = Lengths()
    found = solve(16, ScriptedPolicy(four_steps), reward=reward)
    assert len(reward.asked) == len({item.steps for item in found.candidates}) < 16
    assert {question for question, _ in reward.asked} == {"How many?"}
    assert all(len(item.scores) == len(item.steps) for item in found.candidates)
    assert all(item.scores == tuple(1 / (1 + len(s)) for s in item.steps) for item in found.candidates)


def test_without_a_reward_model_there_are_no_scores() -> None:
    assert all(item.scores == () for item in solve(4, ScriptedPolicy(four_steps)).candidates)


def test_the_budget_is_the_worst_case() -> None:
    assert BestOfN(BestOfNConfig(n=64), Sampling(max_tokens=100)).budget() == Budget(1, 64, 6_400)


def test_no_candidates_are_no_search() -> None:
    with pytest.raises(ValueError, match="n is at least 1"):
        BestOfNConfig(n=0)
