"""Finds where the question ends in a text that holds the question and the first step.

The cut is at "Step 1:" (upper or lower case), else after the last question mark, else, if the format allows it, at the
last blank line. White space at the cut belongs to neither side.
"""

import re
from collections.abc import Sequence

from .format import BadRow, Tally

_STEP_1 = re.compile(r"\bstep 1\s*:", re.IGNORECASE)


def cut_question(text: str, tally: Tally) -> tuple[str, str]:
    """Split a text into question and first step; a cut without "Step 1:" counts as repaired. Raises `BadRow`."""
    question, first, _ = cut_tagged((text,), "", tally, blank_line=True)
    return question, first


def cut_tagged(pieces: Sequence[str], tag: str, tally: Tally, blank_line: bool = False) -> tuple[str, str, int]:
    """Return question, first step and the number of tags inside the question, for a text split at its tags.

    Raises `BadRow` if nothing marks the end of the question.
    """
    for inside, piece in enumerate(pieces):
        start = _step_1(piece)
        if start < 0:
            continue
        head = "".join((*pieces[:inside], piece[:start])).strip()
        if not head:
            raise BadRow("no question before the first step")
        if inside:
            tally.repair(f"{tag} inside the question taken out")
        return head, piece[start:].strip(), inside
    return *_cut_unmarked(pieces[0], tally, blank_line), 0


def _step_1(text: str) -> int:
    """Return where "Step 1:" begins, or -1."""
    start = text.find("Step 1:")
    # Nearly every text has exactly this spelling, once; the slower pattern covers the rest.
    if start > 0 and text[start - 1].isspace() and "step 1" not in text[:start].lower():
        return start
    match = _STEP_1.search(text)
    return match.start() if match else -1


def _cut_unmarked(text: str, tally: Tally, blank_line: bool) -> tuple[str, str]:
    head, mark, rest = text.rpartition("?")
    if mark and rest.strip():
        tally.repair('no "Step 1:": the question ends at its last question mark')
        return (head + mark).strip(), rest.strip()
    if not blank_line:
        raise BadRow('neither "Step 1:" nor a question mark ends the question')
    head, _, rest = text.strip().rpartition("\n\n")
    if not head.strip():
        raise BadRow('neither "Step 1:" nor a question mark nor a blank line ends the question')
    tally.repair('no "Step 1:": the question ends at its last blank line')
    return head.strip(), rest.strip()


def is_recoverable(question: str, pieces: Sequence[str], tag: str = "") -> bool:
    """Report whether reading these pieces (question and first step, then the other steps) gives this question."""
    try:
        cut, _, inside = cut_tagged(pieces, tag, Tally(), blank_line=True)
    except BadRow:
        return False
    return cut == question and not inside
