"""`openr-data view`: labelled steps, coloured."""

from typing import Any

import click

from ..display.terminal import LEGEND, record_lines
from ..errors import UsageError
from ..store import Store, View
from ..store.query import quoted
from .output import Output, hint, output_options


@click.command()
@click.argument("name")
@click.argument("id_", metavar="[ID]", default="")
@click.option("--limit", default=5, show_default=True, help="How many label sets to show.")
@click.option("--method", default="", help="Only label sets of this method.")
@click.option("--errors", is_flag=True, help="Only solutions with a first error.")
@output_options
@click.pass_obj
def view(store: str, /, name: str, id_: str, limit: int, method: str, errors: bool, out: Output) -> None:
    """Show labelled steps of the dataset NAME or NAME@ref; ID begins a solution's or question's id.

    \b
    Example:
      openr-data view arithmetic --errors --limit 3
    """
    rows = read_records(Store.open(store).view(name), name, id_, limit, method, errors)
    if not out.is_human:
        out.rows([{"solution_id": row.pop("solution_id"), **row} for row in rows])
        return
    if not rows:
        what = f" that match {id_!r}" if id_ else ""
        hint(f"No label sets{what} in {name}. Make some with: openr-data label {name}")
        return
    for row in rows:
        out.render(*record_lines(row), "")
    out.render(LEGEND)


def read_records(view: View, name: str, id_: str, limit: int, method: str, errors: bool) -> list[dict[str, Any]]:
    """Rows of `records`, chosen as the options of `view` say. Raises `UsageError` for what is no id."""
    where = ["true"]
    if id_:
        if not id_.isalnum():
            raise UsageError(f"{id_!r} is no id. Ids are hex digits; list some with: openr-data view {name}")
        where.append(f"(starts_with(solution_id, '{id_}') or starts_with(question_id, '{id_}'))")
    if method:
        where.append(f"method = '{quoted(method)}'")
    if errors:
        where.append("first_error is not null")
    chosen = f"select * from records where {' and '.join(where)}"
    found: list[dict[str, Any]] = view.sql(
        f"{chosen} order by question_id, solution_id, method limit {max(limit, 0)}"
    ).to_pylist()
    return found
