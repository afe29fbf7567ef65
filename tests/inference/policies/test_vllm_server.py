"""The openai backend against a real vLLM server of the shipped arithmetic policy (`make test-vllm`)."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.errors import PolicyError
from openr_data.grading.graders import load_grader
from openr_data.inference.policies.server import OpenAIServer
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.jobs import Job, run_label
from openr_data.jobs.config import LabelConfig
from openr_data.jobs.plan import plan
from openr_data.store import Store
from openr_data.types import Completion, Prefix, Sampling

from ..serving.faulty_proxy import Faults, proxying
from ..serving.vllm_process import VllmProcess

PYTHON = os.environ.get("OPENR_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON, reason="no vLLM: OPENR_VLLM_PYTHON names the Python that has it"),
]

PREFIXES = [Prefix(item.question) for item in islice(ArithmeticSource().read(split="test"), 24)]
GREEDY = Sampling(temperature=0, max_tokens=192)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    made = VllmProcess(PYTHON, tmp_path_factory.mktemp("vllm") / "server.log")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def policy(server: VllmProcess) -> Iterator[OpenAIServer]:
    with closing(OpenAIServer("arithmetic", base_url=[server.url])) as made:
        yield made


def ask(policy: Any, prefixes: Sequence[Prefix], n: int, sampling: Sampling) -> list[Sequence[Completion]]:
    async def all_at_once() -> Any:
        return await asyncio.gather(*(policy.sample(prefix, n, sampling) for prefix in prefixes))

    return list(asyncio.run(all_at_once()))


def test_greedy_output_is_that_of_the_transformers_backend(policy: OpenAIServer) -> None:
    prefixes = PREFIXES + [
        Prefix(prefix.question, policy.steps_of(reply[0].text)[:1])
        for prefix, reply in zip(PREFIXES, ask(policy, PREFIXES, 1, GREEDY), strict=True)
    ]
    with closing(TransformersPolicy("arithmetic", device="cpu")) as other:
        expected, found = ask(other, prefixes, 1, GREEDY), ask(policy, prefixes, 1, GREEDY)
    for (ours,), (theirs,) in zip(found, expected, strict=True):
        facts = ("text", "n_tokens", "ended", "prompt_tokens")
        assert [getattr(ours, name) for name in facts] == [getattr(theirs, name) for name in facts]
        assert ours.logprob == pytest.approx(theirs.logprob, abs=0.02)


def test_samples_are_counted_as_the_tokenizer_counts(policy: OpenAIServer) -> None:
    with closing(TransformersPolicy("arithmetic", device="cpu")) as other:
        tokenizer = other.tokenizer
    for reply in ask(policy, PREFIXES[:8], 4, Sampling(max_tokens=192, seed=3)):
        for item in reply:
            assert item.n_tokens == len(tokenizer.encode(item.text)) + (item.ended == "end")


def test_seeds_reproduce_and_samples_differ(policy: OpenAIServer) -> None:
    first, again, other = (ask(policy, PREFIXES[:8], 8, Sampling(max_tokens=192, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert sum(len({item.text for item in reply}) for reply in first) > 16


def test_limits_and_stop_strings_end_a_completion(policy: OpenAIServer) -> None:
    ((cut,),) = ask(policy, PREFIXES[:1], 1, Sampling(temperature=0, max_tokens=4))
    assert (cut.ended, cut.n_tokens) == ("length", 4)
    ((stopped,),) = ask(policy, PREFIXES[:1], 1, Sampling(temperature=0, max_tokens=192, stop=("=",)))
    assert stopped.ended == "stop"
    assert "=" not in stopped.text


def test_a_prompt_longer_than_the_model_is_refused_in_a_sentence(policy: OpenAIServer) -> None:
    with pytest.raises(PolicyError, match="refuses a request"):
        ask(policy, [Prefix("How many apples? " * 3_000)], 1, GREEDY)
    assert ask(policy, PREFIXES[:1], 1, GREEDY)


def test_a_cancelled_request_frees_the_engine(policy: OpenAIServer, server: VllmProcess) -> None:
    async def give_up() -> None:
        task = asyncio.ensure_future(policy.sample(PREFIXES[0], 512, Sampling(temperature=2.0, max_tokens=192)))
        while not server.running():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(give_up(), 60.0))
    end = time.monotonic() + 20.0
    while server.running() and time.monotonic() < end:
        time.sleep(0.05)
    assert server.running() == 0


def test_a_job_behind_a_faulty_door_ends_with_the_rows_of_one_without(tmp_path: Path, server: VllmProcess) -> None:
    layer = {"source": "arithmetic", "policy": "arithmetic", "method": "omegaprm", "backend": "openai", "limit": 8}
    resolved = plan(None, [layer, {"into": "d"}], {"searches": 4})
    found: list[dict[str, list[str]]] = []
    faults = Faults(late=0.05, too_many=0.05, broken=0.05, cut=0.05, half=0.05, slow=0.05)
    with proxying(server.url.removesuffix("/v1"), faults) as proxy:
        for url in (server.url, proxy.url):
            store = Store.open(tmp_path / str(len(found)), create=True)
            with closing(OpenAIServer("arithmetic", base_url=[url])) as policy:
                job = Job.create(store, resolved.config, {"policy_revision": policy.name})
                status = run_label(
                    job, resolved.config, resolved.questions, store.dataset("d", create=True), resolved.labeler(),
                    policy, load_grader("math"),
                )  # fmt: skip
            assert (status.done, status.failed) == (8, 0)
            tables = ("questions", "solutions", "nodes", "rollouts", "labels")
            found.append({name: sorted(map(repr, store.view("d").arrow(name).to_pylist())) for name in tables})
        assert proxy.met.total() > 0
        assert status.retries > 0
        assert proxy.repeats() == 0
    assert found[0] == found[1]


def test_a_server_that_is_killed_in_the_middle_of_a_job_costs_only_time(tmp_path: Path, server: VllmProcess) -> None:
    store = Store.open(tmp_path / "store", create=True)
    layer = {"source": "arithmetic", "policy": "arithmetic", "method": "omegaprm", "backend": "openai", "limit": 16}
    resolved = plan(store, [layer, {"into": "d"}], {"searches": 6})
    config: LabelConfig = resolved.config
    reborn: list[threading.Thread] = []

    def kill_once(status: Any) -> None:
        if status.done >= 2 and not reborn:
            server.kill()
            reborn.append(threading.Thread(target=server.start))
            reborn[0].start()

    with closing(OpenAIServer("arithmetic", base_url=[server.url])) as policy:
        job = Job.create(store, config, {"policy_revision": policy.name})
        status = run_label(
            job, config, resolved.questions, store.dataset("d", create=True), resolved.labeler(), policy,
            load_grader(config.grader), live=2, report=kill_once,
        )  # fmt: skip
        assert policy.retries > 0
    reborn[0].join()
    assert (status.done, status.failed) == (16, 0)
    assert store.view("d").sql("select count(distinct question_id) as n from labels").to_pylist()[0]["n"] > 10
