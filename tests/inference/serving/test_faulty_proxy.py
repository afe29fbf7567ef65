"""The openai backend behind a door that does everything wrong: every job ends with the rows of one without faults."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openr_data.grading.graders import load_grader
from openr_data.inference.policies.server import OpenAIServer
from openr_data.jobs import Job, Status, run_label
from openr_data.jobs.plan import plan
from openr_data.store import Store
from openr_data.types import Prefix, Sampling

from .completions_server import CompletionsServer, serving
from .faulty_proxy import Faults, FaultyProxy, proxying

# About who comes first and who waits: one after another, never beside each other.
pytestmark = pytest.mark.xdist_group("servers")

EVERYTHING = Faults(late=0.1, latency=0.05, too_many=0.1, broken=0.1, cut=0.1, half=0.1, slow=0.1, drop=0.005)
FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")


@pytest.fixture
def behind() -> Iterator[CompletionsServer]:
    with serving(model="arithmetic") as server:
        yield server


def upstream(server: CompletionsServer) -> str:
    return server.url.removesuffix("/v1")


def label(store: Store, url: str, limit: int = 60, **more: Any) -> Status:
    """A small job on a server; what the stand-in answers is graded like anything else."""
    layer = {"source": "arithmetic", "policy": "arithmetic", "method": "math-shepherd", "backend": "openai"}
    resolved = plan(store, [layer, {"into": "d", "limit": limit}], {"k": 2, "solutions": 3})
    config = resolved.config
    with closing(OpenAIServer("arithmetic", base_url=[url])) as policy:
        job = Job.create(store, config, {"policy_revision": policy.name})
        return run_label(
            job, config, resolved.questions, store.dataset("d", create=True), resolved.labeler(), policy,
            load_grader(config.grader), **more,
        )  # fmt: skip


def contents(store: Store) -> dict[str, list[str]]:
    view = store.view("d")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


@pytest.mark.parametrize("name", ["late", "too_many", "broken", "cut", "half", "slow"])
def test_each_fault_alone_costs_only_time(behind: CompletionsServer, name: str) -> None:
    prefixes = [Prefix(f"Question {number}?") for number in range(24)]

    def replies(url: str) -> Any:
        async def ask(policy: OpenAIServer) -> Any:
            return await asyncio.gather(*(policy.sample(prefix, 4, Sampling(seed=3)) for prefix in prefixes))

        with closing(OpenAIServer("arithmetic", base_url=[url])) as policy:
            return asyncio.run(ask(policy))

    faults = replace(Faults(latency=0.05, drop=0.005), **{name: 0.3})
    with proxying(upstream(behind), faults) as proxy:
        assert replies(proxy.url) == replies(behind.url)
        assert proxy.met[name] > 0


def test_a_job_behind_every_fault_ends_with_the_rows_of_one_without(tmp_path: Path, behind: CompletionsServer) -> None:
    calm, stormy = Store.open(tmp_path / "calm", create=True), Store.open(tmp_path / "stormy", create=True)
    label(calm, behind.url)
    with proxying(upstream(behind), EVERYTHING) as proxy:
        status = label(stormy, proxy.url)
        assert sum(proxy.met.values()) > 0
        # What came back whole was kept: nothing that was delivered is asked for again.
        assert proxy.repeats() == 0
    assert (status.done, status.failed) == (60, 0)
    assert status.retries > 0
    assert contents(stormy) == contents(calm)


def test_a_door_that_dies_and_comes_back_costs_only_time(tmp_path: Path, behind: CompletionsServer) -> None:
    calm, stormy = Store.open(tmp_path / "calm", create=True), Store.open(tmp_path / "stormy", create=True)
    behind.seconds = 0.02
    label(calm, behind.url)
    answered = len(behind.requests)

    def die_and_come_back(proxy: FaultyProxy) -> None:
        # Once some requests have come through, however long the job takes to begin.
        while len(behind.requests) < answered + 4:
            time.sleep(0.005)
        proxy.down()
        time.sleep(0.5)
        proxy.up()

    with proxying(upstream(behind)) as proxy:
        first = threading.Thread(target=die_and_come_back, args=[proxy])
        first.start()
        status = label(stormy, proxy.url, live=2)
        first.join()
        assert status.retries > 0
        assert proxy.repeats() == 0
    assert (status.done, status.failed) == (60, 0)
    assert contents(stormy) == contents(calm)
