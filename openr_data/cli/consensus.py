"""`openr-data consensus`: keeps the solutions on whose first error several methods agree."""

from pathlib import Path

import click

from ..derivation.agreed import keep_agreed
from ..derivation.consensus import Consensus
from ..store import Store
from ..store.refs import DatasetName
from .output import Output, hint, note, output_options


@click.command("consensus")
@click.argument("dataset")
@click.option("--methods", required=True, metavar="A,B,…", help="Two or more methods, jobs or METHOD/JOB.")
@click.option("--into", default="", metavar="NAME", help="The dataset to write to (default: the same one).")
@click.option("--report", type=click.Path(path_type=Path), help="List every discarded solution in this JSONL file.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept; write nothing into a dataset.")
@output_options
@click.pass_obj
def consensus_(
    store: str, /, dataset: str, methods: str, into: str, report: Path | None, dry_run: bool, out: Output
) -> None:
    """Keep the solutions of DATASET or DATASET@ref on whose first error several methods agree.

    No policy is called: existing label sets are joined. A solution is kept, under the method `consensus`, if all
    methods find the same first wrong step or none of them finds one; the same command again adds nothing. Values and
    counts are those of the first method that has rollouts.

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
    names = [name.strip() for name in methods.split(",") if name.strip()]
    consensus = keep_agreed(Store.open(store), dataset, names, into=into, report=report, dry_run=dry_run)
    target = into or DatasetName.parse(dataset).name
    _summary(consensus, target, out)
    if report is not None:
        note(f"{consensus.discarded.total():,} discarded solutions are listed in {report}.")
    if dry_run:
        hint("Nothing was written. Write it with the same command without --dry-run.")
    elif not consensus.kept:
        hint(f"Nothing is kept, so nothing was written. See where methods differ with: openr-data compare {dataset}")
    else:
        hint(f"Look at them with: openr-data view {target} --method consensus")


def _summary(consensus: Consensus, target: str, out: Output) -> None:
    state = f"{target}@{consensus.snapshot.name}" if consensus.snapshot else ""
    if out.mode == "json":
        out.facts(
            {
                "dataset": state or None,
                "job_id": consensus.job_id,
                "methods": list(consensus.methods),
                "solutions": consensus.solutions,
                "kept": consensus.kept,
                "kept_with_an_error": consensus.errors,
                "added": consensus.added,
                "discarded": dict(consensus.discarded.most_common()),
            }
        )
        return
    agreed = f"kept: {' and '.join(consensus.methods)} agree"
    counts = {agreed: consensus.kept, **dict(consensus.discarded.most_common())}
    out.rows([{"what": what, "solutions": count} for what, count in counts.items()])
    note(
        f"{consensus.kept:,} of {consensus.solutions:,} solutions kept ({consensus.kept / consensus.solutions:.1%}), "
        f"{consensus.errors:,} of them with an error."
    )
    if state:
        note(
            f"{consensus.added:,} label sets added to {state}, {consensus.kept - consensus.added:,} were there already."
        )
