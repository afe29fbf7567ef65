"""`openr-data import` and `export`: the formats of the field."""

import itertools
import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from ..config import parse_overrides
from ..errors import InputError, OpenRError, UsageError
from ..exchange.exporter import export_rows
from ..exchange.file_format import AHEAD, check_some, make_format, recognised
from ..exchange.formats.files import PlacedRow, json_line, read_rows, write_rows
from ..exchange.formats.format import Format, Tally
from ..exchange.importer import GoldAnswers, ImportConfig, Imported, check_rows, import_rows, read_items
from ..exchange.selection import Selection, parse_ratio
from ..registry import SOURCES
from ..store import Store
from ..store.refs import DatasetName
from ..store.storage import is_full, storage_error
from .output import hint, note


@click.command("import")
@click.argument("name")
@click.argument("file")
@click.option("--as", "format_", default="", metavar="FORMAT", help="The format (default: told by the first rows).")
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
@click.option("--strict", is_flag=True, help="Refuse the file where a row would be dropped or mended.")
@click.option("--report", type=click.Path(path_type=Path), help="List every dropped or mended row in this JSONL file.")
@click.option("--dry-run", is_flag=True, help="Read everything, write nothing, and say what would be dropped.")
@click.pass_obj
def import_(
    store: str, /, name: str, file: str, format_: str, options: tuple[str, ...], split: str, config: str, source: str,
    gold_from: str, strict: bool, report: Path | None, dry_run: bool,
) -> None:  # fmt: skip
    """Bring questions or labelled processes from FILE into the dataset NAME.

    FILE is JSONL, JSON, Parquet or CSV (also .gz), hf:ORG/NAME, or a folder that load_dataset reads. What is there
    already is left as it is; labels that changed are superseded. Formats: openr-data catalog ls

    \b
    Examples:
      openr-data import math train.jsonl
      openr-data import shepherd math-shepherd.jsonl --as math-shepherd
      openr-data import bench hf:Qwen/ProcessBench --split gsm8k
      openr-data import bench processbench/gsm8k.json --gold-from gsm8k
    """
    DatasetName.parse(name)
    if "@" in name:
        raise UsageError(f"An import writes to the newest state of a dataset: {name.partition('@')[0]}, without @.")
    if name in SOURCES:
        raise UsageError(f"{name!r} is a built-in source, which `label {name}` means. Choose another name.")
    gold = GoldAnswers(Store.open(store).view(gold_from)) if gold_from else None
    rows = read_rows(file, config, split)
    ahead = list(itertools.islice(rows, AHEAD))
    if not ahead:
        raise InputError(f"{file} holds no rows.")
    if not format_:
        format_ = recognised(file, ahead)
        note(f"{file} is read as {format_}.")
    overrides = parse_overrides(options)
    form = make_format(format_, overrides, source or name, split)
    check_some(form, format_, file, ahead)
    with ExitStack() as stack:
        tell = _reporter(report, stack)
        if strict or dry_run:
            told = _look(form, file, config, split, tell, gold if dry_run else None)
            if strict:
                check_rows(told, file)
            if dry_run:
                note(f"{told.rows - sum(told.dropped.values()):,} of {told.rows:,} rows can be read as {format_}.")
                _tell(told)
                _tell_gold(gold, gold_from)
                return
        what = ImportConfig(format_, source or name, split, dict(overrides), gold_from)
        dataset = Store.open(store, create=True).dataset(name, create=True)
        stream: Iterable[PlacedRow] = itertools.chain(ahead, rows)
        found = import_rows(dataset, what, form, stream, Path(file).name, None if strict else tell, gold)
    _say(name, found)
    _tell_gold(gold, gold_from)
    assert found.snapshot is not None
    click.echo(f"{name}@{found.snapshot.name}")
    labelled = found.labels or found.relabelled
    next_step = f"view {name}" if labelled else f"label {name} --method omegaprm --policy MODEL"
    hint(f"{'Look at them' if labelled else 'Label them'} with: openr-data {next_step}")


def _reporter(report: Path | None, stack: ExitStack) -> Any:
    if report is None:
        return None
    try:
        out = stack.enter_context(report.open("w", encoding="utf-8"))
    except OSError as error:
        raise OpenRError(f"Cannot write {report}: {error.strerror}.") from error

    def tell(place: str, what: str, reason: str) -> None:
        out.write(json.dumps({"place": place, "what": what, "reason": reason}, ensure_ascii=False) + "\n")

    return tell


def _look(form: Format, file: str, config: str, split: str, tell: Any, gold: GoldAnswers | None) -> Tally:
    tally = Tally(report=tell)
    for item in read_items(form, read_rows(file, config, split), tally):
        if gold is not None:
            gold.fill(item)
    return tally


def _say(name: str, found: Imported) -> None:
    tally = found.tally
    parts = [f"{found.questions:,} questions"]
    if found.labels or found.relabelled or found.repeated:
        parts.append(f"{found.solutions:,} solutions and {found.labels:,} label sets")
    only = len(parts) == 1
    there = max(found.read - found.questions, 0) if only else found.repeated
    note(
        f"{', '.join(parts)} added to {name}, {there:,} were there already or repeated"
        + (f", {found.relabelled:,} relabelled" if found.relabelled else "")
        + (
            f"; {found.without_gold:,} have no gold answer and cannot be labelled"
            if only and found.without_gold
            else ""
        )
        + "."
    )
    _tell(tally)


def _tell_gold(gold: GoldAnswers | None, other: str) -> None:
    """How many questions that came without a gold answer got one, and why the others did not."""
    if gold is None:
        return
    reasons = ((gold.absent, f"whose text is not in {other}"), (gold.ambiguous, f"with several answers in {other}"))
    left = " and ".join(f"{count:,} {reason}" for count, reason in reasons if count)
    note(f"  gold answers from {other}: {gold.filled:,} questions filled" + (f"; none for {left}" if left else ""))


def _tell(tally: Tally) -> None:
    """What was dropped, repaired or lost, and why."""
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
@click.option("--where", default="", metavar="SQL", help="Only records for which this holds, for example: level = '5'.")
@click.option("--balance", default="", metavar="RATIO", help="Records with a first error : without one, as 1:1 or 0.5.")
@click.option("--per-question", type=click.IntRange(min=1), metavar="N", help="At most N records of a question.")
@click.option("--dedupe", is_flag=True, help="Each question, steps and labels once, whatever labelled them.")
@click.option("--seed", default=0, show_default=True, help="What --balance and --per-question leave out.")
@click.pass_obj
def export(
    store: str, /, name: str, file: str, format_: str, options: tuple[str, ...], method: str, where: str,
    balance: str, per_question: int | None, dedupe: bool, seed: int,
) -> None:  # fmt: skip
    """Write the dataset NAME or NAME@ref to FILE (.jsonl, .json, .parquet, .csv, also .gz; "-": stdout as JSONL).

    What the format cannot hold is counted and told, and so is what --balance, --per-question and --dedupe leave out:
    repeated records first, then those beyond N, then the side there is too much of. `records` holds everything.

    \b
    Examples:
      openr-data export math-aps@v1 train.parquet --as trl
      openr-data export math-aps tree.jsonl --as math-aps-tree --where "level = '5'"
      openr-data export math-aps train.jsonl --as trl --dedupe --per-question 8 --balance 1:1
    """
    selection = Selection(parse_ratio(balance) if balance else None, per_question, dedupe, seed)
    form = make_format(format_, parse_overrides(options), DatasetName.parse(name).name, "")
    tally = Tally()
    rows = export_rows(Store.open(store).view(name), form, tally, method=method, where=where, selection=selection)
    if file == "-":
        count = 0
        for row in rows:
            click.echo(json_line(row))
            count += 1  # noqa: SIM113
    else:
        path = Path(file)
        try:
            count = write_rows(path, rows)
        except OSError as error:
            if is_full(error):
                raise storage_error(path, error) from error
            raise OpenRError(f"Cannot write {path}: {error.strerror}.") from error
    sys.stdout.flush()
    note(f"{count:,} rows of {name} as {format_}.")
    _tell(tally)
