"""Commands about versions: log, diff, tag, rollback."""

from collections import Counter
from typing import Any

import click

from ..errors import UsageError
from ..jobs.job import Job
from ..store import Store
from ..store import diff as differences
from ..store.refs import MAIN, DatasetName, Snapshot, missing
from ..store.rollback import rollback
from .output import Output, ago, confirm, hint, note, output_options


@click.command()
@click.argument("name")
@output_options
@click.pass_obj
def log(store: str, /, name: str, out: Output) -> None:
    """List the snapshots of the dataset NAME, newest first.

    +questions, +solutions and +steps came with a snapshot, -steps went, ~steps were relabelled: the same prefix has
    another label or other counts.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name)
    tags: dict[str, list[str]] = {}
    for tag in dataset.tags():
        tags.setdefault(tag.parent or "", []).append(tag.name)
    rows: list[dict[str, Any]] = []
    before: dict[str, int] = {}
    for item in dataset.snapshots():
        rows.append(
            {
                "snapshot": item.name,
                "age": ago(item.created_at),
                "operation": item.operation,
                **_changes(item, before),
                "message": item.message,
                "tags": ", ".join(tags.get(item.name, ())),
                "job": item.job_id or "",
                **({} if out.is_human else {"digest": item.digest, "created_at": item.created_at}),
            }
        )
        before = dict(item.counts)
    columns = ("snapshot", "age", "operation", "+questions", "+solutions", "+steps", "-steps", "~steps", "message",
               "tags", "job", *(() if out.is_human else ("digest", "created_at")))  # fmt: skip
    out.rows(rows[::-1], columns)


def _changes(item: Snapshot, before: dict[str, int]) -> dict[str, int]:
    shown = ("questions", "solutions", "steps")
    if item.changes:
        found = {f"+{name}": item.changes.get(f"+{name}", 0) for name in shown}
        return {**found, "-steps": item.changes.get("-steps", 0), "~steps": item.changes.get("~steps", 0)}
    # A snapshot of an older version says its counts alone.
    return {**{f"+{name}": item.counts[name] - before.get(name, 0) for name in shown}, "-steps": 0, "~steps": 0}


@click.command("diff")
@click.argument("old")
@click.argument("new", default="")
@click.option("--stat", "form", flag_value="stat", help="Counts by table (the default).")
@click.option("--rows", "form", flag_value="rows", help="Every labelled step that differs, old beside new.")
@click.option("--where", default="", metavar="SQL", help="Only steps for which this holds, for example: method = 'm'.")
@click.option("--limit", default=0, help="At most so many steps.")
@click.option("--exit-code", is_flag=True, help="Exit code 1 where anything differs.")
@output_options
@click.pass_obj
def diff_(
    store: str, /, old: str, new: str, form: str | None, where: str, limit: int, exit_code: bool, out: Output
) -> None:
    """Say what differs between OLD and NEW: NAME@ref each; NEW alone may be a ref, and is NAME if left out.

    A step is relabelled where the same prefix has another label, value or counts. --rows and --where show steps with
    the columns change, old_label, new_label, old_correct, new_correct and so on, which --where may name.

    \b
    Examples:
      openr-data diff math-aps@1 math-aps
      openr-data diff math-aps@v1 v2 --rows --where "change = 'relabelled' and level = '5'"
    """
    opened = Store.open(store)
    first = DatasetName.parse(old)
    new = new or first.name
    second = new if "@" in new or new in opened.names() else f"{first.name}@{new}"
    before, after = opened.view(old), opened.view(second)
    if form == "rows" or where or limit:
        table = differences.changed_steps(before, after, where, limit)
        found = table.num_rows > 0
        rows = table.to_pylist()
        if form == "stat":
            counts = Counter(row["change"] for row in rows)
            found_by = {"added": counts["added"], "removed": counts["removed"], "changed": counts["relabelled"]}
            out.rows([{"table": "labelled steps", **found_by}])
            rows = []
        else:
            out.rows([_short(row) for row in rows] if out.is_human else rows, None if rows else table.column_names)
    else:
        told = differences.diff(before, after)
        found = bool(told)
        items = (*told.tables.items(), ("labelled steps", told.steps))
        out.rows(
            [
                {"table": name, "added": item.added, "removed": item.removed, "changed": item.changed}
                for name, item in items
            ]
        )
        if found and out.is_human:
            hint(f"See the steps with: openr-data diff {old} {second} --rows")
    if exit_code and found:
        raise click.exceptions.Exit(1)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A changed step on one line: old → new."""
    signs = {1: "+", 0: "0", -1: "-", None: "·"}

    def side(which: str) -> str:
        if (row["change"], which) in (("added", "old"), ("removed", "new")):
            return ""
        counts = f" {row[f'{which}_correct']}/{row[f'{which}_rollouts']}" if row[f"{which}_rollouts"] else ""
        value = row[f"{which}_value"]
        return signs[row[f"{which}_label"]] + (counts or (f" {value:.2f}" if value is not None else ""))

    return {
        "change": row["change"],
        "solution": row["solution_id"][:10],
        "step_index": row["step_index"],
        "method": row["method"],
        "old → new": f"{side('old')} → {side('new')}".strip(),
        "step": row["step"],
    }


@click.command()
@click.argument("name")
@click.argument("tag_", metavar="[TAG]", default="")
@click.option("-m", "--message", default="", help="Why this state has a name.")
@click.option("--delete", is_flag=True, help="Take the tag away; asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
@click.pass_obj
def tag(store: str, /, name: str, tag_: str, message: str, delete: bool, yes: bool, out: Output) -> None:
    """Call the state NAME or NAME@ref by the name TAG; without TAG list the tags.

    A tag never moves, and gc never touches what it names.

    \b
    Examples:
      openr-data tag math-aps v1 -m "as published"
      openr-data tag math-aps@3 before-regrade
    """
    wanted = DatasetName.parse(name)
    opened = Store.open(store)
    if delete and not tag_:
        raise UsageError(f"Which tag? List them with: openr-data tag {wanted.name}")
    if not tag_:
        rows = [
            {"tag": item.name, "snapshot": item.parent, "age": ago(item.created_at), "message": item.message}
            for item in opened.dataset(wanted.name).tags()
        ]
        out.rows(rows, ("tag", "snapshot", "age", "message"))
        return
    dataset = opened.dataset(wanted.name, write=True)
    if delete:
        names = [item.name for item in dataset.tags()]
        if tag_ not in names:
            raise missing(wanted.name, tag_, names)
        confirm(f"Delete the tag {tag_} of {wanted.name}? Without it gc may let its snapshot go.", yes)
        gone = dataset.delete_tag(tag_)
        note(f"The tag {tag_} is gone; it was snapshot {gone.parent}.")
        return
    made = dataset.tag(tag_, wanted.ref, message)
    note(f"{wanted.name}@{made.name} is snapshot {made.parent}.")
    out.facts({"tag": f"{wanted.name}@{made.name}", "snapshot": made.parent, "digest": made.digest})


@click.command("rollback")
@click.argument("name")
@click.argument("ref")
@click.option("-m", "--message", default="", help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rollback_(store: str, /, name: str, ref: str, message: str, yes: bool) -> None:
    """Make the dataset NAME what it was at REF, as a new snapshot; those in between can still be read.

    \b
    Example:
      openr-data rollback math-aps main~1
    """
    wanted = DatasetName.parse(name)
    if wanted.ref != MAIN:
        raise UsageError(f"Name the dataset and the state apart: openr-data rollback {wanted.name} {wanted.ref}")
    opened = Store.open(store)
    dataset = opened.dataset(name, write=True)
    told = differences.diff(dataset.view(), dataset.view(ref))
    running = Job.writing(opened, name)
    if running:
        raise UsageError(f"The job {running[0]} is writing into {name}. Stop it first (Ctrl-C where it runs).")
    if told:
        verbs = {"+": "come back", "-": "go", "~": "change"}
        counts = ", ".join(f"{count:,} {key[1:]} {verbs[key[0]]}" for key, count in told.changes().items())
        confirm(f"Roll {name} back to {ref}? {counts}.", yes)
    made = rollback(dataset, ref, message)
    note(f"{name} is what it was at {ref}, as snapshot {made.name}.")
    click.echo(f"{name}@{made.name}")
