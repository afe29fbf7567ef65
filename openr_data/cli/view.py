"""`openr-data view`: shows labelled steps in colour."""

import click

from ..display.terminal import LEGEND, record_lines
from ..store import Store
from .output import Output, hint, output_options


@click.command("view")
@click.argument("name")
@click.argument("id_", metavar="[ID]", default="")
@click.option("--limit", default=5, show_default=True, help="Show at most N label sets.")
@click.option("--method", default="", help="Only label sets of this method.")
@click.option("--errors", is_flag=True, help="Only solutions with a first error.")
@output_options
@click.pass_obj
def view_(store: str, /, name: str, id_: str, limit: int, method: str, errors: bool, out: Output) -> None:
    """Show labelled steps of the dataset NAME or NAME@ref; ID is the beginning of a solution's or question's id.

    \b
    Example:
      openr-data view arithmetic --errors --limit 3
    """
    view = Store.open(store).view(name)
    rows = view.find_records(id_, method=method, only_errors=errors, limit=limit).to_pylist()
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
