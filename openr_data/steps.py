"""Split a solution into steps and join it again. Only this file and `models.toml` define separators."""

from collections.abc import Sequence

SEPARATOR = "\n\n"
"""The text between two steps, unless the model's entry defines another."""


def split_steps(text: str, separator: str = SEPARATOR) -> tuple[str, ...]:
    """Cut a text into steps so that `join_steps(split_steps(text)) == text`, always.

    No step is blank, unless the whole text is: a blank piece stays with the step before it, or at the start with
    the step after it. The empty text has no steps.
    """
    if not text:
        return ()
    steps: list[str] = []
    for piece in text.split(separator):
        if steps and (not piece.strip() or not steps[-1].strip()):
            steps[-1] = steps[-1] + separator + piece
        else:
            steps.append(piece)
    return tuple(steps)


def join_steps(steps: Sequence[str], separator: str = SEPARATOR) -> str:
    """The text of a list of steps; the inverse of `split_steps`."""
    return separator.join(steps)
