"""Evaluate a process reward model on labelled solutions: each is scored once, everything else is computed from that.

<store>/jobs/<job_id>/
    job.toml        configuration, the snapshots or files read by their digests, the revision of the model
    scores/         step scores, see `score_store.py`
    events.jsonl    start, progress, end: what `jobs status` reads
    result.json     all figures; written last

The same command goes on where it was stopped; once it is done it reads the result, and loads no model where it can
tell that the model is the one that was evaluated.
"""

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..engine.protocols import RewardBackend
from ..errors import InputError, Interrupted, PolicyError, UsageError
from ..ids import content_hash
from ..jobs.job import Job
from ..jobs.reward import open_reward
from ..models import model_entry
from ..overlap import count_seen
from ..prm_format import prm_formats
from ..registry import check
from ..store import Store
from ..store.refs import now
from .judged_solutions import JudgedSet, JudgedSolution, LabelledData, labelled_data
from .prm_figures import PrmEvaluation, choose_threshold, figures_of
from .scores import Report, ScoreStore, case_id, score_all
from .seen_questions import seen_questions

METHOD: Final = "eval prm"
EVENT_EVERY: Final = 10.0
"""Seconds between two progress events in the job folder."""
_OF_THE_MODEL: Final = ("model_revision", "threshold")
"""What of the configuration is known once the model is loaded."""


@dataclass(frozen=True, slots=True)
class PrmEvaluationConfig:
    """What is evaluated on what.

    `on` and `dev` are datasets NAME or NAME@ref, or files (in `file_format`, by default the one their rows tell);
    `truth` as in `compare`; `limit` takes so many solutions of each set. `format` is that of the model, where it does
    not say one itself.
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
    """An evaluation that is done: its job, the figures, and the reasons of what could not be scored.

    `failures` are rows of `set`, `solution` and `reason`, `sets` what is known of each set (`truth`, `without_truth`,
    `unreadable`, `dropped`, `questions`, and how many of those the model has `seen_questions`, None where it does not
    say) by name; `spent` seconds and tokens of all runs.
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
            "sets": {name: dict(told) for name, told in self.sets.items()},
            "failures": [dict(item) for item in self.failures],
            **self.spent,
        }

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Evaluated":
        """The inverse of `as_dict`."""
        spent = {name: plain[name] for name in _SPENT}
        evaluation = PrmEvaluation.read(plain)
        return cls(plain["job"], plain["total"], evaluation, plain["sets"], plain["failures"], spent)


_SPENT: Final = ("seconds", "tokens_asked", "tokens_read")


class EvaluatePrm:
    """One evaluation: `done` looks for its result, `read` for its solutions, `run` scores and computes.

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
            raise UsageError("--file-format says how files are read, and neither --on nor --dev names one.")
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
        """The configuration of the job, without what only the model knows."""
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
        """The result of this evaluation, where the model can be told to be the same without loading it."""
        wanted = self._flat()
        for job in Job.all(self.store) if self.store is not None and self.mark else ():
            with suppress(InputError):
                told = job.described()
                config = {name: value for name, value in told["config"].items() if name not in _OF_THE_MODEL}
                is_same = config == wanted and told.get("run", {}).get("model_mark") == self.mark
                if is_same and (found := _result(job)) is not None:
                    return found
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
        """The model behind its backend; `live` are options that do not change its scores. Raises `UsageError`."""
        config = self.config
        return open_reward(config.backend, config.model, config.format, live, "eval prm")

    def run(self, store: Store, reward: RewardBackend, *, report: Report | None = None, command: str = "") -> Evaluated:
        """Score what has no scores yet, and write the result; `command` is what goes on with it.

        Raises `Interrupted` after Ctrl-C or SIGTERM with what was scored written, `PolicyLost` when the model failed,
        `PolicyError` where not one solution could be scored, `JobError` when another process runs the same.
        """
        sets = self.read()
        flat = {**self._flat(), "model_revision": reward.name, "threshold": reward.threshold}
        job = Job.begin(store, "eval", flat, {"model_mark": self.mark, "command": command})
        with job.lock():
            if (found := _result(job)) is not None:
                return found
            every = [item for each in (*sets, *([self._dev] if self._dev else [])) for item in each.solutions]
            kept = ScoreStore(job.path)
            scored = _Scoring(job, reward, kept)
            failures = scored.run({case_id(item.question, item.steps): item for item in every}, report)
            evaluation = self._evaluation(reward, kept)
            seen = seen_questions(self.config.model, is_local=self.config.backend != "openai")
            told = {item.name: _told(item, seen) for item in (*sets, *([self._dev] if self._dev else []))}
            done = Evaluated(job.job_id, scored.total, evaluation, told, list(_listed(sets, failures)), scored.spent)
            job.finish(done.as_dict())
            return done

    def _evaluation(self, reward: RewardBackend, kept: ScoreStore) -> PrmEvaluation:
        dev = None
        if self._dev is not None:
            try:
                dev = choose_threshold(self._dev, self._sets, kept.known)
            except ValueError as error:
                raise InputError(f"No threshold can be chosen on --dev {self._dev.name}: {error}.") from error
        at = None if dev is None else dev.threshold
        rows = [row for item in self._sets for row in figures_of(item, kept.known, reward.threshold, at)]
        return PrmEvaluation(self.config.model, reward.name, reward.threshold, tuple(rows), dev)


class _Scoring:
    """The scoring of one run, told in the events of the job."""

    def __init__(self, job: Job, reward: RewardBackend, kept: ScoreStore) -> None:
        self._job, self._reward, self._kept = job, reward, kept
        self._earlier = job.last_event()
        self._began = self._told = time.monotonic()
        self.total = self._done = 0

    @property
    def spent(self) -> dict[str, float]:
        """Seconds and tokens of all runs; what came after the last event of a killed one is not known."""
        earlier = {name: self._earlier.get(name, 0) for name in _SPENT}
        return {
            "seconds": round(earlier["seconds"] + time.monotonic() - self._began, 1),
            "tokens_asked": earlier["tokens_asked"] + self._reward.tokens_asked,
            "tokens_read": earlier["tokens_read"] + self._reward.tokens_read,
        }

    def run(self, cases: Mapping[str, JudgedSolution], report: Report | None) -> Mapping[str, str]:
        """Score; return the reasons of what cannot be scored."""
        self.total = len(cases)
        self._done = sum(name in self._kept.known for name in cases)
        events = self._job.open_events()

        def tell(name: str, failed: int = 0) -> None:
            told = {"done": self._done - failed, "total": self.total, "failed": failed}
            events.append({"event": name, "at": now(), **told, **self.spent})

        def reported(done: int, total: int) -> None:
            self._done = done
            if time.monotonic() - self._told > EVENT_EVERY:
                self._told = time.monotonic()
                tell("progress")
            if report is not None:
                with suppress(OSError, ValueError):
                    report(done, total)

        event = "error"
        failures: Mapping[str, str] = {}
        tell("start")
        try:
            failures = asyncio.run(self._scored(cases, reported))
            event = "end"
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            event = "stop"
            raise Interrupted(
                f"Stopped. {sum(name in self._kept.known for name in cases):,} of {self.total:,} solutions are scored. "
                "The same command goes on."
            ) from stop
        finally:
            tell(event, len(failures))
            events.close()
        if len(failures) == len(cases):
            raise PolicyError(f"Not one of {self.total:,} solutions could be scored: {next(iter(failures.values()))}")
        return failures

    async def _scored(self, cases: Mapping[str, JudgedSolution], report: Report) -> Mapping[str, str]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        # Outside the main thread a loop takes no signals: then its owner stops it.
        with suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        return await score_all(
            self._reward, ((item.question, item.steps) for item in cases.values()), self._kept, report
        )


def model_mark(config: PrmEvaluationConfig) -> str:
    """What tells that a model of this machine is the same as before, without loading it; "" where nothing does.

    A folder by its files with sizes and times; a Hub repository by the commit that is in the cache, which a newer one
    on the Hub does not change. Raises `InputError` for a name that looks like a folder and is none.
    """
    entry = model_entry(config.model)
    if config.backend not in ("transformers", "vllm"):
        return ""
    formats = [repr(item) for item in prm_formats().values() if config.format == item.name or entry.path in item.models]
    folder = Path(entry.path).expanduser()
    if folder.is_dir():
        files = sorted((item.name, item.stat()) for item in folder.iterdir() if item.is_file())
        parts = [f"{name} {told.st_size} {told.st_mtime_ns}" for name, told in files]
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
    found = job.result()
    if found is None:
        return None
    # A file of an older version is computed anew.
    with suppress(KeyError, TypeError):
        return Evaluated.read(found)
    return None


def _check_dev(dev: JudgedSet) -> None:
    decided = [item for item in dev.solutions if not item.is_undecided]
    erroneous = sum(item.first_error is not None for item in decided)
    if not 0 < erroneous < len(decided):
        raise UsageError(
            f"No threshold can be chosen on --dev {dev.name}: {erroneous:,} of its solutions are known to have an "
            f"error and {len(decided) - erroneous:,} to have none; it takes some of both."
        )


def _told(judged: JudgedSet, seen: frozenset[str] | None) -> dict[str, Any]:
    plain = {name: getattr(judged, name) for name in ("without_truth", "unreadable")}
    questions = {item.question for item in judged.solutions}
    known = {"seen_questions": None if seen is None else count_seen(questions, seen), "questions": len(questions)}
    return {"truth": dict(judged.told), **plain, "dropped": dict(judged.dropped), **known}


def _listed(sets: Sequence[JudgedSet], failures: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for judged in sets:
        for item in judged.solutions:
            reason = failures.get(case_id(item.question, item.steps))
            if reason is not None:
                yield {"set": judged.name, "solution": item.solution_id, "reason": reason}
