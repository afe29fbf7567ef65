"""`openr-data catalog`: what is built in."""

import tomllib
from dataclasses import asdict
from typing import Any

import click

from ..errors import UnknownName
from ..models import catalog as models
from ..registry import TABLES, catalog_names, catalog_text
from .output import Output, output_options


@click.group()
def catalog() -> None:
    """List what is built in: methods, backends, models, sources, recipes."""


@catalog.command("ls")
@output_options
def list_(out: Output) -> None:
    """List every name that a command takes."""
    out.rows([{name: entry[name] for name in ("name", "kind", "summary")} for entry in _entries()])


@catalog.command()
@click.argument("name")
@output_options
def show(name: str, out: Output) -> None:
    """Describe everything of this name: where a method lives, how a model is prompted, what a recipe sets."""
    found = [entry for entry in _entries() if entry["name"] == name]
    if not found:
        raise UnknownName("catalog entry", name, {entry["name"] for entry in _entries()})
    if not out.is_human:
        out.rows(found)
        return
    for entry in found:
        out.facts(entry)
        click.echo()


def _entries() -> list[dict[str, Any]]:
    """Everything the catalogs hold, each with name, kind, summary and its own properties."""
    entries: list[dict[str, Any]] = [
        {"name": name, "kind": kind, **asdict(entry)} for kind, table in TABLES.items() for name, entry in table.items()
    ]
    for name, model in models().items():
        summary = f"template {model.template}, {model.path}"
        entries.append({"name": name, "kind": "model", "summary": summary, **asdict(model)})
    for name in catalog_names("recipes", ".toml"):
        entries.append({"name": name, "kind": "recipe", **tomllib.loads(catalog_text(f"recipes/{name}.toml"))})
    return entries
