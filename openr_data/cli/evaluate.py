"""`openr-data eval`: what a reward model and a search are worth. Each command is a file of its own."""

from collections.abc import Mapping
from typing import ClassVar

import click

from . import LazyGroup


class _Evaluations(LazyGroup):
    table: ClassVar[Mapping[str, tuple[str, str]]] = {
        "prm": ("evaluate_prm:prm", "Say how well a reward model tells right steps from wrong ones."),
        "search": ("evaluate_search:search", "Say how often a way to search and to choose finds the right answer."),
    }


@click.group("eval", cls=_Evaluations)
def evaluate() -> None:
    """Evaluate reward models and searches."""
