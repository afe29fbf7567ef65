"""Fixtures for publish and pull: a labelled dataset with three splits, a stand-in Hub, the command line."""

import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from openr_data.grading import MathGrader
from openr_data.huggingface.publish import publish
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Dataset, Store
from openr_data.types import Sampling
from tests.cli import conftest as commands
from tests.conftest import a_question, four_steps
from tests.huggingface.stand_in import Repo, StandInHub

TOKEN = "hf_test"
SPLITS = ("train", "", "dev set!")

run = commands.run


def plain_client(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Switch off Xet, telemetry and the user's own token, and record waits instead of sleeping."""
    asked: list[float] = []
    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.setattr(constants, name, True)
    clock = SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=asked.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    return asked


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return plain_client(monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """Start a Hub that demands a token, and put the token into the environment."""
    with StandInHub(token=TOKEN) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        disable_progress_bars()
        yield hub
        enable_progress_bars()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with the dataset `d`: six questions in three splits, labelled by OmegaPRM. Tests copy it."""
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
    """Copy the dataset `d` to ./openr-store in the folder in which `run` runs."""
    shutil.copytree(made, tmp_path / "openr-store")
    return Store.open(tmp_path / "openr-store").dataset("d")


@pytest.fixture(scope="session")
def sent(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repo]:
    """Publish the dataset `d` as the repository `org/d`; tests use copies of the store and of the repository."""
    folder = tmp_path_factory.mktemp("sent") / "openr-store"
    shutil.copytree(made, folder)
    with pytest.MonkeyPatch.context() as patch, StandInHub(token=TOKEN) as hub, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        plain_client(patch)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_TOKEN", TOKEN)
        publish(Store.open(folder).dataset("d"), "main", "org/d")
        return folder, hub.repos["org/d"]


@pytest.fixture
def published(sent: tuple[Path, Repo], hub: StandInHub, tmp_path: Path) -> Dataset:
    """Copy the dataset `d` to ./openr-store and to the Hub as `org/d`."""
    folder, repo = sent
    shutil.copytree(folder, tmp_path / "openr-store")
    hub.repos["org/d"] = replace(
        repo, commits=dict(repo.commits), branches=dict(repo.branches), tags=dict(repo.tags), lfs=dict(repo.lfs)
    )
    return Store.open(tmp_path / "openr-store").dataset("d")
