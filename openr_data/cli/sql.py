"""`openr-data sql`: one question to a snapshot, read-only."""

import sys

import click

from ..errors import UsageError
from ..store.dataset import Store
from .output import Output, output_options


@click.command()
@click.argument("name")
@click.argument("query")
@output_options
@click.pass_obj
def sql(store: str, /, name: str, query: str, out: Output) -> None:
    """Ask the dataset NAME or NAME@ref with DuckDB SQL; QUERY "-" reads stdin.

    Tables: questions, solutions, nodes, rollouts, labels, jobs. Views: records (question, steps and one
    label set), steps (one row a step), prefixes (counts summed over jobs, with soft and hard label and
    interval), first_errors, snapshots.

    \b
    Example:
      openr-data sql arithmetic "select level, avg(value) from steps group by 1 order by 1"
    """
    text = sys.stdin.read() if query == "-" else query
    if not text.strip():
        raise UsageError('The query is empty. Write one, for example "select * from steps limit 5".')
    table = Store.open(store).view(name).sql(text)
    out.rows(table.to_pylist(), table.column_names)
