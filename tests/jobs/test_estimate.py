"""Tests cost estimates: the maximum from the labeler, the typical cost from similar jobs in the store."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from openr_data.engine.prices import Price
from openr_data.errors import PolicyLost
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, Status, run_label
from openr_data.jobs.estimate import Case, CostEstimate, donors, estimate
from openr_data.jobs.limits import Limits
from openr_data.jobs.plan import Plan
from openr_data.models import model_entry
from openr_data.store import Store
from openr_data.types import Completion, Prefix, Question, Sampling
from tests.conftest import a_question, four_steps

QUESTIONS = tuple(a_question(f"Question {number}?") for number in range(12))
CONFIG = LabelConfig(
    source="test",
    method="omegaprm",
    policy="scripted",
    into="d",
    max_tokens=64,
    options={"searches": 4, "screening": 8, "k": 4},
)
SHEPHERD = replace(CONFIG, method="math-shepherd", options={"k": 2, "solutions": 3})
PRICE = Price("scripted", "EUR", "2026-11-05", prompt=2.0, cached=1.0, completion=4.0)
COUNTED = ("requests", "completions", "prompt_tokens", "completion_tokens")


class Told(ScriptedPolicy):
    """A prompt has a token a byte, as many as any tokenizer could write; half of it is cached."""

    def __init__(self, name: str = "scripted", gpus: int = 0) -> None:
        super().__init__(four_steps, name=name)
        self._gpus = gpus

    @property
    def gpus(self) -> int:
        return self._gpus

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        await asyncio.sleep(0)
        reply = await super().sample(prefix, n, sampling)
        size = len("\n\n".join((prefix.question, *prefix.steps)).encode())
        return [replace(item, prompt_tokens=size, cached_tokens=size // 2) for item in reply]


def planned(config: LabelConfig = CONFIG, questions: Sequence[Question] = QUESTIONS) -> Plan:
    return Plan(config, tuple(questions), "test")


def label(store: Store, plan: Plan, policy: ScriptedPolicy | None = None, **more: Any) -> Status:
    policy = policy or Told()
    job = Job.create(store, plan.config, {"policy_revision": policy.name})
    dataset = store.dataset(plan.config.into, create=True)
    return run_label(job, plan.config, plan.questions, dataset, plan.labeler(), policy, MathGrader(), **more)


def aged(store: Store, *configs: LabelConfig) -> None:
    """Make the jobs as old as they stand here, the oldest first."""
    for number, config in enumerate(configs):
        os.utime(store.jobs_path / config.job_id(), (1000 + number, 1000 + number))


def counted(numbers: Status | Case) -> dict[str, int]:
    return {name: getattr(numbers, name) for name in COUNTED}


def larger(case: Case, other: Status) -> bool:
    return all(value >= counted(other)[name] for name, value in counted(case).items())


# --- at most ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, SHEPHERD], ids=["omegaprm", "math-shepherd"])
@pytest.mark.parametrize("max_tokens", [4, 9, 64])
def test_no_run_uses_more_than_the_worst_case(store: Store, config: LabelConfig, max_tokens: int) -> None:
    plan = planned(replace(config, max_tokens=max_tokens))
    most = estimate(None, plan, PRICE).at_most
    status = label(store, plan, price=PRICE)
    assert status.requests > 0
    assert larger(most, status)
    assert status.cost is not None
    assert most.cost is not None
    assert most.cost >= status.cost > 0


def test_the_worst_case_grows_with_the_longest_question_in_bytes_and_the_system_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prompts(text: str) -> int:
        return estimate(None, planned(questions=[a_question("short"), a_question(text)]), None).at_most.prompt_tokens

    requests = estimate(None, planned(questions=QUESTIONS[:2]), None).at_most.requests
    assert prompts("x" * 200) - prompts("x" * 100) == 100 * requests
    assert prompts("∑" * 100) - prompts("x" * 100) == 200 * requests
    before = prompts("x")
    entry = replace(model_entry("scripted"), system="Think.")
    monkeypatch.setattr("openr_data.jobs.estimate.model_entry", lambda name: entry)
    assert prompts("x") - before == len("Think.") * requests


def test_no_questions_cost_nothing() -> None:
    found = estimate(None, planned(questions=[]), PRICE)
    assert found.at_most == Case(0, 0, 0, 0, 0.0)


def test_a_cost_is_told_only_where_the_price_is_known() -> None:
    assert estimate(None, planned(), None).at_most.cost is None
    # Hours of GPUs have no worst case.
    assert estimate(None, planned(), replace(PRICE, gpu_hour=2.0)).at_most.cost is None
    most = estimate(None, planned(), PRICE).at_most
    assert most.cost == pytest.approx((most.prompt_tokens * 2.0 + most.completion_tokens * 4.0) / 1e6)


# --- typically --------------------------------------------------------------------------------------------------------


def test_where_nothing_is_known_nothing_is_said(store: Store) -> None:
    for where in (None, store):
        found = estimate(where, planned(), PRICE)
        assert found == CostEstimate(found.at_most)
        assert (found.typical, found.seconds, found.tokens_per_second) == (None, None, 0.0)


def test_a_finished_job_says_what_is_typical_for_more_questions(store: Store) -> None:
    half = replace(CONFIG, seed=1, questions="half")
    status = label(store, planned(half, QUESTIONS[:6]), Told(gpus=1))
    price = replace(PRICE, gpu_hour=3600.0)
    found = estimate(store, planned(), price)
    assert found.typical is not None
    assert counted(found.typical) == {name: 2 * value for name, value in counted(status).items()}
    assert (found.measured, found.questions) == (half.job_id(), 6)
    assert status.cached_tokens
    tokens = status.prompt_tokens * 2.0 - status.cached_tokens * 1.0 + status.completion_tokens * 4.0
    assert status.seconds_total > 0
    assert found.typical.cost == pytest.approx(2 * tokens / 1e6 + 2 * status.seconds_total, rel=1e-3)
    assert estimate(store, planned(), None).typical == replace(found.typical, cost=None)
    single = estimate(store, planned(questions=QUESTIONS[:1]), PRICE).typical
    assert single is not None
    assert counted(single) == {name: round(value / 6) for name, value in counted(status).items()}


def test_a_pilot_says_what_is_typical_for_its_own_job(store: Store) -> None:
    label(store, planned(replace(CONFIG, seed=1)))
    pilot = label(store, planned(), first=3)
    aged(store, CONFIG, replace(CONFIG, seed=1))
    found = estimate(store, planned(), PRICE)
    assert (found.measured, found.questions) == (CONFIG.job_id(), 3)
    assert found.typical is not None
    assert counted(found.typical) == {name: 4 * value for name, value in counted(pilot).items()}
    whole = label(store, planned())
    assert whole.completion_tokens / 3 < found.typical.completion_tokens < whole.completion_tokens * 3
    again = estimate(store, planned(), PRICE)
    assert again.typical is not None
    assert counted(again.typical) == counted(whole), "what was measured of all is what it costs"


def test_a_finished_job_goes_before_a_stopped_one_and_a_newer_one_before_an_older(store: Store) -> None:
    one, two, stopped = (replace(CONFIG, seed=seed) for seed in (1, 2, 3))
    label(store, planned(one, QUESTIONS[:2]))
    label(store, planned(two, QUESTIONS[:3]))
    label(store, planned(stopped), first=4)
    aged(store, one, two, stopped)
    assert estimate(store, planned(), None).measured == two.job_id()
    aged(store, two, one, stopped)
    assert estimate(store, planned(), None).measured == one.job_id()
    (store.jobs_path / one.job_id() / "result.json").unlink()
    (store.jobs_path / two.job_id() / "result.json").unlink()
    aged(store, two, one, stopped)
    assert estimate(store, planned(), None).measured == stopped.job_id()


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, options={**CONFIG.options, "k": 5}),
        replace(CONFIG, max_tokens=63),
        replace(CONFIG, temperature=0.5),
        replace(CONFIG, top_p=0.5),
        replace(CONFIG, policy="another"),
        SHEPHERD,
    ],
)
def test_a_job_of_another_kind_says_nothing_about_this_one(store: Store, other: LabelConfig) -> None:
    label(store, planned(other, QUESTIONS[:2]))
    assert estimate(store, planned(), None).typical is None
    assert estimate(store, planned(replace(other, seed=9)), None).measured == other.job_id()


def test_another_seed_source_or_number_of_questions_is_the_same_kind(store: Store) -> None:
    label(store, planned(replace(CONFIG, seed=4, source="elsewhere", limit=2, into="other"), QUESTIONS[:2]))
    assert estimate(store, planned(), None).questions == 2


def test_a_job_that_reused_samples_says_nothing_about_one_that_does_not(store: Store) -> None:
    label(store, planned(replace(CONFIG, seed=4, reuse=True)))
    assert estimate(store, planned(), None).typical is None


def test_a_job_stopped_with_many_questions_under_way_does_not_make_them_dear(store: Store) -> None:
    """All questions are equally far when the limit comes: few are done, nearly all is paid."""
    config = replace(CONFIG, seed=1)
    stopped = label(store, planned(config), live=12, limits=Limits(max_tokens=2100))
    assert 0 < stopped.done < 6
    found = estimate(store, planned(), None).typical
    assert found is not None
    whole = label(store, planned())
    assert found.completion_tokens <= 1.5 * whole.completion_tokens


def test_a_job_without_a_finished_question_says_nothing(store: Store) -> None:
    class Gone(Told):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if self.asked:
                raise PolicyLost("gone")
            return await super().sample(prefix, n, sampling)

    with pytest.raises(PolicyLost):
        label(store, planned(), Gone(), live=2)
    found = estimate(store, planned(), None)
    assert (found.typical, found.measured, found.questions) == (None, "", 0)


def test_a_damaged_job_is_passed_over(store: Store) -> None:
    one, two = replace(CONFIG, seed=1), replace(CONFIG, seed=2)
    for config in (one, two):
        label(store, planned(config, QUESTIONS[:2]))
    aged(store, one, two)
    (store.jobs_path / two.job_id() / "job.toml").write_text("not toml")
    found = estimate(store, planned(), None)
    assert (found.measured, found.timed) == (one.job_id(), one.job_id())
    (store.jobs_path / one.job_id() / "result.json").write_text("{")
    assert estimate(store, planned(), None).measured == one.job_id(), "its events still tell"


# --- how long ---------------------------------------------------------------------------------------------------------


def test_the_time_is_that_of_the_last_measured_speed(store: Store) -> None:
    slow, fast = replace(SHEPHERD, seed=1), replace(CONFIG, seed=2)
    status = label(store, planned(fast, QUESTIONS[:6]))
    timed = label(store, planned(slow, QUESTIONS[:2]))
    aged(store, fast, slow)
    found = estimate(store, planned(), None)
    assert (found.measured, found.timed) == (fast.job_id(), slow.job_id()), "any method measures the speed"
    assert found.tokens_per_second == pytest.approx(timed.completion_tokens / timed.seconds_total)
    assert found.seconds == pytest.approx(2 * status.completion_tokens / found.tokens_per_second)
    aged(store, slow, fast)
    found = estimate(store, planned(), None)
    assert found.timed == fast.job_id()
    assert found.tokens_per_second == pytest.approx(status.completion_tokens / status.seconds_total)


def test_the_speed_is_that_of_all_runs_of_a_job(store: Store) -> None:
    label(store, planned(), first=2)
    label(store, planned(), first=2)
    status = label(store, planned())
    assert status.seconds_total > status.seconds
    found = estimate(store, planned(), None)
    assert found.tokens_per_second == pytest.approx(status.completion_tokens / status.seconds_total)


@pytest.mark.parametrize("other", [replace(CONFIG, policy="another"), replace(CONFIG, backend="openai")])
def test_another_policy_or_backend_says_nothing_about_the_speed(store: Store, other: LabelConfig) -> None:
    label(store, planned(other, QUESTIONS[:2]))
    found = estimate(store, planned(), None)
    assert (found.timed, found.tokens_per_second, found.seconds) == ("", 0.0, None)


def test_a_speed_alone_tells_no_time(store: Store) -> None:
    label(store, planned(SHEPHERD, QUESTIONS[:2]))
    found = estimate(store, planned(), None)
    assert (found.typical, found.seconds) == (None, None)
    assert found.tokens_per_second > 0


# --- whose samples can be used ----------------------------------------------------------------------------------------


def test_donors_are_the_other_jobs_of_the_same_model_the_oldest_first(store: Store) -> None:
    one, two, three, other, broken = (replace(CONFIG, seed=seed) for seed in range(1, 6))
    for config in (one, two, three, broken):
        Job.create(store, config, {"policy_revision": "model@1"})
    Job.create(store, other, {"policy_revision": "model@2"})
    Job.create(store, CONFIG, {"policy_revision": "model@1"})
    aged(store, two, one, other, broken, three, CONFIG)
    (store.jobs_path / broken.job_id() / "job.toml").write_text("not toml")
    assert donors(store, CONFIG, "model@1") == [two.job_id(), one.job_id(), three.job_id()]
    assert donors(store, CONFIG, "model@2") == [other.job_id()]
    assert donors(store, CONFIG, "model@3") == []
