"""Find the final answer in a solution text.

The last *balanced* `\\boxed{…}` or `\\fbox{…}` wins, then a `#### N` line, then an answer phrase. A text
without any of them has no answer: a stray number is never taken for one.
"""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"-?\d+(?:\.\d+)?")
_HASHES = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
_PHRASE = re.compile(r"(?:the\s+)?(?:final\s+)?answer\s*(?:is|:)[\s:]*(.+?)(?:\.\s|\.?\s*$|\n)", re.IGNORECASE)
LONGEST_TEXT = 200_000
"""Characters read, from the end: an answer stands at the end, and a runaway text must cost nothing."""

LONGEST_SEARCH = 4_000
"""Characters in which a line `####` or a phrase is looked for, from the end."""


def extract_answer(text: str) -> str | None:
    """The final answer as written (outer white space and `$` taken off), or None where there is none."""
    text = text[-LONGEST_TEXT:]
    box = _last_box(text)
    if box is not None:
        return _trim(box)
    for pattern in (_HASHES, _PHRASE):
        found = pattern.findall(text[-LONGEST_SEARCH:])
        if found:
            return _trim(found[-1])
    return None


def _last_box(text: str) -> str | None:
    """The content of the balanced box that begins last, or None; one pass, whatever the nesting."""
    opened: dict[int, int] = {}
    found: tuple[int, str] | None = None
    for match in _BOX.finditer(text):
        if match.end() >= len(text):
            break
        if text[match.end()] == "{":
            opened[match.end()] = match.start()
        elif (bare := _BARE.match(text, match.end())) is not None:
            # TeX would take a single digit of \boxed 12; whoever writes that means the number.
            found = match.start(), bare[0]
    stack: list[int] = []
    for brace in _BRACE.finditer(text, min(opened, default=len(text))):
        if brace[0] == "{":
            stack.append(brace.start())
        elif brace[0] == "}" and stack:
            start = stack.pop()
            if start in opened and (found is None or opened[start] > found[0]):
                found = opened[start], text[start + 1 : brace.start()]
    return found[1] if found else None


def _trim(answer: str) -> str | None:
    answer = answer.strip().strip("*").strip()
    while len(answer) >= 2 and answer[0] == answer[-1] == "$":
        answer = answer[1:-1].strip()
    return answer or None
