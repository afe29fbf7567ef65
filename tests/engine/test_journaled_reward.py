"""A journaled reward model computes no score twice, replays every score to the bit, and keeps one account with the
policy of its job."""

import asyncio
import math
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import JournaledPolicy
from openr_data.engine.journaled_reward import JournaledReward
from openr_data.engine.protocols import RewardModel
from openr_data.engine.replies import usage_of
from openr_data.engine.request_keys import question_key, request_key, score_keys, stem_key
from openr_data.engine.reuse import Rollouts
from openr_data.errors import BudgetReached, PolicyError, StoreError
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.types import Completion, Prefix, Sampling, StepScores, Usage
from tests.virtual_clock import run_virtual

one_by_one = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)


class Moving:
    """A reward model whose scores move with every call, as those of a GPU do with their batch neighbours.

    A call takes ten seconds and asks for 10 tokens a step, 3 of which are read.
    """

    def __init__(self, name: str = "moving@1.x") -> None:
        self.name, self.threshold = name, 0.4
        self.tokens_asked = self.tokens_read = 0
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.fails: Exception | None = None
        self.answer: Sequence[float] | None = None
        self._chance = random.Random(0)

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        self.asked.append((question, tuple(steps)))
        await asyncio.sleep(10)
        if self.fails:
            raise self.fails
        drawn = [self._chance.random() for _ in steps] if self.answer is None else self.answer
        return StepScores(tuple(drawn), 10 * len(steps), 3 * len(steps))

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def job(
    path: Path, reward: Moving, limit: Callable[[], str] | None = None
) -> Iterator[tuple[JournaledPolicy, JournaledReward]]:
    """The policy and the reward model of a job over one journal."""
    journal = Journal(path)
    try:
        policy = JournaledPolicy(ScriptedPolicy({}), journal, limit=limit)
        yield policy, JournaledReward(reward, policy.accounts)
    finally:
        journal.close()


@contextmanager
def journaled(path: Path, reward: Moving, limit: Callable[[], str] | None = None) -> Iterator[JournaledReward]:
    with job(path, reward, limit) as (_, journaled_reward):
        yield journaled_reward


def bits(scores: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(scores)}d", *scores)


def is_clean(reward: JournaledReward) -> bool:
    return (reward.in_flight, reward._calls.under_way) == (0, {})


async def beam(reward: RewardModel, width: int = 3, depth: int = 4) -> list[tuple[str, ...]]:
    """A search whose decisions depend on the scores: it keeps the best two of `width` children at each step."""
    paths: list[tuple[str, ...]] = [()]
    for level in range(depth):
        children = [(*path, f"{level}.{child}") for path in paths for child in range(width)]
        scores = [await reward.score("q", path) for path in children]
        ranked = sorted(zip(children, scores, strict=True), key=lambda pair: min(pair[1]), reverse=True)
        paths = [path for path, _ in ranked[:2]]
    return paths


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_reward_model_in_a_job_has_the_name_and_the_threshold_of_its_backend(tmp_path: Path) -> None:
    with journaled(tmp_path / "j", Moving("prm@2.abc")) as reward:
        assert (reward.name, reward.threshold) == ("prm@2.abc", 0.4)


def test_a_replayed_score_is_the_same_to_the_bit_and_asks_nothing(tmp_path: Path) -> None:
    backend = Moving()
    with journaled(tmp_path / "j", backend) as reward:
        before, _ = run_virtual(reward.score("q", ("a", "b", "c")))
        again, seconds = run_virtual(reward.score("q", ["a", "b", "c"]))
        assert (bits(again), seconds, len(backend.asked)) == (bits(before), 0, 1)
    with journaled(tmp_path / "j", backend) as reward:
        replayed, seconds = run_virtual(reward.score("q", ("a", "b", "c")))
        assert (bits(replayed), seconds, len(backend.asked)) == (bits(before), 0, 1)


def test_a_search_resumed_at_any_call_ends_as_the_scores_it_saw_had_it_end(tmp_path: Path) -> None:
    whole = Moving()
    with journaled(tmp_path / "whole", whole) as reward:
        run_virtual(beam(reward))
    calls = len(whole.asked)

    def limit() -> str:
        return "enough" if reward._accounts.paid.reward_calls >= stop else ""

    for stop in range(calls):
        path = tmp_path / f"stopped {stop}"
        with journaled(path, Moving(), limit) as reward, pytest.raises(BudgetReached, match="enough"):
            run_virtual(beam(reward))
        seen = journaled_scores(path)
        assert len(seen) == stop
        # The resuming process gets different scores, so it must use those of the journal.
        other = Moving()
        other._chance.seed(stop + 1)
        with journaled(path, other) as reward:
            paths, _ = run_virtual(beam(reward))
            assert len(other.asked) == calls - stop
        assert seen.items() <= journaled_scores(path).items()
        silent = Moving()
        silent.fails = PolicyError("it was asked")
        with journaled(path, silent) as reward:
            assert run_virtual(beam(reward)) == (paths, 0)


def journaled_scores(path: Path) -> dict[bytes, bytes]:
    journal = Journal(path, read_only=True)
    scores = {}
    for entry in journal.entries():
        assert entry.is_scores
        assert entry.place
        scores[entry.key] = journal._payload(entry.place)
    journal.close()
    return scores


def test_the_score_of_a_prefix_is_given_once_in_longer_and_in_shorter_solutions(tmp_path: Path) -> None:
    backend = Moving()
    with journaled(tmp_path / "j", backend) as reward:
        middle, _ = run_virtual(reward.score("q", ("a", "b")))
        longer, _ = run_virtual(reward.score("q", ("a", "b", "c")))
        shorter, seconds = run_virtual(reward.score("q", ("a",)))
        assert longer[:2] == middle
        assert shorter == middle[:1]
        assert seconds == 0
    assert [steps for _, steps in backend.asked] == [("a", "b"), ("a", "b", "c")]
    # The shorter one was answered without a call, and is in the journal all the same.
    silent = Moving()
    silent.fails = PolicyError("it was asked")
    with journaled(tmp_path / "j", silent) as reward:
        assert run_virtual(reward.score("q", ("a",)))[0] == shorter
        assert reward._accounts.paid == Usage(reward_calls=2, reward_tokens=50, reward_tokens_read=15)


def test_a_resumed_job_gives_the_score_of_a_replayed_prefix_again(tmp_path: Path) -> None:
    with journaled(tmp_path / "j", Moving()) as reward:
        before, _ = run_virtual(reward.score("q", ("a", "b")))
    backend = Moving()
    backend._chance.seed(99)
    with journaled(tmp_path / "j", backend) as reward:
        run_virtual(reward.score("q", ("a", "b")))
        longer, _ = run_virtual(reward.score("q", ("a", "b", "c")))
        assert longer[:2] == before
        assert run_virtual(reward.score("q", ("a",)))[0] == before[:1]
    assert backend.asked == [("q", ("a", "b", "c"))]


def test_other_names_questions_and_steps_are_other_requests(tmp_path: Path) -> None:
    cases = [("q", ("a", "b")), ("q", ("ab",)), ("qa", ("b",)), ("q", ("a", "")), ("q", ("a",)), ("Q", ("a", "b"))]
    keys = {score_keys(name, *case)[-1] for case in cases for name in ("m@1", "m@2")}
    assert len(keys) == 2 * len(cases)
    one, other = Moving("m@1"), Moving("m@2")
    with journaled(tmp_path / "j", one) as reward:
        run_virtual(reward.score("q", ("a",)))
    with journaled(tmp_path / "j", other) as reward:
        run_virtual(reward.score("q", ("a",)))
    assert (len(one.asked), len(other.asked)) == (1, 1)


def test_the_keys_of_a_solution_begin_with_those_of_its_beginning() -> None:
    keys = score_keys("m", "q", ("a", "b", "c"))
    assert len(set(keys)) == 4
    assert keys[:3] == score_keys("m", "q", ("a", "b"))


@one_by_one
@given(scores=st.lists(st.floats(0, 1), max_size=40), counts=st.tuples(*[st.integers(0, 2**32 - 1)] * 3))
def test_scores_and_their_cost_come_back_as_they_were(
    tmp_path: Path, scores: list[float], counts: tuple[int, int, int]
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    usage = Usage(reward_calls=counts[0], reward_tokens=counts[1], reward_tokens_read=counts[2])
    stem, *_ = score_keys("m", "q", ())
    journal = Journal(path)
    journal.put_scores(stem, stem, question_key("q"), scores, usage)
    journal.close()
    journal = Journal(path)
    record = journal.get_scores(stem)
    assert record is not None
    assert (bits(record[0]), record[1], journal.paid) == (bits(scores), usage, usage)
    journal.close()


# --- calls under way --------------------------------------------------------------------------------------------------


def test_equal_requests_for_scores_share_one_call(tmp_path: Path) -> None:
    backend = Moving()

    async def main(reward: JournaledReward) -> None:
        scores = await asyncio.gather(*(reward.score("q", ("a", "b")) for _ in range(5)), reward.score("q", ("c",)))
        assert len(set(scores)) == 2

    with journaled(tmp_path / "j", backend) as reward:
        _, seconds = run_virtual(main(reward))
        assert (len(backend.asked), seconds, is_clean(reward)) == (2, 10, True)


def test_when_the_asker_of_scores_is_cancelled_the_others_get_theirs(tmp_path: Path) -> None:
    backend = Moving()

    async def main(reward: JournaledReward) -> None:
        asker, *sharers = [asyncio.ensure_future(reward.score("q", ("a",))) for _ in range(4)]
        await asyncio.sleep(5)
        assert (len(backend.asked), reward.in_flight) == (1, 1)
        asker.cancel()
        scores = await asyncio.gather(*sharers)
        assert asker.cancelled()
        assert len(set(scores)) == 1
        assert is_clean(reward)

    with journaled(tmp_path / "j", backend) as reward:
        _, seconds = run_virtual(main(reward))
        assert (len(backend.asked), seconds) == (2, 15)
        assert reward._accounts.cancelled == 1
        assert reward._accounts.paid.reward_calls == 1


def test_a_sharer_of_scores_that_is_cancelled_takes_nothing_from_the_others(tmp_path: Path) -> None:
    backend = Moving()

    async def main(reward: JournaledReward) -> None:
        asker, sharer, other = [asyncio.ensure_future(reward.score("q", ("a",))) for _ in range(3)]
        await asyncio.sleep(5)
        sharer.cancel()
        assert await asker == await other
        assert sharer.cancelled()

    with journaled(tmp_path / "j", backend) as reward:
        run_virtual(main(reward))
        assert reward._accounts.cancelled == 0
    assert len(backend.asked) == 1


def test_an_error_of_the_reward_model_reaches_all_that_wait_and_is_not_remembered(tmp_path: Path) -> None:
    backend = Moving()
    backend.fails = PolicyError("gone")

    async def main(reward: JournaledReward) -> None:
        outcomes = await asyncio.gather(*(reward.score("q", ("a",)) for _ in range(3)), return_exceptions=True)
        assert [str(item) for item in outcomes] == ["gone"] * 3
        backend.fails = None
        assert len(await reward.score("q", ("a",))) == 1

    with journaled(tmp_path / "j", backend) as reward:
        run_virtual(main(reward))
        assert is_clean(reward)
    assert len(backend.asked) == 2


@pytest.mark.parametrize("answer", [(), (0.5, 0.5), (math.nan,), (1.5,), (-0.1,)])
def test_an_answer_that_is_not_a_score_for_each_step_is_refused_and_not_remembered(
    tmp_path: Path, answer: tuple[float, ...]
) -> None:
    backend = Moving()
    backend.answer = answer
    with journaled(tmp_path / "j", backend) as reward:
        with pytest.raises(PolicyError, match="Expected one number between 0 and 1 for each step"):
            run_virtual(reward.score("q", ("a",)))
        backend.answer = None
        assert len(run_virtual(reward.score("q", ("a",)))[0]) == 1


@one_by_one
@given(
    requests=st.lists(
        st.tuples(st.lists(st.sampled_from("ab"), max_size=4), st.integers(0, 25), st.none() | st.integers(1, 30)),
        min_size=1,
        max_size=12,
    ),
    stop=st.integers(0, 40),
)
def test_whatever_is_asked_together_cancelled_and_killed_a_prefix_has_one_score(
    tmp_path: Path, requests: list[tuple[list[str], int, int | None]], stop: int
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    scores: dict[tuple[str, ...], bytes] = {}

    async def ask(reward: JournaledReward, steps: list[str], start: int) -> None:
        await asyncio.sleep(start)
        values = await reward.score("q", steps)
        assert len(values) == len(steps)
        for count, value in enumerate(values, 1):
            assert scores.setdefault(tuple(steps[:count]), bits([value])) == bits([value])

    async def main(reward: JournaledReward, stop: int | None) -> None:
        tasks = [asyncio.ensure_future(ask(reward, steps, start)) for steps, start, _ in requests]
        for task, (_, start, patience) in zip(tasks, requests, strict=True):
            if patience is not None:
                asyncio.get_running_loop().call_later(start + patience, task.cancel)
        _, left = await asyncio.wait(tasks, timeout=stop)
        for task in left:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(item is None or isinstance(item, asyncio.CancelledError) for item in outcomes), outcomes
        assert is_clean(reward)

    first, second = Moving(), Moving()
    second._chance.seed(1)
    with journaled(path, first) as reward:
        run_virtual(main(reward, stop))
    # The resumed search sends the same requests in the same order.
    with journaled(path, second) as reward:
        run_virtual(main(reward, None))
        paid = reward._accounts.paid.reward_calls
        assert paid + reward._accounts.cancelled <= len(first.asked) + len(second.asked)
    silent = Moving()
    silent.fails = PolicyError("it was asked")
    finished = {tuple(steps) for steps, _, patience in requests if patience is None}
    with journaled(path, silent) as reward:
        for steps in finished:
            run_virtual(ask(reward, list(steps), 0))
        assert reward._accounts.paid.reward_calls == paid


# --- accounts and limits ----------------------------------------------------------------------------------------------


def test_policy_and_reward_model_of_a_job_share_the_account_of_a_question(tmp_path: Path) -> None:
    async def main(policy: JournaledPolicy, reward: JournaledReward) -> Usage:
        with policy.account("Q", 1) as account:
            (completion,) = await policy.sample(Prefix("q"), 1, Sampling())
            await asyncio.gather(*(reward.score("q", ("a",) * count) for count in (2, 2, 1)))
            await reward.score("q", ("a", "a"))
        assert completion.n_tokens == account.usage.completion_tokens
        return account.usage

    with job(tmp_path / "j", Moving()) as (policy, reward):
        before, _ = run_virtual(main(policy, reward))
        assert (before.requests, before.reward_calls) == (1, 2)
        assert (before.reward_tokens, before.reward_tokens_read) == (30, 9)
        assert policy.paid == before
    with job(tmp_path / "j", Moving()) as (policy, reward):
        again, seconds = run_virtual(main(policy, reward))
        assert again == policy.paid == before
        assert seconds == 0


def test_a_limit_of_the_job_ends_the_reward_model_too_and_what_is_known_costs_nothing(tmp_path: Path) -> None:
    backend = Moving()

    def limit() -> str:
        return "20 reward tokens" if policy.paid.reward_tokens >= 20 else ""

    with job(tmp_path / "j", backend, limit) as (policy, reward):
        run_virtual(reward.score("q", ("a", "b")))
        with pytest.raises(BudgetReached, match="20 reward tokens"):
            run_virtual(reward.score("q", ("c",)))
        with pytest.raises(BudgetReached, match="20 reward tokens"):
            run_virtual(policy.sample(Prefix("q"), 1, Sampling()))
        assert len(run_virtual(reward.score("q", ("a",)))[0]) == 1
        assert policy.stopped_by == "20 reward tokens"
    assert len(backend.asked) == 1
    # The costs of an earlier process count too.
    with job(tmp_path / "j", backend, limit) as (policy, reward), pytest.raises(BudgetReached):
        run_virtual(reward.score("q", ("c",)))


def test_a_stopped_job_waits_for_scores_under_way_and_asks_for_no_others(tmp_path: Path) -> None:
    backend = Moving()

    async def main(policy: JournaledPolicy, reward: JournaledReward) -> None:
        under_way = asyncio.ensure_future(reward.score("q", ("a",)))
        await asyncio.sleep(5)
        policy.stop("enough")
        with pytest.raises(BudgetReached, match="enough"):
            await reward.score("q", ("b",))
        assert len(await under_way) == 1

    with job(tmp_path / "j", backend) as (policy, reward):
        run_virtual(main(policy, reward))
        assert policy.paid.reward_calls == 1


def test_scores_of_a_forgotten_question_hold_no_memory_and_stay_paid(tmp_path: Path) -> None:
    async def main(policy: JournaledPolicy, reward: JournaledReward) -> None:
        for name in "ab":
            with policy.account(name, 1):
                await reward.score(name, ("s",))
        policy.forget("a")

    with job(tmp_path / "j", Moving()) as (policy, reward):
        run_virtual(main(policy, reward))
        assert len(policy.accounts.journal) == 1
        assert policy.paid.reward_calls == 2


# --- the file ---------------------------------------------------------------------------------------------------------


def mixed(path: Path) -> tuple[list[int], dict[bytes, tuple[float, ...]], Usage]:
    """A journal in which scores and completions alternate: where each record ends, the scores by key, what was paid."""
    journal = Journal(path)
    ends, scores = [0], {}
    chance = random.Random(5)
    for number in range(6):
        sampling = Sampling(seed=number)
        stem = stem_key("p", Prefix("q"), sampling)
        reply = (Completion(f"text {number}", 3, "end", None, 7),)
        journal.put(request_key(stem, 1, number), stem, question_key("q"), number, reply)
        ends.append(path.stat().st_size)
        begin, *keys = score_keys("m", "q", ("s",) * (number + 1))
        values = tuple(chance.random() for _ in keys)
        usage = Usage(reward_calls=1, reward_tokens=number + 1, reward_tokens_read=1)
        journal.put_scores(keys[-1], begin, question_key("q"), values, usage)
        scores[keys[-1]] = values
        ends.append(path.stat().st_size)
    journal.close()
    return ends, scores, journal.paid


def test_completions_and_scores_live_in_one_journal_and_are_paid_together(tmp_path: Path) -> None:
    _, scores, paid = mixed(tmp_path / "j")
    journal = Journal(tmp_path / "j")
    assert {key: (journal.get_scores(key) or ((), None))[0] for key in scores} == scores
    stem = stem_key("p", Prefix("q"), Sampling())
    assert [journal.get(request_key(stem, 1, number)) for number in range(6)] == [
        (Completion(f"text {number}", 3, "end", None, 7),) for number in range(6)
    ]
    assert journal.paid == paid == Usage(6, 6, 42, None, 18, reward_calls=6, reward_tokens=21, reward_tokens_read=6)
    journal.close()


def test_a_journal_without_scores_opens_and_is_paid_as_before(tmp_path: Path) -> None:
    path = tmp_path / "j"
    # One record of a policy, written before there were scores.
    path.write_bytes(bytes.fromhex(OLD))
    journal = Journal(path)
    stem = stem_key("p", Prefix("q", ("a", "b")), Sampling(seed=3, stop=("x",)))
    reply = journal.get(request_key(stem, 8, 1))
    assert reply is not None
    assert [item.text for item in reply] == ["text ✓", ""]
    assert journal.paid == usage_of(reply) == Usage(1, 2, 7, 3, 5, truncated=1, cut_tokens=1)
    assert journal.damaged == 0
    journal.close()
    with journaled(path, Moving()) as reward:
        scores, _ = run_virtual(reward.score("q", ("a",)))
    with journaled(path, Moving()) as reward:
        assert run_virtual(reward.score("q", ("a",))) == (scores, 0)
        assert reward._accounts.paid.requests == reward._accounts.paid.reward_calls == 1


def test_a_journal_cut_at_any_byte_of_its_last_scores_asks_for_them_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ends, scores, _ = mixed(path)
    whole, last = path.read_bytes(), list(scores)[-1]
    for size in range(ends[-2], ends[-1]):
        path.write_bytes(whole[:size])
        journal = Journal(path)
        assert journal.get_scores(last) is None
        assert all(
            journal.get_scores(key) == (scores[key], journal.get_scores(key)[1]) for key in scores if key != last
        )  # type: ignore[index]
        assert journal.paid.reward_calls == 5
        # Entries written after the cut are complete again.
        journal.put_scores(last, last, question_key("q"), scores[last], Usage(reward_calls=1))
        journal.close()
        journal = Journal(path)
        assert journal.get_scores(last) == (scores[last], Usage(reward_calls=1))
        journal.close()


def test_damaged_scores_are_asked_again_and_never_believed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ends, scores, paid = mixed(path)
    whole = path.read_bytes()
    for place in range(ends[3], ends[4]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x21]) + whole[place + 1 :])
        journal = Journal(path)
        for number, (key, expected) in enumerate(scores.items()):
            record = journal.get_scores(key)
            # Records that follow a damaged one in its segment cannot be decoded.
            assert record is None if number >= 1 else record is not None and record[0] == expected
        assert journal.paid.reward_calls == paid.reward_calls - 1
        assert journal.damaged > 0
        journal.close()


def test_a_job_reuses_the_rollouts_beside_scores_and_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "j"
    _, scores, _ = mixed(path)
    rollouts = Rollouts([path], [question_key("q")])
    samples = rollouts.take(question_key("q"), stem_key("p", Prefix("q"), Sampling()), 0, 100)
    assert [item.text for item in samples] == [f"text {number}" for number in range(6)]
    assert all(rollouts.take(question_key("q"), score_keys("m", "q", ())[0], 0, 1) == () for _ in scores)
    rollouts.close()


def test_a_journal_that_cannot_take_scores_is_an_error_of_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise StoreError("The disk is full")

    with journaled(tmp_path / "j", Moving()) as reward:
        monkeypatch.setattr(reward._accounts.journal, "put_scores", full)
        with pytest.raises(StoreError, match="The disk is full"):
            run_virtual(reward.score("q", ("a",)))
        assert is_clean(reward)


OLD = (
    "f56f6a323892c79a4c000000014ebc8773f41892d03eae85b15a4384571006abac0d634dd30b8b84b4e6c6a2598c2a01ab40"
    "c0e40607000000030000000500000001000000010000000200000001000000000000008a36d631d731d6898e562a49ad2851"
    "88293532373456d231d1512a2ec92f50d2d135d43332d5c92bcdc9d1494bcc294e8dd5895652d231d451ca49cd4b2fc95082"
    "4821c9c7c602000000ffff"
)
"""A journal as it was before it held scores."""
