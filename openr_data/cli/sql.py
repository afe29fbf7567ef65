"""`openr-data sql`: questions to a snapshot, read-only."""

import sys

import click

from ..errors import UnknownName, UsageError
from ..registry import catalog_names, catalog_text
from ..store.dataset import Store
from .output import Output, hint, output_options


@click.command()
@click.argument("name", required=False, default="")
@click.argument("query", required=False, default=None)
@click.option("--saved", default="", metavar="NAME", help="A ready query; --saved list shows them.")
@click.option("--explain", is_flag=True, help="Show the plan: which files, columns and filters are read.")
@output_options
@click.pass_obj
def sql(store: str, /, name: str, query: str | None, saved: str, explain: bool, out: Output) -> None:
    """Ask the dataset NAME or NAME@ref with DuckDB SQL; QUERY "-" reads stdin, none opens a prompt.

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
        out.rows([{"name": item, "question": summary(item)} for item in catalog_names("queries", ".sql")])
        return
    if not name:
        raise UsageError("Name a dataset: openr-data sql NAME, or list the ready queries: openr-data sql --saved list")
    view = Store.open(store).view(name)
    if saved:
        query = saved_query(saved)
    elif query is None and sys.stdin.isatty():
        from .sql_prompt import prompt

        prompt(view, name, out)
        return
    text = sys.stdin.read() if query is None or query == "-" else query
    if not text.strip():
        raise UsageError('The query is empty. Write one, for example "select * from steps limit 5".')
    if explain:
        for row in view.sql(f"explain {text}").to_pylist():
            click.echo(row["explain_value"])
        return
    table = view.sql(text)
    out.rows(table.to_pylist(), table.column_names)
    if saved and not table.num_rows:
        hint("Nothing to show: the dataset holds nothing that this query is about.")


def saved_query(name: str) -> str:
    """The text of a ready query. Raises `UnknownName`."""
    names = catalog_names("queries", ".sql")
    if name not in names:
        raise UnknownName("ready query", name, names)
    return catalog_text(f"queries/{name}.sql")


def summary(name: str) -> str:
    """What a ready query answers: its first line."""
    return saved_query(name).partition("\n")[0].removeprefix("--").strip()
