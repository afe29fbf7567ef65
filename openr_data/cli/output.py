"""The only module that prints. stdout has the answer, stderr everything else.

Every listing takes `--json`, `--jsonl`, `--csv`, `--markdown` and `-q` (ids alone) from one decorator. Piped output has
no colour, no truncation and no bars.
"""

import csv
import functools
import io
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from ..errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Mode = Literal["human", "json", "jsonl", "csv", "markdown", "quiet"]
F = TypeVar("F", bound=Callable[..., Any])


def output_options(function: F) -> F:
    """Give a command the output flags; it receives `out: Output`."""

    @click.option("--json", "mode", flag_value="json", help="One JSON document.")
    @click.option("--jsonl", "mode", flag_value="jsonl", help="One JSON object a line.")
    @click.option("--csv", "mode", flag_value="csv", help="Comma-separated values with a header.")
    @click.option("--markdown", "mode", flag_value="markdown", help="A Markdown table.")
    @click.option("-q", "--quiet", "mode", flag_value="quiet", help="The first column alone.")
    @functools.wraps(function)
    def wrapped(*args: Any, mode: Mode | None, **options: Any) -> Any:
        return function(*args, out=Output(mode or "human"), **options)

    return wrapped  # type: ignore[return-value]


class Output:
    """Prints rows in the chosen mode."""

    def __init__(self, mode: Mode = "human") -> None:
        self.mode = mode

    @property
    def is_human(self) -> bool:
        """Whether the output is for a person."""
        return self.mode == "human"

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """A listing. In a terminal a table (long cells cut), in a pipe tab-separated lines."""
        names = list(columns or (rows[0] if rows else ()))
        match self.mode:
            case "json":
                click.echo(_json(list(rows), indent=2))
            case "jsonl":
                for row in rows:
                    click.echo(_json(dict(row)))
            case "csv":
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(names)
                writer.writerows([[_whole(row.get(name)) for name in names] for row in rows])
                click.echo(text.getvalue(), nl=False)
            case "markdown":
                click.echo("| " + " | ".join(map(_markdown, names)) + " |")
                click.echo("|" + "---|" * len(names))
                for row in rows:
                    cells = (_markdown(_plain(row.get(name))) for name in names)
                    click.echo("| " + " | ".join(cells) + " |")
            case "quiet":
                for row in rows:
                    click.echo(_plain(row[names[0]]))
            case "human" if sys.stdout.isatty():
                self._table(rows, names)
            case "human":
                click.echo("\t".join(names))
                for row in rows:
                    click.echo("\t".join(_one_line(row.get(name)) for name in names))

    def facts(self, facts: Mapping[str, Any]) -> None:
        """One thing with its properties."""
        if self.mode in ("json", "jsonl"):
            indent = 2 if self.mode == "json" else None
            click.echo(_json(dict(facts), indent=indent))
        elif self.mode in ("csv", "markdown"):
            self.rows([facts])
        elif self.mode == "quiet":
            click.echo(_plain(next(iter(facts.values()))))
        else:
            width = max(map(len, facts), default=0)
            for name, value in facts.items():
                click.echo(f"{click.style(name.ljust(width), bold=True)}  {_plain(value)}")

    def render(self, *items: "RenderableType") -> None:
        """Print rich renderables on stdout; without a terminal uncoloured and unwrapped."""
        console = console_for(sys.stdout)
        for item in items:
            console.print(item, soft_wrap=not console.is_terminal)

    def _table(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in names:
            number = all(isinstance(row.get(name), (int, float)) for row in rows) and bool(rows)
            table.add_column(name, justify="right" if number else "left", overflow="ellipsis")
        for row in rows:
            table.add_row(*(_one_line(row.get(name)) for name in names))
        self.render(table)


def hint(text: str) -> None:
    """Print what to do next, on stderr."""
    click.echo(click.style(text, dim=True), err=True)


def note(text: str) -> None:
    """Print what happened, on stderr."""
    click.echo(text, err=True)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is removed. Raises `UsageError` without a terminal and without `--yes`."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on: confirm with --yes.")
    if not click.confirm(question, err=True):
        raise click.Abort


def console_for(stream: Any) -> "Console":
    """A rich console on a stream, as wide as the terminal (100 in a pipe)."""
    from rich.console import Console

    width = shutil.get_terminal_size((100, 24)).columns if "COLUMNS" in os.environ else None
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def ago(moment: str) -> str:
    """An age for people: `3 h` since a UTC time as it is stored."""
    from datetime import UTC, datetime

    then = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    seconds = (datetime.now(UTC) - then).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that every reader accepts: SQL decimals are numbers, NaN and infinity are null."""
    return json.dumps(_jsonable(value), default=str, ensure_ascii=False, indent=indent, allow_nan=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _jsonable(item) for name, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _markdown(text: str) -> str:
    return re.sub(r"\r\n|\r|\n", "<br>", text.replace("|", "\\|"))


def _whole(value: Any) -> str:
    """A value for a machine: all digits."""
    return repr(value) if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _one_line(value: Any) -> str:
    return _plain(value).replace("\n", "⏎").replace("\t", " ")
