"""`openr-data jobs`: what the job folders say; nothing else is asked, so it works from any machine."""

from dataclasses import replace
from typing import Any

import click

from ..errors import InputError
from ..jobs import Job
from ..jobs.plan import resumed
from ..store.dataset import Store
from ..view.terminal import status_lines
from .label import RunOptions, run_options, run_plan
from .output import Output, ago, hint, note, output_options


@click.group()
def jobs() -> None:
    """List, watch and resume labeling jobs."""


@jobs.command("ls")
@output_options
@click.pass_obj
def list_(store: str, /, out: Output) -> None:
    """List all jobs, newest first."""
    rows: list[dict[str, Any]] = []
    for job in Job.all(Store.open(store)):
        last = _last(job)
        try:
            described = job.described()
        except InputError:
            rows.append({"job": job.job_id, "state": "damaged"})
            continue
        rows.append(
            {
                "job": job.job_id,
                "state": job.state(),
                "method": described["config"]["method"],
                "source": described["config"]["source"],
                "into": described["config"]["into"],
                "done": last.get("done", 0),
                "total": last.get("total"),
                "failed": last.get("failed", 0),
                "age": ago(described["created_at"]),
            }
        )
    out.rows(rows, ("job", "state", "method", "source", "into", "done", "total", "failed", "age"))


@jobs.command()
@click.argument("job_id", metavar="JOB")
@output_options
@click.pass_obj
def status(store: str, /, job_id: str, out: Output) -> None:
    """Say where JOB stands (the beginning of its id is enough)."""
    job = Job.find(Store.open(store), job_id)
    last = _last(job)
    if not out.is_human:
        out.facts({"job": job.job_id, "state": job.state(), **last})
        return
    config = job.described()["config"]
    title = f"{config['method']}  {config['source']} → {config['into']}  job {job.job_id}  {job.state()}"
    click.echo("\n".join(status_lines(last, title)) if last else title)
    if job.state() == "stopped":
        why = f"Stopped: {last['stopped_by']}. " if last.get("stopped_by") else ""
        hint(f"{why}Continue with: openr-data jobs resume {job.job_id}")


@jobs.command()
@click.argument("job_id", metavar="JOB")
@run_options
@output_options
@click.pass_obj
def resume(store: str, /, job_id: str, running: RunOptions, out: Output) -> None:
    """Go on with JOB: what is finished is skipped, what was answered is not asked again."""
    opened = Store.open(store)
    job = Job.find(opened, job_id)
    note(f"Resuming the job {job.job_id}.")
    plan = resumed(opened, job)
    began = job.described().get("run", {})
    if "base_url" in began:
        # The server is where it was, unless it is said to be elsewhere.
        running = replace(running, backend={"base_url": began["base_url"], **running.backend})
    run_plan(store, plan, out, running)


def _last(job: Job) -> dict[str, Any]:
    """The newest numbers of a job: its result, else (or while it runs again) its last event."""
    result = None if job.is_running() else job.result()
    return result if result is not None else job.last_event()
