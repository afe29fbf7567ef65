"""`openr-data import` and `export`: the formats of the field."""

import sys
from pathlib import Path

import click

from ..config import parse_overrides
from ..exchange.export_file import ExportOptions, export_file, export_records
from ..exchange.formats.files import json_line
from ..exchange.formats.format import Tally
from ..exchange.import_file import ImportOptions, import_file
from ..exchange.importer import GoldAnswers, Imported
from ..exchange.selection import Selection, parse_ratio
from ..store import Store
from .output import hint, note


@click.command("import")
@click.argument("name")
@click.argument("file")
@click.option("--as", "format_", default="", metavar="FORMAT", help="The format (default: recognised).")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the format, repeatable.")
@click.option("--split", default="", help="The split of a Hugging Face dataset; written on every question.")
@click.option("--config", default="", help="The configuration of a Hugging Face dataset.")
@click.option("--source", default="", help="Where the questions come from (default: NAME).")
@click.option(
    "--gold-from",
    default="",
    metavar="OTHER[@REF]",
    help="Fill in missing gold answers from the questions of the dataset OTHER with the same text.",
)
@click.option("--strict", is_flag=True, help="Refuse the file if a row would be dropped or repaired.")
@click.option("--report", type=click.Path(path_type=Path), help="List dropped and repaired rows in this JSONL file.")
@click.option("--dry-run", is_flag=True, help="Read everything, write nothing, and report what would be dropped.")
@click.pass_obj
def import_(
    store: str, /, name: str, file: str, format_: str, options: tuple[str, ...], split: str, config: str, source: str,
    gold_from: str, strict: bool, report: Path | None, dry_run: bool,
) -> None:  # fmt: skip
    """Import questions or labelled processes from FILE into the dataset NAME.

    FILE is JSONL, JSON, Parquet or CSV (also .gz), hf:ORG/NAME, or a folder that load_dataset reads. Rows that the
    dataset has already stay as they are; changed labels are superseded. Formats: openr-data catalog ls

    \b
    Examples:
      openr-data import math train.jsonl
      openr-data import shepherd math-shepherd.jsonl --as math-shepherd
      openr-data import bench hf:Qwen/ProcessBench --split gsm8k
      openr-data import bench processbench/gsm8k.json --gold-from gsm8k
    """
    chosen = ImportOptions(format_, parse_overrides(options), split, config, source, gold_from, strict)
    done = import_file(store, name, file, chosen, report=report, dry_run=dry_run, announce=note)
    if done.imported is None:
        tally = done.tally
        note(f"{tally.rows - sum(tally.dropped.values()):,} of {tally.rows:,} rows can be read as {done.format}.")
        _print_tally(tally)
        _print_gold(done.gold, gold_from)
        return
    _print_import(name, done.imported)
    _print_gold(done.gold, gold_from)
    assert done.imported.snapshot is not None
    click.echo(f"{name}@{done.imported.snapshot.name}")
    labelled = done.imported.labels or done.imported.relabelled
    next_step = f"view {name}" if labelled else f"label {name} --method omegaprm --policy MODEL"
    hint(f"{'Look at them' if labelled else 'Label them'} with: openr-data {next_step}")


def _print_import(name: str, imported: Imported) -> None:
    tally = imported.tally
    parts = [f"{imported.questions:,} questions"]
    if imported.labels or imported.relabelled or imported.repeated:
        parts.append(f"{imported.solutions:,} solutions and {imported.labels:,} label sets")
    only = len(parts) == 1
    there = max(imported.read - imported.questions, 0) if only else imported.repeated
    note(
        f"{', '.join(parts)} added to {name}, {there:,} were there already or repeated"
        + (f", {imported.relabelled:,} relabelled" if imported.relabelled else "")
        + (
            f"; {imported.without_gold:,} have no gold answer and cannot be labelled"
            if only and imported.without_gold
            else ""
        )
        + "."
    )
    _print_tally(tally)


def _print_gold(gold: GoldAnswers | None, other: str) -> None:
    """Print how many questions without a gold answer got one, and why the others did not."""
    if gold is None:
        return
    reasons = ((gold.absent, f"whose text is not in {other}"), (gold.ambiguous, f"with several answers in {other}"))
    left = " and ".join(f"{count:,} {reason}" for count, reason in reasons if count)
    note(f"  gold answers from {other}: {gold.filled:,} questions filled" + (f"; none for {left}" if left else ""))


def _print_tally(tally: Tally) -> None:
    """Print how many rows were dropped, repaired or lost, and why."""
    for what, counts in (("dropped", tally.dropped), ("repaired", tally.repaired)):
        for reason, count in counts.most_common():
            note(
                f"  {what} {count:,}: {reason} ({', '.join(tally.places.get(reason, ()))}{', …' if count > 3 else ''})"
            )
    for reason, count in tally.lost.most_common():
        note(f"  lost {count:,}: {reason}")


@click.command()
@click.argument("name")
@click.argument("file", default="-")
@click.option("--as", "format_", default="records", show_default=True, metavar="FORMAT", help="The format.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the format, repeatable.")
@click.option("--method", default="", help="Only label sets of this method.")
@click.option("--where", default="", metavar="SQL", help="Only records that satisfy this, for example: level = '5'.")
@click.option("--balance", default="", metavar="RATIO", help="Records with a first error : without one, as 1:1.")
@click.option("--per-question", type=click.IntRange(min=1), metavar="N", help="At most N records of a question.")
@click.option("--dedupe", is_flag=True, help="Keep each combination of question, steps and labels once.")
@click.option("--seed", default=0, show_default=True, help="Seeds what --balance and --per-question leave out.")
@click.pass_obj
def export(
    store: str, /, name: str, file: str, format_: str, options: tuple[str, ...], method: str, where: str,
    balance: str, per_question: int | None, dedupe: bool, seed: int,
) -> None:  # fmt: skip
    """Write the dataset NAME or NAME@ref to FILE (.jsonl, .json, .parquet, .csv, also .gz; "-": stdout as JSONL).

    The command reports what the format cannot hold, and what --balance, --per-question and --dedupe leave out:
    repeated records first, then those beyond N, then records of the larger side. `records` holds everything.

    \b
    Examples:
      openr-data export math-aps@v1 train.parquet --as trl
      openr-data export math-aps tree.jsonl --as math-aps-tree --where "level = '5'"
      openr-data export math-aps train.jsonl --as trl --dedupe --per-question 8 --balance 1:1
    """
    selection = Selection(parse_ratio(balance) if balance else None, per_question, dedupe, seed)
    chosen = ExportOptions(format_, parse_overrides(options), method, where, selection)
    view = Store.open(store).view(name)
    if file == "-":
        tally, count = Tally(), 0
        for row in export_records(view, tally, chosen):
            click.echo(json_line(row))
            count += 1  # noqa: SIM113
    else:
        exported = export_file(view, Path(file), chosen)
        tally, count = exported.tally, exported.rows
    sys.stdout.flush()
    note(f"{count:,} rows of {name} as {format_}.")
    _print_tally(tally)
