"""Kills a job (kill -9) at any moment: the resumed job must end like an unbroken one. One job uses a real model."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.store import Store
from openr_data.store.rows import question_row
from openr_data.types import Completion, Prefix, Sampling
from tests.conftest import a_question, four_steps

FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")
REAL = ["label", "--limit", "10", "-o", "searches=4", "-o", "screening=16", "--live", "4"]
SCRIPTED = [
    "label", "asked", "--into", "arithmetic", "--policy", "scripted", "--backend", "slow", "-o", "searches=4",
    "-o", "screening=16", "--live", "4",
]  # fmt: skip


class SlowPolicy(ScriptedPolicy):
    """A backend from outside the package: a scripted world whose requests take some milliseconds."""

    live_options = ()

    def __init__(self, name: str) -> None:
        super().__init__(four_steps)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        await asyncio.sleep(0.004)
        return await super().sample(prefix, n, sampling)


@dataclass(frozen=True)
class Runs:
    """How a job is run: its command, and what its processes find on their path."""

    command: list[str]
    path: str

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "openr_data.cli", *(arguments or self.command)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": self.path, "OMP_NUM_THREADS": "1"}

    def prepare(self, folder: Path) -> None:
        """Give a folder the questions of a job that brings none."""
        if self.command is SCRIPTED:
            asked = Store.open(folder / "openr-store", create=True).dataset("asked", create=True)
            questions = [a_question(f"Question {number}?") for number in range(12)]
            asked.add_questions([question_row(question) for question in questions], "asked", 1)
            asked.snapshot("import", "twelve questions")

    def finish(self, folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            self.argv(*self.command, "--json"), cwd=folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result


@dataclass(frozen=True)
class Unbroken:
    """A job that nothing disturbed."""

    runs: Runs
    folder: Path
    result: dict[str, Any]
    seconds: float


def contents(folder: Path) -> dict[str, list[str]]:
    view = Store.open(folder / "openr-store").view("arithmetic")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


def never_disturbed(runs: Runs, folder: Path) -> Unbroken:
    runs.prepare(folder)
    started = time.monotonic()
    result = runs.finish(folder)
    return Unbroken(runs, folder, result, time.monotonic() - started)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """A job of a backend that another package brings, as `CONTRIBUTING.md` says: an entry point of `openr_data`."""
    plugin = tmp_path_factory.mktemp("plugin")
    about = plugin / "slow_policy-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-policy\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[openr_data]\npolicy.slow = tests.jobs.test_kill:SlowPolicy\n")
    runs = Runs(SCRIPTED, os.pathsep.join([str(Path(__file__).parents[2]), str(plugin)]))
    return never_disturbed(runs, tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return never_disturbed(Runs(REAL, str(Path(__file__).parents[2])), tmp_path_factory.mktemp("real"))


def killed_and_resumed(whole: Unbroken, folder: Path, rng: random.Random) -> None:
    runs = whole.runs
    runs.prepare(folder)
    for _ in range(2):
        with subprocess.Popen(
            runs.argv(), cwd=folder, env=runs.environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(rng.uniform(0.2, 1.0) * whole.seconds)
            process.send_signal(signal.SIGKILL)
    result = runs.finish(folder)
    assert contents(folder) == contents(whole.folder)
    for name in ("labelled", "first_errors", "policy_calls", "completion_tokens", "repeated_probes"):
        assert result[name] == whole.result[name]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_killed_job_resumes_to_the_same_tables(scripted: Unbroken, tmp_path: Path, number: int) -> None:
    killed_and_resumed(scripted, tmp_path, random.Random(number))


@pytest.mark.slow
def test_a_killed_job_of_a_real_model_resumes_to_the_same_tables(real: Unbroken, tmp_path: Path) -> None:
    killed_and_resumed(real, tmp_path, random.Random(0))


@pytest.mark.slow
def test_ctrl_c_commits_prints_the_command_and_resumes(scripted: Unbroken, tmp_path: Path) -> None:
    runs = scripted.runs
    runs.prepare(tmp_path)
    with subprocess.Popen(
        runs.argv(), cwd=tmp_path, env=runs.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        journal = tmp_path / "openr-store" / "jobs"
        deadline = time.monotonic() + 120
        while not any(journal.glob("*/spool/pending-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Waiting for the requests under way" in err
    resume = err.strip().splitlines()[-1].partition("openr-data ")[2].split()
    assert resume[:2] == ["jobs", "resume"]
    done = subprocess.run(runs.argv(*resume), cwd=tmp_path, env=runs.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(scripted.folder)
