"""Checks that status, rows and views contain the costs of a job's reward model; old stores give 0."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from openr_data.engine.accounts import Account
from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import JournaledPolicy
from openr_data.engine.journaled_reward import JournaledReward
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs.progress import Status
from openr_data.jobs.spending import spending_row
from openr_data.store import Store
from tests.evaluation.rewards import ScriptedReward

COLUMNS = ("reward_calls", "reward_tokens", "reward_tokens_read")
VERSION_3 = Path(__file__).parents[1] / "store" / "stores" / "version3"


@contextmanager
def opened(path: Path) -> Iterator[tuple[JournaledPolicy, JournaledReward]]:
    journal = Journal(path)
    try:
        policy = JournaledPolicy(ScriptedPolicy({}), journal)
        yield policy, JournaledReward(ScriptedReward(lambda question, steps: [0.5] * len(steps)), policy.accounts)
    finally:
        journal.close()


def scored(policy: JournaledPolicy, reward: JournaledReward) -> Account:
    """The account of a question with three calls of the reward model, 10 tokens asked and 4 read each."""

    async def search() -> Account:
        with policy.account("Q", 1) as account:
            for count in (1, 2, 3):
                await reward.score("q", ["s"] * count)
        return account

    return asyncio.run(search())


def test_the_status_of_a_job_counts_its_reward_model_over_all_runs(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path / "j") as (policy, reward):
            scored(policy, reward)
            status = Status("job", 1)
            status.watch(policy, time.monotonic())
            assert [status.as_dict()[name] for name in COLUMNS] == [3, 30, 12]


def test_the_costs_of_a_question_hold_its_reward_tokens(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as (policy, reward):
        row = spending_row("job", "Q", {"outcome": "labelled"}, scored(policy, reward), None)
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    dataset.append("jobs", [row], "job/w0/jobs", 1)
    (costs,) = dataset.view().sql(f"select question_id, {', '.join(COLUMNS)} from question_costs").to_pylist()
    assert costs == {"question_id": "Q", "reward_calls": 3, "reward_tokens": 30, "reward_tokens_read": 12}


@pytest.mark.parametrize("view", ["question_costs", "jobs"])
def test_a_store_from_before_reward_models_in_jobs_reads_as_0(tmp_path: Path, view: str) -> None:
    shutil.copytree(VERSION_3, tmp_path / "old")
    rows = Store.open(tmp_path / "old").view("arithmetic").sql(f"select * from {view}").to_pylist()
    assert rows
    assert any(row["requests"] for row in rows)
    assert {row[name] for row in rows for name in COLUMNS} == {0}
