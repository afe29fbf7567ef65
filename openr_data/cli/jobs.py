"""`openr-data jobs`: jobs as their folders describe them. Nothing else is read, so it works from any machine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from ..display.terminal import status_lines
from ..errors import InputError, UsageError
from ..jobs import Job
from ..jobs.config import CONFIGS
from ..jobs.plan import resumed
from ..jobs.start import RunOptions, began_reward
from ..store import Store
from .label import run_options, show_run
from .output import Output, ago, hint, note, output_options


@click.group()
def jobs() -> None:
    """List and watch jobs, and resume labeling and search jobs."""


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
                "done": _done(last),
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
    """Show the state of JOB (the beginning of its id is enough)."""
    job = Job.find(Store.open(store), job_id)
    last = _last(job)
    if not out.is_human:
        out.facts({"job": job.job_id, "state": job.state(), **last})
        return
    described = job.described()
    config, is_resumable = described["config"], job.kind() in CONFIGS
    title = f"{config['method']}  {config['source']} → {config['into']}  job {job.job_id}  {job.state()}"
    if is_resumable:
        click.echo("\n".join(status_lines({**last, "kind": job.kind()}, title)) if last else title)
    else:
        click.echo(title + (f"  {_done(last):,}/{last['total']:,} solutions" if last.get("total") else ""))
        if last.get("failed"):
            click.echo(f"  failed {last['failed']:,}")
    if job.state() == "stopped":
        why = f"Stopped: {last['stopped_by']}. " if last.get("stopped_by") else ""
        again = f"openr-data jobs resume {job.job_id}" if is_resumable else _again(job)
        hint(f"{why}Continue with: {again}")


@jobs.command()
@click.argument("job_id", metavar="JOB")
@run_options
@output_options
@click.pass_obj
def resume(store: str, /, job_id: str, running: RunOptions, out: Output) -> None:
    """Resume JOB: finished questions are skipped, and nothing that was answered is asked again."""
    opened = Store.open(store)
    job = Job.find(opened, job_id)
    if job.kind() not in CONFIGS:
        raise UsageError(
            f"The job {job.job_id} is one of {job.described()['config']['method']}, which its own command resumes: "
            f"{_again(job)}"
        )
    note(f"Resuming the job {job.job_id}.")
    plan = resumed(opened, job)
    began = job.described().get("run", {})
    # The servers are where they were, unless an option names another one.
    if "base_url" in began:
        running = replace(running, backend={"base_url": began["base_url"], **running.backend})
    running = replace(running, reward=began_reward(began))
    show_run(store, plan, out, running)


def _last(job: Job) -> dict[str, Any]:
    """The newest numbers of a job: its result, else (or while it runs again) its last event."""
    result = None if job.is_running() else job.result()
    return result if result is not None else job.last_event()


def _done(last: Mapping[str, Any]) -> int:
    """How many are done; the results of other kinds of jobs hold only the total and the failed ones."""
    return int(last.get("done", last.get("total", 0) - last.get("failed", 0)) or 0)


def _again(job: Job) -> str:
    """The command that resumes a job of another kind."""
    described = job.described()
    config = described["config"]
    command = str(described.get("run", {}).get("command") or "")
    return command or f"openr-data {config['method']}, with the options that it began with ({job.path / 'job.toml'})"
