"""Tests a labeling job on the scripted policy: what it writes, how it stops, how it resumes."""

import asyncio
import json
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError, Interrupted, JobError, PolicyLost, StoreError, UnknownName
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, Runner, Status, run_label
from openr_data.jobs.label import LabelWork
from openr_data.jobs.worker import Worker
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Store
from openr_data.types import Completion, Prefix, Question, Sampling
from tests.conftest import a_question, four_steps

QUESTIONS = [a_question(f"Question {number}?") for number in range(12)]
CONFIG = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"searches": 4})
FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")


def run(
    store: Store,
    policy: ScriptedPolicy,
    config: LabelConfig = CONFIG,
    questions: Sequence[Question] = QUESTIONS,
    **more: Any,
) -> Status:
    dataset = store.dataset(config.into, create=True)
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling(seed=config.seed))
    job = Job.create(store, config, {"policy_revision": policy.name})
    return run_label(job, config, questions, dataset, labeler, policy, MathGrader(), **more)


def contents(store: Store) -> dict[str, list[Any]]:
    view = store.view("d")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


class Dies(ScriptedPolicy):
    """A policy that fails after some requests, as a dead server or a kill would."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__(four_steps)
        self.after, self.error = after, error

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        await asyncio.sleep(0)
        if len(self.asked) >= self.after:
            raise self.error
        return await super().sample(prefix, n, sampling)


@pytest.fixture
def unbroken(tmp_path: Path) -> dict[str, list[Any]]:
    store = Store.open(tmp_path / "unbroken", create=True)
    run(store, ScriptedPolicy(four_steps))
    return contents(store)


def test_a_job_writes_questions_processes_labels_and_evidence(store: Store) -> None:
    status = run(store, ScriptedPolicy(four_steps))
    counts = store.view("d").counts()
    assert (status.done, status.failed, counts["questions"]) == (12, 0, 12)
    assert status.labelled > 0
    assert counts["rollouts"] == status.calls
    assert counts["labels"] == counts["solutions"] > 0
    assert counts["jobs"] == 1
    assert status.repeated_probes == 0
    snapshot = store.dataset("d").snapshots()[-1]
    assert (snapshot.operation, snapshot.job_id) == ("label", CONFIG.job_id())
    job = Job.find(store, CONFIG.job_id()[:5])
    result = job.result()
    assert result is not None
    assert result["snapshot"] == snapshot.name
    assert job.state() == "done"
    assert [event["event"] for event in job.events()] == ["start", "end"]


def test_the_same_job_again_asks_nothing_and_changes_nothing(store: Store) -> None:
    run(store, ScriptedPolicy(four_steps))
    before, policy = contents(store), ScriptedPolicy(four_steps)
    run(store, policy)
    assert policy.asked == []
    assert contents(store) == before
    assert len(store.dataset("d").snapshots()) == 1


@pytest.mark.parametrize("after", [0, 1, 7, 20, 33])
def test_a_dead_policy_stops_the_job_and_the_next_run_ends_as_an_unbroken_one(
    store: Store, unbroken: dict[str, list[Any]], after: int
) -> None:
    dying = Dies(after, PolicyLost("the server is gone"))
    with pytest.raises(PolicyLost, match="the server is gone"):
        run(store, dying, live=3)
    policy = ScriptedPolicy(four_steps)
    run(store, policy)
    assert contents(store) == unbroken
    asked = [(prefix.question, prefix.steps) for prefix, _ in dying.asked + policy.asked]
    assert len(asked) == len(set(asked)), "something was asked twice"


@pytest.mark.parametrize("live", [1, 3, 64])
def test_the_result_does_not_depend_on_how_many_questions_are_live(
    store: Store, unbroken: dict[str, list[Any]], live: int
) -> None:
    run(store, ScriptedPolicy(four_steps), live=live)
    assert contents(store) == unbroken


def test_a_failing_question_is_reported_and_tried_again(store: Store, unbroken: dict[str, list[Any]]) -> None:
    class OneBad(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if prefix.question == "Question 3?":
                raise ValueError("cannot read this")
            return await super().sample(prefix, n, sampling)

    status = run(store, OneBad(four_steps))
    job = Job.find(store, CONFIG.job_id())
    assert (status.done, status.failed, job.state()) == (11, 1, "done, some failed")
    (line,) = (job.path / "failed.jsonl").read_text().splitlines()
    assert json.loads(line[9:]) == [QUESTIONS[3].question_id, "ValueError: cannot read this"]
    status = run(store, ScriptedPolicy(four_steps))
    assert (status.done, status.failed, job.state()) == (12, 0, "done")
    assert contents(store) == unbroken


def test_the_first_signal_waits_for_the_requests_under_way_and_the_job_resumes(
    store: Store, unbroken: dict[str, list[Any]]
) -> None:
    class Signals(ScriptedPolicy):
        answered = 0

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            reply = await super().sample(prefix, n, sampling)
            if len(self.asked) == 20:
                signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
            self.answered += 1
            return reply

    told: list[str] = []
    first, second = Signals(four_steps), ScriptedPolicy(four_steps)
    with pytest.raises(Interrupted, match=rf"of 12 questions are safe.*jobs resume {CONFIG.job_id()}"):
        run(store, first, live=3, on_stop=lambda: told.append("waiting"))
    assert told == ["waiting"]
    # Those on their way were waited for, and none was sent after them.
    assert 20 <= len(first.asked) == first.answered <= 23
    job = Job.find(store, CONFIG.job_id())
    assert (job.state(), job.last_event()["stopped_by"]) == ("stopped", "it was interrupted")
    status = run(store, second)
    assert (status.done, status.failed) == (12, 0)
    asked = [(prefix.question, prefix.steps) for prefix, _ in first.asked + second.asked]
    assert len(asked) == len(set(asked)), "something was asked twice"
    assert contents(store) == unbroken


def test_the_second_signal_stops_at_once_and_loses_no_reply(store: Store, unbroken: dict[str, list[Any]]) -> None:
    class SignalsTwice(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if len(self.asked) == 5:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0.01)
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(60)
            return await super().sample(prefix, n, sampling)

    first = SignalsTwice(four_steps)
    with pytest.raises(Interrupted, match="Stopped"):
        run(store, first, live=2)
    second = ScriptedPolicy(four_steps)
    run(store, second)
    assert contents(store) == unbroken
    asked = [(prefix.question, prefix.steps) for prefix, _ in first.asked + second.asked]
    assert len(asked) == len(set(asked))


def test_a_full_disk_stops_the_job_and_keeps_what_is_finished(
    store: Store, unbroken: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    import pyarrow.parquet as pq

    real = pq.write_table
    tables: list[str] = []

    def full_after_the_questions(table: Any, where: Path, **options: Any) -> None:
        tables.append(where.parent.name)
        if where.parent.name == "nodes":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(table, where, **options)

    monkeypatch.setattr(pq, "write_table", full_after_the_questions)
    with pytest.raises(StoreError, match="The disk is full"):
        run(store, ScriptedPolicy(four_steps))
    monkeypatch.undo()
    assert tables == ["questions", "solutions", "nodes"]
    policy = ScriptedPolicy(four_steps)
    run(store, policy)
    assert policy.asked == []
    assert contents(store) == unbroken


def test_another_model_under_the_same_job_is_refused(store: Store) -> None:
    with pytest.raises(PolicyLost):
        run(store, Dies(3, PolicyLost("gone")))
    with pytest.raises(JobError, match="began with the policy scripted, now it is other"):
        run(store, ScriptedPolicy(four_steps, name="other"))


def test_a_job_runs_once_at_a_time(store: Store) -> None:
    job = Job.create(store, CONFIG, {})
    with job.lock():
        assert job.is_running()
        with pytest.raises(JobError, match="is running already"):
            run(store, ScriptedPolicy(four_steps))
    assert not job.is_running()


def test_rollout_text_can_be_left_out_but_counts_stay(store: Store) -> None:
    run(store, ScriptedPolicy(four_steps), replace(CONFIG, rollout_text=False))
    rows = (
        store.view("d").sql("select count(*) n, count(text) texts, count(answer) answers from rollouts").to_pylist()[0]
    )
    assert rows["texts"] == 0
    assert rows["answers"] == rows["n"] > 0


def test_the_id_of_a_job_is_its_configuration() -> None:
    assert CONFIG.job_id() == replace(CONFIG).job_id()
    for change in ({"seed": 1}, {"method": "math-shepherd"}, {"options": {"searches": 5}}, {"temperature": 0.5}):
        assert replace(CONFIG, **change).job_id() != CONFIG.job_id()  # type: ignore[arg-type]


def test_a_job_folder_tells_its_configuration_back(store: Store) -> None:
    job = Job.create(store, CONFIG, {"read": "d@1"})
    assert Job.find(store, job.job_id).config() == CONFIG
    (job.path / "job.toml").write_text((job.path / "job.toml").read_text().replace("seed = 0", "seed = 9", 1))
    with pytest.raises(InputError, match="changed by hand"):
        job.config()
    with pytest.raises(UnknownName, match="List them with: openr-data jobs ls"):
        Job.find(store, "zzz")


def a_runner(store: Store, policy: ScriptedPolicy, **more: Any) -> Runner:
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling(seed=CONFIG.seed))
    job = Job.create(store, CONFIG, {"policy_revision": policy.name})
    dataset = store.dataset("d", create=True)
    return Runner(Worker(job, QUESTIONS, dataset, LabelWork(labeler), policy, MathGrader()), CONFIG, **more)


def test_another_thread_watches_and_stops_a_job_and_it_resumes(store: Store, unbroken: dict[str, list[Any]]) -> None:
    begun = threading.Event()

    class Slow(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if len(self.asked) >= 20:
                begun.set()
                await asyncio.sleep(0.02)
            return await super().sample(prefix, n, sampling)

    runner = a_runner(store, Slow(four_steps), live=3)
    ended: list[Status] = []
    thread = threading.Thread(target=lambda: ended.append(runner.run()))
    thread.start()
    assert begun.wait(30)
    seen = [runner.status() for _ in range(50)]
    assert all(status.total == 12 for status in seen)
    runner.stop("the user closed the window")
    thread.join(30)
    assert not thread.is_alive()
    (status,) = ended
    assert status.done < 12
    assert status.stopped_by == "the user closed the window"
    assert Job.find(store, CONFIG.job_id()).state() == "stopped"
    runner.stop()
    run(store, ScriptedPolicy(four_steps))
    assert contents(store) == unbroken


def test_a_status_is_a_copy(store: Store) -> None:
    runner = a_runner(store, ScriptedPolicy(four_steps))
    before = runner.status()
    runner.run()
    assert (before.done, runner.status().done) == (0, 12)


def test_a_runner_that_is_stopped_before_it_runs_asks_nothing(store: Store) -> None:
    policy = ScriptedPolicy(four_steps)
    runner = a_runner(store, policy)
    runner.stop()
    assert (runner.run().stopped_by, policy.asked) == ("it was stopped", [])


def test_a_job_runs_inside_a_running_event_loop(store: Store, unbroken: dict[str, list[Any]]) -> None:
    async def notebook() -> Status:
        handler = signal.getsignal(signal.SIGINT)
        status = await a_runner(store, ScriptedPolicy(four_steps)).run_async()
        assert signal.getsignal(signal.SIGINT) is handler
        return status

    assert asyncio.run(notebook()).done == 12
    assert contents(store) == unbroken


def test_a_cancelled_task_commits_what_is_finished_and_stays_cancelled(
    store: Store, unbroken: dict[str, list[Any]]
) -> None:
    class Hangs(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if len(self.asked) >= 30:
                await asyncio.sleep(60)
            return await super().sample(prefix, n, sampling)

    async def notebook() -> None:
        await asyncio.wait_for(a_runner(store, Hangs(four_steps), live=2).run_async(), 1.5)

    with pytest.raises(TimeoutError):
        asyncio.run(notebook())
    job = Job.find(store, CONFIG.job_id())
    assert (job.state(), job.last_event()["stopped_by"]) == ("stopped", "it was cancelled")
    assert store.view("d").counts()["solutions"] > 0
    run(store, ScriptedPolicy(four_steps))
    assert contents(store) == unbroken
