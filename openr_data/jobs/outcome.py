"""The end of a run: the row of the job, the snapshot of its dataset, and the result when all its questions are done."""

import json
from typing import Literal

from ..config import as_dict
from ..engine.versions import versions
from ..store.refs import now
from .config import SEARCH, JobConfig
from .progress import Status
from .worker import Worker

JobOutcome = Literal["end", "stopped", "error"]
"""How a run ended: no question is left, something stopped it, or an error did."""


def conclude(worker: Worker, config: JobConfig, status: Status, outcome: JobOutcome) -> None:
    """Write the job's row, the snapshot and, at the end, the result."""
    job, dataset = worker.job, worker.dataset
    event = "end" if outcome == "end" else "stop"
    app = f"{job.job_id}/{event}"
    if worker.waiting or dataset.committed("jobs", app) == 0:
        row = {
            "job_id": job.job_id,
            "kind": config.kind,
            "event": event,
            "config": json.dumps(as_dict(config)),
            "versions": json.dumps(versions()),
            "totals": json.dumps(status.as_dict()),
            "at": now(),
        }
        dataset.append("jobs", [row], app, dataset.committed("jobs", app) + 1)
    snapshot = dataset.snapshot(config.kind, _message(config, status, outcome), job.job_id)
    if outcome == "end" and (worker.waiting or job.result() is None):
        job.finish({"snapshot": snapshot.name, **status.as_dict()})


def _message(config: JobConfig, status: Status, outcome: JobOutcome) -> str:
    """The message of the snapshot, in the words of the kind of the job."""
    done, others = ("answered", "without a solution") if config.kind == SEARCH else ("labelled", "screened out")
    message = (
        f"{config.method} on {config.source}: {status.succeeded} {done}, "
        f"{status.done - status.succeeded} {others}, {status.failed} failed"
    )
    left = status.total - status.done - status.failed
    return message if outcome == "end" else f"{message}, {left} to go"
