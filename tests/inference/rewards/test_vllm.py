"""What is vLLM's own in reward models of this process: heads that transformers lacks, precision, death.

Runs where vLLM is installed: `python -m pytest -m vllm tests/inference/rewards/test_vllm.py`.
"""

import asyncio
import gc
import importlib.util
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError, MissingDependency, PolicyLost
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.registry import load

from ..policies.contract import processes, with_vllm
from .contract import Case, PlainModel, make_prm, make_two_layers, score, vllm_reward

STEPS = tuple(f"Tom has {a}*{a + 1}={a * (a + 1)} cards." for a in range(2, 26))
CASE: Case = ("How many cards does Tom have?", STEPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_two_layers(tmp_path_factory.mktemp("two layers"))


@pytest.fixture(scope="module")
def reward(folder: Path) -> Iterator[Any]:
    with closing(vllm_reward()(str(folder))) as made:
        yield made
    del made
    gc.collect()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_said_with_what_brings_it() -> None:
    with pytest.raises(MissingDependency, match=r"needs the package 'vllm'.*pip install 'openr-data\[vllm\]'"):
        load("reward", "vllm")


def test_transformers_refuses_a_head_that_it_would_draw_by_chance(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no weights for score.bias, score.weight .* Use the backend vllm"):
        TransformersReward(str(folder), device="cpu")


@with_vllm
def test_the_head_of_qwen_s_reward_models_is_read_as_it_is(reward: Any, folder: Path) -> None:
    expected = PlainModel(folder).scores(*CASE)
    assert max(expected) - min(expected) > 0.1
    assert score(reward, CASE)[0] == pytest.approx(expected, abs=1e-3)


@with_vllm
def test_weights_in_float32_are_not_halved(reward: Any) -> None:
    assert str(reward._own.engine.vllm_config.model_config.dtype) == "torch.float32"


@with_vllm
def test_what_the_engine_knows_and_we_do_not_is_asked_for_again(reward: Any) -> None:
    from openr_data.inference.rewards.memory import ScoreMemory

    (first,) = score(reward, CASE)
    reward._steps._memory = ScoreMemory()
    read = reward.tokens_read
    (again,) = score(reward, CASE)
    assert again == pytest.approx(first, abs=1e-5)
    # The scores of its beginning are gone with what the cache held of it: all of it is read once more.
    assert reward.tokens_read - read > len(reward._reader.encode(*CASE).ids)


@with_vllm
def test_a_folder_without_a_model_and_settings_that_vllm_does_not_take_are_told(tmp_path: Path) -> None:
    made = vllm_reward()
    with pytest.raises(InputError, match="Cannot load the reward model"):
        made(str(tmp_path))
    model = str(make_prm(tmp_path / "lm_pair", "lm_pair"))
    with pytest.raises(InputError, match="cannot start .* max_num_seqs: Input should be greater than"):
        made(model, max_sequences=0)


@with_vllm
def test_an_engine_that_ends_is_lost_at_once(folder: Path, reward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last test of this file. The record of its death holds the engine, and with it what warns when it is let go.
    monkeypatch.setattr(logging.getLogger("vllm.v1.engine.async_llm"), "disabled", True)
    cases = [(f"Question {number}?", STEPS) for number in range(40)]

    async def end_it() -> list[Any]:
        tasks = [asyncio.ensure_future(reward.score(*case)) for case in cases]
        await asyncio.sleep(0.01)
        for pid in processes():
            os.kill(pid, signal.SIGKILL)
        late = [asyncio.ensure_future(reward.score(*case)) for case in cases]
        return await asyncio.gather(*tasks, *late, return_exceptions=True)

    outcome = asyncio.run(asyncio.wait_for(end_it(), 60.0))
    assert {type(item) for item in outcome} <= {tuple, PolicyLost}
    assert PolicyLost in {type(item) for item in outcome}
    with pytest.raises(PolicyLost, match="has died"):
        score(reward, ("Another?", STEPS[:1]))
