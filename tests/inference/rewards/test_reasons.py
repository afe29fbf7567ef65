"""What is said of a solution by whatever backend writes: verdicts at the model's threshold, reasons in the room there is."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from openr_data.errors import InputError, PolicyError
from openr_data.inference.rewards.reader import RewardReader
from openr_data.inference.rewards.reasons import explained
from openr_data.prm_format import PrmEncoder, prm_format

from ..serving.vllm_process import POLICY

FORM = replace(prm_format("openr-data"), threshold=0.3)
READER = RewardReader("m", FORM, PrmEncoder(FORM, AutoTokenizer.from_pretrained(POLICY)), None, writes=True)
STEPS = ("Tom has 2*7=14 pens.", "She has 3+4=7 pens.", "The answer is 21.")


class Backend:
    """Scores as it is told, writes what `says` has, and remembers behind which verdict and up to how many tokens."""

    threshold = FORM.threshold

    def __init__(self, *scores: float, says: tuple[str, bool] = (" Because. ", True)) -> None:
        self.scores, self.says = scores, says
        self.asked: list[tuple[int, int]] = []

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        return self.scores

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        self.asked.append((ids[-1], most))
        if not self.says[0]:
            raise PolicyError("refused")
        return self.says


def said(backend: Backend, reader: RewardReader = READER, most: int = 9) -> list[tuple[bool, str]]:
    outcome = asyncio.run(explained(backend, reader, "How many?", STEPS, most))
    assert [item.score for item in outcome] == list(backend.scores)
    return [(item.is_good, item.reason) for item in outcome]


def test_a_reason_stands_behind_the_verdict_at_the_threshold_of_the_model() -> None:
    backend = Backend(0.4, 0.3, 0.29)
    assert said(backend) == [(True, "Because."), (True, "Because."), (False, "Because.")]
    good, bad = READER.encoder.good, READER.encoder.bad
    assert backend.asked == [(good, 9), (good, 9), (bad, 9)]


def test_a_reason_that_is_cut_says_so_and_one_without_room_is_empty() -> None:
    assert said(Backend(1, 1, 1, says=("Because it", False))) == [(True, "Because it …")] * 3
    longest = len(READER.encoder.encode("How many?", STEPS).ids)
    backend = Backend(1, 1, 1)
    assert said(backend, replace(READER, room=longest))[2] == (True, "")
    assert len(backend.asked) == 2


def test_what_a_backend_cannot_do_is_said_as_it_says_it() -> None:
    with pytest.raises(PolicyError, match="refused"):
        said(Backend(1, 1, 1, says=("", True)))
    with pytest.raises(InputError, match="was not trained to write reasons"):
        said(Backend(1, 1, 1), replace(READER, writes=False))
