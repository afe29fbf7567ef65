"""Commands about datasets: ls, show."""

from typing import Any

import click

from ..store import Store
from .output import Output, ago, hint, output_options, size


@click.command()
@output_options
@click.pass_obj
def ls(store: str, /, out: Output) -> None:
    """List the datasets of the store."""
    opened = Store.open(store)
    rows: list[dict[str, Any]] = []
    for name in opened.names():
        dataset = opened.dataset(name)
        snapshots = dataset.snapshots()
        counts = dict(snapshots[-1].counts) if snapshots else dataset.view().counts()
        bytes_ = dataset.size()
        rows.append(
            {
                "name": name,
                "questions": counts["questions"],
                "solutions": counts["solutions"],
                "steps": counts["steps"],
                "rollouts": counts["rollouts"],
                "snapshot": snapshots[-1].name if snapshots else "",
                "age": ago(snapshots[-1].created_at) if snapshots else "",
                "size": size(bytes_) if out.is_human else bytes_,
            }
        )
    columns = ("name", "questions", "solutions", "steps", "rollouts", "snapshot", "age", "size")
    out.rows(rows, columns)
    if out.is_human and not rows:
        hint("No dataset yet. Make one with: openr-data label")


@click.command()
@click.argument("name")
@output_options
@click.pass_obj
def show(store: str, /, name: str, out: Output) -> None:
    """Describe the dataset NAME or NAME@ref: rows, label balance, methods, policies."""
    view = Store.open(store).view(name)
    methods = view.sql(
        "select method, completer as policy, count(*) as label_sets, sum(len(label))::bigint as steps, "
        "sum(len(list_filter(label, lambda x: x = 1)))::bigint as good, "
        "sum(len(list_filter(label, lambda x: x = -1)))::bigint as bad, "
        "count(first_error) as first_errors "
        "from labels group by all order by 1, 2"
    ).to_pylist()
    outcomes = view.sql("select verdict, count(*) as rollouts from rollouts group by 1 order by 2 desc").to_pylist()
    facts = {"dataset": name, **view.counts(), "digest": view.digest()}
    if not out.is_human:
        out.facts({**facts, "methods": methods, "verdicts": outcomes})
        return
    out.facts(facts)
    for rows in (methods, outcomes):
        if rows:
            click.echo()
            out.rows(rows)
    hint(f"Look at the steps with: openr-data view {name}")
