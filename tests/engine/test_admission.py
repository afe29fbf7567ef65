"""Checks admission on a virtual clock: never more requests than fit, and the oldest question first."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.engine.admission import FIRST_GUESS, OVERCOMMIT, Admission
from tests.virtual_clock import run_virtual

patient = settings(max_examples=150, deadline=None)


def admission(room: int | None = None, places: int | None = None) -> Admission:
    """Make an admission that lets `room` requests through, after its factor of overcommitment."""
    return Admission(None if room is None else math.ceil(room / OVERCOMMIT), lambda: places)


async def settle() -> None:
    """Run the loop until nothing can continue."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass
class Requests:
    """Requests that wait, are admitted, and are released by the test."""

    gate: Admission
    admitted: list[str] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    async def ask(self, name: str, age: int, tokens: int) -> None:
        async def entering() -> None:
            await self.gate.enter(age, tokens)
            self.admitted.append(name)

        self.tasks[name] = asyncio.ensure_future(entering())
        self.tokens[name] = tokens
        await settle()

    async def end(self, name: str) -> None:
        self.gate.leave(self.tokens[name])
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        await settle()


# --- how much goes out ------------------------------------------------------------------------------------------------

requests_at_random = st.lists(
    st.tuples(
        st.integers(0, 12),  # the second it comes in
        st.integers(0, 5),  # the age of its question
        st.integers(1, 200),  # its tokens
        st.integers(1, 6),  # the seconds it takes
        st.none() | st.integers(0, 9),  # the seconds after which it is cancelled
    ),
    min_size=1,
    max_size=40,
)


@given(requests_at_random, st.none() | st.integers(1, 300), st.none() | st.integers(1, 5))
@patient
def test_never_more_than_fits_the_oldest_first_and_all_get_their_turn(
    requests: list[tuple[int, int, int, int, int | None]], room: int | None, places: int | None
) -> None:
    gate = Admission(room, lambda: places)
    held: dict[int, int] = {}
    waiting: dict[int, tuple[int, int]] = {}
    ended: set[int] = set()
    arrivals = 0
    allowed = None if room is None else int(room * OVERCOMMIT)

    def check() -> None:
        # Alone a request may hold more than there is: it would never go out otherwise.
        assert allowed is None or len(held) <= 1 or sum(held.values()) <= allowed
        assert places is None or len(held) <= max(places, 1)

    async def one(number: int) -> None:
        nonlocal arrivals
        second, age, tokens, seconds, _ = requests[number]
        await asyncio.sleep(second)
        arrivals += 1
        waiting[number] = mine = (age, arrivals)
        try:
            await gate.enter(age, tokens)
        finally:
            del waiting[number]
        try:
            assert all(mine < other for other in waiting.values()), "an older one still waits"
            held[number] = tokens
            check()
            loop = asyncio.get_running_loop()
            # Requests arrive at whole seconds and end between them, so the order has no ties.
            await asyncio.sleep(math.floor(loop.time()) + seconds + 0.5 - loop.time())
        finally:
            held.pop(number, None)
            gate.leave(tokens)
        ended.add(number)

    async def main() -> None:
        tasks = [asyncio.ensure_future(one(number)) for number in range(len(requests))]
        loop = asyncio.get_running_loop()
        for number, (*_, after) in enumerate(requests):
            if after is not None:
                loop.call_later(after + 0.25, tasks[number].cancel)
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(replies):
            assert number in ended or isinstance(result, asyncio.CancelledError), result
            assert number in ended or requests[number][4] is not None
        assert (gate.tokens, gate.requests, gate.is_open) == (0, 0, True)

    run_virtual(main())


def test_without_bounds_everything_goes_out_at_once() -> None:
    async def main() -> None:
        gate = admission()
        for _ in range(1000):
            await gate.enter(0, 10_000)
        assert (gate.requests, gate.tokens, gate.is_open) == (1000, 10_000_000, True)

    _, seconds = run_virtual(main())
    assert seconds == 0


def test_what_ends_lets_in_as_many_as_fit() -> None:
    async def main() -> None:
        requests = Requests(admission(room=30))
        await requests.ask("big", 0, 30)
        for name in "abcd":
            await requests.ask(name, 1, 10)
        assert requests.admitted == ["big"]
        assert not requests.gate.is_open
        await requests.end("big")
        assert requests.admitted == ["big", "a", "b", "c"]
        assert not requests.gate.is_open
        await requests.end("b")
        assert requests.admitted == ["big", "a", "b", "c", "d"]

    run_virtual(main())


def test_a_request_larger_than_the_room_goes_alone_and_is_not_starved_by_small_ones() -> None:
    async def main() -> None:
        requests = Requests(admission(room=30))
        await requests.ask("a", 0, 10)
        await requests.ask("b", 0, 10)
        await requests.ask("huge", 1, 500)
        # Younger requests that would fit beside the first two wait too: otherwise it would never get all the room.
        for number in range(5):
            await requests.ask(f"small {number}", 2, 5)
        assert requests.admitted == ["a", "b"]
        await requests.end("a")
        assert requests.admitted == ["a", "b"]
        await requests.end("b")
        assert requests.admitted == ["a", "b", "huge"]
        await requests.end("huge")
        assert requests.admitted == ["a", "b", "huge", *(f"small {number}" for number in range(5))]

    run_virtual(main())


def test_a_backend_that_says_no_places_still_gets_one_request_at_a_time() -> None:
    async def main() -> None:
        requests = Requests(admission(places=0))
        await requests.ask("a", 0, 1)
        await requests.ask("b", 0, 1)
        assert requests.admitted == ["a"]
        await requests.end("a")
        assert requests.admitted == ["a", "b"]

    run_virtual(main())


# --- in which order ---------------------------------------------------------------------------------------------------


def test_the_oldest_question_goes_first_and_within_one_the_first_to_come() -> None:
    async def main() -> None:
        requests = Requests(admission(places=1))
        await requests.ask("first", 9, 1)
        for name, age in (("c", 3), ("a", 1), ("d", 3), ("b", 2), ("a2", 1)):
            await requests.ask(name, age, 1)
        for _ in range(5):
            await requests.end(requests.admitted[-1])
        assert requests.admitted == ["first", "a", "a2", "b", "c", "d"]

    run_virtual(main())


def test_nobody_passes_those_who_wait_although_it_would_fit() -> None:
    async def main() -> None:
        requests = Requests(admission(room=30))
        await requests.ask("a", 5, 20)
        await requests.ask("b", 5, 20)
        await requests.ask("young", 6, 5)
        assert requests.admitted == ["a"]
        await requests.end("a")
        assert requests.admitted == ["a", "b", "young"]

    run_virtual(main())


# --- who goes away ----------------------------------------------------------------------------------------------------


def test_a_waiter_that_is_cancelled_before_its_turn_holds_nothing() -> None:
    async def main() -> None:
        requests = Requests(admission(places=1))
        for name in "abc":
            await requests.ask(name, 0, 7)
        await requests.cancel("b")
        assert (requests.gate.requests, requests.gate.tokens) == (1, 7)
        await requests.end("a")
        assert requests.admitted == ["a", "c"]
        assert (requests.gate.requests, requests.gate.tokens) == (1, 7)
        await requests.end("c")
        assert (requests.gate.requests, requests.gate.tokens, requests.gate.is_open) == (0, 0, True)

    run_virtual(main())


def test_a_waiter_that_is_cancelled_just_after_its_turn_came_hands_it_on() -> None:
    async def main() -> None:
        requests = Requests(admission(places=1))
        for name in "abc":
            await requests.ask(name, 0, 7)
        # Both in one step of the loop: the turn has come and the waiter does not know it yet.
        requests.gate.leave(7)
        requests.tasks["b"].cancel()
        await settle()
        assert requests.tasks["b"].cancelled()
        assert requests.admitted == ["a", "c"]
        assert (requests.gate.requests, requests.gate.tokens) == (1, 7)
        await requests.end("c")
        assert (requests.gate.requests, requests.gate.tokens, requests.gate.is_open) == (0, 0, True)

    run_virtual(main())


def test_when_all_waiters_are_cancelled_the_next_one_goes_out_at_once() -> None:
    async def main() -> None:
        requests = Requests(admission(places=1))
        for name in "abc":
            await requests.ask(name, 0, 7)
        await requests.cancel("b")
        await requests.cancel("c")
        await requests.end("a")
        assert requests.gate.is_open
        await requests.ask("d", 0, 7)
        assert requests.admitted == ["a", "d"]

    run_virtual(main())


def test_those_behind_a_large_waiter_that_is_cancelled_go_out_at_once() -> None:
    async def main() -> None:
        requests = Requests(admission(room=30))
        await requests.ask("a", 0, 10)
        await requests.ask("large", 1, 30)
        await requests.ask("small", 2, 10)
        await requests.cancel("large")
        at_once, is_open = list(requests.admitted), requests.gate.is_open
        await requests.end("a")
        assert requests.admitted == ["a", "small"], "at the latest now"
        assert (at_once, is_open) == (["a", "small"], True)

    run_virtual(main())


# --- a backend that changes, and what is learned ----------------------------------------------------------------------


def test_places_that_grow_and_shrink_are_noticed_when_a_request_ends() -> None:
    async def main() -> None:
        places = 1
        gate = Admission(None, lambda: places)
        requests = Requests(gate)
        for name in "abcdefg":
            await requests.ask(name, 0, 1)
        assert requests.admitted == ["a"]
        places = 3
        await requests.end("a")
        assert requests.admitted == ["a", "b", "c", "d"]
        places = 2
        await requests.end("b")
        assert requests.admitted == ["a", "b", "c", "d"], "two are there, as many as it takes now"
        await requests.end("c")
        assert requests.admitted == ["a", "b", "c", "d", "e"]
        assert gate.requests == 2

    run_virtual(main())


def test_room_for_a_new_question_is_told_when_the_waiters_are_in() -> None:
    async def main() -> None:
        told: list[list[str]] = []
        requests = Requests(admission(places=2))
        requests.gate.on_room = lambda: told.append(list(requests.admitted))
        for name in "abc":
            await requests.ask(name, 0, 1)
        await requests.end("a")
        assert told == [], "the place is c's"
        await requests.end("b")
        assert told == [["a", "b", "c"]]
        assert requests.gate.is_open

    run_virtual(main())


def test_the_weight_of_a_request_is_learned_from_the_replies() -> None:
    gate = admission(room=1000)
    assert gate.weigh(0, 4, 10_000) == 4 * FIRST_GUESS + 1
    assert gate.weigh(0, 4, 10) == 41, "never more than its limit"
    gate.learn(400, 100, 4 * 50, 4)
    assert gate.weigh(0, 1, 10_000) == 51, "the first reply is the estimate"
    for _ in range(500):
        gate.learn(400, 100, 4 * 150, 4)
    assert gate.weigh(0, 1, 10_000) == pytest.approx(151, abs=1)
    assert gate.weigh(400, 0, 10_000) == pytest.approx(101, abs=2), "four characters a token"
    assert gate.weigh(0, 1, 20) == 21


def test_one_reply_moves_the_estimate_a_little() -> None:
    gate = admission(room=1000)
    gate.learn(0, 0, 100, 1)
    gate.learn(0, 0, 1000, 1)
    assert 101 < gate.weigh(0, 1, 10_000) < 150


def test_nothing_is_learned_from_a_reply_without_samples_or_prompt() -> None:
    gate = admission(room=1000)
    before = [gate.weigh(100, 3, 1000), gate.weigh(7, 1, 10)]
    gate.learn(0, 0, 0, 0)
    gate.learn(100, 0, 0, 0)
    assert [gate.weigh(100, 3, 1000), gate.weigh(7, 1, 10)] == before
    assert gate.weigh(0, 0, 1) >= 1, "nothing is free"
