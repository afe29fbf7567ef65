"""Bring an answer into one form: the same number or text written in two ways becomes equal.

`normalize` works on text and only removes what carries no meaning (spacing, `\\left`, units, `\\dfrac`);
`as_rational` reads integers, decimals, fractions, mixed numbers and percentages exactly.
"""

import re
from fractions import Fraction
from functools import lru_cache

LONGEST_ANSWER = 2_000
"""Characters; a longer answer is not compared (verdict unknown)."""
LONGEST_NUMBER = 400
"""Digits of a number that is read exactly; a longer one stays text."""

_SPACING = re.compile(r"\\[,;:!> ]|\\q?quad\b|~|\s+")
_DROP = re.compile(r"\\(?:left|right|displaystyle|textstyle|limits|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_FRAC = re.compile(r"\\[dtc]?frac(?![A-Za-z])")
_BARE_FRAC = re.compile(r"\\frac\s*(\d|\{[^{}]*\}|[a-zA-Z])\s*(\d|\{[^{}]*\}|[a-zA-Z])")
_BARE_SQRT = re.compile(r"\\sqrt\s*(\d|[a-zA-Z])")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°|\\degree\b")
_UNITS = re.compile(
    r"(?<=[\d}])\s*\\?(?:text)?\s*(?:square|cubic)?\s*"
    r"(?:cm|mm|km|feet|foot|inch(?:es)?|yards?|miles?|units?|dollars?|cents?|degrees?|hours?|hrs"
    r"|minutes?|seconds?|days?|weeks?|months?|years?|pounds?|lbs?|grams?|kg|liters?|meters?"
    r"|centimeters?|kilometers?|points?|percent|apples?|people|ways?|mph)\s*(?:\^\s*\{?\s*[23]\s*\}?)?\s*\.?$",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,)(?=\d{3}(?!\d))")
_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)")
_FRACTION = re.compile(r"([+-]?)\\frac\{([+-]?\d+)\}\{([+-]?\d+)\}|([+-]?\d+)/(\d+)")
_MIXED = re.compile(r"([+-]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\})")
_LEFT_SIDE = re.compile(r"^[A-Za-z](?:_\{?\w\}?)?(?:\([A-Za-z]\))?=(?!=)")


@lru_cache(maxsize=100_000)
def normalize(answer: str) -> str:
    """The answer with everything taken off that carries no meaning. Deterministic and idempotent."""
    previous, text = "", answer
    while text != previous:
        previous, text = text, _normalize_once(text)
    return text


def _normalize_once(text: str) -> str:
    text = text.strip().strip("$").strip()
    text = text.removesuffix(".").removesuffix("\\")
    text = _DROP.sub("", text).replace("−", "-").replace("\\%", "%").replace("\\$", "")  # noqa: RUF001
    text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = _DEGREES.sub("", text)
    text = _UNITS.sub("", _TEXT.sub(r"\1", text))
    text = _THOUSANDS.sub("", text)
    text = _SPACING.sub("", text)
    text = _FRAC.sub(r"\\frac", text)
    text = _BARE_FRAC.sub(lambda m: f"\\frac{_braced(m[1])}{_braced(m[2])}", text)
    text = _BARE_SQRT.sub(r"\\sqrt{\1}", text)
    text = text.removeprefix("$").removesuffix("$")
    shortened = _LEFT_SIDE.sub("", text)
    if shortened and "=" not in shortened:
        text = shortened
    return text


def _braced(part: str) -> str:
    return part if part.startswith("{") else "{" + part + "}"


@lru_cache(maxsize=100_000)
def as_rational(text: str) -> Fraction | None:
    """The exact value of a normalised answer, or None where it is not a plain number.

    A percentage is its number: `50%` and `50` are one answer, as in the field's answer keys.
    """
    text = text.removesuffix("%")
    if len(text) > LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text) or (_DECIMAL.fullmatch(text)):
        return Fraction(text if not text.endswith(".") else text + "0")
    if (match := _FRACTION.fullmatch(text)) is not None:
        sign, top, bottom, top2, bottom2 = match.groups()
        numerator, denominator = int(top or top2), int(bottom or bottom2)
        if denominator == 0:
            return None
        return Fraction(numerator, denominator) * (-1 if sign == "-" else 1)
    if (match := _MIXED.fullmatch(text)) is not None and int(match[4]):
        value = int(match[2]) + Fraction(int(match[3]), int(match[4]))
        return -value if match[1] == "-" else value
    return None
