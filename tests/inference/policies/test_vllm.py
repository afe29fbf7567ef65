"""What is vLLM's own in the engine of this process: its cache, its death, its settings; the rest is the contract's.

Runs where vLLM is installed: `python -m pytest -m vllm tests/inference/policies/test_vllm.py`.
"""

import asyncio
import gc
import importlib.util
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.errors import InputError, MissingDependency, PolicyError, PolicyLost
from openr_data.grading.graders import load_grader
from openr_data.jobs import Job, run_label
from openr_data.jobs.plan import plan
from openr_data.registry import load
from openr_data.store import Store
from openr_data.types import Prefix, Sampling

from .contract import MODEL, ask, processes, transformers_policy, vllm_engine, with_vllm

PREFIXES = [Prefix(item.question) for item in islice(ArithmeticSource().read(split="test"), 24)]
LONG = Sampling(temperature=2.0, max_tokens=900)


@pytest.fixture(scope="module")
def policy() -> Iterator[Any]:
    with closing(vllm_engine()(MODEL)) as made:
        yield made
    del made
    gc.collect()


def long_prefix(number: int) -> Prefix:
    """A prompt of about three blocks of the cache."""
    return Prefix(f"Case {number}. {PREFIXES[number % 24].question}", ("Tom has 2*7=14 cards.",) * 24)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_said_with_what_brings_it() -> None:
    with pytest.raises(MissingDependency, match=r"needs the package 'vllm'.*pip install 'openr-data\[vllm\]'"):
        load("policy", "vllm")


@with_vllm
def test_the_name_is_that_of_the_transformers_backend(policy: Any) -> None:
    with closing(transformers_policy()) as other:
        assert policy.name == other.name


@with_vllm
def test_it_says_what_it_holds(policy: Any) -> None:
    import torch

    assert policy.room >= 2 * 1024
    assert policy.gpus == (1 if torch.cuda.is_available() else 0)
    assert policy.retries == 0
    assert policy.places >= 64


@with_vllm
def test_a_prompt_that_was_read_before_is_not_read_again(policy: Any) -> None:
    ((first,),) = ask(policy, (long_prefix(0), 1, Sampling(max_tokens=4)))
    ((second,),) = ask(policy, (long_prefix(0), 1, Sampling(max_tokens=4)))
    assert first.cached_tokens == 0
    assert second.prompt_tokens - 128 <= second.cached_tokens < second.prompt_tokens


@with_vllm
def test_prompts_that_do_not_fit_one_pass_wait_for_the_next(policy: Any) -> None:
    # On the CPU a prompt read in chunks ends the engine, once samples are seeded.
    requests = [(long_prefix(number), 2, Sampling(max_tokens=4, seed=number)) for number in range(1, 40)]
    replies = ask(policy, *requests)
    assert sum(reply[0].prompt_tokens for reply in replies) > 2 * 4_096
    assert all(len(reply) == 2 for reply in replies)


@with_vllm
def test_a_cancelled_request_frees_its_blocks_of_the_cache(policy: Any) -> None:
    def is_free() -> bool:
        # The engine forgets its cached prefixes only while no request holds a block.
        return bool(policy._own.wait(policy._own.engine.reset_prefix_cache()))

    async def give_up() -> None:
        tasks = [asyncio.ensure_future(policy.sample(long_prefix(index), 1_024, LONG)) for index in range(4)]
        await asyncio.sleep(0.5)
        assert not await asyncio.to_thread(is_free)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end = time.monotonic() + 5.0
        while not await asyncio.to_thread(is_free):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    assert is_free()
    asyncio.run(give_up())
    assert policy._own.engine.output_processor.get_num_unfinished_requests() == 0


@with_vllm
def test_what_vllm_refuses_fails_alone(policy: Any) -> None:
    with pytest.raises(PolicyError, match="refuses a request: temperature must be in"):
        ask(policy, (PREFIXES[0], 2, Sampling(temperature=3.0)))
    assert ask(policy, (PREFIXES[0], 1, Sampling(max_tokens=4)))


@with_vllm
def test_settings_that_vllm_does_not_take_are_told() -> None:
    engine = vllm_engine()
    with pytest.raises(InputError, match="cannot start .* max_num_seqs: Input should be greater than"):
        engine(MODEL, max_sequences=0)
    with pytest.raises(InputError, match="gpu_memory_utilization: Input should be less than .*--gpu-memory 0.8"):
        engine(MODEL, gpu_memory=2.0)


@with_vllm
def test_a_folder_without_a_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the model"):
        vllm_engine()(str(tmp_path))


@with_vllm
def test_an_interrupt_from_the_keyboard_is_not_the_engine_s(policy: Any) -> None:
    for pid in processes():
        os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert ask(policy, (PREFIXES[0], 1, Sampling(max_tokens=4)))


@with_vllm
def test_an_omegaprm_job_labels_its_questions(policy: Any, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    layer = {"source": "arithmetic", "policy": MODEL, "method": "omegaprm", "backend": "vllm", "limit": 16}
    resolved = plan(store, [layer, {"into": "d"}], {"searches": 6})
    config = resolved.config
    job = Job.create(store, config, {"policy_revision": policy.name})
    status = run_label(
        job, config, resolved.questions, store.dataset("d", create=True), resolved.labeler(), policy,
        load_grader(config.grader), live=16,
    )  # fmt: skip
    assert (status.done, status.failed) == (16, 0)
    assert store.view("d").sql("select count(distinct question_id) as n from labels").to_pylist()[0]["n"] > 10


@with_vllm
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to end"])
def test_an_engine_that_ends_is_lost_at_once(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    # The record of its death holds the engine, and with it what warns when it is let go after the last test.
    monkeypatch.setattr(logging.getLogger("vllm.v1.engine.async_llm"), "disabled", True)
    before = processes()
    policy = vllm_engine()(MODEL)

    async def end_it() -> list[Any]:
        tasks = [asyncio.ensure_future(policy.sample(prefix, 128, LONG)) for prefix in PREFIXES]
        await asyncio.sleep(0.5)
        for pid in processes() - before:
            os.kill(pid, number)
        # An engine on its way out takes requests that it does not answer.
        late = [asyncio.ensure_future(policy.sample(prefix, 1, LONG)) for prefix in PREFIXES]
        return await asyncio.gather(*tasks, *late, return_exceptions=True)

    outcome = asyncio.run(asyncio.wait_for(end_it(), 60.0))
    assert {type(item) for item in outcome if not isinstance(item, tuple)} == {PolicyLost}
    assert all(sample.ended != "abort" for reply in outcome if isinstance(reply, tuple) for sample in reply)
    with pytest.raises(PolicyLost, match="has died"):
        ask(policy, (PREFIXES[0], 1, Sampling()))
    policy.close()
    assert not processes() - before
