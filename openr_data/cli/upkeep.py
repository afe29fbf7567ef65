"""Commands that keep a store in order: verify, compact, gc."""

import click

from ..jobs.job import Job
from ..store import Store, maintenance
from ..store.refs import DatasetName
from ..store.verify import verify
from .output import Output, hint, note, output_options, size


@click.command("verify")
@click.argument("name")
@output_options
@click.pass_obj
def verify_(store: str, /, name: str, out: Output) -> None:
    """Read every file of the dataset NAME again: ids, counts, lists, references, digests of all snapshots.

    Exit code 1 where something is wrong. Nothing is written.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name)
    rows = [
        {"where": item.where, "count": item.count, "problem": item.what, "for example": ", ".join(item.examples)}
        for item in verify(dataset)
    ]
    if rows or not out.is_human:
        out.rows(rows, ("where", "count", "problem", "for example"))
    if rows:
        hint(f"A state that was whole can be had back with: openr-data rollback {dataset.name} REF")
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
    """Rewrite the files of the dataset NAME as few ones, sorted by question.

    What the dataset says does not change, and it may be read and written meanwhile. Labeling does a bounded part of
    it by itself. The old files stay for the snapshots that hold them; gc removes them.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name, write=True)
    found = maintenance.compact(dataset)
    rows = [
        {
            "table": item.table,
            "files before": item.files_before,
            "files after": item.files_after,
            "before": size(item.bytes_before) if out.is_human else item.bytes_before,
            "after": size(item.bytes_after) if out.is_human else item.bytes_after,
        }
        for item in found
    ]
    out.rows(rows, ("table", "files before", "files after", "before", "after"))
    if not rows:
        note(f"{dataset.name} is compact.")


@click.command("gc")
@click.argument("name")
@click.option("--keep-days", default=maintenance.KEEP_DAYS, show_default=True, help="Untagged snapshots are kept for.")
@click.option(
    "--retention",
    "hours",
    default=maintenance.RETENTION_HOURS,
    show_default=True,
    help="Hours for which files that nothing names are kept.",
)
@click.option("--alone", is_flag=True, help="You state that no other process uses the dataset.")
@click.option("--dry-run", is_flag=True, help="Say what would go; nothing is removed.")
@output_options
@click.pass_obj
def gc_(store: str, /, name: str, keep_days: int, hours: int, alone: bool, dry_run: bool, out: Output) -> None:
    """Let go of old snapshots of NAME that have no tag, and remove the files that nothing names any more.

    The newest state and every tag stay. Files younger than a week stay too: a writer may be about to commit them.
    """
    opened = Store.open(store)
    dataset = opened.dataset(DatasetName.parse(name).name, write=not dry_run)
    running = Job.writing(opened, dataset.name)
    found = maintenance.gc(
        dataset,
        keep_days=keep_days,
        retention_hours=hours if not running else max(hours, maintenance.RETENTION_HOURS),
        alone=alone,
        dry_run=dry_run,
    )
    if running and hours < maintenance.RETENTION_HOURS:
        note(f"The job {running[0]} writes into {dataset.name}, so files younger than a week stay.")
    would = "would go" if dry_run else "are gone"
    out.facts(
        {
            "dataset": dataset.name,
            "snapshots": found.snapshots if not out.is_human else ", ".join(found.snapshots) or "none",
            "files": sum(found.files.values()),
            "bytes": size(found.bytes) if out.is_human else found.bytes,
            **({} if out.is_human else {"paths": found.paths, "dry_run": dry_run}),
        }
    )
    note(f"{len(found.snapshots):,} snapshots and {sum(found.files.values()):,} files {would}.")
