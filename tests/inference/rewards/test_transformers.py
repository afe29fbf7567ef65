"""What is the transformers backend's own: heads of reward models that others have saved."""

import asyncio
import json
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from openr_data.errors import InputError, PolicyLost
from openr_data.inference.rewards import transformers as reward_transformers
from openr_data.inference.rewards.greedy import BATCH_TOKENS, batches_of
from openr_data.inference.rewards.transformers import TransformersReward
from openr_data.prm_format import CONFIG_KEY, prm_format

from .contract import Case, PlainModel, make_prm, score

CASE: Case = ("How many pens?", ("Tom has 2*7=14 pens.", "She has 3+4=7 pens.", "The answer is 21."))


def make_value_head(folder: Path) -> Path:
    """A reward model as Skywork's are saved: a causal model with the value head of TRL beside its own."""
    make_prm(folder, "scalar")
    weights = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        weights[f"v_head.summary.{name}"] = weights.pop(f"score.{name}")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for name in ("num_labels", "id2label", "label2id", CONFIG_KEY):
        config.pop(name, None)
    config["architectures"] = ["Qwen2ForPrmModel"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_value_head_is_read_by_the_format_of_its_model(tmp_path: Path) -> None:
    folder = make_value_head(tmp_path / "skywork")
    with closing(TransformersReward(str(folder), device="cpu", format="skywork")) as reward:
        (found,) = score(reward, CASE)
    form = replace(prm_format("skywork"), models=())
    make_prm(tmp_path / "plain", "scalar")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps({**config, CONFIG_KEY: form.as_dict()}))
    expected = PlainModel(tmp_path / "plain").scores(*CASE)
    assert max(expected) - min(expected) > 0.02
    assert found == pytest.approx(expected, abs=1e-5)


def test_prompts_that_are_continued_together_have_one_limit_and_fit() -> None:
    lengths, most = [10, 4_000, 12, 4_000, 4_000, 4_000, 250, 11], [256] * 6 + [6, 256]
    found = list(batches_of(lengths, most))
    assert sorted(at for batch in found for at in batch) == list(range(8))
    for batch in found:
        assert len({most[at] for at in batch}) == 1
        longest = max(lengths[at] for at in batch)
        assert len(batch) * (longest + most[batch[0]]) <= BATCH_TOKENS
    assert [6] in found
    # The short ones do not wait for the long ones.
    assert [0, 7, 2] in [batch[:3] for batch in found]
    assert list(batches_of([99_999], [256])) == [[0]]
    assert list(batches_of([], [])) == []


def writer(tmp_path: Path) -> TransformersReward:
    return TransformersReward(str(make_prm(tmp_path / "prm", "lm_pair")), device="cpu")


def test_what_its_authors_advise_for_sampling_does_not_change_what_it_writes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    advice = {"do_sample": True, "temperature": 0.7, "top_p": 0.5, "top_k": 3, "repetition_penalty": 3.0,
              "min_new_tokens": 30, "suppress_tokens": [5, 6, 7], "stop_strings": ["a"]}  # fmt: skip
    plain, folder = make_prm(tmp_path / "prm", "lm_pair"), tmp_path / "advised"
    shutil.copytree(plain, folder)
    (folder / "generation_config.json").write_text(json.dumps(advice))
    told = []
    for name in (plain, folder):
        with closing(TransformersReward(str(name), device="cpu")) as reward:
            told.append(asyncio.run(reward.explain(*CASE, max_tokens=20)))
    assert told[0] == told[1]
    assert "generation flags" not in capfd.readouterr().err


def test_nobody_writes_for_those_who_have_left_and_closing_waits_for_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    began = threading.Event()
    go_on = threading.Event()

    def slow(model: Any, prompts: Any, end: int, most: int) -> Any:
        batches.append(len(prompts))
        began.set()
        assert go_on.wait(30)
        return [([], True)] * len(prompts)

    monkeypatch.setattr(reward_transformers, "continue_greedily", slow)
    reward = writer(tmp_path)

    async def leave() -> None:
        first = asyncio.ensure_future(reward.write([1, 2], 0, 4, ""))
        assert await asyncio.to_thread(began.wait, 30)
        # One limit each: as many batches as there are requests.
        others = [asyncio.ensure_future(reward.write([1, 2], 0, 5 + at, "")) for at in range(6)]
        await asyncio.sleep(0)
        for task in others[:3]:
            task.cancel()
        scored = asyncio.ensure_future(reward.score(*CASE))
        await asyncio.sleep(0.1)
        go_on.set()
        # What is scored meanwhile does not wait for all that is to be written.
        assert len(await scored) == 3
        assert await first == ("", True)
        assert await asyncio.gather(*others[3:]) == [("", True)] * 3

    asyncio.run(leave())
    assert batches == [1, 1, 1, 1]
    reward.close()


def test_who_leaves_while_others_are_written_about_is_not_written_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    began, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def slow(model: Any, prompts: Any, end: int, most: int) -> Any:
        limits.append(most)
        began.release()
        assert go_on.acquire(timeout=30)
        return [([], True)] * len(prompts)

    monkeypatch.setattr(reward_transformers, "continue_greedily", slow)
    reward = writer(tmp_path)

    async def leave() -> None:
        first = asyncio.ensure_future(reward.write([1], 0, 4, ""))
        assert await asyncio.to_thread(began.acquire, timeout=30)
        others = [asyncio.ensure_future(reward.write([1], 0, 5 + at, "")) for at in range(4)]
        await asyncio.sleep(0)
        go_on.release()
        # All four are taken by now, and the first of them is being written about.
        assert await asyncio.to_thread(began.acquire, timeout=30)
        for task in others[1:3]:
            task.cancel()
        await asyncio.sleep(0)
        for _ in range(3):
            go_on.release()
        assert await asyncio.gather(first, others[0], others[3]) == [("", True)] * 3

    asyncio.run(leave())
    reward.close()
    assert limits == [4, 5, 8]


def test_a_closed_model_tells_those_who_wait_for_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(model: Any, prompts: Any, end: int, most: int) -> Any:
        assert go_on.wait(30)
        return [([], True)] * len(prompts)

    monkeypatch.setattr(reward_transformers, "continue_greedily", slow)
    reward = writer(tmp_path)

    async def close_in_between() -> list[Any]:
        tasks = [asyncio.ensure_future(reward.write([1, 2], 0, 4 + at, "")) for at in range(5)]
        await asyncio.sleep(0.1)
        closing_ = asyncio.ensure_future(asyncio.to_thread(reward.close))
        await asyncio.sleep(0.1)
        go_on.set()
        await closing_
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcome = asyncio.run(close_in_between())
    assert PolicyLost in {type(item) for item in outcome}
    assert {type(item) for item in outcome} <= {tuple, PolicyLost}
    with pytest.raises(PolicyLost, match="is closed"):
        asyncio.run(reward.write([1], 0, 1, ""))


def test_one_number_is_not_read_from_a_head_of_two(tmp_path: Path) -> None:
    folder = make_prm(tmp_path / "two", "classes")
    config = json.loads((folder / "config.json").read_text())
    del config[CONFIG_KEY]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"Cannot load the reward model"):
        TransformersReward(str(folder), device="cpu", format="skywork")
