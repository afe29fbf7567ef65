r"""Refuse answers that do not look like final answers and that parsers choke on.

A language model that runs away writes towers of powers, factorials of factorials, thousands of braces. One linear pass
recognises each of them, and its verdict is unknown with a reason, before any parser sees it.
"""

import re
from typing import Final

from .parsing.tokens import unbolded

LONGEST_ANSWER: Final = 2_000
"""Characters; a longer answer is not compared."""
DEEPEST: Final = 40
"""Nesting of brackets."""
MOST_DIGITS: Final = 1_000
"""Digits of one number."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_CONTROL_OR_TAB: Final = re.compile(r"[\x08\x0b\x0c\t\r\n]")
_BROKEN: Final = (
    ("\x08", "b", re.compile(r"\\?\x08(oxed|egin|inom|eta)")),
    ("\x0c", "f", re.compile(r"\\?\x0c(rac|box)")),
    ("\t", "t", re.compile(r"\\?\t(ext|imes|frac|heta)")),
    ("\r", "r", re.compile(r"\\?\r(ight)")),
)
_FACTORIALS: Final = re.compile(r"!\s*!|!\s*\)\s*!|\d{4,}\s*!|!\s*\}\s*!")
_EXPONENT: Final = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*[+-]?\s*\d{5,}|\d[eE][+-]?\d{4,}")
_TOWER: Final = re.compile(
    r"(?:\^|\*\*)\s*[({][^(){}]*(?:\^|\*\*)\s*[({][^(){}]*(?:\^|\*\*)|(?:\^|\*\*)\s*\d+\s*(?:\^|\*\*)\s*\d+"
)
_DIGITS: Final = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")
_FORBIDDEN: Final = re.compile(
    r"\\(?:input|include|def|edef|gdef|let|newcommand|renewcommand|write|openin|openout|read|csname|catcode|loop|immediate"
    r"|usepackage|documentclass|expandafter)(?![A-Za-z])"
)


def repaired(text: str) -> str:
    r"""The text without outer space and bold marks, and with the TeX commands restored that careless JSON has broken.

    There the `\f` of `\frac` is a form feed.
    """
    if _CONTROL_OR_TAB.search(text):
        for control, letter, rest in _BROKEN:
            if control in text:
                text = rest.sub(rf"\\{letter}\1", text)
    return unbolded(text)


def refusal(text: str) -> str:
    """Why this answer is not compared, or the empty text if it is."""
    if len(text) > LONGEST_ANSWER:
        return f"longer than {LONGEST_ANSWER:,} characters"
    if _CONTROL.search(text):
        return "control characters"
    if len(text) < 4:
        return ""
    if "!" in text and _FACTORIALS.search(text):
        return "factorials of large numbers or of factorials"
    if _EXPONENT.search(text):
        return "an exponent of more than four digits"
    if ("^" in text or "**" in text) and _TOWER.search(text):
        return "a tower of powers"
    if len(text) > MOST_DIGITS and _DIGITS.search(text):
        return f"a number of more than {MOST_DIGITS:,} digits"
    if "\\" in text and _FORBIDDEN.search(text):
        return "TeX that is no mathematics"
    if len(text) > 2 * DEEPEST and _depth(text) > DEEPEST:
        return f"brackets nested deeper than {DEEPEST}"
    return ""


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest
