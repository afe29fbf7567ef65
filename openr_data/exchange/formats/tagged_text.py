"""Renders a text with a tag after each step, and describes its white space: usual, four strings, or the whole text."""

from collections.abc import Sequence
from typing import TypeAlias

White: TypeAlias = tuple[str, str, str, str]
"""White space before the first step, before each tag, between a tag and the next step, after the last tag."""


def render(question: str, steps: Sequence[str], tag: str, white: White) -> str:
    """Render the question, then each step and its tag."""
    lead, before, between, end = white
    return question + lead + (before + tag + between).join(steps) + before + tag + end


def layout(text: str, question: str, steps: Sequence[str], tag: str, usual: White) -> White | str | None:
    """Return what renders this text again: None for the usual white space, other white space, else the text itself."""
    if text == render(question, steps, tag, usual):
        return None
    start = text.find(steps[0], len(question))
    step_end = start + len(steps[0])
    first_tag = text.find(tag, step_end)
    next_step = first_tag + len(tag)
    between = text[next_step : text.find(steps[1], next_step)] if len(steps) > 1 else usual[2]
    white = (text[len(question) : start], text[step_end:first_tag], between, text[text.rfind(tag) + len(tag) :])
    return white if "".join(white).strip() == "" and text == render(question, steps, tag, white) else text


def rendered(stored: object, question: str, steps: Sequence[str], tag: str, usual: White) -> str:
    """Render the text from what `layout` returned for it."""
    if isinstance(stored, str):
        return stored
    lead, before, between, end = stored if isinstance(stored, (list, tuple)) and len(stored) == 4 else usual
    return render(question, steps, tag, (lead, before, between, end))
