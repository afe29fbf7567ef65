"""`openr-data consensus`: keep the solutions on whose first error several methods agree."""

from pathlib import Path

import click

from ..derivation.consensus import Consensus, Join
from ..errors import OpenRError, UsageError
from ..exchange.formats.files import write_rows
from ..registry import SOURCES
from ..store import Store
from ..store.refs import DatasetName
from ..store.storage import is_full, storage_error
from .output import Output, hint, note, output_options


@click.command("consensus")
@click.argument("dataset")
@click.option("--methods", required=True, metavar="A,B,…", help="Two or more methods, jobs or METHOD/JOB.")
@click.option("--into", default="", metavar="NAME", help="The dataset that gets what is kept (default: the same one).")
@click.option("--report", type=click.Path(path_type=Path), help="List every discarded solution in this JSONL file.")
@click.option("--dry-run", is_flag=True, help="Write nothing into a dataset, and say what would be kept.")
@output_options
@click.pass_obj
def consensus_(
    store: str, /, dataset: str, methods: str, into: str, report: Path | None, dry_run: bool, out: Output
) -> None:
    """Keep the solutions of DATASET or DATASET@ref on whose first error several methods agree.

    No policy is called: label sets that are there are joined. Where all methods find the same first wrong step, or none
    of them finds one, the solution is kept under the method `consensus`; the same command again adds nothing. Values
    and counts are those of the first method that has rollouts.

    \b
    Reasons to discard:
      not labelled by A              another method has labelled the solution
      A is undecided                 an unjudged step and no bad one
      A sees an error where B sees none
      different first errors         in the report: A says step 2, B says step 4 (the first step is 0)

    \b
    Examples:
      openr-data consensus arithmetic --methods adaptive,judge
      openr-data consensus arithmetic --methods omegaprm/3fa9,judge --into agreed --report discarded.jsonl
    """
    wanted = DatasetName.parse(dataset)
    target = into or wanted.name
    if "@" in target:
        raise UsageError(f"What is kept goes to the newest state of a dataset: --into {target.partition('@')[0]}.")
    if into in SOURCES and into != wanted.name:
        raise UsageError(f"{into!r} is a built-in source, which `label {into}` means. Choose another name.")
    DatasetName.parse(target)
    opened = Store.open(store)
    join = Join(opened.view(dataset), [item.strip() for item in methods.split(",") if item.strip()])
    found = join.found
    if report is not None:
        _write_report(join, report)
    if found.kept and not dry_run:
        join.write(opened.dataset(target, create=True))
    _summary(found, target, out)
    if report is not None:
        note(f"{found.discarded.total():,} discarded solutions are listed in {report}.")
    if dry_run:
        hint("Nothing was written. Write it with the same command without --dry-run.")
    elif not found.kept:
        hint(f"Nothing is kept, so nothing was written. See where methods differ with: openr-data compare {dataset}")
    else:
        hint(f"Look at them with: openr-data view {target} --method consensus")


def _write_report(join: Join, report: Path) -> None:
    try:
        write_rows(report, join.discarded())
    except OSError as error:
        if is_full(error):
            raise storage_error(report, error) from error
        raise OpenRError(f"Cannot write {report}: {error.strerror}.") from error


def _summary(found: Consensus, target: str, out: Output) -> None:
    state = f"{target}@{found.snapshot.name}" if found.snapshot else ""
    if out.mode == "json":
        out.facts(
            {
                "dataset": state or None,
                "job_id": found.job_id,
                "methods": list(found.methods),
                "solutions": found.solutions,
                "kept": found.kept,
                "kept_with_an_error": found.errors,
                "added": found.added,
                "discarded": dict(found.discarded.most_common()),
            }
        )
        return
    kept = f"kept: {' and '.join(found.methods)} agree"
    counts = {kept: found.kept, **dict(found.discarded.most_common())}
    out.rows([{"what": what, "solutions": count} for what, count in counts.items()])
    note(
        f"{found.kept:,} of {found.solutions:,} solutions kept ({found.kept / found.solutions:.1%}), "
        f"{found.errors:,} of them with an error."
    )
    if state:
        note(f"{found.added:,} label sets added to {state}, {found.kept - found.added:,} were there already.")
