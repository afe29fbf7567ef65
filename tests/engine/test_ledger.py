"""A journaled policy asks nothing twice and counts everything once."""

import asyncio
from pathlib import Path

import pytest

from openr_data.engine.journal import Journal
from openr_data.engine.ledger import JournaledPolicy
from openr_data.errors import PolicyError
from openr_data.inference.scripted import ScriptedPolicy
from openr_data.types import Prefix, Sampling


def test_a_reply_in_the_journal_is_not_asked_again(tmp_path: Path, papers_policy: ScriptedPolicy) -> None:
    async def ask(journal: Journal) -> JournaledPolicy:
        policy = JournaledPolicy(papers_policy, journal)
        for seed in (1, 2, 1):
            await policy.sample(Prefix("q"), 8, Sampling(seed=seed))
        return policy

    first = asyncio.run(ask(Journal(tmp_path / "j")))
    assert len(papers_policy.asked) == 2
    second = asyncio.run(ask(Journal(tmp_path / "j")))
    assert len(papers_policy.asked) == 2
    assert (first.usage.fresh_requests, second.usage.fresh_requests) == (2, 0)
    # The job has paid for two requests, whichever process asked them.
    for usage in (first.usage, second.usage):
        assert (usage.requests, usage.completions) == (2, 16)
    assert first.usage.completion_tokens == second.usage.completion_tokens > 0


def test_two_equal_requests_at_once_share_one_call(tmp_path: Path, papers_policy: ScriptedPolicy) -> None:
    async def ask() -> None:
        policy = JournaledPolicy(papers_policy, Journal(tmp_path / "j"))
        replies = await asyncio.gather(*(policy.sample(Prefix("q"), 4, Sampling()) for _ in range(5)))
        assert all(reply == replies[0] for reply in replies)
        assert policy.in_flight == 0

    asyncio.run(ask())
    assert len(papers_policy.asked) == 1


def test_an_error_reaches_everybody_who_waits_and_is_not_remembered(tmp_path: Path) -> None:
    class Broken(ScriptedPolicy):
        fails = True

        async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
            await asyncio.sleep(0)
            if self.fails:
                raise PolicyError("gone")
            return await super().sample(prefix, n, sampling)

    async def ask() -> None:
        broken = Broken({})
        policy = JournaledPolicy(broken, Journal(tmp_path / "j"))
        waiting = [policy.sample(Prefix("q"), 1, Sampling()) for _ in range(2)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(item) for item in found] == [PolicyError, PolicyError]
        broken.fails = False
        assert len(await policy.sample(Prefix("q"), 1, Sampling())) == 1

    asyncio.run(ask())


def test_a_cancelled_request_leaves_nothing_in_flight(tmp_path: Path) -> None:
    class Slow(ScriptedPolicy):
        async def sample(self, prefix, n, sampling):  # type: ignore[no-untyped-def]
            await asyncio.sleep(60)

    async def ask() -> None:
        policy = JournaledPolicy(Slow({}), Journal(tmp_path / "j"))
        task = asyncio.ensure_future(policy.sample(Prefix("q"), 3, Sampling()))
        await asyncio.sleep(0)
        assert policy.in_flight == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.in_flight == 0

    asyncio.run(ask())
