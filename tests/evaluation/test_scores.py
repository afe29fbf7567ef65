"""Scores of a reward model are kept, found again and never asked for twice."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from openr_data.errors import InputError, PolicyError, PolicyLost, StoreError
from openr_data.evaluation import scores as score_store
from openr_data.evaluation.scores import ScoreStore, case_id, score_all

CASES = [(f"Q{i}?", ("a", "b" * (1 + i % 3))) for i in range(25)]


class Counting:
    def __init__(self, fails: str = "", dies_after: int = 10_000) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._fails, self._dies_after = fails, dies_after

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        await asyncio.sleep(0)
        if len(self.asked) >= self._dies_after:
            raise PolicyLost("the model is gone")
        if question == self._fails:
            raise InputError("too long")
        self.asked.append((question, tuple(steps)))
        return [1 / (1 + len(step)) for step in steps]


def test_everything_is_scored_once_and_found_again(tmp_path: Path) -> None:
    reward = Counting()
    store = ScoreStore(tmp_path)
    assert asyncio.run(score_all(reward, [*CASES, *CASES], store)) == {}
    assert sorted(reward.asked) == sorted(CASES)
    again, silent = ScoreStore(tmp_path), Counting()
    assert again.known == {case_id(*case): (0.5, 1 / (1 + len(case[1][1]))) for case in CASES}
    asyncio.run(score_all(silent, CASES, again))
    assert silent.asked == []


def test_what_cannot_be_scored_is_told_with_its_reason_and_tried_again(tmp_path: Path) -> None:
    failures = asyncio.run(score_all(Counting(fails="Q3?"), CASES, ScoreStore(tmp_path)))
    assert failures == {case_id(*CASES[3]): "too long"}
    later = Counting()
    asyncio.run(score_all(later, CASES, ScoreStore(tmp_path)))
    assert later.asked == [CASES[3]]


def test_a_model_that_dies_loses_nothing_that_it_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_store, "PART", 4)
    monkeypatch.setattr(score_store, "AT_ONCE", 3)
    dying = Counting(dies_after=10)
    with pytest.raises(PolicyLost, match="the model is gone"):
        asyncio.run(score_all(dying, CASES, ScoreStore(tmp_path)))
    assert len(list((tmp_path / "scores").glob("part-*.parquet"))) == 3
    later = Counting()
    asyncio.run(score_all(later, CASES, ScoreStore(tmp_path)))
    assert sorted([*dying.asked, *later.asked]) == sorted(CASES)


def test_another_number_of_scores_than_steps_is_an_error(tmp_path: Path) -> None:
    class Short:
        async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
            return [0.5]

    with pytest.raises(PolicyError, match=r"gives \[0.5\] for 2 steps"):
        asyncio.run(score_all(Short(), CASES, ScoreStore(tmp_path)))


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    asyncio.run(score_all(Counting(), CASES, ScoreStore(tmp_path)))
    (part,) = (tmp_path / "scores").glob("*.parquet")
    part.write_bytes(b"PAR1 torn")
    with pytest.raises(StoreError, match=r"part-00001\.parquet are damaged"):
        ScoreStore(tmp_path)


def test_progress_counts_what_was_known_too(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    asyncio.run(score_all(Counting(), CASES[:5], ScoreStore(tmp_path)))
    asyncio.run(score_all(Counting(), CASES, ScoreStore(tmp_path), lambda done, total: seen.append((done, total))))
    assert seen[0] == (6, 25)
    assert seen[-1] == (25, 25)
