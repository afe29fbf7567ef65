"""`openr-data sql`: queries a snapshot, read-only."""

import sys

import click

from ..errors import UsageError
from ..store import Store
from ..store.saved_queries import saved_queries, saved_query
from .output import Output, hint, output_options
from .sql_prompt import prompt


@click.command()
@click.argument("name", required=False, default="")
@click.argument("query", required=False, default=None)
@click.option("--saved", default="", metavar="NAME", help="Run a ready query; --saved list lists them.")
@click.option("--explain", is_flag=True, help="Show the plan: which files, columns and filters are read.")
@output_options
@click.pass_obj
def sql(store: str, /, name: str, query: str | None, saved: str, explain: bool, out: Output) -> None:
    """Query the dataset NAME or NAME@ref with DuckDB SQL; QUERY "-" reads stdin, and without QUERY a prompt opens.

    Tables: questions, solutions, nodes, rollouts, labels, jobs. Views: records (question, steps and one
    label set), steps (one row a step), prefixes (counts summed over jobs), pooled (labels from the rollouts of all
    jobs), agreement (between methods), first_errors, relative_progress, sibling_pairs, outcomes, outcome_pairs,
    question_costs (what each question took), snapshots.
    Functions: soft_label, hard_label, wilson_low, wilson_high, first_error, repair, relative_label.

    \b
    Examples:
      openr-data sql arithmetic "select level, avg(value) from steps group by 1 order by 1"
      openr-data sql arithmetic --saved first-error-by-level
    """
    if saved == "list":
        out.rows([{"name": item, "question": question} for item, question in saved_queries().items()])
        return
    if not name:
        raise UsageError("Name a dataset: openr-data sql NAME, or list the ready queries: openr-data sql --saved list")
    view = Store.open(store).view(name)
    if saved:
        query = saved_query(saved)
    elif query is None and sys.stdin.isatty():
        prompt(view, name, out)
        return
    text = sys.stdin.read() if query is None or query == "-" else query
    if not text.strip():
        raise UsageError('The query is empty. Write one, for example "select * from steps limit 5".')
    if explain:
        click.echo(view.explain(text))
        return
    table = view.sql(text)
    out.rows(table.to_pylist(), table.column_names)
    if saved and not table.num_rows:
        hint("Nothing to show: the dataset has no rows that this query is about.")
