"""`openr-data eval`: evaluates reward models and searches. Each command is a file of its own."""

from typing import Final

import click

from .lazy_group import LazyGroup

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "prm": ("evaluate_prm:prm", "Say how well a reward model tells right steps from wrong ones."),
    "search": ("evaluate_search:search", "Say how often a way to search and to choose finds the right answer."),
}


@click.group("eval", cls=LazyGroup, table=COMMANDS)
def evaluate() -> None:
    """Evaluate reward models and searches."""
