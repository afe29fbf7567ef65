r"""Bring an answer into one form: the same number or text written in two ways becomes equal.

`normalize` removes only what carries no meaning (spacing, `\left`, `\dfrac`, thousands separators of a whole
number); `split_left` and `split_unit` take off a left side (`x=`) and a unit, which the comparison may or may not
pass over; `as_rational` reads integers, decimals, fractions and mixed numbers exactly. Nothing here is slow on
any text: spaces are collapsed first and every pattern is linear in what is left.
"""

import re
from fractions import Fraction
from functools import lru_cache

LONGEST_ANSWER = 2_000
"""Characters; a longer answer is not compared (verdict unknown)."""
LONGEST_NUMBER = 400
"""Digits of a number that is read exactly; a longer one stays text."""

_SPACING = re.compile(r"\\[,;:! ]|\\q?quad\b|~|\s")
_SPACES = re.compile(r" +")
_FREE_SPACE = re.compile(r"(?<!\d) | (?!\d)")
_DROP = re.compile(r"\\(?:left|right|displaystyle|textstyle|limits|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox|textrm|operatorname) ?\{([^{}]*)\}")
_FRAC = re.compile(r"\\[dtc]?frac(?![A-Za-z])")
_BARE_FRAC = re.compile(r"\\frac(\d|\{[^{}]*\}|[a-zA-Z])(\d|\{[^{}]*\}|[a-zA-Z])")
_BARE_SQRT = re.compile(r"\\sqrt(\d|[a-zA-Z])")
_DEGREES = re.compile(r"\^ ?(?:\{ ?\\circ ?\}|\\circ)|°|\\degree\b")
_UNIT = re.compile(
    r"(?<=[\d}]) ?((?:square |cubic )?"
    r"(?:cm|mm|km|feet|foot|inch(?:es)?|yards?|miles?|units?|dollars?|cents?|degrees?|hours?|hrs"
    r"|minutes?|seconds?|days?|weeks?|months?|years?|pounds?|lbs?|grams?|kg|liters?|meters?"
    r"|centimeters?|kilometers?|points?|percent|apples?|people|ways?|mph)(?: ?\^ ?\{?[23]\}?)?)$",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"([+-]?[1-9]\d{0,2})((?:,\d{3})+)(\.\d+)?")
_THIN_GROUP = re.compile(r"(?<=\d)(?:\\[,!:;]|\{,\}|,\\!)(?=\d{3}(?!\d))")
_INTEGER = re.compile(r"[+-]?\d+")
_DECIMAL = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)")
_FRACTION = re.compile(r"([+-]?)\\frac\{([+-]?\d+)\}\{([+-]?\d+)\}|([+-]?\d+)/(\d+)")
_MIXED = re.compile(r"([+-]?)(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_LEFT_SIDE = re.compile(r"([A-Za-z](?:_\{?\w\}?)?(?:\([A-Za-z]\))?)=(?!=)(.*)", re.DOTALL)


@lru_cache(maxsize=100_000)
def normalize(answer: str) -> str:
    """The answer with everything taken off that carries no meaning. Deterministic and idempotent."""
    previous, text = "", answer[: LONGEST_ANSWER + 1]
    while text != previous:
        previous, text = text, _normalize_once(text)
    return text


def _normalize_once(text: str) -> str:
    text = text.strip().strip("$").strip()
    text = text.removesuffix(".").removesuffix("\\")
    text = _DROP.sub("", text).replace("−", "-").replace("\\%", "%").replace("\\$", "")  # noqa: RUF001
    text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = _THIN_GROUP.sub(",", _DEGREES.sub("", text))
    text = _TEXT.sub(r" \1 ", text)
    text = _SPACES.sub(" ", _SPACING.sub(" ", text)).strip()
    unit = _UNIT.search(text)
    body, tail = (text[: unit.start()], " " + unit[1]) if unit else (text, "")
    # A space between two digits separates them (a list, a mixed number); any other is typography.
    body = _FREE_SPACE.sub("", body)
    body = _FRAC.sub(r"\\frac", body)
    body = _BARE_FRAC.sub(lambda m: f"\\frac{_braced(m[1])}{_braced(m[2])}", body)
    body = _BARE_SQRT.sub(r"\\sqrt{\1}", body)
    body = body.removeprefix("$").removesuffix("$")
    grouped = _GROUPED.fullmatch(body)
    if grouped:
        body = grouped[1] + grouped[2].replace(",", "") + (grouped[3] or "")
    return body + tail


def _braced(part: str) -> str:
    return part if part.startswith("{") else "{" + part + "}"


def split_left(text: str) -> tuple[str, str]:
    """(left side, rest) of a normalised `x=5`; the left side is empty where there is none."""
    match = _LEFT_SIDE.fullmatch(text)
    return (match[1], match[2]) if match and match[2] and "=" not in match[2] else ("", text)


def split_unit(text: str) -> tuple[str, str]:
    """(number, unit) of a normalised answer; the unit is empty where there is none, plurals are one unit."""
    if text.endswith("%"):
        return text.removesuffix("%"), "percent"
    match = _UNIT.search(text)
    if not match:
        return text, ""
    unit = match[1].lower().replace(" ", "").replace("{", "").replace("}", "")
    return text[: match.start()], unit.removesuffix("s") if len(unit) > 3 else unit


@lru_cache(maxsize=100_000)
def as_rational(text: str) -> Fraction | None:
    """The exact value of a normalised answer without its unit, or None where it is not a plain number."""
    if len(text) > LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text):
        return Fraction(text if not text.endswith(".") else text + "0")
    if (match := _FRACTION.fullmatch(text)) is not None:
        sign, top, bottom, top2, bottom2 = match.groups()
        numerator, denominator = int(top or top2), int(bottom or bottom2)
        if denominator == 0:
            return None
        return Fraction(numerator, denominator) * (-1 if sign == "-" else 1)
    if (match := _MIXED.fullmatch(text)) is not None and int(match[4] or match[6]):
        value = int(match[2]) + Fraction(int(match[3] or match[5]), int(match[4] or match[6]))
        return -value if match[1] == "-" else value
    return None
