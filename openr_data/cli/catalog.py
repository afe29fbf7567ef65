"""`openr-data catalog`: lists what is built in."""

import click

from ..inventory import built_in, inventory
from .output import Output, output_options


@click.group()
def catalog() -> None:
    """List what is built in: methods, backends, models, sources, recipes."""


@catalog.command("ls")
@output_options
def list_(out: Output) -> None:
    """List every name that a command takes."""
    out.rows([{"name": entry.name, "kind": entry.kind, "summary": entry.summary} for entry in inventory()])


@catalog.command()
@click.argument("name")
@output_options
def show(name: str, out: Output) -> None:
    """Describe everything called NAME: where a method is defined, how a model is prompted, what a recipe sets."""
    entries = [entry.as_dict() for entry in built_in(name)]
    if not out.is_human:
        out.rows(entries)
        return
    for entry in entries:
        out.facts(entry)
        click.echo()
