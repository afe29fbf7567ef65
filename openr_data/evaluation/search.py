"""Run a search on questions and evaluate the ways to choose among its candidates.

`evaluate_search` does all of `openr-data eval search`; `evaluate_search_async` does it inside a running event loop.
The candidates are stored by the search job, and step scores in the table `scores` of the same dataset: a second call
asks no model again, and another reward model is compared on the same candidates.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..engine.protocols import RewardBackend
from ..engine.reward import check_reward, open_reward
from ..errors import UsageError
from ..jobs.job import Job
from ..jobs.plan import Plan
from ..jobs.start import JobRun, Progress, RunOptions, run_plan, run_plan_async, silent
from ..models import model_entry
from ..overlap import count_seen
from ..registry import check
from ..store import Store
from .score_table import EvaluationScores, ScoreTable
from .scores import Case, Process, case_id, score_all
from .search_candidates import SearchedQuestion, StoredSearch, group_answers, read_candidates
from .search_figures import CandidateScores, SearchFigures, evaluate
from .seen_questions import seen_questions

METHOD: Final = "eval search"


@dataclass(frozen=True, slots=True)
class RewardRun:
    """How the reward models of an evaluation are run.

    `format` is that of the models, if their files do not name one; `live` are options of the backend that change no
    score. An error names an option as `flags` does.
    """

    backend: str = "transformers"
    format: str = ""
    live: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)

    def check(self, model: str) -> None:
        """Raise what `open` would, before the weights are loaded."""
        check_reward(self.backend, model, self.format, self.live, METHOD, self.flags)

    def open(self, model: str) -> RewardBackend:
        """A reward model, to be closed after use. Raises `UsageError` for an option that the backend lacks."""
        return open_reward(self.backend, model, self.format, self.live, METHOD, self.flags)


@dataclass(frozen=True, slots=True)
class RewardComparison:
    """The figures with one reward model, or with none (`reward` is "").

    `scored` counts the distinct solutions with scores and `tokens_read` the tokens that the model read in this call;
    `failures` are the reasons of the solutions without scores. The model has `seen` that many of the questions.
    """

    reward: str
    figures: SearchFigures
    scored: int = 0
    tokens_read: int = 0
    failures: tuple[str, ...] = ()
    seen: int = 0


@dataclass(frozen=True, slots=True)
class SearchEvaluation:
    """A search job after its run, with the figures for each reward model, at least one item."""

    run: JobRun
    comparisons: tuple[RewardComparison, ...]


def evaluate_search(
    where: str | Path,
    plan: Plan,
    rewards: Sequence[str] = (),
    running: RunOptions | None = None,
    reward_run: RewardRun | None = None,
    *,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> SearchEvaluation:
    """Run a planned search in the store at `where` and evaluate it with each of the reward models.

    A search that is done is not run again, and no solution is scored twice. `announce` receives one line on what is
    about to run. Raises `UsageError` for a plan that keeps no text of its rollouts and for an option that the reward
    backend lacks, before anything is sampled; and what `run_plan`, `open_reward` and `score_all` raise.
    """
    how = _checked(plan, rewards, reward_run)
    ran = run_plan(where, plan, running, progress=progress, announce=announce, on_stop=on_stop)
    stored = _read(where, plan, ran.job)
    with closing(plan.grader()) as grader:
        questions = asyncio.run(group_answers(stored.questions, grader))
    comparisons = [] if rewards else [RewardComparison("", evaluate(questions, None, independent=stored.independent))]
    for name in rewards:
        # A model is opened outside the event loop, where Ctrl-C interrupts the loading.
        with closing(how.open(name)) as reward, _scoring(where, plan, ran.job, name, reward, questions) as scoring:
            failures = asyncio.run(score_all(reward, scoring.cases.values(), scoring.scores))
            comparisons.append(scoring.ended(failures, how.backend, stored.independent))
    return SearchEvaluation(ran, tuple(comparisons))


async def evaluate_search_async(
    where: str | Path,
    plan: Plan,
    rewards: Sequence[str] = (),
    running: RunOptions | None = None,
    reward_run: RewardRun | None = None,
    *,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
) -> SearchEvaluation:
    """`evaluate_search` inside a running event loop. It leaves signals alone: cancel the task to stop it."""
    how = _checked(plan, rewards, reward_run)
    ran = await run_plan_async(where, plan, running, progress=progress, announce=announce)
    stored = _read(where, plan, ran.job)
    with closing(plan.grader()) as grader:
        questions = await group_answers(stored.questions, grader)
    comparisons = [] if rewards else [RewardComparison("", evaluate(questions, None, independent=stored.independent))]
    for name in rewards:
        with closing(how.open(name)) as reward, _scoring(where, plan, ran.job, name, reward, questions) as scoring:
            failures = await score_all(reward, scoring.cases.values(), scoring.scores)
            comparisons.append(scoring.ended(failures, how.backend, stored.independent))
    return SearchEvaluation(ran, tuple(comparisons))


def _checked(plan: Plan, rewards: Sequence[str], reward_run: RewardRun | None) -> RewardRun:
    """The options of the reward models, checked before anything is paid for."""
    how = reward_run or RewardRun()
    check("search", plan.config.method)
    check("reward", how.backend)
    if not plan.config.rollout_text:
        raise UsageError("A search needs the text of its rollouts: it is scored and compared later.")
    if not rewards and (given := [*how.live, *(["format"] if how.format else [])]):
        flag = how.flags.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UsageError(f"{flag} is an option of a reward model, and none is named. Name one with: --reward MODEL")
    for name in rewards:
        how.check(name)
    return how


def _read(where: str | Path, plan: Plan, job: Job) -> StoredSearch:
    view = Store.open(where).view(plan.config.into)
    return read_candidates(view, job.job_id, model_entry(plan.config.policy).separator)


@dataclass(frozen=True, slots=True)
class _CandidateScoring:
    """The scoring of the candidates that have an answer, by one reward model."""

    job: Job
    model: str
    reward: RewardBackend
    questions: Sequence[SearchedQuestion]
    keys: Mapping[tuple[str, tuple[str, ...]], str]
    """Question id and steps of a candidate to its case."""
    cases: Mapping[str, Case]
    scores: EvaluationScores

    def ended(self, failures: Mapping[str, str], backend: str, independent: bool) -> RewardComparison:
        """Write the result of the job and compute the figures."""
        read = int(self.reward.tokens_read)
        self.job.finish({"total": len(self.cases), "failed": len(failures), "tokens_read": read})
        stored = self.scores.known
        scores: CandidateScores = {key: stored[case] for key, case in self.keys.items() if case in stored}
        seen = seen_questions(self.model, is_local=backend != "openai")
        return RewardComparison(
            self.model,
            evaluate(self.questions, scores, independent=independent),
            scored=len(scores),
            tokens_read=read,
            failures=tuple(failures.values()),
            seen=count_seen((item.question for item in self.questions), seen) if seen else 0,
        )


@contextmanager
def _scoring(
    where: str | Path, plan: Plan, search: Job, model: str, reward: RewardBackend, questions: Sequence[SearchedQuestion]
) -> Iterator[_CandidateScoring]:
    store = Store.open(where)
    processes = {
        (item.question_id, candidate.steps): Process(item.question_id, item.question, candidate.steps)
        for item in questions
        for candidate in item.candidates
        if candidate.steps and candidate.answer is not None
    }
    keys = {key: case_id(item.question, item.steps) for key, item in processes.items()}
    cases = {keys[key]: (item.question, item.steps) for key, item in processes.items()}
    config = {"method": METHOD, "source": search.job_id, "into": model, "reward": reward.name}
    job = Job.begin(store, "eval", config, {})
    with job.lock():
        dataset = store.dataset(plan.config.into, write=True)
        table = ScoreTable(store, dataset, job, reward.name, processes.values())
        scores = EvaluationScores(store, job, reward.name, [table], set(cases))
        yield _CandidateScoring(job, model, reward, questions, keys, cases, scores)
