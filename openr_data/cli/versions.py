"""Commands about versions: log, diff, tag, rollback."""

from collections import Counter
from typing import Any

import click

from ..errors import UsageError
from ..jobs.upkeep import check_not_written, roll_back
from ..store import Store
from ..store import diff as differences
from ..store.refs import MAIN, DatasetName, Snapshot, missing
from .output import Output, ago, confirm, hint, note, output_options


@click.command()
@click.argument("name")
@output_options
@click.pass_obj
def log(store: str, /, name: str, out: Output) -> None:
    """List the snapshots of the dataset NAME, newest first.

    +questions, +solutions and +steps were added by a snapshot, -steps removed, ~steps relabelled: the same prefix has
    another label or other counts.
    """
    dataset = Store.open(store).dataset(DatasetName.parse(name).name)
    tags: dict[str, list[str]] = {}
    for tag in dataset.tags():
        tags.setdefault(tag.parent or "", []).append(tag.name)
    rows: list[dict[str, Any]] = []
    before: dict[str, int] = {}
    for snapshot in dataset.snapshots():
        rows.append(
            {
                "snapshot": snapshot.name,
                "age": ago(snapshot.created_at),
                "operation": snapshot.operation,
                **_changes(snapshot, before),
                "message": snapshot.message,
                "tags": ", ".join(tags.get(snapshot.name, ())),
                "job": snapshot.job_id or "",
                **({} if out.is_human else {"digest": snapshot.digest, "created_at": snapshot.created_at}),
            }
        )
        before = dict(snapshot.counts)
    columns = ("snapshot", "age", "operation", "+questions", "+solutions", "+steps", "-steps", "~steps", "message",
               "tags", "job", *(() if out.is_human else ("digest", "created_at")))  # fmt: skip
    out.rows(rows[::-1], columns)


def _changes(snapshot: Snapshot, before: dict[str, int]) -> dict[str, int]:
    shown = ("questions", "solutions", "steps")
    changes = snapshot.changes
    if changes:
        added = {f"+{name}": changes.get(f"+{name}", 0) for name in shown}
        return {**added, "-steps": changes.get("-steps", 0), "~steps": changes.get("~steps", 0)}
    # A snapshot of an older version has counts and no changes.
    return {**{f"+{name}": snapshot.counts[name] - before.get(name, 0) for name in shown}, "-steps": 0, "~steps": 0}


@click.command("diff")
@click.argument("old")
@click.argument("new", default="")
@click.option("--stat", "form", flag_value="stat", help="Counts by table (the default).")
@click.option("--rows", "form", flag_value="rows", help="Every labelled step that differs, old and new.")
@click.option("--where", default="", metavar="SQL", help="Only steps that satisfy this, for example: method = 'm'.")
@click.option("--limit", default=0, help="List at most N steps (0: all).")
@click.option("--exit-code", is_flag=True, help="Exit code 1 if anything differs.")
@output_options
@click.pass_obj
def diff_(
    store: str, /, old: str, new: str, form: str | None, where: str, limit: int, exit_code: bool, out: Output
) -> None:
    """List what differs between OLD and NEW, NAME@ref each; NEW may be a ref alone, and defaults to NAME.

    A step is relabelled if the same prefix has another label, value or counts. --rows and --where list steps with
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
        differs = table.num_rows > 0
        rows = table.to_pylist()
        if form == "stat":
            counts = Counter(row["change"] for row in rows)
            steps = {"added": counts["added"], "removed": counts["removed"], "changed": counts["relabelled"]}
            out.rows([{"table": "labelled steps", **steps}])
            rows = []
        else:
            out.rows([_short(row) for row in rows] if out.is_human else rows, None if rows else table.column_names)
    else:
        difference = differences.diff(before, after)
        differs = bool(difference)
        tables = (*difference.tables.items(), ("labelled steps", difference.steps))
        out.rows(
            [
                {"table": name, "added": count.added, "removed": count.removed, "changed": count.changed}
                for name, count in tables
            ]
        )
        if differs and out.is_human:
            hint(f"See the steps with: openr-data diff {old} {second} --rows")
    if exit_code and differs:
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
@click.option("--delete", is_flag=True, help="Delete the tag; asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
@click.pass_obj
def tag(store: str, /, name: str, tag_: str, message: str, delete: bool, yes: bool, out: Output) -> None:
    """Give the state NAME or NAME@ref the name TAG; without TAG list the tags.

    A tag never moves, and gc never removes its snapshot.

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
            {"tag": row.name, "snapshot": row.parent, "age": ago(row.created_at), "message": row.message}
            for row in opened.dataset(wanted.name).tags()
        ]
        out.rows(rows, ("tag", "snapshot", "age", "message"))
        return
    dataset = opened.dataset(wanted.name, write=True)
    if delete:
        names = [row.name for row in dataset.tags()]
        if tag_ not in names:
            raise missing(wanted.name, tag_, names)
        confirm(f"Delete the tag {tag_} of {wanted.name}? Without it gc may remove its snapshot.", yes)
        gone = dataset.delete_tag(tag_)
        note(f"The tag {tag_} is gone; it was snapshot {gone.parent}.")
        return
    row = dataset.tag(tag_, wanted.ref, message)
    note(f"{wanted.name}@{row.name} is snapshot {row.parent}.")
    out.facts({"tag": f"{wanted.name}@{row.name}", "snapshot": row.parent, "digest": row.digest})


@click.command("rollback")
@click.argument("name")
@click.argument("ref")
@click.option("-m", "--message", default="", help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rollback_(store: str, /, name: str, ref: str, message: str, yes: bool) -> None:
    """Make the dataset NAME what it was at REF, as a new snapshot; the snapshots in between stay readable.

    \b
    Example:
      openr-data rollback math-aps main~1
    """
    wanted = DatasetName.parse(name)
    if wanted.ref != MAIN:
        raise UsageError(f"Name the dataset and the state apart: openr-data rollback {wanted.name} {wanted.ref}")
    opened = Store.open(store)
    dataset = opened.dataset(name, write=True)
    changes = differences.diff(dataset.view(), dataset.view(ref)).changes()
    check_not_written(opened, name)
    if changes:
        verbs = {"+": "come back", "-": "go", "~": "change"}
        counts = ", ".join(f"{count:,} {key[1:]} {verbs[key[0]]}" for key, count in changes.items())
        confirm(f"Roll {name} back to {ref}? {counts}.", yes)
    snapshot = roll_back(opened, name, ref, message)
    note(f"{name} is what it was at {ref}, as snapshot {snapshot.name}.")
    click.echo(f"{name}@{snapshot.name}")
