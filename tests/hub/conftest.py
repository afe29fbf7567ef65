"""What the tests of publish and pull need: a labelled dataset of three splits, a stand-in Hub, the command line."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from openr_data.grading import MathGrader
from openr_data.inference.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Dataset, Store
from openr_data.types import Sampling
from tests.cli import test_commands
from tests.conftest import a_question, four_steps
from tests.hub.stand_in import StandInHub

TOKEN = "hf_test"
SPLITS = ("train", "", "dev set!")

run = test_commands.run


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A client without Xet, telemetry and the user's own token, which notes how long it would wait."""
    asked: list[float] = []
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.setattr(constants, name, True)
    clock = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=asked.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    return asked


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A Hub that demands a token, which the environment holds."""
    with StandInHub(token=TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        disable_progress_bars()
        yield hub
        enable_progress_bars()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the dataset `d`: six questions of three splits, labelled by OmegaPRM; copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("made") / "openr-store"
    store = Store.open(folder, create=True)
    config = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"k": 4})
    questions = [a_question(f"Question {i}?", split=SPLITS[i % 3], level=str(i)) for i in range(6)]
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling())
    run_label(job, config, questions, store.dataset("d", create=True), labeler, policy, MathGrader())
    return folder


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Dataset:
    """The dataset `d` in ./openr-store of the folder in which `run` runs."""
    shutil.copytree(made, tmp_path / "openr-store")
    return Store.open(tmp_path / "openr-store").dataset("d")
