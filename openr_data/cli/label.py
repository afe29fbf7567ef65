"""`openr-data label`: run a labeling job, or resume it."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from ..config import parse_overrides, read_toml
from ..display.terminal import spent, status_lines
from ..errors import UnknownName, UsageError
from ..jobs import Status
from ..jobs.config import LABEL
from ..jobs.estimate import estimate
from ..jobs.limits import Limits
from ..jobs.plan import Plan, plan
from ..jobs.start import JobRun, RunOptions, label_layers, price_of, run_plan
from ..store import Store
from .estimate import show_estimate
from .output import Output, hint, note, output_options

if TYPE_CHECKING:
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])
_COUNT = click.IntRange(min=1)
_BACKEND: Final = ("device", "max_rows", "base_url", "max_requests", "max_sequences", "gpu_memory", "tensor_parallel")
_LIMITS: Final = tuple(item.name for item in fields(Limits))


class _Count(click.ParamType[int]):
    """A number that may end in k or M."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        factor = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(text[-1:], 1)
        try:
            number = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            number = -1.0
        if number < 1 or number != int(number):
            self.fail(f"{value!r} is not a count. Write it like 20000, 25.6k or 1M.", param, ctx)
        return int(number)


FAILURES_SHOWN = 3
MANY_CUT: Final = 0.2
"""The share of rollouts cut at their limit above which the command warns."""
SPENT: Final = (
    "requests completions prompt_tokens cached_tokens completion_tokens cut_tokens reused cancelled retries "
    "reward_calls reward_tokens reward_tokens_read seconds_total gpu_hours cost currency"
).split()
"""The ledger of a job in the output of `--json`."""
LINE_EVERY = 30.0
"""Seconds between two progress lines where stderr is no terminal."""


def run_options(function: F) -> F:
    """The options of a run that do not change its result, gathered as `running`."""

    @wraps(function)
    def gathered(*args: Any, **given: Any) -> Any:
        backend = {name: given.pop(name) for name in _BACKEND}
        backend["base_url"] = list(backend["base_url"])
        running = RunOptions(
            live=given.pop("live"),
            backend={name: value for name, value in backend.items() if value},
            limits=Limits(**{name: given.pop(name) for name in _LIMITS}),
            gpus=given.pop("gpus"),
            prices=given.pop("prices"),
        )
        return function(*args, running=running, **given)

    positive = click.FloatRange(min=0, min_open=True)
    options = (
        click.option("--live", type=_COUNT, default=256, show_default=True, help="Questions under way at a time."),
        click.option("--max-tokens", type=_Count(), help="Stop asking after N tokens of the policy (1M: a million)."),
        click.option(
            "--max-reward-tokens", type=_Count(), help="Stop asking after N tokens of the reward model that searches."
        ),
        click.option("--max-cost", type=positive, help="Stop asking after this cost; needs a known price."),
        click.option("--max-hours", type=positive, help="Stop asking after N hours."),
        click.option("--target-first-errors", type=_Count(), help="Stop asking once N first errors are located."),
        click.option(
            "--prices", type=click.Path(path_type=Path), help="Your prices (default: prices.toml of the store)."
        ),
        click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of the server, to count GPU-hours."),
        click.option("--device", help="transformers: cpu, cuda or auto (the default)."),
        click.option("--max-rows", type=_COUNT, help="transformers: sequences decoded together (default: 256)."),
        click.option(
            "--base-url",
            multiple=True,
            metavar="URL",
            help="openai: a server, again for more of the same (default: http://localhost:8000/v1).",
        ),
        click.option("--max-requests", type=_COUNT, help="openai: requests at a time and server (default: 256)."),
        click.option("--max-sequences", type=_COUNT, help="vllm: sequences decoded together (default: vLLM's)."),
        click.option("--gpu-memory", type=click.FloatRange(0, 1, min_open=True), help="vllm: share of GPU memory."),
        click.option("--tensor-parallel", type=_COUNT, help="vllm: GPUs to lay the model over (default: 1)."),
    )
    decorated: Any = gathered
    for option in reversed(options):
        decorated = option(decorated)
    return cast(F, decorated)


@click.command()
@click.argument("source", default="")
@click.option("--method", help="How to label: adaptive (the default), omegaprm, math-shepherd, mips, judge.")
@click.option("--policy", help="The model that answers: a catalog name, a Hub repository or a folder.")
@click.option(
    "--backend", help="What runs the model: transformers, vllm (both in this process), openai (a running server)."
)
@click.option("--into", help="The dataset to write (default: the source's name).")
@click.option("--recipe", "recipe_name", help="Begin with a recipe of the catalog.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of options, over the recipe.")
@click.option("--split", help="Only questions of this split.")
@click.option("--limit", type=click.IntRange(min=0), help="Use at most N questions (0: all).")
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
@click.option("--given-solutions", is_flag=True, help="Label the solutions that SOURCE has instead of sampling some.")
@click.option(
    "--confidence", type=click.FloatRange(0.5, 1, max_open=True), help="adaptive: the confidence of a first error."
)
@click.option(
    "--order", type=click.Choice(["uncertain"]), help="Take first the questions whose outcome is the most uncertain."
)
@click.option("--no-rollout-text", is_flag=True, help="Keep counts and answers of rollouts, not texts.")
@click.option("--reuse", is_flag=True, help="Begin with rollouts that other jobs have drawn from the same model.")
@run_options
@click.option("--dry-run", is_flag=True, help="Show the job and its estimated cost; ask nothing.")
@click.option("--pilot", type=_COUNT, help="With --dry-run: label N questions for real, to estimate the typical cost.")
@output_options
@click.pass_obj
def label(
    store: str,
    /,
    source: str,
    recipe_name: str | None,
    config: Path | None,
    options: tuple[str, ...],
    given_solutions: bool,
    confidence: float | None,
    no_rollout_text: bool,
    reuse: bool,
    running: RunOptions,
    dry_run: bool,
    pilot: int | None,
    out: Output,
    **flags: Any,
) -> None:
    """Label the steps of solutions to the questions of SOURCE (a dataset or a catalog source).

    Without SOURCE: the arithmetic world with its shipped policy. The same command again goes on where it
    stopped. The first Ctrl-C waits for the requests under way, the second stops at once; nothing that was
    answered is lost, and nothing is asked twice.

    \b
    Examples:
      openr-data label
      openr-data label math --policy Qwen/Qwen2.5-Math-7B-Instruct --into math-aps
      openr-data label arithmetic --method math-shepherd --limit 20 -o k=4
    """
    given = {"source": source, **{name: value for name, value in flags.items() if value is not None}}
    layers, begun = label_layers([*([read_toml(config)] if config else []), given], recipe_name or "")
    if no_rollout_text:
        layers.append({"rollout_text": False})
    if reuse:
        layers.append({"reuse": True})
    if given_solutions:
        layers.append({"given_solutions": True})
    if pilot and not dry_run:
        raise UsageError("--pilot belongs to --dry-run; to label at most N questions use --limit N.")
    overrides: dict[str, Any] = dict(parse_overrides(options))
    if confidence is not None:
        overrides["confidence"] = confidence
    try:
        resolved = plan(Store.at(store), layers, overrides, begun.expected if begun and dry_run and not pilot else None)
    except UnknownName as error:
        if not begun or not begun.needs:
            raise
        raise UsageError(f"{error} The recipe {begun.name} needs: {begun.needs}") from error
    if resolved.config.kind != LABEL:
        raise UsageError(
            f"{resolved.config.method} is a search, which labels no steps. Run it with: openr-data eval search"
        )
    if not dry_run:
        show_run(store, resolved, out, running)
        if begun and begun.then:
            hint(f"Go on with: {begun.then}")
        return
    if pilot:
        run_job(store, resolved, replace(running, first=pilot))
    price = price_of(store, resolved, running)
    show_estimate(estimate(Store.at(store), resolved, price), resolved, price, out)
    if begun and begun.needs and "not in this store" in resolved.read:
        hint(f"Counted with what the recipe expects. Bring it in with: {begun.needs}")
    hint(
        f"{pilot} questions were labelled for real and are part of the job. Run without --dry-run to continue."
        if pilot
        else "Nothing was asked. Run without --dry-run to start."
    )


def show_run(where: str, resolved: Plan, out: Output, running: RunOptions) -> None:
    """Run a planned job in the store `where` and print its result."""
    config = resolved.config
    ran = run_job(where, resolved, running)
    job_id = ran.job.job_id
    if ran.status is None:
        again = "Label anew" if config.kind == LABEL else "Search anew"
        note(f"The job {job_id} is done already. {again} with another --seed.")
    summary = _summary if config.kind == LABEL else _search_summary
    summary(out, job_id, config.into, ran.totals)
    if ran.status is None:
        return
    job, status = ran.job, ran.status
    if status.failed:
        note(f"{status.failed:,} questions failed, for example:")
        for question, reason in list(job.failures().items())[-FAILURES_SHOWN:]:
            note(f"  {question[:10]}  {reason}")
        hint(f"Try them again with: openr-data jobs resume {job_id}")
        raise click.exceptions.Exit(3)
    _warn_of_cuts(status, config.max_tokens)
    if status.stopped_by:
        note(f"Stopped: {status.stopped_by}. {status.done:,} of {status.total:,} questions are safe in {config.into}.")
        hint(f"Go on, with a higher limit, with: openr-data jobs resume {job_id}")
        return
    if config.kind == LABEL:
        hint(f"Look at the steps with: openr-data view {config.into} --errors")
    else:
        hint("Evaluate the search with the `openr-data eval search` command that started it.")


def _warn_of_cuts(status: Status, limit: int) -> None:
    """Warn about a policy that is often cut at its limit: those rollouts have no answer and teach nothing."""
    if status.calls and status.truncated > MANY_CUT * status.calls:
        note(
            f"{status.truncated / status.calls:.0%} of the rollouts were cut at {limit:,} tokens and have no verdict. "
            f"Give them more with -o max_tokens={2 * limit}, or a stop string in the model's entry."
        )


def run_job(where: str, resolved: Plan, running: RunOptions) -> JobRun:
    """Run a job as far as it goes, with its progress on stderr."""
    return run_plan(
        where,
        resolved,
        running,
        progress=progress,
        announce=note,
        on_stop=lambda: note("Waiting for the requests under way; press again to stop at once."),
    )


def _summary(out: Output, job_id: str, into: str, result: Mapping[str, Any]) -> None:
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
        "spent": spent(result),
        "truncated": result["truncated"],
        "seconds": round(result["seconds"], 1),
        "tokens_per_second": round(result["tokens_per_second"]),
    }
    if not out.is_human:
        facts["spent"] = {name: result.get(name) for name in SPENT}
    if out.is_human and screened:
        facts["screened_out"] = ", ".join(f"{n} {name}" for name, n in screened.items())
    out.facts(facts)


def _search_summary(out: Output, job_id: str, into: str, result: Mapping[str, Any]) -> None:
    # Searches counted their answered questions as labelled once.
    answered = result["labelled"] + result.get("answered", 0)
    facts: dict[str, Any] = {
        "job": job_id,
        "dataset": f"{into}@{result['snapshot']}" if "snapshot" in result else into,
        "questions": result["total"],
        "answered": answered,
        "without_solution": result["done"] - answered,
        "failed": result["failed"],
        "completions": result["calls"],
        "completion_tokens": result["tokens"],
        "spent": spent(result) if out.is_human else {name: result.get(name) for name in SPENT},
        "truncated": result["truncated"],
        "seconds": round(result["seconds"], 1),
        "tokens_per_second": round(result["tokens_per_second"]),
    }
    out.facts(facts)


@contextmanager
def progress(title: str) -> Iterator[Any]:
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
