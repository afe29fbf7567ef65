"""kill -9 at any moment of a real job with a real model: the resumed job ends as an unbroken one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openr_data.store import Store

FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")
JOB = ["label", "--limit", "10", "-o", "searches=4", "-o", "screening=16", "--live", "4"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "openr_data.cli", *arguments]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def finish(folder: Path) -> dict[str, Any]:
    done = subprocess.run(command(*JOB, "--json"), cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def contents(folder: Path) -> dict[str, list[str]]:
    view = Store.open(folder / "openr-store").view("arithmetic")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], float]:
    folder = tmp_path_factory.mktemp("unbroken")
    started = time.monotonic()
    return folder, finish(folder), time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_killed_job_resumes_to_the_same_tables(
    unbroken: tuple[Path, dict[str, Any], float], tmp_path: Path, number: int
) -> None:
    folder, expected, seconds = unbroken
    rng = random.Random(number)
    for _ in range(2):
        with subprocess.Popen(command(*JOB), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.2, 1.0) * seconds)
            process.send_signal(signal.SIGKILL)
    result = finish(tmp_path)
    assert contents(tmp_path) == contents(folder)
    for name in ("labelled", "first_errors", "policy_calls", "completion_tokens", "repeated_probes"):
        assert result[name] == expected[name]


@pytest.mark.slow
def test_ctrl_c_commits_prints_the_command_and_resumes(
    unbroken: tuple[Path, dict[str, Any], float], tmp_path: Path
) -> None:
    folder, _, _ = unbroken
    with subprocess.Popen(
        command(*JOB), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        journal = tmp_path / "openr-store" / "jobs"
        deadline = time.monotonic() + 120
        while not any(journal.glob("*/spool/pending-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Waiting for the requests under way" in err
    resume = err.strip().splitlines()[-1].partition("openr-data ")[2].split()
    assert resume[:2] == ["jobs", "resume"]
    done = subprocess.run(command(*resume), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(folder)
