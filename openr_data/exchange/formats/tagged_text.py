"""A text with a tag behind each step, and the white space in it: usual, told by four strings, or kept as a whole."""

from collections.abc import Sequence
from typing import TypeAlias

White: TypeAlias = tuple[str, str, str, str]
"""White space before the first step, before each tag, between a tag and the next step, behind the last tag."""


def render(question: str, steps: Sequence[str], tag: str, white: White) -> str:
    """The question, then each step and its tag."""
    lead, before, between, end = white
    return question + lead + (before + tag + between).join(steps) + before + tag + end


def layout(text: str, question: str, steps: Sequence[str], tag: str, usual: White) -> White | str | None:
    """What renders this text again: None for the usual white space, another one, or where none does the text."""
    if text == render(question, steps, tag, usual):
        return None
    start = text.find(steps[0], len(question))
    behind = start + len(steps[0])
    first_tag = text.find(tag, behind)
    next_step = first_tag + len(tag)
    between = text[next_step : text.find(steps[1], next_step)] if len(steps) > 1 else usual[2]
    white = (text[len(question) : start], text[behind:first_tag], between, text[text.rfind(tag) + len(tag) :])
    return white if "".join(white).strip() == "" and text == render(question, steps, tag, white) else text


def rendered(kept: object, question: str, steps: Sequence[str], tag: str, usual: White) -> str:
    """The text from what `layout` kept of it."""
    if isinstance(kept, str):
        return kept
    lead, before, between, end = kept if isinstance(kept, (list, tuple)) and len(kept) == 4 else usual
    return render(question, steps, tag, (lead, before, between, end))
