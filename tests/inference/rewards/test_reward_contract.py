"""What every backend of reward models keeps: one contract, tested on each of them (see `contract.py`)."""

import asyncio
import gc
import random
import time
import warnings
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.engine.accounts import Accounts
from openr_data.engine.journal import Journal
from openr_data.engine.journaled_reward import JournaledReward
from openr_data.engine.protocols import ReasoningReward
from openr_data.errors import InputError, PolicyLost
from openr_data.reasons import ReasonedStep
from openr_data.types import Usage

from .contract import BACKENDS, THRESHOLD, Case, PlainModel, Subject, opened, score

QUESTIONS = [item.question for item in islice(ArithmeticSource().read(split="test"), 16)]
CLOSE = 1e-3


def solution(seed: int, length: int) -> Case:
    """A question and steps, drawn from the seed."""
    chance = random.Random(seed)
    steps: list[str] = []
    for _ in range(length):
        a, b = chance.randrange(2, 20), chance.randrange(2, 20)
        sign, value = ("*", a * b) if chance.random() < 0.5 else ("+", a + b)
        steps.append(
            f"{chance.choice(('Tom', 'Anna', 'She'))} has {a}{sign}{b}={value} {chance.choice(('cards', 'pens'))}."
        )
    return QUESTIONS[seed % len(QUESTIONS)], tuple(steps)


@pytest.fixture(scope="module", params=BACKENDS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with opened(*request.param, tmp_path_factory.mktemp("reward")) as made:
        yield made


@pytest.fixture(autouse=True)
def _lost_connections() -> Iterator[None]:
    """httpx loses a connection now and then that is cut by its own end (`close` under full load): it is closed by the
    garbage collector, which says so. Here, and not in whatever test comes next."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def plain(subject: Subject) -> PlainModel:
    return PlainModel(subject.folder)


def alike(found: Any, expected: Any) -> bool:
    return [len(item) for item in found] == [len(item) for item in expected] and all(
        abs(a - b) <= CLOSE
        for ours, theirs in zip(found, expected, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )


def test_scores_are_those_of_a_forward_pass_for_each_step(subject: Subject, plain: PlainModel) -> None:
    cases = [solution(seed, 1 + seed % 7) for seed in range(16)]
    expected = [plain.scores(*case) for case in cases]
    every = [value for item in expected for value in item]
    # What is alike anyway would prove nothing.
    assert max(every) - min(every) > 0.2
    assert alike(score(subject.reward, *cases), expected)


def test_each_step_has_a_score_between_0_and_1(subject: Subject) -> None:
    for length in (1, 2, 9):
        question, steps = solution(100 + length, length)
        (found,) = score(subject.reward, (question, steps))
        assert len(found) == length
        assert all(0 <= value <= 1 for value in found)


@pytest.mark.parametrize("order", ["shorter first", "longer first", "together"])
def test_the_scores_of_a_beginning_are_the_beginning_of_the_scores(subject: Subject, order: str) -> None:
    question, steps = solution(len(order), 8)
    parts = [(question, steps[:count]) for count in range(1, 9)]
    subject.forget()
    if order == "together":
        scores = score(subject.reward, *parts)
    else:
        turns = parts if order == "shorter first" else parts[::-1]
        told = {len(part[1]): score(subject.reward, part)[0] for part in turns}
        scores = [told[count] for count in range(1, 9)]
    assert alike(scores, [scores[-1][:count] for count in range(1, 9)])


def test_what_differs_after_a_common_beginning_is_told_apart(subject: Subject, plain: PlainModel) -> None:
    question, steps = solution(40, 6)
    cases = [(question, (*steps[:cut], *solution(41 + cut, 6)[1][cut:])) for cut in (5, 3, 1, 0)]
    subject.forget()
    found = [score(subject.reward, case)[0] for case in cases]
    assert alike(found, [plain.scores(*case) for case in cases])
    assert all(abs(a[-1] - b[-1]) > CLOSE for a, b in pairwise(found))


def test_a_solution_scored_step_by_step_costs_its_new_steps(subject: Subject, plain: PlainModel) -> None:
    question, steps = solution(50, 24)
    reward = subject.reward
    subject.forget()
    asked, read = reward.tokens_asked, reward.tokens_read
    for count in range(1, 25):
        (found,) = score(reward, (question, steps[:count]))
    asked, read = reward.tokens_asked - asked, reward.tokens_read - read
    whole = sum(len(plain.encoder.encode(question, steps[:count]).ids) for count in range(1, 25))
    assert asked == whole
    assert read <= 0.3 * asked if subject.reads_new_alone else read == asked
    assert read >= len(plain.encoder.encode(question, steps).ids)
    assert alike([found], [plain.scores(question, steps)])


def test_what_was_scored_is_not_read_again(subject: Subject) -> None:
    case = solution(60, 5)
    reward = subject.reward
    (first,) = score(reward, case)
    asked, read = reward.tokens_asked, reward.tokens_read
    assert score(reward, case, (case[0], case[1][:3])) == [first, first[:3]]
    assert reward.tokens_read == read
    assert reward.tokens_asked > asked


def test_solutions_scored_together_have_the_scores_that_they_have_alone(subject: Subject) -> None:
    cases = [solution(200 + seed % 48, 1 + seed % 5) for seed in range(64)]
    subject.forget()
    alone = [score(subject.reward, case)[0] for case in cases]
    subject.forget()
    assert alike(score(subject.reward, *cases), alone)


def test_a_solution_longer_than_the_context_is_told_and_the_longest_is_scored(
    subject: Subject, plain: PlainModel
) -> None:
    reward = subject.reward
    room = reward._reader.room
    assert room in (1024, 1023)
    question, _ = solution(70, 1)
    steps = ["Tom has 2*7=14 cards." for _ in range(60)]
    while len(plain.encoder.encode(question, [*steps, "1"]).ids) > room:
        steps.pop()
    last = "1"
    while len(plain.encoder.encode(question, [*steps, last + " 1"]).ids) <= room:
        last += " 1"
    assert len(plain.encoder.encode(question, [*steps, last]).ids) in (room, room - 1)
    with pytest.raises(InputError, match=f"does not fit the {room} positions"):
        score(reward, (question, (*steps, last + " 1 1")))
    (found,) = score(reward, (question, (*steps, last)))
    assert len(found) == len(steps) + 1


@pytest.mark.parametrize("steps", [(), ("",), ("Tom has 3 pens.", " ")], ids=["none", "empty", "blank"])
def test_a_solution_with_nothing_to_score_is_an_input_error(subject: Subject, steps: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        score(subject.reward, ("How many?", steps))


def test_it_is_named_by_model_and_format_and_has_the_threshold_of_the_model(subject: Subject) -> None:
    model, _, revision = subject.reward.name.partition("@")
    served = subject.name.startswith("openai")
    assert model == ("prm" if served else str(subject.folder))
    commit, _, digest = revision.partition(".")
    assert (commit == "served") == served
    assert digest == subject.reward._reader.form.digest()
    assert subject.reward.threshold == THRESHOLD
    assert "format" in subject.reward.live_options


def explain(reward: Any, *cases: Case, most: int) -> list[tuple[ReasonedStep, ...]]:
    """What is said of solutions that are all asked for at once."""

    async def all_at_once() -> Any:
        return await asyncio.gather(*(reward.explain(*case, max_tokens=most) for case in cases))

    outcome: list[tuple[ReasonedStep, ...]] = asyncio.run(all_at_once())
    return outcome


def test_a_reason_is_what_the_model_writes_behind_its_verdict(subject: Subject, plain: PlainModel) -> None:
    assert isinstance(subject.reward, ReasoningReward)
    cases = [solution(500 + seed, 1 + seed) for seed in range(3)]
    if subject.head != "lm_pair":
        with pytest.raises(InputError, match=r"was not trained to write reasons.*--generative --reasons"):
            explain(subject.reward, cases[0], most=8)
        return
    before = score(subject.reward, *cases)
    encoder, kinds, ends = plain.encoder, set(), set()
    assert encoder.end is not None
    for most in (1, 32):
        for case, told, scores in zip(cases, explain(subject.reward, *cases, most=most), before, strict=True):
            assert alike([[item.score for item in told]], [scores])
            encoded = encoder.encode(*case)
            for place, item in enumerate(told):
                assert item.is_good == (item.score >= THRESHOLD)
                written, is_whole = plain.write(encoder.verdict(encoded, place, item.is_good), encoder.end, most)
                assert item.reason == (written + ("" if is_whole else " …")).strip()
                kinds.add(item.is_good)
                ends.add(is_whole)
    # Nothing that is always the same would prove much.
    assert kinds == ends == {True, False}
    assert score(subject.reward, *cases) == before


def test_where_the_context_has_no_room_a_reason_is_cut_and_then_empty(subject: Subject, plain: PlainModel) -> None:
    if subject.head != "lm_pair":
        pytest.skip("writes nothing")
    room = subject.reward._reader.room
    question, first = solution(70, 1)
    last = "1"
    while len(plain.encoder.encode(question, (*first, last + " 1")).ids) <= room:
        last += " 1"
    # Of the longest solution the last verdict has no room, and with a few tokens less its reason has as many.
    (told,) = explain(subject.reward, (question, (*first, last)), most=24)
    assert [bool(item.reason) for item in told] == [True, False]
    less = last.removesuffix(" 1" * 4)
    (told,) = explain(subject.reward, (question, (*first, less)), most=24)
    encoded = plain.encoder.encode(question, (*first, less))
    begun = plain.encoder.verdict(encoded, 1, told[1].is_good)
    written, is_whole = plain.write(begun, plain.encoder.end or 0, room - len(begun))
    assert told[1].reason == (written + ("" if is_whole else " …")).strip()
    assert 0 < room - len(begun) < 24


def test_a_call_reports_its_own_tokens_and_all_calls_add_up_to_those_of_the_model(subject: Subject) -> None:
    question, steps = solution(80, 8)
    # Beginnings, branches and repeats at once: what several calls share is read for one of them.
    cases = [(question, steps[:count]) for count in (3, 5, 8, 8)] + [(question, (*steps[:4], *solution(81, 3)[1]))]
    cases.append(solution(82, 4))
    reward = subject.reward
    subject.forget()
    asked, read = reward.tokens_asked, reward.tokens_read

    async def all_at_once() -> Any:
        return await asyncio.gather(*(reward.score_steps(*case) for case in cases))

    replies = asyncio.run(all_at_once())
    assert sum(reply.tokens_asked for reply in replies) == reward.tokens_asked - asked > 0
    assert sum(reply.tokens_read for reply in replies) == reward.tokens_read - read > 0
    # All that is remembered now is asked for again, and not read.
    again = asyncio.run(all_at_once())
    assert [(reply.tokens_asked, reply.tokens_read) for reply in again] == [(item.tokens_asked, 0) for item in replies]
    assert alike([reply.scores for reply in again], score(reward, *cases))


def test_a_job_replays_the_scores_of_a_model_to_the_bit_and_counts_its_tokens(subject: Subject, tmp_path: Path) -> None:
    solutions = [solution(90 + seed, 5) for seed in range(3)]
    reward = subject.reward

    async def search(journaled: JournaledReward, accounts: Accounts) -> Any:
        scores, usages = [], Usage()
        for number, (question, steps) in enumerate(solutions):
            with accounts.open(question, number) as account:
                for count in range(1, 6):
                    # Paths that grow side by side, as those of a beam.
                    paths = [steps[:count], (*steps[: count - 1], f"Tom has {count} pens."), steps[:count]]
                    scores += await asyncio.gather(*(journaled.score(question, path) for path in paths))
            usages.add(account.usage)
        return scores, usages

    def run() -> Any:
        journal = Journal(tmp_path / "journal")
        accounts = Accounts(journal)
        try:
            return *asyncio.run(search(JournaledReward(reward, accounts), accounts)), accounts.paid
        finally:
            journal.close()

    subject.forget()
    asked, read = reward.tokens_asked, reward.tokens_read
    scores, usages, paid = run()
    asked, read = reward.tokens_asked - asked, reward.tokens_read - read
    assert usages == paid == Usage(reward_calls=30, reward_tokens=asked, reward_tokens_read=read)
    assert asked >= read > 0
    # Another memory and other neighbours: scores computed anew could differ in their last bits.
    subject.forget()
    score(reward, *[solution(190 + seed, 4) for seed in range(8)])
    asked, read = reward.tokens_asked, reward.tokens_read
    again, usages, paid_again = run()
    assert [[value.hex() for value in item] for item in again] == [[value.hex() for value in item] for item in scores]
    assert (reward.tokens_asked, reward.tokens_read) == (asked, read)
    assert usages == paid_again == paid


def test_scores_that_nobody_waits_for_end(subject: Subject, plain: PlainModel) -> None:
    cases = [solution(300 + seed, 30) for seed in range(12)]

    async def give_up() -> list[Any]:
        tasks = [asyncio.ensure_future(subject.reward.score(*case)) for case in cases]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert any(isinstance(item, asyncio.CancelledError) for item in asyncio.run(give_up()))
    end = time.monotonic() + 10.0
    while subject.under_way():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert alike(score(subject.reward, cases[0]), [plain.scores(*cases[0])])


def test_a_closed_reward_model_is_lost(subject: Subject) -> None:
    # The last test of each backend: nothing is left of it.
    reward = subject.reward

    async def close_in_between() -> list[Any]:
        tasks = [asyncio.ensure_future(reward.score(*solution(400 + seed, 30))) for seed in range(60)]
        await asyncio.sleep(0)
        await asyncio.to_thread(reward.close)
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcome = asyncio.run(asyncio.wait_for(close_in_between(), 60.0))
    assert {type(item) for item in outcome} <= {tuple, PolicyLost}
    assert PolicyLost in {type(item) for item in outcome}
    with pytest.raises(PolicyLost, match="is closed"):
        score(reward, solution(0, 1))
    reward.close()
