"""Find the final answer in a solution text.

The last *balanced* `\\boxed{…}` or `\\fbox{…}` wins, then a `#### N` line, then an answer phrase. A text
without any of them has no answer: a stray number is never taken for one.
"""

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_HASHES = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
_PHRASE = re.compile(r"(?:the\s+)?(?:final\s+)?answer\s*(?:is|:)\s*:?\s*(.+?)(?:\.\s|\.?\s*$|\n)", re.IGNORECASE)
LONGEST_TEXT = 200_000
"""Characters read, from the end: an answer stands at the end, and a runaway text must cost nothing."""


def extract_answer(text: str) -> str | None:
    """The final answer as written (outer white space and `$` taken off), or None where there is none."""
    text = text[-LONGEST_TEXT:]
    boxes = list(_boxes(text))
    if boxes:
        return _trim(boxes[-1])
    for pattern in (_HASHES, _PHRASE):
        found = pattern.findall(text)
        if found:
            return _trim(found[-1])
    return None


def _boxes(text: str) -> Iterator[str]:
    """The contents of all balanced boxes, in order; a box that never closes is left out."""
    for match in _BOX.finditer(text):
        start = match.end()
        if start >= len(text):
            return
        if text[start] != "{":
            # TeX takes a single token as the argument: \boxed 5
            yield text[start]
            continue
        depth = 0
        position = start
        while position < len(text):
            character = text[position]
            if character == "\\":
                position += 2
                continue
            if character == "{":
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0:
                    yield text[start + 1 : position]
                    break
            position += 1


def _trim(answer: str) -> str | None:
    answer = answer.strip()
    while len(answer) >= 2 and answer[0] == answer[-1] == "$":
        answer = answer[1:-1].strip()
    return answer or None
