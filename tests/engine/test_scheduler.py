"""Many coroutines, bounded, isolated, stoppable; on a virtual clock."""

import asyncio

import pytest

from openr_data.engine.scheduler import Done, Failure, run
from openr_data.errors import PolicyLost, StoreError
from openr_data.inference.virtual_clock import run_virtual


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

    async def work(question: int) -> None:
        started.append(question)
        await asyncio.sleep(question + 1)
        raise error

    async def main() -> None:
        async for _ in run(range(100), work, live=3):
            pass

    with pytest.raises(type(error)):
        run_virtual(main())
    assert len(started) == 3


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

        stream = run(range(4), work, live=4)
        async for _ in stream:
            break
        await stream.aclose()

    run_virtual(main())
    assert cancelled == [1, 2, 3]
