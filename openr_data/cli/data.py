"""Commands about datasets: ls, show."""

import click

from ..store import Store
from .output import Output, ago, hint, output_options, size


@click.command()
@output_options
@click.pass_obj
def ls(store: str, /, out: Output) -> None:
    """List the datasets of the store."""
    counted = ("questions", "solutions", "steps", "rollouts")
    rows = [
        {
            "name": dataset.name,
            **{table: dataset.counts[table] for table in counted},
            "snapshot": dataset.snapshot.name if dataset.snapshot else "",
            "age": ago(dataset.snapshot.created_at) if dataset.snapshot else "",
            "size": size(dataset.size) if out.is_human else dataset.size,
        }
        for dataset in Store.open(store).summaries()
    ]
    out.rows(rows, ("name", *counted, "snapshot", "age", "size"))
    if out.is_human and not rows:
        hint("No dataset yet. Make one with: openr-data label")


@click.command()
@click.argument("name")
@output_options
@click.pass_obj
def show(store: str, /, name: str, out: Output) -> None:
    """Describe the dataset NAME or NAME@ref: rows, label balance, methods, policies."""
    view = Store.open(store).view(name)
    methods = view.label_sets().to_pylist()
    verdicts = [{"verdict": verdict, "rollouts": count} for verdict, count in view.verdicts().items()]
    facts = {"dataset": name, **view.counts(), "digest": view.digest()}
    if not out.is_human:
        out.facts({**facts, "methods": methods, "verdicts": verdicts})
        return
    out.facts(facts)
    for rows in (methods, verdicts):
        if rows:
            click.echo()
            out.rows(rows)
    hint(f"Look at the steps with: openr-data view {name}")
