"""The prompt of `openr-data sql NAME`: a query ends with a semicolon, Tab completes names, the history is saved."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from ..errors import OpenRError
from ..store import View
from ..store.query import NAMES, interruptible
from ..store.saved_queries import saved_queries, saved_query
from ..store.sql_views import MACROS
from .output import Output, hint, note

KEYWORDS: Final = (
    "select from where group by order limit having join using on left distinct count avg sum min max filter case when "
    "then else end and or not null is in between like with as desc asc unnest round explain describe summarize"
).split()
HELP: Final = """End a query with ; and press Enter. Tab completes names.
  .tables            the tables and views
  .saved [NAME]      the ready queries, or the answer to one
  .quit              leave (or Ctrl-D)"""
_DOT: Final = re.compile(r"\.(\w+)\s*(\S*)\s*;?")


def prompt(view: View, name: str, out: Output) -> None:
    """Read queries and print their answers until the input ends."""
    history = _readline(_words(view))
    hint(f"{name}: DuckDB SQL, read-only. .help lists the commands, Ctrl-D leaves.")
    try:
        _loop(view, name, out)
    finally:
        if history is not None:
            import readline

            with suppress(OSError):
                history.parent.mkdir(parents=True, exist_ok=True)
                readline.set_history_length(1_000)
                readline.write_history_file(history)


def _loop(view: View, name: str, out: Output) -> None:
    waiting: list[str] = []
    while True:
        try:
            line = input(f"{name}> " if not waiting else "   ...> ")
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            # As in every shell, Ctrl-C discards the line and not the session.
            click.echo(err=True)
            waiting = []
            continue
        command = _DOT.fullmatch(line.strip()) if not waiting else None
        if command:
            if command[1] in ("quit", "exit", "q"):
                return
            _dot(view, command[1], command[2], out)
            continue
        if line.strip():
            waiting.append(line)
        if waiting and waiting[-1].rstrip().endswith(";"):
            text, waiting = "\n".join(waiting).rstrip().rstrip(";"), []
            if text.strip():
                _answer(view, text, out)


def _dot(view: View, command: str, argument: str, out: Output) -> None:
    if command == "tables":
        out.rows([{"name": name} for name in NAMES])
    elif command == "saved" and argument:
        with _reported():
            _answer(view, saved_query(argument), out)
    elif command == "saved":
        out.rows([{"name": item, "question": question} for item, question in saved_queries().items()])
    else:
        note(HELP)


def _answer(view: View, text: str, out: Output) -> None:
    with _reported():
        table = interruptible(view.cursor(text), text)
        if table is None:
            note("Interrupted.")
        else:
            out.rows(table.to_pylist(), table.column_names)


@contextmanager
def _reported() -> Iterator[None]:
    """Print a mistake of the user; the prompt goes on."""
    try:
        yield
    except OpenRError as error:
        note(str(error))


def _words(view: View) -> list[str]:
    columns = view.connect().execute("select distinct column_name from information_schema.columns").fetchall()
    macros = [signature.partition("(")[0] for signature in MACROS]
    return sorted({*NAMES, *macros, *KEYWORDS, *(str(row[0]) for row in columns)})


def _readline(words: Sequence[str]) -> Path | None:
    """Set up completion and history if the platform has them; return the file of the history."""
    try:
        import readline
    except ImportError:
        return None

    def complete(text: str, state: int) -> str | None:
        candidates = [word for word in words if word.startswith(text.lower())]
        return candidates[state] if state < len(candidates) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n(),;=<>+-*/%'\"")
    readline.parse_and_bind("tab: complete")
    folder = os.environ.get("OPENR_CACHE", "") or str(Path("~/.cache/openr-data").expanduser())
    if folder == "off":
        return None
    history = Path(folder) / "sql_history"
    with suppress(OSError):
        readline.read_history_file(history)
    return history
