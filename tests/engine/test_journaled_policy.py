"""Checks that a journaled policy never repeats a request, counts every cost once, and stops at its limits."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import WINDOW, JournaledPolicy
from openr_data.errors import BudgetReached, PolicyError, StoreError
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.types import Completion, Prefix, Sampling, Usage
from tests.virtual_clock import run_virtual


class Counting(ScriptedPolicy):
    """Every request takes ten seconds; its prompt has 10 tokens (4 of them cached), each completion 3."""

    def __init__(self, places: int | None = None, seconds: float = 10.0) -> None:
        super().__init__({})
        self.most, self.seconds = places, seconds
        self.fails: Exception | None = None
        self.ended = 0

    @property
    def places(self) -> int | None:
        return self.most

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n))
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise self.fails
        self.ended += 1
        text = f"{prefix.question}/{sampling.seed}"
        return [Completion(f"{text}/{index}", 3, "end", None, 10, 4) for index in range(n)]


@contextmanager
def journaled(path: Path, backend: ScriptedPolicy, limit: Callable[[], str] | None = None) -> Iterator[JournaledPolicy]:
    journal = Journal(path)
    try:
        yield JournaledPolicy(backend, journal, limit=limit)
    finally:
        journal.close()


async def ask(policy: JournaledPolicy, question: str = "q", n: int = 1, seed: int = 0) -> Sequence[Completion]:
    return await policy.sample(Prefix(question), n, Sampling(seed=seed))


def is_clean(policy: JournaledPolicy) -> bool:
    gate = policy.admission
    return (gate.requests, gate.tokens, policy.in_flight, policy._calls.under_way, gate.is_open) == (0, 0, 0, {}, True)


# --- nothing is asked twice -------------------------------------------------------------------------------------------


def test_a_reply_in_the_journal_is_not_asked_again(tmp_path: Path, papers_policy: ScriptedPolicy) -> None:
    async def requests(policy: JournaledPolicy) -> list[Sequence[Completion]]:
        return [await policy.sample(Prefix("q"), 8, Sampling(seed=seed)) for seed in (1, 2, 1)]

    with journaled(tmp_path / "j", papers_policy) as first:
        replies = asyncio.run(requests(first))
        assert (len(papers_policy.asked), first.hits) == (2, 1)
    with journaled(tmp_path / "j", papers_policy) as second:
        assert asyncio.run(requests(second)) == replies
        assert (len(papers_policy.asked), second.hits) == (2, 3)
        # The job has paid for two requests, whichever process asked them.
        assert first.paid == second.paid
        assert (second.paid.requests, second.paid.completions) == (2, 16)
        assert second.paid.completion_tokens == first.fresh_tokens > 0
        assert second.fresh_tokens == 0


def test_equal_requests_at_once_share_one_call(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        replies = await asyncio.gather(*(ask(policy, n=4) for _ in range(5)), ask(policy, n=5), ask(policy, seed=1))
        assert all(reply == replies[0] for reply in replies[:5])
        assert len(replies[5]) == 5

    with journaled(tmp_path / "j", backend) as policy:
        _, seconds = run_virtual(main(policy))
        assert len(backend.asked) == 3
        assert seconds == pytest.approx(10)
        assert policy.paid == Usage(3, 10, 30, 12, 30)
        assert is_clean(policy)


def test_other_questions_with_the_same_seed_are_other_requests(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        one, other = await asyncio.gather(ask(policy, "a"), ask(policy, "b"))
        assert (one[0].text, other[0].text) == ("a/0/0", "b/0/0")

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))


def test_an_error_reaches_everybody_who_waits_and_is_not_remembered(tmp_path: Path) -> None:
    backend = Counting()
    backend.fails = PolicyError("gone")

    async def main(policy: JournaledPolicy) -> None:
        replies = await asyncio.gather(*(ask(policy) for _ in range(3)), return_exceptions=True)
        assert [str(item) for item in replies] == ["gone"] * 3
        assert is_clean(policy)
        assert policy.paid == Usage()
        backend.fails = None
        assert len(await ask(policy)) == 1

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))
    assert len(backend.asked) == 2


def test_a_journal_that_cannot_be_written_is_an_error_for_everybody_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise StoreError("The disk is full")

    async def main(policy: JournaledPolicy) -> None:
        replies = await asyncio.gather(*(ask(policy) for _ in range(2)), return_exceptions=True)
        assert [type(item) for item in replies] == [StoreError, StoreError]

    with journaled(tmp_path / "j", Counting()) as policy:
        monkeypatch.setattr(policy._journal, "put", full)
        run_virtual(main(policy))
        assert is_clean(policy)


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_a_cancelled_request_leaves_nothing_in_flight_and_is_counted(tmp_path: Path) -> None:
    async def main(policy: JournaledPolicy) -> None:
        with policy.account("q", 1) as account:
            task = asyncio.ensure_future(ask(policy, n=3))
            await asyncio.sleep(5)
            assert (policy.in_flight, policy.admission.requests) == (3, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert account.usage == Usage(cancelled=1)
        assert policy.cancelled == 1
        assert is_clean(policy)

    with journaled(tmp_path / "j", Counting()) as policy:
        run_virtual(main(policy))


def test_when_the_asker_is_cancelled_one_of_those_who_wait_asks_again(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        asker, *sharers = [asyncio.ensure_future(ask(policy, n=2)) for _ in range(4)]
        await asyncio.sleep(5)
        assert len(backend.asked) == 1
        asker.cancel()
        replies = await asyncio.gather(*sharers)
        assert asker.cancelled()
        assert {item[0].text for item in replies} == {"q/0/0"}
        assert is_clean(policy)

    with journaled(tmp_path / "j", backend) as policy:
        _, seconds = run_virtual(main(policy))
        assert len(backend.asked) == 2
        assert seconds == pytest.approx(15)
        assert policy.paid.requests == 1


def test_a_sharer_that_is_cancelled_takes_nothing_from_the_others(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        asker, sharer, other = [asyncio.ensure_future(ask(policy)) for _ in range(3)]
        await asyncio.sleep(5)
        sharer.cancel()
        assert (await asker)[0] == (await other)[0]
        with pytest.raises(asyncio.CancelledError):
            await sharer
        assert policy.cancelled == 0
        assert is_clean(policy)

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))
    assert len(backend.asked) == 1


def test_asker_and_sharer_cancelled_together_both_end(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        tasks = [asyncio.ensure_future(ask(policy)) for _ in range(2)]
        await asyncio.sleep(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [True, True]
        assert is_clean(policy)

    with journaled(tmp_path / "j", backend) as policy:
        _, seconds = run_virtual(main(policy))
        assert seconds == pytest.approx(5)
    assert len(backend.asked) == 1


def test_cancelled_while_it_waits_for_room_it_was_never_sent(tmp_path: Path) -> None:
    backend = Counting(places=1)

    async def main(policy: JournaledPolicy) -> None:
        first = asyncio.ensure_future(ask(policy, seed=1))
        waiting = asyncio.ensure_future(ask(policy, seed=2))
        await asyncio.sleep(5)
        waiting.cancel()
        await first
        assert waiting.cancelled()
        assert (policy.cancelled, len(backend.asked)) == (0, 1)
        assert is_clean(policy)
        await ask(policy, seed=3)

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_the_account_of_a_question_counts_what_its_subtasks_ask_and_no_other(tmp_path: Path) -> None:
    async def question(policy: JournaledPolicy, name: str, requests: int) -> Usage:
        with policy.account(name, 1) as account:
            await ask(policy, name, n=2)
            await asyncio.gather(*(ask(policy, name, seed=seed) for seed in range(1, requests)))
        return account.usage

    async def main(policy: JournaledPolicy) -> None:
        usages = await asyncio.gather(*(question(policy, name, requests) for name, requests in (("a", 5), ("b", 2))))
        assert usages == [Usage(5, 6, 50, 20, 18), Usage(2, 3, 20, 8, 9)]
        await ask(policy, "nobody's")
        assert usages == [Usage(5, 6, 50, 20, 18), Usage(2, 3, 20, 8, 9)]
        total = Usage()
        for usage in usages:
            total.add(usage)
        total.add(Usage(1, 1, 10, 4, 3))
        assert policy.paid == total

    with journaled(tmp_path / "j", Counting()) as policy:
        run_virtual(main(policy))


def test_replayed_requests_are_counted_for_their_question_once_and_not_paid_again(tmp_path: Path) -> None:
    async def main(policy: JournaledPolicy) -> Usage:
        with policy.account("q", 1) as account:
            for seed in (0, 1, 0, 1, 2):
                await ask(policy, seed=seed)
        return account.usage

    with journaled(tmp_path / "j", Counting()) as first:
        before, _ = run_virtual(main(first))
    assert before == first.paid == Usage(3, 3, 30, 12, 9)
    with journaled(tmp_path / "j", Counting()) as second:
        again, seconds = run_virtual(main(second))
        assert again == second.paid == before
        assert (seconds, second.hits, second.fresh_tokens) == (0, 5, 0)


def test_a_shared_request_is_paid_by_the_question_that_asked_it_first(tmp_path: Path) -> None:
    async def question(policy: JournaledPolicy, name: str) -> Usage:
        with policy.account(name, 1) as account:
            await ask(policy, "the same")
        return account.usage

    async def main(policy: JournaledPolicy) -> None:
        usages = await asyncio.gather(question(policy, "a"), question(policy, "b"))
        total = Usage()
        for usage in usages:
            total.add(usage)
        assert total == policy.paid == Usage(1, 1, 10, 4, 3)

    with journaled(tmp_path / "j", Counting()) as policy:
        run_virtual(main(policy))


def test_a_forgotten_question_holds_no_memory(tmp_path: Path) -> None:
    async def main(policy: JournaledPolicy) -> None:
        for name in "ab":
            with policy.account(name, 1):
                await ask(policy, name)
        policy.forget("a")

    with journaled(tmp_path / "j", Counting()) as policy:
        run_virtual(main(policy))
        assert len(policy._journal) == 1
        assert policy.paid.requests == 2


def test_the_older_question_goes_first_where_there_is_no_room(tmp_path: Path) -> None:
    backend = Counting(places=1)

    async def question(policy: JournaledPolicy, age: int) -> None:
        with policy.account(f"question {age}", age):
            await ask(policy, f"{age}")

    async def main(policy: JournaledPolicy) -> None:
        await asyncio.gather(*(question(policy, age) for age in (5, 3, 1, 4, 2)))
        assert is_clean(policy)

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))
    assert [prefix.question for prefix, _ in backend.asked] == ["5", "1", "2", "3", "4"]


# --- the end of asking ------------------------------------------------------------------------------------------------


def test_a_stop_lets_what_is_in_flight_finish_and_refuses_the_rest(tmp_path: Path) -> None:
    backend = Counting(places=2)

    async def main(policy: JournaledPolicy) -> None:
        tasks = [asyncio.ensure_future(ask(policy, seed=seed)) for seed in range(5)]
        await asyncio.sleep(5)
        policy.stop("that is enough")
        policy.stop("too late")
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(item) for item in replies] == [tuple, tuple, BudgetReached, BudgetReached, BudgetReached]
        assert str(replies[-1]) == policy.stopped_by == "that is enough"
        with pytest.raises(BudgetReached, match="that is enough"):
            await ask(policy, seed=9)
        assert is_clean(policy)
        assert await ask(policy, seed=0) == replies[0], "the journal still answers"

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))
        assert policy.paid.requests == 2
    assert len(backend.asked) == backend.ended == 2


def test_a_limit_is_looked_at_before_every_request(tmp_path: Path) -> None:
    backend = Counting()

    async def main(policy: JournaledPolicy) -> None:
        for seed in range(3):
            await ask(policy, seed=seed)
        with pytest.raises(BudgetReached, match="9 tokens"):
            await ask(policy, seed=3)
        assert policy.stopped_by == "9 tokens"
        assert await ask(policy, seed=1), "what is known costs nothing"
        assert is_clean(policy)

    policy: JournaledPolicy

    def limit() -> str:
        tokens = policy.paid.completion_tokens
        return f"{tokens} tokens" if tokens >= 9 else ""

    with journaled(tmp_path / "j", backend, limit) as policy:
        run_virtual(main(policy))
    assert len(backend.asked) == 3
    # Earlier costs count too.
    with journaled(tmp_path / "j", backend, limit) as policy, pytest.raises(BudgetReached):
        run_virtual(ask(policy, seed=4))
    assert len(backend.asked) == 3


def test_a_limit_holds_for_the_requests_that_wait_for_room(tmp_path: Path) -> None:
    backend = Counting(places=2)

    async def main(policy: JournaledPolicy) -> None:
        replies = await asyncio.gather(*(ask(policy, seed=seed) for seed in range(20)), return_exceptions=True)
        assert all(isinstance(item, (tuple, BudgetReached)) for item in replies)
        assert is_clean(policy)

    policy: JournaledPolicy
    with journaled(tmp_path / "j", backend, lambda: "enough" if policy.paid.completion_tokens >= 9 else "") as policy:
        run_virtual(main(policy))
    # The limit is reached after three; one more may be under way then.
    assert 3 <= len(backend.asked) <= 4


def test_errors_and_cancellations_at_random_leave_nothing_behind(tmp_path: Path) -> None:
    class Moody(Counting):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            reply = await super().sample(prefix, n, sampling)
            if sampling.seed % 5 == 0:
                raise PolicyError("no")
            return reply

    backend = Moody(places=3)

    async def main(policy: JournaledPolicy) -> None:
        tasks = [asyncio.ensure_future(ask(policy, n=1 + seed % 3, seed=seed // 2)) for seed in range(60)]
        loop = asyncio.get_running_loop()
        for number, task in enumerate(tasks):
            if number % 4 == 1:
                loop.call_later(number * 1.7, task.cancel)
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        for number, item in enumerate(replies):
            assert isinstance(item, (tuple, PolicyError, asyncio.CancelledError)), item
            assert not isinstance(item, asyncio.CancelledError) or number % 4 == 1, "nobody else is cancelled"
            if isinstance(item, tuple):
                assert [c.text for c in item] == [f"q/{number // 2}/{index}" for index in range(1 + number % 3)]
        assert is_clean(policy)

    with journaled(tmp_path / "j", backend) as policy:
        run_virtual(main(policy))
        assert policy.paid.requests == len(policy._journal)


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_what_the_backend_says_is_passed_on(tmp_path: Path) -> None:
    class Large(ScriptedPolicy):
        @property
        def room(self) -> int | None:
            return 100

        @property
        def gpus(self) -> int:
            return 4

        @property
        def retries(self) -> int:
            return 7

    with journaled(tmp_path / "j", Large({}, name="large")) as policy:
        assert (policy.name, policy.gpus, policy.retries, policy.steps_of("a\n\nb")) == ("large", 4, 7, ("a", "b"))
        assert policy.separator == "\n\n"
        assert policy.admission._room == 150


def test_the_speed_now_is_that_of_the_last_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with journaled(tmp_path / "j", Counting(seconds=0)) as policy:
        assert policy.speed_now() == 0
        # Not on the loop's own clock: it reads the same one.
        run_virtual(ask(policy, n=10))
        assert policy.speed_now() == pytest.approx(30 / WINDOW)
        now += WINDOW / 2
        run_virtual(ask(policy, n=10, seed=1))
        assert policy.speed_now() == pytest.approx(60 / WINDOW)
        now += WINDOW * 0.75
        assert policy.speed_now() == pytest.approx(30 / WINDOW)
        now += WINDOW
        assert policy.speed_now() == 0


def test_the_cost_of_a_prompt_without_cached_tokens_told_stays_unknown(tmp_path: Path) -> None:
    with journaled(tmp_path / "j", ScriptedPolicy({})) as policy:
        run_virtual(ask(policy))
        assert policy.paid.cached_tokens is None
        assert replace(policy.paid, cached_tokens=0).requests == 1
