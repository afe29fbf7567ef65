"""A worker runs a shard of a job's questions, with its journal, its spool, and the models that the journal records.

It knows no signals, no limits and no snapshot: a runner has those (`runner.py`), and gives a worker the one function
that stops it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

from ..checked_lines import CheckedLines
from ..engine.accounts import Account
from ..engine.journal import Journal
from ..engine.journaled_policy import JournaledPolicy
from ..engine.journaled_reward import JournaledReward
from ..engine.prices import Price
from ..engine.protocols import Backend, Grader, Policy, RewardBackend, RewardModel
from ..engine.request_keys import question_key
from ..engine.reuse import Rollouts
from ..engine.scheduler import Failure
from ..errors import JobError
from ..store import Dataset
from ..store.rows import labeling_rows, question_row
from ..store.spool import Spool
from ..types import Labeling, Question
from .job import Job
from .progress import Summary, summary_of
from .spending import spending_row

FIRST_WORKER: Final = "w0"
"""The id of the worker of a job that has one worker: its files lie in the folder of the job."""


class Work(Protocol):
    """What a kind of job does with one question."""

    @property
    def kind(self) -> Literal["label", "search"]: ...

    @property
    def method(self) -> str: ...

    async def result(
        self, question: Question, policy: Policy, reward: RewardModel | None, grader: Grader
    ) -> Labeling: ...


class Worker:
    """A shard of a job's questions. The constructor writes nothing; `open` opens the files.

    `reward` guides the work, where it has one. With `text` False the rollouts keep counts and answers only. `first`
    bounds how many more questions are worked on.
    """

    def __init__(
        self,
        job: Job,
        questions: Sequence[Question],
        dataset: Dataset,
        work: Work,
        policy: Backend,
        grader: Grader,
        *,
        reward: RewardBackend | None = None,
        price: Price | None = None,
        text: bool = True,
        first: int | None = None,
        worker_id: str = FIRST_WORKER,
    ) -> None:
        self.job, self.questions, self.dataset, self.work = job, questions, dataset, work
        self.grader, self.price, self.text, self.first, self.worker_id = grader, price, text, first, worker_id
        self._policy, self._reward = policy, reward
        self.reward: JournaledReward | None = None
        self.waiting: list[Question] = []
        self._age = 0

    @property
    def folder(self) -> Path:
        """Where the worker keeps its files."""
        return self.job.path if self.worker_id == FIRST_WORKER else self.job.path / "workers" / self.worker_id

    def check_models(self) -> None:
        """Raise `JobError` if the job began with another policy, grader or reward model."""
        began = self.job.described().get("run", {})
        names = {"policy": self._policy.name, "grader": self.grader.name}
        if self._reward is not None:
            names["reward"] = self._reward.name
        for kind, name in names.items():
            before = began.get(f"{kind}_revision", name)
            if before != name:
                raise JobError(
                    f"The job {self.job.job_id} began with the {kind} {before}, now it is {name}: its rows would "
                    f"mix two. Start a new job, for example with another --seed."
                )

    @contextmanager
    def open(self, limit: Callable[[], str] | None = None) -> Iterator[None]:
        """Open the files of the worker; when one cannot be opened, those before it are closed.

        `limit` returns why nothing more may be asked, or an empty string. Opening commits what a dead process has left
        in the spool. Leaving commits what is finished; it raises `StoreError` if the disk fails.
        """
        with ExitStack() as files:
            app = f"{self.job.job_id}/{self.worker_id}"
            self.dataset.add_questions((question_row(item) for item in self.questions), f"{app}/questions", 1)
            self.spool = Spool(self.folder / "spool", self.dataset, app)
            files.callback(self.spool.close)
            self.failures = CheckedLines(self.folder / "failed.jsonl")
            files.callback(self.failures.close)
            journal = Journal(self.folder / "journal.bin", {question_key(question) for question in self.spool.finished})
            files.callback(journal.close)
            rollouts = self._reused()
            if rollouts is not None:
                files.callback(rollouts.close)
            self.policy = JournaledPolicy(self._policy, journal, rollouts, limit)
            if self._reward is not None:
                self.reward = JournaledReward(self._reward, self.policy.accounts)
            self.waiting = [item for item in self.questions if item.question_id not in self.spool.finished]
            self.waiting = self.waiting[: self.first]
            yield

    def _reused(self) -> Rollouts | None:
        """The samples of the jobs pinned as donors, for the questions that are not finished."""
        donors = self.job.described().get("run", {}).get("reuse", [])
        if not donors:
            return None
        waiting = {question_key(item.question_id) for item in self.questions} - {
            question_key(question) for question in self.spool.finished
        }
        return Rollouts([self.job.path.parent / name / "journal.bin" for name in donors], waiting)

    async def result(self, question: Question) -> tuple[Labeling, Account]:
        """Work on one question on its own account."""
        self._age += 1
        with self.policy.account(question.question_id, self._age) as account:
            result = await self.work.result(question, self.policy, self.reward, self.grader)
        return result, account

    def finish(self, result: Labeling, account: Account) -> Summary:
        """Acknowledge the result of a question: after this call a dead process does not lose it."""
        summary = summary_of(result)
        job_id, question = self.job.job_id, result.question_id
        rows = labeling_rows(result, job_id, self.work.method, self.policy.name, self.text)
        spent = spending_row(job_id, question, summary, account, self.price, kind=self.work.kind)
        self.spool.add(question, summary, {**rows, "jobs": [spent]})
        self.policy.forget(question)
        return summary

    def fail(self, failure: Failure[Question]) -> None:
        """Write down why a question failed; it is tried again when the job is resumed."""
        reason = f"{type(failure.error).__name__}: {failure.error}"
        self.failures.append([failure.question.question_id, reason])

    def stop(self, reason: str) -> None:
        """Ask for nothing more: calls under way are waited for."""
        self.policy.stop(reason)

    @property
    def gpus(self) -> int:
        """GPUs that the policy keeps busy in this process."""
        return self._policy.gpus
