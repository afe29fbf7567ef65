"""A worker: a shard of questions that opens its files late, and closes them when it cannot open them all."""

import os
from pathlib import Path

import pytest

from openr_data.errors import StoreError
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, Runner
from openr_data.jobs.label import LabelWork
from openr_data.jobs.worker import FIRST_WORKER, Worker
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.store import Store
from openr_data.types import Sampling
from tests.conftest import a_question, four_steps

QUESTIONS = [a_question(f"Question {i}?") for i in range(6)]
CONFIG = LabelConfig("test", "math-shepherd", "scripted", into="d", options={"k": 2, "solutions": 2})


def a_worker(store: Store, questions: slice = slice(None), worker_id: str = FIRST_WORKER) -> Worker:
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, CONFIG, {"policy_revision": policy.name})
    work = LabelWork(MathShepherd(MathShepherdConfig(k=2, solutions=2), Sampling()))
    dataset = store.dataset("d", create=True)
    return Worker(job, QUESTIONS[questions], dataset, work, policy, MathGrader(), worker_id=worker_id)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_making_a_worker_and_a_runner_writes_nothing(store: Store) -> None:
    a_worker(store)
    before = files(store.path)  # type: ignore[arg-type]
    Runner(a_worker(store), CONFIG).stop()
    assert files(store.path) == before  # type: ignore[arg-type]


def test_a_worker_that_cannot_open_all_its_files_closes_those_before(store: Store) -> None:
    worker = a_worker(store)
    # A folder in the place of the journal, which is the last file that is opened.
    (worker.job.path / "journal.bin").mkdir(parents=True)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match=r"journal\.bin"), worker.open():
        pass
    assert set(os.listdir("/proc/self/fd")) == before
    (worker.job.path / "journal.bin").rmdir()
    assert Runner(a_worker(store), CONFIG).run().done == 6


def test_two_workers_of_one_job_have_their_own_files_and_share_the_dataset(store: Store) -> None:
    first, second = a_worker(store, slice(0, 3)), a_worker(store, slice(3, 6), "w1")
    assert Runner(first, CONFIG).run().done == 3
    assert Runner(second, CONFIG).run().done == 3
    assert first.folder == first.job.path
    assert second.folder == first.job.path / "workers" / "w1"
    assert (second.folder / "journal.bin").stat().st_size > 0
    rows = store.view("d").sql("select count(distinct question_id) as n from solutions").to_pylist()
    assert rows == [{"n": 6}]
    # The transactions are those that jobs with one worker always had.
    assert store.dataset("d").committed("labels", f"{CONFIG.job_id()}/w0/labels") > 0
    assert store.dataset("d").committed("labels", f"{CONFIG.job_id()}/w1/labels") > 0
