"""Run the command line in an empty folder, on a dataset with the labels of a scripted job."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from openr_data.cli import main
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Store
from openr_data.types import Sampling
from tests.conftest import a_question, four_steps


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `openr-data` in an empty folder; the store is ./openr-store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENR_STORE", raising=False)
    monkeypatch.delenv("OPENR_DEBUG", raising=False)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["openr-data", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Answer(stop.value.code, captured.out, captured.err)  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="session")
def labelled_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a dataset `d` that holds the labels of a scripted job, and the id of the job. Copy it."""
    folder = tmp_path_factory.mktemp("labelled") / "openr-store"
    store = Store.open(folder, create=True)
    config = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"k": 4})
    questions = [a_question(f"Question {i}?", level="3") for i in range(4)]
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling())
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    run_label(job, config, questions, store.dataset("d", create=True), labeler, policy, MathGrader())
    return folder, job.job_id


@pytest.fixture
def labelled(run: Run, labelled_store: tuple[Path, str], tmp_path: Path) -> str:
    """A dataset `d` with the labels of a scripted job in ./openr-store; returns the id of the job."""
    folder, job_id = labelled_store
    shutil.copytree(folder, tmp_path / "openr-store")
    return job_id
