r"""Unify notations that depend on their neighbours, before a text is cut into tokens.

Each rule has a trigger, a piece of text without which it cannot apply, so that an ordinary answer costs a few substring
searches. All patterns are linear.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")


def _repeating(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` and `0.1(6)` as a fraction."""
    whole, fixed, period = match[1] or "0", match[2], match[3] or match[4]
    if len(fixed) + len(period) > 40:
        return match[0]
    scale = 10 ** len(fixed)
    value = Fraction(int(whole + fixed), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


Replacement = str | Callable[[re.Match[str]], str]
_RULES: Final[tuple[tuple[str, re.Pattern[str], Replacement], ...]] = (
    # A backslash that was escaped twice; two of them part the rows of a matrix.
    ("\\\\", re.compile(r"\\\\(?=[A-Za-z]{2})"), r"\\"),
    # x**2, as programs write it.
    ("**", re.compile(r"\*\*"), "^"),
    # Colour and underlining mean nothing; 5^{th} is 5.
    ("color", re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}"), ""),
    ("\\underline", re.compile(r"\\underline(?![A-Za-z])"), ""),
    ("^", re.compile(r"\^\s*\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*(?:th|st|nd|rd)\b\s*\}?\s*\}?"), ""),
    (" U ", re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])"), "\\\\cup "),
    ("!=", re.compile(r"(\s|[A-Za-z])!="), r"\1\\ne "),
    # 1,\!000 and 11,\! 111: one number.
    (",\\!", re.compile(r",\\!\s*"), "{,}"),
    (".m", re.compile(r"(?<![A-Za-z])([AaPp])\.\s?m\.?(?![A-Za-z])"), r"\1m"),
    (".M", re.compile(r"(?<![A-Za-z])([AaPp])\.\s?M\.?(?![A-Za-z])"), r"\1M"),
    # 0.1\overline{6}, 0.\dot3, 0.1(6).
    (".", re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|dot|bar)\s*\{?(\d+)\}?|\((\d+)\)(?!\s*[\d(]))"), _repeating),
    # 1.2 x 10^3.
    (" x ", re.compile(r"(?<=\d) x (?=\d)"), "*"),
    (" X ", re.compile(r"(?<=\d) X (?=\d)"), "*"),
    ("x10", re.compile(r"(?<=\d)\s*x10(?=\s*\^)"), "*10"),
    # 12 m, 9.8 m/s^2: a letter after a space, at the end or before a slash or a power, is a unit.
    (
        " ",
        re.compile(r"(?<=\d)(\s|\\[,; ])+(m|g|h|s|L|N|J|W|V)(?=\s*(?:$|/\s*[A-Za-z]|\^\s*\{?[23]\}?\s*$|\$$))"),
        r"\\text{ \2}",
    ),
    # 1.234,56 and 1.000.000 are continental; 1,00,000 is Indian.
    (".", re.compile(r"\A(\d{1,3})\.(\d{3}(?:\.\d{3})*),(\d+)\Z"), lambda m: f"{m[1]}{m[2].replace('.', '')}.{m[3]}"),
    (".", re.compile(r"\A\d{1,3}(?:\.\d{3}){2,}\Z"), lambda m: m[0].replace(".", "")),
    (",", re.compile(r"\A\d{1,2}(?:,\d{2})+,\d{3}\Z"), lambda m: m[0].replace(",", "")),
)


def rewritten(text: str) -> str:
    """The text with these notations unified."""
    if not text.isascii():
        text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
        text = re.sub(r"√\s*(\d+|[A-Za-z])", r"\\sqrt{\1}", text)
    for trigger, pattern, replacement in _RULES:
        if trigger in text and not (trigger == "\\\\" and "\\begin" in text):
            text = pattern.sub(replacement, text)
    return text
