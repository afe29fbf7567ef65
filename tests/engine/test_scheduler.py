"""Many coroutines, bounded, isolated, stoppable; on a virtual clock."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from openr_data.engine.admission import Admission
from openr_data.engine.scheduler import Done, Failure, as_they_come, run
from openr_data.errors import BudgetReached, PolicyLost, StoreError
from tests.virtual_clock import run_virtual


def test_questions_overlap_up_to_the_bound() -> None:
    live = peak = 0

    async def work(question: int) -> int:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        await asyncio.sleep(1)
        live -= 1
        return question * 2

    async def main() -> list[int]:
        return [item.result async for item in run(range(10), work, live=4) if isinstance(item, Done)]

    results, seconds = run_virtual(main())
    assert sorted(results) == [question * 2 for question in range(10)]
    assert peak == 4
    assert seconds == pytest.approx(3.0)


def test_a_slow_question_does_not_hold_up_the_others() -> None:
    async def work(question: int) -> int:
        await asyncio.sleep(100 if question == 0 else 1)
        return question

    async def main() -> list[int]:
        return [item.question async for item in run(range(20), work, live=2)]

    order, seconds = run_virtual(main())
    assert order[-1] == 0
    assert seconds == pytest.approx(100)


def test_outcomes_come_in_the_order_they_finish() -> None:
    async def work(question: int) -> int:
        await asyncio.sleep(20 - question if question % 2 else 0)
        return question

    async def main() -> list[int]:
        return [item.question async for item in run(range(10), work)]

    assert run_virtual(main())[0] == [0, 2, 4, 6, 8, 9, 7, 5, 3, 1]


def test_one_failing_question_is_a_failure_not_a_lost_run() -> None:
    async def work(question: int) -> int:
        if question == 3:
            raise ValueError("three")
        return question

    async def main() -> list[object]:
        return [item async for item in run(range(6), work)]

    items, _ = run_virtual(main())
    failed = [item for item in items if isinstance(item, Failure)]
    assert [(item.question, str(item.error)) for item in failed] == [(3, "three")]
    assert len(items) == 6


@pytest.mark.parametrize("error", [StoreError("full"), PolicyLost("gone")])
def test_an_error_that_would_meet_every_question_ends_the_run(error: Exception) -> None:
    started: list[int] = []
    cancelled: list[int] = []

    async def work(question: int) -> None:
        started.append(question)
        try:
            await asyncio.sleep(question + 1)
        except asyncio.CancelledError:
            cancelled.append(question)
            raise
        raise error

    async def main() -> None:
        async for _ in run(range(100), work, live=3):
            pass

    with pytest.raises(type(error)):
        run_virtual(main())
    assert len(started) == 3
    assert cancelled == [1, 2]


def test_stopping_lets_live_questions_finish_and_starts_no_other() -> None:
    async def main() -> list[int]:
        stopping = asyncio.Event()
        finished = []

        async def work(question: int) -> int:
            await asyncio.sleep(1)
            if question == 2:
                stopping.set()
            await asyncio.sleep(1)
            return question

        async for item in run(range(50), work, live=5, stopping=stopping):
            finished.append(item.question)
        return finished

    finished, _ = run_virtual(main())
    assert sorted(finished) == [0, 1, 2, 3, 4]


def test_leaving_early_cancels_what_is_under_way() -> None:
    cancelled: list[int] = []

    async def main() -> None:
        async def work(question: int) -> int:
            try:
                await asyncio.sleep(question)
            except asyncio.CancelledError:
                cancelled.append(question)
                raise
            return question

        gate = Admission(None, lambda: None)
        stream = run(range(4), work, live=4, admission=gate)
        async for _ in stream:
            break
        await stream.aclose()
        assert gate.on_room is None

    run_virtual(main())
    assert cancelled == [1, 2, 3]


def test_questions_are_drawn_only_when_there_is_room() -> None:
    drawn: list[int] = []

    def questions() -> Iterator[int]:
        for number in range(1000):
            drawn.append(number)
            yield number

    async def main() -> None:
        async def work(question: int) -> None:
            await asyncio.sleep(1)

        stream = run(questions(), work, live=3)
        async for _ in stream:
            break
        await stream.aclose()

    run_virtual(main())
    assert drawn == [0, 1, 2]


# --- the end of a budget ----------------------------------------------------------------------------------------------


def test_a_budget_that_is_reached_is_no_failure_and_nothing_starts_after_it() -> None:
    started: list[int] = []

    async def work(question: int) -> int:
        started.append(question)
        await asyncio.sleep(question + 1)
        if question == 2:
            raise BudgetReached("enough")
        return question

    async def main() -> list[object]:
        return [item async for item in run(range(100), work, live=4)]

    items, seconds = run_virtual(main())
    # 4 and 5 took the places of 0 and 1; those under way when the budget ended go on to their own end.
    assert started == [0, 1, 2, 3, 4, 5]
    assert items == [Done(number, number) for number in (0, 1, 3, 4, 5)]
    assert seconds == pytest.approx(8)


def test_a_budget_that_is_reached_at_once_ends_without_an_outcome() -> None:
    started: list[int] = []

    async def work(question: int) -> None:
        started.append(question)
        raise BudgetReached("nothing may be asked")

    async def main() -> list[object]:
        return [item async for item in run(range(100), work, live=4)]

    assert run_virtual(main())[0] == []
    assert len(started) <= 4


# --- with admission ---------------------------------------------------------------------------------------------------


def test_no_question_starts_while_older_ones_wait_for_room() -> None:
    gate = Admission(None, lambda: 3)
    live = peak = waited = 0

    async def ask(age: int) -> None:
        nonlocal waited
        await gate.enter(age, 1)
        try:
            waited += bool(gate._waiting)
            await asyncio.sleep(1)
        finally:
            gate.leave(1)

    def questions() -> Iterator[int]:
        for number in range(12):
            assert not gate._waiting, f"{number} would start while older ones wait"
            yield number

    async def work(question: int) -> int:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        for _ in range(3):
            await asyncio.gather(ask(question), ask(question))
        live -= 1
        return question

    async def main() -> list[int]:
        return [item.question async for item in run(questions(), work, live=100, admission=gate)]

    finished, seconds = run_virtual(main())
    assert sorted(finished) == list(range(12))
    assert waited, "there was something to wait for"
    assert peak <= 6
    # Three at a time: no place is empty before the last question has its turn.
    assert seconds <= 12 * 6 / 3 + 3


def test_what_is_under_way_is_bounded_by_what_the_backend_holds() -> None:
    gate = Admission(None, lambda: 4)
    live = peak = 0

    async def work(question: int) -> None:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        for _ in range(5):
            await gate.enter(question, 1)
            await asyncio.sleep(1)
            gate.leave(1)
        live -= 1

    async def main() -> int:
        return len([item async for item in run(range(20), work, live=256, admission=gate)])

    count, seconds = run_virtual(main())
    assert count == 20
    assert peak <= 4 + 1
    assert seconds == pytest.approx(20 * 5 / 4)


def test_old_questions_end_before_new_ones_begin() -> None:
    gate = Admission(None, lambda: 2)

    async def work(question: int) -> int:
        for _ in range(4):
            await gate.enter(question, 1)
            await asyncio.sleep(1)
            gate.leave(1)
        return question

    async def main() -> list[int]:
        return [item.question async for item in run(range(12), work, live=256, admission=gate)]

    order, _ = run_virtual(main())
    assert all(abs(place - question) <= 1 for place, question in enumerate(order)), order


def test_a_question_that_asks_nothing_holds_up_no_other() -> None:
    gate = Admission(None, lambda: 1)

    async def work(question: int) -> int:
        if question % 2:
            await gate.enter(question, 1)
            await asyncio.sleep(1)
            gate.leave(1)
        return question

    async def main() -> int:
        return len([item async for item in run(range(10), work, admission=gate)])

    count, seconds = run_virtual(main())
    assert count == 10
    assert seconds == pytest.approx(5)


def test_the_bound_of_live_questions_holds_with_room_for_more() -> None:
    gate = Admission(None, lambda: None)
    live = peak = 0

    async def work(question: int) -> None:
        nonlocal live, peak
        live += 1
        peak = max(peak, live)
        await gate.enter(question, 1)
        await asyncio.sleep(1)
        gate.leave(1)
        live -= 1

    async def main() -> int:
        return len([item async for item in run(range(20), work, live=5, admission=gate)])

    count, seconds = run_virtual(main())
    assert (count, peak) == (20, 5)
    assert seconds == pytest.approx(4)


def test_failures_and_ends_of_a_budget_leave_the_admission_clean() -> None:
    gate = Admission(100, lambda: 2)

    async def work(question: int) -> None:
        await gate.enter(question, 60)
        try:
            await asyncio.sleep(1)
            raise BudgetReached("end") if question == 7 else ValueError("no")
        finally:
            gate.leave(60)

    async def main() -> list[object]:
        return [item async for item in run(range(30), work, live=9, admission=gate)]

    items, _ = run_virtual(main())
    # 8 was under way, and 9 may have begun in the moment before the end was known.
    assert len(items) in (8, 9)
    assert (gate.requests, gate.tokens, gate.is_open, gate.on_room) == (0, 0, True, None)


# --- as they come -----------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_they_finish() -> None:
    async def one(seconds: int) -> int:
        await asyncio.sleep(seconds)
        return seconds

    async def main() -> list[int]:
        return [item async for item in as_they_come(one(seconds) for seconds in (5, 1, 3, 2, 4))]

    results, seconds = run_virtual(main())
    assert results == [1, 2, 3, 4, 5]
    assert seconds == pytest.approx(5)


def test_leaving_early_cancels_the_siblings_and_waits_for_them() -> None:
    ended: list[tuple[int, str]] = []

    async def one(seconds: int) -> int:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            ended.append((seconds, "cancelled"))
            raise
        ended.append((seconds, "done"))
        return seconds

    async def main() -> int:
        async with aclosing(as_they_come(one(seconds) for seconds in (100, 2, 50))) as results:
            async for result in results:
                return result
        return -1

    result, seconds = run_virtual(main())
    assert result == 2
    assert sorted(ended) == [(2, "done"), (50, "cancelled"), (100, "cancelled")]
    assert seconds == pytest.approx(3)


def test_an_error_of_one_cancels_the_siblings() -> None:
    cancelled: list[int] = []

    async def one(seconds: int) -> int:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(seconds)
            raise
        if seconds == 2:
            raise ValueError("two")
        return seconds

    async def main() -> None:
        async for _ in as_they_come(one(seconds) for seconds in (1, 2, 3, 4)):
            pass

    with pytest.raises(ValueError, match="two"):
        run_virtual(main())
    assert sorted(cancelled) == [3, 4]


def test_nothing_comes_of_nothing() -> None:
    async def main() -> list[int]:
        return [item async for item in as_they_come([])]

    assert run_virtual(main())[0] == []
