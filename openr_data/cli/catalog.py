"""`openr-data catalog`: what is built in."""

import tomllib
from dataclasses import asdict
from typing import Any

import click

from ..errors import UnknownName
from ..models import catalog as models
from ..prm_format import prm_formats
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
    for name in catalog_names("training", ".toml"):
        entries.append(
            {"name": name, "kind": "training recipe", **tomllib.loads(catalog_text(f"training/{name}.toml"))}
        )
    for form in prm_formats().values():
        reads = f"{form.tag!r} behind each step" if form.tag else "each step is a turn"
        entries.append({**form.as_dict(), "kind": "prm format", "summary": f"{form.template}, {reads}, {form.head}"})
    return entries
