"""Samples pass together, changes alone: the order in which they end, on one loop."""

import asyncio

import pytest

from openr_data.inference.serving.weights_gate import WeightsGate


class _Diary:
    """Samples and changes at one gate; `lines` is what began and ended, in order."""

    def __init__(self) -> None:
        self.gate = WeightsGate()
        self.lines: list[str] = []
        self.inside = {"sample": 0, "change": 0}

    async def sample(self, name: str, turns: int) -> None:
        async with self.gate.sample():
            await self._work("sample", name, turns)

    async def change(self, name: str, turns: int) -> None:
        async with self.gate.change():
            await self._work("change", name, turns)

    async def _work(self, kind: str, name: str, turns: int) -> None:
        self.lines.append(f"{name} begins")
        self.inside[kind] += 1
        for _ in range(turns):
            await asyncio.sleep(0)
            assert self.inside["change"] + bool(self.inside["sample"]) == 1
        self.inside[kind] -= 1
        self.lines.append(f"{name} ends")


async def _all(*work: object) -> None:
    await asyncio.wait_for(asyncio.gather(*work), 5.0)  # type: ignore[call-overload]


def test_a_change_waits_for_the_samples_under_way_and_later_samples_wait_for_it() -> None:
    diary = _Diary()
    asyncio.run(_all(diary.sample("a", 3), diary.sample("b", 6), diary.change("w", 3), diary.sample("c", 1)))
    assert diary.lines == [
        "a begins", "b begins", "a ends", "b ends", "w begins", "w ends", "c begins", "c ends",
    ]  # fmt: skip


def test_changes_at_once_run_one_after_the_other() -> None:
    diary = _Diary()
    asyncio.run(_all(diary.change("v", 3), diary.change("w", 3), diary.sample("a", 2), diary.change("x", 2)))
    assert diary.lines == [
        "v begins", "v ends", "w begins", "w ends", "x begins", "x ends", "a begins", "a ends",
    ]  # fmt: skip


@pytest.mark.parametrize("cancelled", ["sample", "waiting change", "change at work"])
def test_a_cancelled_task_holds_back_no_other(cancelled: str) -> None:
    diary = _Diary()

    async def give_up() -> None:
        if cancelled == "change at work":
            task = asyncio.ensure_future(diary.change("w", 10_000))
        else:
            task = asyncio.ensure_future(diary.sample("a", 10_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if cancelled == "waiting change":
            waiting = asyncio.ensure_future(diary.change("w", 1))
            await asyncio.sleep(0)
            waiting.cancel()
            await _all(diary.sample("b", 1))
        task.cancel()
        diary.inside = {"sample": 0, "change": 0}
        await _all(diary.change("x", 1), diary.sample("c", 1))

    asyncio.run(give_up())
    assert diary.lines[-4:] == ["x begins", "x ends", "c begins", "c ends"]
