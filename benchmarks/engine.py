"""Measures the engine against its limits: the policy's own speed, one question at a time, and a policy that is free.

    python benchmarks/engine.py [--parts overhead,tables,server,kills] [--vllm-python .venv-vllm/bin/python]
    .venv-vllm/bin/python benchmarks/engine.py --parts inprocess

overhead    a scripted policy that answers at once: requests per second through scheduler, journal and ledger; memory
tables      the same rows at 1, 16 and 256 questions under way
inprocess   an OmegaPRM job on vLLM in this process, over all its own requests as one flat batch; and over the same job
            one question at a time
server      the same through a vLLM server
timed       the same on an engine with the step times of a GPU (`timed_engine.py`), over replies of the shipped policy
kills       20 kill -9 of a job and of its server at random moments: the rows of an unbroken run, nothing paid twice

Each bar is a ratio or a limit, measured in one run; the exit code is 1 if one is missed.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from timed_engine import TimedEngine  # noqa: E402

from openr_data.engine.journal import Journal  # noqa: E402
from openr_data.engine.journaled_policy import JournaledPolicy  # noqa: E402
from openr_data.engine.scheduler import run  # noqa: E402
from openr_data.grading.graders import load_grader  # noqa: E402
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy  # noqa: E402
from openr_data.jobs import Job, Status, run_label  # noqa: E402
from openr_data.jobs.plan import Plan, plan  # noqa: E402
from openr_data.jobs.recipe import recipe  # noqa: E402
from openr_data.registry import load  # noqa: E402
from openr_data.store import Store  # noqa: E402
from openr_data.types import Completion, Prefix, Sampling  # noqa: E402

FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")
MISSED: list[str] = []


def bar(name: str, figure: float, limit: float, *, at_most: bool = False, unit: str = "") -> None:
    """Print a figure with its bar, and record a miss."""
    met = figure <= limit if at_most else figure >= limit
    print(f"{'ok  ' if met else 'MISS'} {name}: {figure:,.2f}{unit} (bar {'≤' if at_most else '≥'} {limit:,g}{unit})")
    if not met:
        MISSED.append(name)


class Recorded:
    """A backend that records its requests and replies."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.asked: list[tuple[Prefix, int, Sampling]] = []
        self.replies: dict[tuple[Prefix, int, Sampling], Sequence[Completion]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n, sampling))
        replies: Sequence[Completion] = await self.policy.sample(prefix, n, sampling)
        self.replies[prefix, n, sampling] = replies
        return replies


def omegaprm(limit: int, backend: str, into: str = "d", **more: Any) -> Plan:
    """Plan OmegaPRM as in the shipped recipe."""
    layer = {
        **recipe("arithmetic").layer,
        "method": "omegaprm",
        "limit": limit,
        "backend": backend,
        "into": into,
        **more,
    }
    return plan(None, [layer], {})


def label(store: Store, resolved: Plan, policy: Any, live: int = 256) -> tuple[Status, float]:
    """Run a job to its end; return its status and its seconds."""
    config = resolved.config
    job = Job.create(store, config, {"policy_revision": policy.name})
    began = time.monotonic()
    status = run_label(
        job, config, resolved.questions, store.dataset(config.into, create=True), resolved.labeler(), policy,
        load_grader(config.grader), live=live,
    )  # fmt: skip
    return status, time.monotonic() - began


def contents(view: Any) -> dict[str, list[str]]:
    """Return all rows of the facts and the evidence in a fixed order."""
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


def overhead() -> None:
    """Send 2,000 questions of 40 requests each to a policy that takes no time."""
    fast = [Branch(Fraction(1, 2), "one two three"), Branch(Fraction(1, 2), "four five six")]
    questions, each = 2_000, 40

    async def measure(path: Path, n: int) -> tuple[float, float]:
        scripted = ScriptedPolicy(lambda question, steps: [] if steps else fast)
        scripted.asked = _Nothing()
        policy, age = JournaledPolicy(scripted, Journal(path)), 0

        async def work(question: int) -> None:
            nonlocal age
            age += 1
            with policy.account(f"q{question}", age):
                for seed in range(each):
                    await policy.sample(Prefix(f"Question {question}?"), n, Sampling(seed=seed))
            policy.forget(f"q{question}")

        began = time.perf_counter()
        async with aclosing(run(range(questions), work, 256, None, policy.admission)) as finished:
            async for _ in finished:
                pass
        whole = time.perf_counter() - began
        began = time.perf_counter()
        for number in range(questions):
            await scripted.sample(Prefix(f"Question {number}?"), n, Sampling(seed=number))
        alone = (time.perf_counter() - began) / questions
        return questions * each / whole, 1 / (whole / (questions * each) - alone)

    with tempfile.TemporaryDirectory() as folder:
        rate, _ = asyncio.run(measure(Path(folder) / "1", 1))
        bar("requests a second, scripted policy included, n = 1", rate, 20_000)
        rate, own = asyncio.run(measure(Path(folder) / "8", 8))
        print(f"     n = 8: {rate:,.0f} requests per second with the policy, {own:,.0f} without the policy's own time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bar("peak memory", peak, 500, at_most=True, unit=" MB")


class _Nothing(list[Any]):
    def append(self, item: Any) -> None:
        """Drop the request: a benchmark needs no record of its requests."""


def tables() -> None:
    """Run the same job at three concurrencies."""
    from tests.conftest import a_question, four_steps

    questions = tuple(a_question(f"Question {number}?") for number in range(300))
    contents_by_run = []
    for live in (1, 16, 256):
        with tempfile.TemporaryDirectory() as folder:
            store = Store.open(folder, create=True)
            resolved = Plan(omegaprm(1, "transformers").config, questions, "test")
            policy = ScriptedPolicy(four_steps, seconds_per_token=1e-5)
            _, seconds = label(store, resolved, policy, live)
            contents_by_run.append(contents(store.view("d")))
            print(f"     {live} under way: {seconds:.1f} s, {sum(map(len, contents_by_run[-1].values())):,} rows")
    bar(
        "tables equal at 1, 16 and 256 questions under way",
        sum(item == contents_by_run[0] for item in contents_by_run),
        3,
    )


def saturation(backend: str, options: dict[str, Any], limit: int, few: int, floor: float) -> None:
    """Compare a job with the flat batch of its own requests, and with itself one question at a time."""
    with closing(load("policy", backend)("arithmetic", **options)) as policy, tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        print(f"     warming up ({backend})", flush=True)
        label(store, omegaprm(8, backend, "warm", source_seed=9), policy)
        recorded = Recorded(policy)
        status, seconds = label(store, omegaprm(limit, backend), recorded)
        speed = status.completion_tokens / seconds
        print(
            f"     {limit} questions: {status.completion_tokens:,} tokens, {len(recorded.asked):,} requests, "
            f"{seconds:.1f} s, {speed:,.0f} tok/s, {status.calls_per_located or 0:.1f} calls per first error",
            flush=True,
        )
        tokens, flat = asyncio.run(_flat(policy, recorded.asked))
        print(f"     flat: {tokens:,} tokens, {flat:.1f} s, {tokens / flat:,.0f} tok/s", flush=True)
        bar(f"{backend}: tokens a second of the job, of the flat batch", speed / (tokens / flat), floor)
        one, slow = label(store, omegaprm(few, backend, "slow", seed=1), policy, live=1)
        rate = one.completion_tokens / slow
        print(f"     one question at a time: {few} questions, {slow:.1f} s, {rate:,.0f} tok/s")
        bar(f"{backend}: speed, of one question at a time", speed / rate, 8)


def timed(limit: int, few: int) -> None:
    """Do the same as `saturation` with invented engine times; one at a time run the first questions of the same job."""
    with closing(load("policy", "transformers")("arithmetic")) as policy, tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, create=True)
        recorded = Recorded(policy)
        began = time.monotonic()
        label(store, omegaprm(limit, "transformers", "recorded"), recorded)
        print(f"     {len(recorded.replies):,} requests recorded in {time.monotonic() - began:.1f} s", flush=True)
        engine = TimedEngine(policy, recorded.replies)
        status, seconds = label(store, omegaprm(limit, "transformers"), engine)
        speed = status.completion_tokens / seconds
        print(f"     {limit} questions: {status.completion_tokens:,} tokens, {seconds:.1f} s, {speed:,.0f} tok/s")
        tokens, flat = asyncio.run(_flat(engine, list(recorded.replies)))
        print(f"     flat: {tokens:,} tokens, {flat:.1f} s, {tokens / flat:,.0f} tok/s", flush=True)
        bar("timed: tokens a second of the job, of the flat batch", speed / (tokens / flat), 0.85)
        one, slow = label(store, omegaprm(few, "transformers", "slow"), engine, live=1)
        rate = one.completion_tokens / slow
        print(f"     one question at a time: {few} questions, {slow:.1f} s, {rate:,.0f} tok/s")
        bar("timed: speed, of one question at a time", speed / rate, 8)


async def _flat(policy: Any, asked: Sequence[tuple[Prefix, int, Sampling]]) -> tuple[int, float]:
    began = time.monotonic()
    replies = await asyncio.gather(*(policy.sample(*request) for request in asked))
    return sum(item.n_tokens for reply in replies for item in reply), time.monotonic() - began


@contextmanager
def server(python: str) -> Iterator[Any]:
    """Start a vLLM server of the shipped policy."""
    from tests.inference.serving.vllm_process import VllmProcess

    with tempfile.TemporaryDirectory() as folder:
        made = VllmProcess(python, Path(folder) / "server.log")
        try:
            made.start()
            yield made
        finally:
            made.kill()


def kills(python: str, trials: int, limit: int, seed: int) -> None:
    """Kill (kill -9) a job on a server repeatedly, and every fifth time the server too."""
    from tests.inference.serving.faulty_proxy import proxying

    rng = random.Random(seed)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (
        server(python) as vllm,
        proxying(f"http://127.0.0.1:{vllm.port}") as proxy,
        tempfile.TemporaryDirectory() as at,
    ):
        command = [sys.executable, "-m", "openr_data.cli", "label", "--limit", str(limit), "--backend", "openai"]
        command += ["--base-url", proxy.url, "--json"]
        calm, stormy = Path(at) / "calm", Path(at) / "stormy"
        for folder in (calm, stormy):
            folder.mkdir()
        subprocess.run(command, cwd=calm, env=environment, check=True, capture_output=True)
        before = sum(proxy.delivered.values())
        began = time.monotonic()
        subprocess.run(
            [*command, "--seed", "1", "--into", "timed"], cwd=calm, env=environment, check=True, capture_output=True
        )
        whole = time.monotonic() - began
        began = time.monotonic()
        subprocess.run(command, cwd=calm, env=environment, check=True, capture_output=True)
        startup = time.monotonic() - began
        proxy.delivered.clear()
        in_flight = 0
        for trial in range(trials):
            with subprocess.Popen(command, cwd=stormy, env=environment, stderr=subprocess.DEVNULL) as process:
                # This way the last kill still hits the running job.
                time.sleep(startup + rng.uniform(0.0, 1.5) * (whole - startup) / trials)
                if trial % 5 == 4:
                    vllm.kill()
                in_flight += proxy.under_way
                process.send_signal(signal.SIGKILL)
            if trial % 5 == 4:
                vllm.start()
        done = subprocess.run(command, cwd=stormy, env=environment, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        same = contents(Store.open(calm / "openr-store").view("arithmetic"))
        resumed = contents(Store.open(stormy / "openr-store").view("arithmetic"))
        equal = sum(len(set(same[name]) & set(resumed[name])) for name in FACTS)
        rows = sum(map(len, same.values()))
        print(
            f"     {trials} kills (the server {trials // 5} times): {before:,} requests unbroken, "
            f"{sum(proxy.delivered.values()):,} delivered in all, {proxy.repeats():,} twice, "
            f"{in_flight:,} in flight at kills"
        )
        print(
            f"     failed questions: {result['failed']}; rows equal to those of an unbroken run: {equal:,} of {rows:,}"
        )
        bar("share of equal rows after the kills", equal / rows, 1)
        bar("requests paid twice, beyond those in flight", max(0, proxy.repeats() - in_flight), 0, at_most=True)


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description="the engine against its limits")
    parser.add_argument("--parts", default="overhead,tables,server,kills")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--few", type=int, default=8, help="questions of the run one at a time")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--kill-questions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm-python", default=os.environ.get("OPENR_VLLM_PYTHON", ".venv-vllm/bin/python"))
    options = parser.parse_args()
    for part in options.parts.split(","):
        print(f"--- {part}", flush=True)
        if part == "overhead":
            overhead()
        elif part == "tables":
            tables()
        elif part == "inprocess":
            saturation("vllm", {}, options.questions, options.few, 0.85)
        elif part == "server":
            with server(options.vllm_python) as vllm:
                saturation("openai", {"base_url": [vllm.url]}, options.questions, options.few, 0.80)
        elif part == "timed":
            timed(options.questions, 5 * options.few)
        elif part == "kills":
            kills(options.vllm_python, options.trials, options.kill_questions, options.seed)
        else:
            parser.error(f"no part {part!r}")
    sys.exit(1 if MISSED else 0)


if __name__ == "__main__":
    main()
