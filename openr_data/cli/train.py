"""`openr-data train`: reward models from the labels of a snapshot."""

import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from ..config import parse_overrides, read_toml, resolve
from ..exchange.selection import parse_ratio
from ..jobs.trainer import run_training
from ..registry import catalog_entry, load
from ..store import Store
from .output import Output, hint, note, output_options

LINE_EVERY: Final = 30.0
"""Seconds between two lines of progress."""

DEFAULT: Final = "arithmetic-prm"
"""The recipe where no model is named."""


@click.group()
def train() -> None:
    """Train from pinned snapshots."""


@train.command("prm")
@click.argument("data")
@click.option("--model", help="The base model: a catalog name, a Hub repository or a folder (default: arithmetic).")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="The model folder to write (default: NAME-prm).")
@click.option("--recipe", help="Begin with a recipe of the catalog (default without --model: arithmetic-prm).")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of options, over the recipe.")
@click.option("--format", "form", help="How it reads steps: a table [prm.NAME] of catalogs/models.toml.")
@click.option("--method", help="Only label sets of this method.")
@click.option("--where", help='Only records for which this SQL holds, for example "n_steps > 2".')
@click.option("--balance", metavar="RATIO", help="Solutions with an error per solution without, for example 1:1.")
@click.option("--per-question", type=click.IntRange(min=1), help="At most N solutions of a question.")
@click.option("--dedupe", is_flag=True, help="Leave out records that repeat another one.")
@click.option("--labels", type=click.Choice(["hard", "soft"]), help="The label, or the share of right rollouts.")
@click.option("--threshold", type=click.FloatRange(0, 1, max_open=True), help="Good is a share above this.")
@click.option("--generative", is_flag=True, help="Train the verdict as the next token of the whole vocabulary.")
@click.option("--reasons", is_flag=True, help="With --generative: learn the reasons of labels after the verdicts.")
@click.option(
    "-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="Any option, for example -o epochs=2."
)
@output_options
@click.pass_obj
def prm(
    store: str,
    /,
    data: str,
    out: Output,
    folder: Path | None,
    recipe: str | None,
    config: Path | None,
    form: str | None,
    balance: str | None,
    dedupe: bool,
    generative: bool,
    reasons: bool,
    options: tuple[str, ...],
    **flags: Any,
) -> None:
    """Train a process reward model on the step labels of DATA (NAME or NAME@ref).

    The snapshot is pinned: what is labelled later has no part in it. Some questions are held out (dev_share); on them
    the best checkpoint and the threshold are chosen. The model folder says in its config how it is read. The same
    command again goes on where it stopped; the first Ctrl-C writes a checkpoint, the second stops at once.

    \b
    Options for -o, with their defaults:
      epochs 3, least_updates 0 (more epochs until there are that many),
      learning_rate 1e-5, warmup 0.05, weight_decay 0.05, clip 1.0,
      pack_tokens 4096 (a row), packs_per_step 4 (rows an update),
      evaluations 10, patience 0, seed 0, dev_share 0.05, max_length 0 (the context of the model),
      lora_rank 0, bf16 false, checkpointing false, weights one|rollouts,
      source_weights (NAME:NUMBER,… for sources of questions or methods of labels),
      share true (solutions of a question are read once where they agree),
      reason_weight 1 (of a whole reason, in verdicts)

    \b
    Examples:
      openr-data train prm arithmetic
      openr-data train prm math-aps@v1 --model Qwen/Qwen2.5-Math-7B-Instruct -o lora_rank=16 -o bf16=true
      accelerate launch -m openr_data.cli train prm math-aps@v1 --model Qwen/Qwen2.5-Math-1.5B-Instruct
    """
    kind = load("trainer", "prm")
    layers: list[Mapping[str, Any]] = []
    if recipe or not flags["model"]:
        layers.append(training_recipe(recipe or DEFAULT))
    if config:
        layers.append(read_toml(config))
    given = {name: value for name, value in flags.items() if value is not None}
    given |= {"format": form} if form else {}
    given |= {"balance": parse_ratio(balance)} if balance else {}
    given |= {"dedupe": True} if dedupe else {}
    given |= {"generative": True} if generative else {}
    given |= {"reasons": True} if reasons else {}
    layers += [given, {"data": data}, parse_overrides(options)]
    resolved = resolve(kind.config_type, layers, what="option of train prm")
    folder = folder or Path(f"{data.partition('@')[0]}-prm")
    run = kind(Store.open(store), resolved, folder)
    with _asked_to_stop() as stop:
        trained = run_training(
            run,
            report=_progress(),
            stop=stop,
            announce=lambda job: note(f"prm on {run.config.data} from {resolved.model} → {folder}, job {job.job_id}"),
        )
    if trained.was_done:
        note(f"The model in {folder} is done already. Train another one with another --out, option or seed.")
        _summary(out, folder, trained.figures)
    elif trained.figures:
        _summary(out, folder, trained.figures)
        name = f"./{folder}" if not folder.is_absolute() and folder.parts[:1] != ("..",) else str(folder)
        hint(f"Prove it with: openr-data eval prm {name} --on DATASET")
        hint(f"Choose answers with it: openr-data eval search --reward {name}")


def training_recipe(name: str) -> dict[str, Any]:
    """A recipe of `catalogs/training`. Raises `UnknownName`."""
    recipe = tomllib.loads(catalog_entry("training recipe", "training", name, ".toml"))
    recipe.pop("summary", None)
    return recipe


def _summary(out: Output, folder: Path, figures: Mapping[str, Any]) -> None:
    if not out.is_human:
        out.facts({"model": str(folder), **figures})
        return
    tokens, alone = figures["tokens"], figures["solution_tokens"]
    facts: dict[str, Any] = {
        "model": str(folder),
        "job": figures["job"],
        "data": figures["data"],
        "solutions": f"{figures['total']:,} of {figures['questions']:,} questions",
        "labelled steps": f"{figures['steps']:,} ({figures['good_steps'] / max(1, figures['steps']):.0%} good)",
        "tokens an epoch": f"{tokens:,} ({alone / max(1, tokens):.1f} times as many without sharing)",
        "updates": figures["updates"],
        "seconds": figures["seconds"],
    }
    if figures["cut_steps"] or figures["dropped_solutions"]:
        facts["did not fit"] = (
            f"{figures['cut_steps']:,} steps of {figures['cut_solutions']:,} solutions, "
            f"{figures['dropped_solutions']:,} whole solutions"
        )
    if figures.get("reasons"):
        facts["reasons"] = (
            f"{figures['reasons']:,} ({figures['repeated_reasons']:,} more for the same verdicts, "
            f"{figures['dropped_reasons']:,} did not fit)"
        )
    if figures["benchmark_questions_left_out"]:
        benchmarks = ", ".join(
            f"{count:,} of {name}" for name, count in figures["benchmark_questions_left_out"].items()
        )
        facts["benchmark questions"] = f"left out: {benchmarks}"
    facts |= {f"dev {name.replace('_', ' ')}": round(value, 4) for name, value in figures["dev"].items()}
    facts["threshold"] = round(figures["threshold"], 4)
    out.facts(facts)


def _progress() -> Callable[[Mapping[str, float]], None]:
    """A line for every evaluation, and one now and then between."""
    last = time.monotonic()

    def report(logs: Mapping[str, float]) -> None:
        nonlocal last
        step = f"step {logs['step']:,.0f} of {logs['steps']:,.0f}"
        if "eval_log_loss" in logs:
            shown = {
                "log-loss": logs["eval_log_loss"],
                "AUROC": logs.get("eval_auroc"),
                "ECE": logs.get("eval_ece"),
                "first-error F1": logs.get("eval_first_error_f1"),
            }
            note(
                f"{step}  dev " + "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)
            )
            last = time.monotonic()
        elif "loss" in logs and time.monotonic() - last > LINE_EVERY:
            note(f"{step}  loss {logs['loss']:.4f}  learning rate {logs.get('learning_rate', 0):.2g}")
            last = time.monotonic()

    return report


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; the second time it interrupts at once."""
    asked = False

    def press(_: int, __: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        note("Writing a checkpoint; press again to stop at once.")

    before = {number: signal.signal(number, press) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
