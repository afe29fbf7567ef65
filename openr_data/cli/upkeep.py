"""Commands that keep a store in order: verify, compact, gc."""

import click

from ..jobs.upkeep import collect_garbage
from ..store import Store, maintenance
from ..store.refs import DatasetName
from ..store.verify import verify
from .output import Output, hint, note, output_options, size


@click.command("verify")
@click.argument("name")
@output_options
@click.pass_obj
def verify_(store: str, /, name: str, out: Output) -> None:
    """Read every file of the dataset NAME again and check ids, counts, lists, references and digests of all snapshots.

    Exit code 1 if something is wrong. Writes nothing.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name)
    rows = [
        {"where": fault.where, "count": fault.count, "problem": fault.what, "for example": ", ".join(fault.examples)}
        for fault in verify(dataset)
    ]
    if rows or not out.is_human:
        out.rows(rows, ("where", "count", "problem", "for example"))
    if rows:
        hint(f"Return to an earlier state with: openr-data rollback {dataset.name} REF")
        raise click.exceptions.Exit(1)
    counts = dataset.view().counts()
    note(
        f"{dataset.name} is whole: {counts['questions']:,} questions, {counts['solutions']:,} solutions, "
        f"{counts['labels']:,} label sets, {counts['rollouts']:,} rollouts, {len(dataset.snapshots()):,} snapshots."
    )


@click.command("compact")
@click.argument("name")
@output_options
@click.pass_obj
def compact_(store: str, /, name: str, out: Output) -> None:
    """Rewrite the files of the dataset NAME as a few files sorted by question.

    The content does not change, and other processes may read and write the dataset meanwhile. Labeling does a bounded
    part of this by itself. The old files stay for the snapshots that hold them; gc removes them.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name, write=True)
    compactions = maintenance.compact(dataset)
    rows = [
        {
            "table": done.table,
            "files before": done.files_before,
            "files after": done.files_after,
            "before": size(done.bytes_before) if out.is_human else done.bytes_before,
            "after": size(done.bytes_after) if out.is_human else done.bytes_after,
        }
        for done in compactions
    ]
    out.rows(rows, ("table", "files before", "files after", "before", "after"))
    if not rows:
        note(f"{dataset.name} is compact.")


@click.command("gc")
@click.argument("name")
@click.option(
    "--keep-days", default=maintenance.KEEP_DAYS, show_default=True, help="Days for which untagged snapshots stay."
)
@click.option(
    "--retention",
    "hours",
    default=maintenance.RETENTION_HOURS,
    show_default=True,
    help="Hours for which files that nothing refers to stay.",
)
@click.option("--alone", is_flag=True, help="State that no other process uses the dataset.")
@click.option("--dry-run", is_flag=True, help="List what would go; remove nothing.")
@output_options
@click.pass_obj
def gc_(store: str, /, name: str, keep_days: int, hours: int, alone: bool, dry_run: bool, out: Output) -> None:
    """Remove old snapshots of NAME that have no tag, and the files that nothing refers to any more.

    The newest state and every tag stay. Files younger than a week stay too: a writer may be about to commit them.
    """
    collected = collect_garbage(
        Store.open(store), name, keep_days=keep_days, retention_hours=hours, alone=alone, dry_run=dry_run
    )
    garbage, dataset = collected.garbage, collected.dataset
    if collected.held_by:
        note(f"The job {collected.held_by} writes into {dataset}, so files younger than a week stay.")
    would = "would go" if dry_run else "are gone"
    out.facts(
        {
            "dataset": dataset,
            "snapshots": garbage.snapshots if not out.is_human else ", ".join(garbage.snapshots) or "none",
            "files": sum(garbage.files.values()),
            "bytes": size(garbage.bytes) if out.is_human else garbage.bytes,
            **({} if out.is_human else {"paths": garbage.paths, "dry_run": dry_run}),
        }
    )
    note(f"{len(garbage.snapshots):,} snapshots and {sum(garbage.files.values()):,} files {would}.")
