"""`openr-data catalog`: what is built in."""

import tomllib
from dataclasses import asdict

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
    rows = [
        {"kind": kind, "name": name, "summary": entry.summary}
        for kind, entries in TABLES.items()
        for name, entry in entries.items()
    ]
    rows += [
        {"kind": "model", "name": name, "summary": f"template {entry.template}, {entry.path}"}
        for name, entry in models().items()
    ]
    rows += [
        {
            "kind": "recipe",
            "name": name,
            "summary": tomllib.loads(catalog_text(f"recipes/{name}.toml"))["summary"],
        }
        for name in catalog_names("recipes", ".toml")
    ]
    out.rows(rows, ("kind", "name", "summary"))


@catalog.command()
@click.argument("name")
@output_options
def show(name: str, out: Output) -> None:
    """Describe one entry: the TOML of a model or a recipe, or where a method lives."""
    if name in models():
        out.facts({"name": name, **asdict(models()[name])})
        return
    if name in catalog_names("recipes", ".toml") and out.is_human:
        click.echo(catalog_text(f"recipes/{name}.toml"), nl=False)
        return
    if name in catalog_names("recipes", ".toml"):
        out.facts({"name": name, **tomllib.loads(catalog_text(f"recipes/{name}.toml"))})
        return
    entries = {key: (kind, entry) for kind, table in TABLES.items() for key, entry in table.items()}
    if name not in entries:
        raise UnknownName("catalog entry", name, {*entries, *models(), *catalog_names("recipes", ".toml")})
    kind, entry = entries[name]
    out.facts({"name": name, "kind": kind, **asdict(entry)})
