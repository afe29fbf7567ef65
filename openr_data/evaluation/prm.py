"""Evaluate a process reward model on labelled solutions: each is scored once, and all figures follow from the scores.

`evaluate_prm` does all of `openr-data eval prm`; `evaluate_prm_async` does it inside a running event loop. Scores of
solutions in a dataset are kept in its table `scores`, where every later evaluation by the same model finds them.

<store>/jobs/<job_id>/
    job.toml        configuration, the snapshots or files read by their digests, the revision of the model
    scores/         scores that are not committed yet, and those of files (`score_table.py`, `scores.py`)
    events.jsonl    start, progress, end: what `jobs status` reads
    result.json     all figures; written last

The same command continues a stopped evaluation. Once it is done the command reads the result, without loading the
model if a look at its files shows that it is the model that was evaluated.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..engine.protocols import RewardBackend
from ..engine.reward import open_reward
from ..errors import InputError, UsageError
from ..ids import content_hash
from ..jobs.job import Job
from ..models import model_entry
from ..overlap import count_seen
from ..prm_format import prm_formats
from ..registry import check
from ..store import Store
from .judged_solutions import JudgedSet, LabelledData, labelled_data
from .prm_figures import PrmEvaluation, choose_threshold, figures_of
from .score_table import EvaluationScores, ScoreTable
from .scores import Case, Process, ScoringReport, case_id
from .scoring_run import SPENT, ScoringRun
from .seen_questions import seen_questions

METHOD: Final = "eval prm"
_OF_THE_MODEL: Final = ("model_revision", "threshold")
"""The fields of the configuration that are known once the model is loaded."""


@dataclass(frozen=True, slots=True)
class PrmEvaluationConfig:
    """A reward model and the data it is evaluated on.

    `on` and `dev` are datasets NAME or NAME@ref, or files (in `file_format`, by default the one that their rows show);
    `truth` as in `compare`; `limit` takes N solutions of each set. `format` is that of the model, if its files do not
    name one.
    """

    model: str
    on: tuple[str, ...]
    dev: str = ""
    truth: str = ""
    backend: str = "transformers"
    format: str = ""
    file_format: str = ""
    limit: int = 0

    def __post_init__(self) -> None:
        if not self.on:
            raise ValueError("on names one set or more")
        if self.limit < 0:
            raise ValueError("limit is at least 0")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation that is done: its job, the figures, and why some solutions could not be scored.

    `failures` are rows of `set`, `solution` and `reason`; `sets` describes each set by name (`truth`, `without_truth`,
    `unreadable`, `dropped`, `questions`, and the number of those that the model has seen, `seen_questions`, None if
    the model keeps no list); `spent` are seconds and tokens of all runs.
    """

    job_id: str
    total: int
    evaluation: PrmEvaluation
    sets: Mapping[str, Mapping[str, Any]]
    failures: Sequence[Mapping[str, str]]
    spent: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The result as it is written."""
        return {
            "job": self.job_id,
            "total": self.total,
            "failed": len(self.failures),
            **self.evaluation.as_dict(),
            "sets": {name: dict(facts) for name, facts in self.sets.items()},
            "failures": [dict(item) for item in self.failures],
            **self.spent,
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Evaluated":
        """The inverse of `as_dict`."""
        spent = {name: plain[name] for name in SPENT}
        evaluation = PrmEvaluation.read(plain)
        return cls(plain["job"], plain["total"], evaluation, plain["sets"], plain["failures"], spent)


class EvaluatePrm:
    """One evaluation: `done` finds its result, `read` reads its solutions, `run` scores them and computes the figures.

    Raises `UsageError` for a set that is named twice or is the dev set too, and for a file format without a file; and
    what `labelled_data` raises.
    """

    def __init__(self, store: Store | None, config: PrmEvaluationConfig) -> None:
        self.store, self.config = store, config
        check("reward", config.backend)
        self.mark = model_mark(config)
        self.on = [labelled_data(store, what, config.file_format) for what in config.on]
        self.dev = labelled_data(store, config.dev, config.file_format) if config.dev else None
        if config.file_format and all(item.view is not None for item in (*self.on, *([self.dev] if self.dev else []))):
            raise UsageError("--file-format is the format of files, and neither --on nor --dev names a file.")
        self._check_apart()
        self._sets: list[JudgedSet] = []
        self._dev: JudgedSet | None = None

    def _check_apart(self) -> None:
        seen: dict[str, LabelledData] = {}
        for item in self.on:
            if item.digest in seen:
                raise UsageError(f"{item.name} holds what {seen[item.digest].name} holds. Name each set once.")
            seen[item.digest] = item
        if self.dev is not None and self.dev.digest in seen:
            raise UsageError(
                f"--dev {self.dev.name} is one of the --on sets: a threshold that is chosen on the solutions on which "
                "it is reported flatters. Name another set."
            )

    def _flat(self) -> dict[str, Any]:
        """The configuration of the job, without the fields that need the model."""
        config, dev = self.config, self.dev
        return {
            "method": METHOD,
            "source": ",".join(item.name for item in self.on),
            "into": config.model,
            "digests": [item.digest for item in self.on],
            "formats": [item.format for item in self.on],
            "dev": dev.name if dev else "",
            "dev_digest": dev.digest if dev else "",
            "dev_format": dev.format if dev else "",
            "truth": config.truth,
            "backend": config.backend,
            "format": config.format,
            "limit": config.limit,
        }

    def done(self) -> Evaluated | None:
        """The result of this evaluation, if a look at the model's files shows that the model is the same; else None."""
        wanted = self._flat()
        for job in Job.all(self.store) if self.store is not None and self.mark else ():
            with suppress(InputError):
                described = job.described()
                config = {name: value for name, value in described["config"].items() if name not in _OF_THE_MODEL}
                is_same = config == wanted and described.get("run", {}).get("model_mark") == self.mark
                if is_same and (done := _result(job)) is not None:
                    return done
        return None

    def read(self) -> list[JudgedSet]:
        """The sets; the dev set too, where there is one. Raises what `LabelledData.read` raises, and `UsageError`."""
        if not self._sets:
            config = self.config
            self._sets = [item.read(config.truth, config.limit) for item in self.on]
            if self.dev is not None:
                self._dev = self.dev.read(config.truth)
                _check_dev(self._dev)
        return self._sets

    def reward(self, **live: Any) -> RewardBackend:
        """The reward model; `live` are options of its backend that change no score. Raises `UsageError`."""
        config = self.config
        return open_reward(config.backend, config.model, config.format, live, "eval prm")

    def run(
        self, store: Store, reward: RewardBackend, *, report: ScoringReport | None = None, command: str = ""
    ) -> Evaluated:
        """Score the solutions without scores, and write the result; `command` is the one that continues the job.

        Raises `Interrupted` after Ctrl-C or SIGTERM with every received score kept, `PolicyLost` when the model
        failed, `PolicyError` if not one solution could be scored, `JobError` when another process runs the job.
        """
        with self._begun(store, reward, command) as job:
            if (done := _result(job)) is not None:
                return done
            scores, scoring = self._scoring(store, reward, job)
            return self._ended(job, reward, scores, scoring, asyncio.run(scoring.run(report, signals=True)))

    async def run_async(
        self, store: Store, reward: RewardBackend, *, report: ScoringReport | None = None, command: str = ""
    ) -> Evaluated:
        """`run` inside a running event loop. It leaves signals alone: cancel the task to stop the evaluation."""
        with self._begun(store, reward, command) as job:
            if (done := _result(job)) is not None:
                return done
            scores, scoring = self._scoring(store, reward, job)
            return self._ended(job, reward, scores, scoring, await scoring.run(report, signals=False))

    @contextmanager
    def _begun(self, store: Store, reward: RewardBackend, command: str) -> Iterator[Job]:
        self.read()
        flat = {**self._flat(), "model_revision": reward.name, "threshold": reward.threshold}
        job = Job.begin(store, "eval", flat, {"model_mark": self.mark, "command": command})
        with job.lock():
            yield job

    def _scoring(self, store: Store, reward: RewardBackend, job: Job) -> tuple[EvaluationScores, ScoringRun]:
        """The scores that are there, and the run that scores the other solutions."""
        of_dataset: dict[str, list[Process]] = {}
        cases: dict[str, Case] = {}
        data = [*self.on, *([self.dev] if self.dev else [])]
        for source, judged in zip(data, self._every(), strict=True):
            for item in judged.solutions:
                cases[case_id(item.question, item.steps)] = item.question, item.steps
                if source.view is not None:
                    process = Process(item.question_id, item.question, item.steps)
                    of_dataset.setdefault(source.view.dataset.name, []).append(process)
        tables = [
            ScoreTable(store, store.dataset(name, write=True), job, reward.name, processes)
            for name, processes in of_dataset.items()
        ]
        scores = EvaluationScores(store, job, reward.name, tables, set(cases))
        return scores, ScoringRun(job, reward, scores, cases)

    def _ended(
        self,
        job: Job,
        reward: RewardBackend,
        scores: EvaluationScores,
        scoring: ScoringRun,
        failures: Mapping[str, str],
    ) -> Evaluated:
        evaluation = self._evaluation(reward, scores)
        seen = seen_questions(self.config.model, is_local=self.config.backend != "openai")
        sets = {item.name: _described(item, seen) for item in self._every()}
        done = Evaluated(
            job.job_id, scoring.total, evaluation, sets, list(_listed(self._sets, failures)), scoring.spent
        )
        job.finish(done.as_dict())
        return done

    def _every(self) -> list[JudgedSet]:
        return [*self._sets, *([self._dev] if self._dev else [])]

    def _evaluation(self, reward: RewardBackend, scores: EvaluationScores) -> PrmEvaluation:
        dev = None
        if self._dev is not None:
            try:
                dev = choose_threshold(self._dev, self._sets, scores.known)
            except ValueError as error:
                raise InputError(f"No threshold can be chosen on --dev {self._dev.name}: {error}.") from error
        at = None if dev is None else dev.threshold
        rows = [row for item in self._sets for row in figures_of(item, scores.known, reward.threshold, at)]
        return PrmEvaluation(self.config.model, reward.name, reward.threshold, tuple(rows), dev)


@contextmanager
def silent() -> Iterator[ScoringReport]:
    """A progress display that shows nothing."""
    yield lambda done, total: None


def evaluate_prm(
    where: str | Path,
    config: PrmEvaluationConfig,
    live: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[], AbstractContextManager[ScoringReport]] = silent,
    announce: Callable[[str], None] | None = None,
    command: str = "",
) -> Evaluated:
    """Evaluate a reward model in the store at `where`, or read the result if the same evaluation is done.

    `live` are options of the backend that change no score, for example `{"base_url": ["http://localhost:8000/v1"]}`.
    `announce` receives one line on what is about to run; `command` is the one that continues the job. The store is
    created once the model is open. Raises what `EvaluatePrm` and its `run` raise.
    """
    evaluation, done = _announced(where, config, announce)
    if done is not None:
        return done
    with closing(evaluation.reward(**(live or {}))) as reward:
        store = Store.open(where, create=True)
        with progress() as report:
            return evaluation.run(store, reward, report=report, command=command)


async def evaluate_prm_async(
    where: str | Path,
    config: PrmEvaluationConfig,
    live: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[], AbstractContextManager[ScoringReport]] = silent,
    announce: Callable[[str], None] | None = None,
    command: str = "",
) -> Evaluated:
    """`evaluate_prm` inside a running event loop. It leaves signals alone: cancel the task to stop the evaluation."""
    evaluation, done = _announced(where, config, announce)
    if done is not None:
        return done
    with closing(evaluation.reward(**(live or {}))) as reward:
        store = Store.open(where, create=True)
        with progress() as report:
            return await evaluation.run_async(store, reward, report=report, command=command)


def _announced(
    where: str | Path, config: PrmEvaluationConfig, announce: Callable[[str], None] | None
) -> tuple[EvaluatePrm, Evaluated | None]:
    evaluation = EvaluatePrm(Store.at(where), config)
    done = evaluation.done()
    if announce and done is not None:
        announce(f"The job {done.job_id} is done already.")
    elif announce:
        sets = ", ".join(f"{item.name} ({len(item.solutions):,} solutions)" for item in evaluation.read())
        announce(f"eval prm {config.model} on {sets}")
    return evaluation, done


def model_mark(config: PrmEvaluationConfig) -> str:
    """A mark that is the same as long as a model of this machine is, without loading it; "" if there is no such mark.

    A folder is marked by its files with sizes and times, a Hub repository by the commit in the cache, which a newer
    commit on the Hub does not change. Raises `InputError` for a name that looks like a folder and is none.
    """
    entry = model_entry(config.model)
    if config.backend not in ("transformers", "vllm"):
        return ""
    formats = [repr(item) for item in prm_formats().values() if config.format == item.name or entry.path in item.models]
    folder = Path(entry.path).expanduser()
    if folder.is_dir():
        files = sorted((item.name, item.stat()) for item in folder.iterdir() if item.is_file())
        parts = [f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files]
    else:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(entry.path, "config.json", revision=entry.revision or "main")
        except HFValidationError:
            cached = None
        if not isinstance(cached, str):
            return ""
        parts = [Path(cached).parent.name]
    return content_hash("model", repr(entry), *formats, *parts)


def _result(job: Job) -> Evaluated | None:
    result = job.result()
    if result is None:
        return None
    # The figures of a file of an older version are computed anew.
    with suppress(KeyError, TypeError):
        return Evaluated.read(result)
    return None


def _check_dev(dev: JudgedSet) -> None:
    decided = [item for item in dev.solutions if not item.is_undecided]
    erroneous = sum(item.first_error is not None for item in decided)
    if not 0 < erroneous < len(decided):
        raise UsageError(
            f"No threshold can be chosen on --dev {dev.name}: {erroneous:,} of its solutions are known to have an "
            f"error and {len(decided) - erroneous:,} to have none; it takes some of both."
        )


def _described(judged: JudgedSet, seen: frozenset[str] | None) -> dict[str, Any]:
    plain = {name: getattr(judged, name) for name in ("without_truth", "unreadable")}
    questions = {item.question for item in judged.solutions}
    counts = {"seen_questions": None if seen is None else count_seen(questions, seen), "questions": len(questions)}
    return {"truth": dict(judged.truth), **plain, "dropped": dict(judged.dropped), **counts}


def _listed(sets: Sequence[JudgedSet], failures: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for judged in sets:
        for item in judged.solutions:
            reason = failures.get(case_id(item.question, item.steps))
            if reason is not None:
                yield {"set": judged.name, "solution": item.solution_id, "reason": reason}
