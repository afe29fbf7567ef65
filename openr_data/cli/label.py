"""`openr-data label`: run a labeling job, or go on with it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from ..config import parse_overrides, read_toml
from ..jobs import Job, Status, run_label
from ..jobs.plan import Plan, plan, recipe
from ..store.dataset import Store
from ..view.terminal import status_lines
from .output import Output, hint, note, output_options

if TYPE_CHECKING:
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
_COUNT = click.IntRange(min=1)
_BACKEND: Final = ("device", "max_rows", "base_url", "max_requests")

FAILURES_SHOWN = 3
LINE_EVERY = 30.0
"""Seconds between two progress lines where stderr is no terminal."""


def run_options(function: F) -> F:
    """The options of a run that do not change its result: `live`, and in `backend_options` those of its backend."""

    @wraps(function)
    def gathered(*args: Any, **given: Any) -> Any:
        backend = {name: given.pop(name) for name in _BACKEND}
        backend["base_url"] = list(backend["base_url"])
        return function(*args, backend_options={name: value for name, value in backend.items() if value}, **given)

    options = (
        click.option("--live", type=_COUNT, default=64, show_default=True, help="Questions under way at a time."),
        click.option("--device", help="transformers: cpu, cuda or auto (the default)."),
        click.option("--max-rows", type=_COUNT, help="transformers: sequences decoded together (default: 256)."),
        click.option(
            "--base-url",
            multiple=True,
            metavar="URL",
            help="openai: a server, again for more of the same (default: http://localhost:8000/v1).",
        ),
        click.option("--max-requests", type=_COUNT, help="openai: requests at a time and server (default: 256)."),
    )
    decorated: Any = gathered
    for option in reversed(options):
        decorated = option(decorated)
    return cast(F, decorated)


@click.command()
@click.argument("source", default="")
@click.option("--method", help="How to label: omegaprm, math-shepherd (see: openr-data catalog ls).")
@click.option("--policy", help="The model that answers: a catalog name, a Hub repository or a folder.")
@click.option("--backend", help="What runs the model: transformers, openai (a running server).")
@click.option("--into", help="The dataset to write (default: the source's name).")
@click.option("--recipe", "recipe_name", help="Begin with a recipe of the catalog.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of options, over the recipe.")
@click.option("--split", help="Only questions of this split.")
@click.option("--limit", type=click.IntRange(min=0), help="Only so many questions (0: all).")
@click.option("--seed", type=int, help="The seed of the job.")
@click.option("--source-seed", type=int, help="The seed of a generated source.")
@click.option(
    "--grader", help="How answers are compared: math, string, numeric, choice, openr, or python:MODULE:FUNCTION."
)
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the method or of the sampling, for example -o k=8.",
)
@click.option("--no-rollout-text", is_flag=True, help="Keep counts and answers of rollouts, not texts.")
@run_options
@click.option("--dry-run", is_flag=True, help="Say what the job is and costs at most; ask nothing.")
@output_options
@click.pass_obj
def label(
    store: str,
    /,
    source: str,
    recipe_name: str | None,
    config: Path | None,
    options: tuple[str, ...],
    no_rollout_text: bool,
    live: int,
    backend_options: dict[str, Any],
    dry_run: bool,
    out: Output,
    **flags: Any,
) -> None:
    """Label the steps of solutions to the questions of SOURCE (a dataset or a catalog source).

    Without SOURCE: the arithmetic world with its shipped policy. The same command again goes on where it
    stopped. The first Ctrl-C lets the questions under way finish, the second stops at once; nothing that
    is finished is lost.

    \b
    Examples:
      openr-data label
      openr-data label math --policy Qwen/Qwen2.5-Math-7B-Instruct --into math-aps
      openr-data label arithmetic --method math-shepherd --limit 20 -o k=4
    """
    layers: list[dict[str, Any]] = [read_toml(config)] if config else []
    named = source or (layers[0].get("source", "") if layers else "")
    if recipe_name or named in ("", "arithmetic"):
        layers.insert(0, recipe(recipe_name or "arithmetic"))
    given = {"source": source, **{name: value for name, value in flags.items() if value is not None}}
    layers.append({name: value for name, value in given.items() if value != ""})
    if not any("method" in layer for layer in layers):
        layers.append({"method": "omegaprm"})
    if no_rollout_text:
        layers.append({"rollout_text": False})
    resolved = plan(Store.at(store), layers, parse_overrides(options))
    if dry_run:
        _dry_run(resolved, out)
        return
    run_plan(store, resolved, out, live, backend_options)


def run_plan(where: str, resolved: Plan, out: Output, live: int, backend: dict[str, Any]) -> None:
    """Run a resolved job in the store `where` and print what came of it; a store is made once the policy is there."""
    config = resolved.config
    job_id = config.job_id()
    there = Store.at(where)
    known = [job for job in Job.all(there) if job.job_id == job_id] if there else []
    if known and (result := known[0].result()) and not result["failed"]:
        note(f"The job {job_id} is done already. Label anew with another --seed.")
        _summary(out, job_id, config.into, result)
        return
    labeler, grader = resolved.labeler(), resolved.grader()
    note(f"{config.method} on {resolved.read} ({len(resolved.questions):,} questions) → {config.into}, job {job_id}")
    with closing(resolved.policy(**backend)) as policy:
        store = Store.open(where, create=True)
        dataset = store.dataset(config.into, create=True)
        began = {"policy_revision": policy.name, "grader_revision": grader.name, "read": resolved.read}
        job = Job.create(store, config, {**began, **backend})
        with _progress(f"{config.method} → {config.into}") as report:
            status = run_label(
                job,
                config,
                resolved.questions,
                dataset,
                labeler,
                policy,
                grader,
                live=live,
                report=report,
                on_stop=lambda: note("Finishing the questions under way; press again to stop at once."),
            )
    result = job.result() or status.as_dict()
    _summary(out, job_id, config.into, result)
    if status.failed:
        note(f"{status.failed:,} questions failed, for example:")
        for question, reason in list(job.failures().items())[-FAILURES_SHOWN:]:
            note(f"  {question[:10]}  {reason}")
        hint(f"Try them again with: openr-data jobs resume {job_id}")
        raise click.exceptions.Exit(3)
    hint(f"Look at the steps with: openr-data view {config.into} --errors")


def _summary(out: Output, job_id: str, into: str, result: dict[str, Any]) -> None:
    per_error = result["calls_per_located"]
    screened = {name: n for name, n in result["outcomes"].items() if name != "labelled"}
    facts: dict[str, Any] = {
        "job": job_id,
        "dataset": f"{into}@{result['snapshot']}" if "snapshot" in result else into,
        "questions": result["total"],
        "labelled": result["labelled"],
        "screened_out": screened or 0,
        "failed": result["failed"],
        "first_errors": result["located"],
        "policy_calls": result["calls"],
        "calls_per_first_error": round(per_error, 2) if per_error else None,
        "repeated_probes": result["repeated_probes"],
        "completion_tokens": result["tokens"],
        "truncated": result["truncated"],
        "seconds": round(result["seconds"], 1),
        "tokens_per_second": round(result["tokens_per_second"]),
    }
    if out.is_human and screened:
        facts["screened_out"] = ", ".join(f"{n} {name}" for name, n in screened.items())
    out.facts(facts)


def _dry_run(resolved: Plan, out: Output) -> None:
    budget, config = resolved.budget(), resolved.config
    out.facts(
        {
            "job": config.job_id(),
            "method": config.method,
            "source": config.source,
            "into": config.into,
            "policy": config.policy,
            "backend": config.backend,
            "questions": len(resolved.questions),
            "requests_at_most": budget.requests,
            "completions_at_most": budget.completions,
            "completion_tokens_at_most": budget.completion_tokens,
            "options": config.options,
        }
    )
    hint("Nothing was asked. Run without --dry-run to start.")


@contextmanager
def _progress(title: str) -> Iterator[Any]:
    """A live panel on a terminal, a line every 30 seconds elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def log(status: Status) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_EVERY:
                last = time.monotonic()
                note(" ".join(line.strip() for line in status_lines(status.as_dict(), title)))

        yield log
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def panel(status: Status | None) -> "Text":
        return Text("\n".join(status_lines(status.as_dict(), title)) if status else title)

    with Live(panel(None), console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda status: live.update(panel(status))
