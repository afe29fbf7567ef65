"""`openr-data eval prm`: how well a process reward model distinguishes right steps from wrong ones."""

import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click

from ..display.plots import check_plot
from ..display.terminal import duration
from ..evaluation.prm import Evaluated, PrmEvaluationConfig, evaluate_prm
from ..evaluation.prm_figures import DEV, OWN, PrmEvaluation
from ..evaluation.scores import ScoringReport
from ..evaluation.seen_questions import seen_note
from .output import Output, hint, note, output_options
from .reward_options import RewardOptions, reward_options

LINE_EVERY: Final = 30.0
"""Seconds between two lines of progress if stderr is not a terminal."""
SHOWN: Final = 3
"""Failures that are listed; the result holds all."""


@click.command("prm")
@click.argument("model")
@click.option(
    "--on", multiple=True, required=True, metavar="WHAT", help="A labelled dataset NAME[@REF] or file; again for more."
)
@click.option("--dev", default="", metavar="WHAT", help="A labelled dataset or file to choose another threshold on.")
@click.option(
    "--truth", default="", metavar="NAME", help="oracle, human or a method (default: the oracle, else people)."
)
@click.option(
    "--file-format", default="", metavar="FORMAT", help="The format of files (default: the one that their rows show)."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=0, help="Use at most N solutions of each --on set (0: all)."
)
@reward_options()
@click.option("--plot", default="", metavar="FILE", help="Draw reliability and F1 over the threshold, to .svg or .png.")
@output_options
@click.pass_obj
def prm(
    store: str,
    /,
    model: str,
    on: tuple[str, ...],
    dev: str,
    truth: str,
    file_format: str,
    limit: int,
    reward_run: RewardOptions,
    plot: str,
    out: Output,
) -> None:
    """Evaluate the process reward MODEL (a folder, a Hub repository, a catalog name) on solutions with known truth.

    The truth comes from the oracle of the questions' source, from people, or from the method that --truth names. Each
    solution is scored once; the scores are kept in the dataset, where other evaluations find them. The same command
    continues a stopped evaluation, and shows the result of a finished one.

    \b
    Figures (of each set, and of each source and generator if there are several):
      F1               ProcessBench: harmonic mean of the shares of solutions with an error whose first error is named
                       exactly, and of those without one in which none is named; a step scored below 0.5 is wrong
      F1 own, F1 dev   the same at the threshold the model was saved with, and at the best one on --dev
      AUROC …  ECE     over steps up to the first true error; accuracies at 0.5, ECE over 15 bins of equal mass
      last lowest      solutions whose last step scores lowest: many of them show that it judges answers, not steps
      mean             unweighted over the sets: ProcessBench's headline

    A solution that cannot be scored (longer than the model's context) counts as missed in F1, and is listed; then the
    exit code is 3.

    \b
    Examples:
      openr-data eval prm arithmetic-reward --on arithmetic
      openr-data eval prm Qwen/Qwen2.5-Math-PRM-7B --on gsm8k.json --on math.json --plot prm.svg
      openr-data eval prm my-prm --on math-aps@v1 --truth consensus --dev math-dev --json
    """
    if plot:
        check_plot(plot)
    config = PrmEvaluationConfig(model, on, dev, truth, reward_run.backend, reward_run.format, file_format, limit)
    command = shlex.join(["openr-data", *sys.argv[1:]])
    done = evaluate_prm(store, config, reward_run.live, progress=_progress, announce=note, command=command)
    _show(out, done)
    if plot:
        from ..display.prm_plots import plot_prm

        plot_prm(done.evaluation, plot)
        hint(f"Drawn to {plot}.")
    if done.failures:
        raise click.exceptions.Exit(3)


def _show(out: Output, done: Evaluated) -> None:
    evaluation = done.evaluation
    if out.mode == "json":
        out.facts(done.as_dict())
    else:
        rows = [item.row() for item in evaluation.rows]
        mean = evaluation.mean_row()
        rows += [mean] if mean is not None else []
        names = list(rows[0])
        people = out.mode in ("human", "markdown")
        out.rows([_for_people(row, evaluation) for row in rows] if people else rows, None if people else names)
    _tell(done)


def _for_people(row: Mapping[str, Any], evaluation: PrmEvaluation) -> dict[str, str]:
    """The figures of a row that people look at first; the others are in --json and --csv."""
    shown = {
        "set": row["set"],
        "group": " ".join(filter(None, (row["by"], row["group"]))),
        "solutions": _count(row.get("solutions")),
        "F1": _rate(row["f1"]),
        "F1 own": _rate(row[f"f1{OWN}"]),
    }
    if evaluation.dev is not None:
        shown["F1 dev"] = _rate(row[f"f1{DEV}"])
    return shown | {
        "on errors": _rate(row.get("accuracy_erroneous")),
        "on correct": _rate(row.get("accuracy_correct")),
        "steps": _count(row.get("steps")),
        "good": _rate(row.get("good_share")),
        "AUROC": _rate(row.get("auroc")),
        "accuracy": _rate(row.get("accuracy")),
        "balanced": _rate(row.get("balanced_accuracy")),
        "log-loss": _rate(row.get("log_loss")),
        "Brier": _rate(row.get("brier")),
        "ECE": _rate(row.get("ece")),
        "last lowest": _rate(row.get("last_is_lowest")),
    }


def _tell(done: Evaluated) -> None:
    """The notes beside the figures."""
    evaluation = done.evaluation
    for name, facts in done.sets.items():
        truth = ", ".join(f"{kind} ({count:,} solutions)" for kind, count in facts["truth"].items())
        more = [f"{facts['without_truth']:,} labelled solutions have none"] if facts["without_truth"] else []
        if facts["unreadable"]:
            more.append(f"{facts['unreadable']:,} could not be judged: their questions lack what the oracle needs")
        more += [f"{count:,} rows dropped: {reason}" for reason, count in facts["dropped"].items()]
        note(f"Truth of {name}: {truth}{''.join(f'; {item}' for item in more)}.")
        if facts.get("seen_questions"):
            note(seen_note(facts["seen_questions"], facts["questions"], name))
    for item in evaluation.sets:
        if item.undecided:
            note(
                f"{item.undecided:,} solutions of {item.name} may have an error or not: their steps count, F1 does not."
            )
    note(f"The model's own threshold is {evaluation.threshold:g} ({evaluation.revision}).")
    if (dev := evaluation.dev) is not None:
        note(f"The best threshold on {dev.name} is {dev.threshold:.4f} ({dev.solutions:,} solutions).")
        if dev.in_common:
            note(f"{dev.in_common:,} of them are in the other sets too: F1 dev flatters there.")
        if dev.failed:
            note(f"{dev.failed:,} of them could not be scored and did not count.")
    if done.failures:
        note(f"{len(done.failures):,} solutions could not be scored and count as missed, for example:")
        for row in done.failures[:SHOWN]:
            note(f"  {row['set']} {row['solution'][:10]}  {row['reason']}")
        hint("All of them: the same command with --json.")


@contextmanager
def _progress() -> Iterator[ScoringReport]:
    """A bar on a terminal, a line every 30 seconds elsewhere; both on stderr."""
    if not sys.stderr.isatty():
        began = last = time.monotonic()
        before: int | None = None

        def log(done: int, total: int) -> None:
            nonlocal last, before
            before = done - 1 if before is None else before
            if time.monotonic() - last > LINE_EVERY:
                last = time.monotonic()
                left = (last - began) / (done - before) * (total - done)
                note(f"{done:,} of {total:,} solutions scored, {duration(left)} to go")

        yield log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
