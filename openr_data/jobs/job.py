"""A job is a folder: its resolved configuration, its journal, its events, its result.

    <store>/jobs/<job_id>/
        job.toml        configuration, versions, the snapshot read; written first
        journal.bin     every reply of the policy and of the reward model
        spool/          finished questions on their way into the tables
        failed.jsonl    questions that failed, with the reason
        events.jsonl    start, progress, stop, end: what `jobs status` reads
        result.json     written last: its existence means the job is done

The id is a hash of the configuration: the same command resumes the job, a changed one starts another.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..checked_lines import CheckedLines, write_whole
from ..config import as_dict, read_toml, to_toml
from ..engine.versions import versions
from ..errors import InputError, JobError, UnknownName, UsageError
from ..ids import config_id
from ..registry import SEARCHES
from ..store import Store
from ..store.refs import now
from ..store.storage import storage_error
from .config import CONFIGS, LABEL, SEARCH, JobConfig

TAIL = 65_536
"""Bytes at the end of the events file that `last_event` reads."""

LOOKS = 5
"""Attempts to take a job's lock: a process that only looks (`jobs ls`) releases it within milliseconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """The folder of a job."""

    job_id: str
    path: Path

    @classmethod
    def create(cls, store: Store, config: JobConfig, live: Mapping[str, Any]) -> "Job":
        """The job of a configuration: a new folder, or the existing one.

        `live` (`policy_revision`, and what does not change the result) goes into `[run]`.
        """
        job = cls(config.job_id(), store.jobs_path / config.job_id())
        plain = as_dict(config)
        options = plain.pop("options")
        job._describe(config.kind, {"config": plain, "options": options, "run": dict(live)})
        return job

    @classmethod
    def begin(cls, store: Store, kind: str, config: Mapping[str, Any], run: Mapping[str, Any]) -> "Job":
        """The job of another kind ("train", "eval"). Its id is a hash of `config`, flat values; `run` is not hashed.

        `config` holds `method`, `source` and `into`, by which jobs are listed.
        """
        job_id = config_id({"kind": kind, **config})
        job = cls(job_id, store.jobs_path / job_id)
        job._describe(kind, {"config": config, "run": run})
        return job

    def _describe(self, kind: str, tables: Mapping[str, Any]) -> None:
        """Write `job.toml` unless it exists."""
        path = self.path / "job.toml"
        if path.exists():
            return
        head = {"job_id": self.job_id, "kind": kind, "created_at": now()}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(path, to_toml({**head, **tables, "versions": versions()}))
        except OSError as error:
            raise storage_error(self.path, error) from error

    @classmethod
    def find(cls, store: Store, job_id: str) -> "Job":
        """A job by its id or the beginning of it. Raises `UnknownName`."""
        matches = [job for job in cls.all(store) if job.job_id.startswith(job_id)]
        if len(matches) > 1 and job_id:
            several = ", ".join(job.job_id for job in matches)
            raise UsageError(f"{job_id!r} begins several jobs ({several}). Write more of the id.")
        if len(matches) != 1 or not job_id:
            raise UnknownName(
                "job", job_id, [job.job_id for job in cls.all(store)], "List them with: openr-data jobs ls"
            )
        return matches[0]

    @classmethod
    def all(cls, store: Store) -> list["Job"]:
        """All jobs of a store, newest first."""
        if not store.jobs_path.is_dir():
            return []
        jobs = [cls(folder.name, folder) for folder in store.jobs_path.iterdir() if (folder / "job.toml").exists()]
        return sorted(jobs, key=lambda job: job.path.stat().st_mtime, reverse=True)

    @classmethod
    def writing(cls, store: Store, dataset: str) -> list[str]:
        """The ids of the running jobs that write into a dataset: those of other kinds read, or write elsewhere."""
        running = [job for job in cls.all(store) if job.is_running()]
        return [job.job_id for job in running if job.kind() in CONFIGS and job.config().into == dataset]

    def kind(self) -> str:
        """ "label", "search", "train" or "eval". Raises `InputError` for a damaged `job.toml`."""
        described = self.described()
        kind = str(described.get("kind", LABEL))
        # Searches were written down as labeling jobs once.
        return SEARCH if kind == LABEL and described["config"].get("method") in SEARCHES else kind

    def described(self) -> dict[str, Any]:
        """The tables of `job.toml`. Raises `InputError` for a damaged file."""
        tables = read_toml(self.path / "job.toml")
        if not isinstance(tables.get("config"), dict):
            raise InputError(f"{self.path / 'job.toml'} is damaged. Remove {self.path} and start the job again.")
        return tables

    def config(self) -> JobConfig:
        """The resolved configuration of a label or search job. Raises `InputError` for a damaged `job.toml`."""
        tables, kind = self.described(), self.kind()
        if kind not in CONFIGS:
            raise InputError(f"The job {self.job_id} is of the kind {kind!r}, which has no configuration to resume.")
        names = {item.name for item in fields(CONFIGS[kind])}
        try:
            values = {key: value for key, value in tables["config"].items() if key in names}
            config = CONFIGS[kind](**values, options=tables.get("options", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.path / 'job.toml'} is damaged: {error}.") from error
        if config.job_id() != self.job_id:
            raise InputError(
                f"{self.path / 'job.toml'} was changed by hand: it no longer describes the job {self.job_id}. "
                "Start a new job with the options you want instead."
            )
        return config

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the job for this process. Raises `JobError` if another process runs it."""
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
        """Whether a process holds the job. Writes nothing, so it works on a read-only store."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            # A shared lock: two processes that look do not block each other, and a starting job waits only shortly.
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
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [event for line in lines if (event := _event(line)) is not None]

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
        """The totals of a job that is done, else None. A job with a damaged result is not done: it is resumed."""
        try:
            result: dict[str, Any] = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result if isinstance(result, dict) and "total" in result else None

    def failures(self) -> dict[str, str]:
        """The last reason of every question that ever failed, by question id."""
        path = self.path / "failed.jsonl"
        return dict(CheckedLines(path).read()) if path.exists() else {}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result, the last file of a job."""
        try:
            write_whole(self.path / "result.json", json.dumps(result, indent=2) + "\n")
        except OSError as error:
            raise storage_error(self.path, error) from error

    def state(self) -> str:
        """ "done", "done, some failed", "running", or "stopped" (resumable)."""
        result = self.result()
        if self.is_running():
            return "running"
        if result is None:
            return "stopped"
        return "done, some failed" if result.get("failed") else "done"

    def open_events(self) -> CheckedLines:
        """The events file, open to append."""
        return CheckedLines(self.path / "events.jsonl")


def _event(line: str) -> dict[str, Any] | None:
    """The event of a line, or None for a line that a kill has torn: a later event has newer numbers."""
    try:
        event = json.loads(line[9:])
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
