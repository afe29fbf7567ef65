"""A job is a folder: its resolved configuration, its journal, its events, its result.

    <store>/jobs/<job_id>/
        job.toml        configuration, versions, the snapshot read; written first
        journal.bin     every reply of the policy
        spool/          finished questions on their way into the tables
        failed.jsonl    questions that failed, with the reason
        events.jsonl    start, progress, stop, end: what `jobs status` reads
        result.json     written last: its existence means the job is done

The id is a hash of the configuration: the same command resumes, a changed one starts anew.
"""

import fcntl
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from ..checked_lines import CheckedLines, write_whole
from ..config import as_dict, read_toml, to_toml
from ..errors import InputError, JobError, UnknownName, UsageError
from ..ids import config_id
from ..store import Store
from ..store.refs import now
from ..store.storage import storage_error
from ..types import Sampling

PACKAGES = ("openr-data", "pyarrow", "duckdb", "deltalake", "torch", "transformers", "accelerate", "vllm")

TAIL = 65_536
"""Bytes at the end of the events in which the newest one is looked for."""

LATER: Final[Mapping[str, Any]] = {"split": "step", "pieces": 16, "split_at": 0.5, "wave": 0}
"""Options of OmegaPRM that came later than jobs which do not name them, with the value that changes nothing."""

LABEL: Final = "label"
"""The kind of a labeling job, the only one that `jobs resume` goes on with."""

LOOKS = 5
"""Attempts to take a job's lock: somebody who only looks (`jobs ls`) lets go within milliseconds."""


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Everything a labeling job is made of. `options` are those of the labeler.

    `source` is a catalog source ("arithmetic") or `NAME@ref` of the store; `split`, `source_seed` and
    `limit` choose its questions, and `questions` is the hash of the chosen ones: a job is pinned to them,
    whatever is added to the dataset later. With `reuse` it begins with what other jobs have drawn; with
    `given_solutions` it labels the solutions that the dataset has of them instead of sampling its own. `order`
    is the order in which `limit` takes the questions.
    """

    source: str
    method: str
    policy: str
    into: str = ""
    questions: str = ""
    backend: str = "transformers"
    grader: str = "math"
    split: str = ""
    source_seed: int = 0
    limit: int = 0
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    rollout_text: bool = True
    reuse: bool = False
    given_solutions: bool = False
    order: Literal["", "uncertain"] = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError("limit is at least 0")
        # The same bounds as where it is used, but told before anything runs.
        Sampling(self.temperature, self.top_p, self.max_tokens, seed=self.seed)

    def job_id(self) -> str:
        """12 hex digits over the configuration."""
        plain = as_dict(self)
        # What came later: a job from before keeps its id.
        for name in ("reuse", "given_solutions", "order"):
            if not plain[name]:
                del plain[name]
        options: dict[str, Any] = plain["options"]
        plain["options"] = {name: item for name, item in options.items() if name not in LATER or LATER[name] != item}
        return config_id(plain)

    def changed(self, **values: Any) -> "LabelConfig":
        """The same with other values."""
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class Job:
    """The folder of a job."""

    job_id: str
    path: Path

    @classmethod
    def create(cls, store: Store, config: LabelConfig, live: Mapping[str, Any]) -> "Job":
        """The job of a configuration: a new folder, or the one that is there.

        `live` (`policy_revision`, and what does not change the result) goes into `[run]`.
        """
        job = cls(config.job_id(), store.jobs_path / config.job_id())
        path = job.path / "job.toml"
        if not path.exists():
            plain = as_dict(config)
            options = plain.pop("options")
            tables = {
                "job_id": job.job_id,
                "kind": LABEL,
                "created_at": now(),
                "config": plain,
                "options": options,
                "run": dict(live),
                "versions": versions(),
            }
            try:
                job.path.mkdir(parents=True, exist_ok=True)
                write_whole(path, to_toml(tables))
            except OSError as error:
                raise storage_error(job.path, error) from error
        return job

    @classmethod
    def begin(cls, store: Store, kind: str, config: Mapping[str, Any], run: Mapping[str, Any]) -> "Job":
        """The job of another kind ("train", "eval"): its id is a hash of `config`, flat values; `run` is told beside.

        `config` holds `method`, `source` and `into`, by which jobs are listed.
        """
        job_id = config_id({"kind": kind, **config})
        job = cls(job_id, store.jobs_path / job_id)
        path = job.path / "job.toml"
        if not path.exists():
            tables = {"job_id": job_id, "kind": kind, "created_at": now(), "config": config, "run": run}
            try:
                job.path.mkdir(parents=True, exist_ok=True)
                write_whole(path, to_toml({**tables, "versions": versions()}))
            except OSError as error:
                raise storage_error(job.path, error) from error
        return job

    @classmethod
    def find(cls, store: Store, job_id: str) -> "Job":
        """A job by its id or the beginning of it. Raises `UnknownName`."""
        found = [job for job in cls.all(store) if job.job_id.startswith(job_id)]
        if len(found) > 1 and job_id:
            several = ", ".join(job.job_id for job in found)
            raise UsageError(f"{job_id!r} begins several jobs ({several}). Write more of the id.")
        if len(found) != 1 or not job_id:
            raise UnknownName(
                "job", job_id, [job.job_id for job in cls.all(store)], "List them with: openr-data jobs ls"
            )
        return found[0]

    @classmethod
    def all(cls, store: Store) -> list["Job"]:
        """All jobs of a store, newest first."""
        if not store.jobs_path.is_dir():
            return []
        found = [cls(item.name, item) for item in store.jobs_path.iterdir() if (item / "job.toml").exists()]
        return sorted(found, key=lambda job: job.path.stat().st_mtime, reverse=True)

    @classmethod
    def writing(cls, store: Store, dataset: str) -> list[str]:
        """The ids of the jobs that write into a dataset now. Only labeling does: others read, or write elsewhere."""
        running = [job for job in cls.all(store) if job.is_running()]
        return [job.job_id for job in running if job.kind() == LABEL and job.config().into == dataset]

    def kind(self) -> str:
        """ "label", "train" or "eval". Raises `InputError` where `job.toml` is damaged."""
        return str(self.described().get("kind", LABEL))

    def described(self) -> dict[str, Any]:
        """The tables of `job.toml`. Raises `InputError` where it is damaged."""
        tables = read_toml(self.path / "job.toml")
        if not isinstance(tables.get("config"), dict):
            raise InputError(f"{self.path / 'job.toml'} is damaged. Remove {self.path} and label again.")
        return tables

    def config(self) -> LabelConfig:
        """The configuration as it was resolved. Raises `InputError` for a damaged `job.toml`."""
        tables = self.described()
        names = {item.name for item in fields(LabelConfig)}
        try:
            values = {key: value for key, value in tables["config"].items() if key in names}
            config = LabelConfig(**values, options=tables.get("options", {}))
        except (KeyError, TypeError) as error:
            raise InputError(f"{self.path / 'job.toml'} is damaged: {error}.") from error
        if config.job_id() != self.job_id:
            raise InputError(
                f"{self.path / 'job.toml'} was changed by hand: it no longer is the job {self.job_id}. "
                "Start a new job with the options you want instead."
            )
        return config

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the job for this process. Raises `JobError` when another one runs it."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage_error(self.path, error) from error
        for attempt in range(LOOKS):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if attempt == LOOKS - 1:
                    os.close(handle)
                    raise JobError(
                        f"The job {self.job_id} is running already. Watch it with: openr-data jobs status {self.job_id}"
                    ) from error
                time.sleep(0.05)
        try:
            yield
        finally:
            os.close(handle)

    def is_running(self) -> bool:
        """Whether a process holds the job. Looks only, so it works on a store that cannot be written."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            # Shared: two that look do not see each other, and one that starts does not see them for long.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        found: list[dict[str, Any]] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            event = _event(line)
            if event is not None:
                found.append(event)
        return found

    def last_event(self) -> dict[str, Any]:
        """The newest event, from the end of the file; empty before the first."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return {}
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        return next((event for line in reversed(lines) if (event := _event(line)) is not None), {})

    def result(self) -> dict[str, Any] | None:
        """What came of it, or None while it is not done (or where the file is damaged: then it is resumed)."""
        try:
            result: dict[str, Any] = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) and "total" in result else None

    def failures(self) -> dict[str, str]:
        """The last reason of every question that failed in some run, by question id."""
        path = self.path / "failed.jsonl"
        return dict(CheckedLines(path).read()) if path.exists() else {}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result: the last thing that happens."""
        try:
            write_whole(self.path / "result.json", json.dumps(result, indent=2) + "\n")
        except OSError as error:
            raise storage_error(self.path, error) from error

    def state(self) -> str:
        """done, done with failures, running, or stopped (resumable)."""
        result = self.result()
        if self.is_running():
            return "running"
        if result is None:
            return "stopped"
        return "done, some failed" if result.get("failed") else "done"

    def open_events(self) -> CheckedLines:
        """The events file, to append to."""
        return CheckedLines(self.path / "events.jsonl")


def _event(line: str) -> dict[str, Any] | None:
    """The event of a line, or None for one that was torn by a kill: the one after it tells the same later."""
    try:
        event = json.loads(line[9:])
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def versions() -> dict[str, str]:
    """The versions that shaped a result; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
