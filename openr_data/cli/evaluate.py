"""`openr-data eval`: evaluates reward models and searches. Each command is a file of its own."""

from typing import Final

import click

from .lazy_group import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "prm": ("evaluate_prm:prm", "Evaluate a reward model on labelled solutions."),
    "search": ("evaluate_search:search", "Run a search and evaluate the ways to choose an answer."),
}


@click.group("eval", cls=LazyGroup, table=COMMANDS)
def evaluate() -> None:
    """Evaluate reward models and searches."""
