r"""Cut an answer into tokens, so that two notations of one answer have equal tokens.

Marks without meaning are dropped (spacing, `\left`, `\displaystyle`, dollar signs, a full stop at the end), a command
with two names gets one (`\dfrac` is `\frac`, `\times` is `*`), and words are separated from products of variables. A
token is a plain string:

    "12" "0.5" "1000"   a number, thousands separators taken out
    "x" "\\pi" "\\frac" a letter, a command
    '"cm'               a word (of a `\text{}`, or a run of letters that is not a product), in lower case
    " "                 a space between two numbers; other spaces are dropped
    any other           one character

One pass of one pattern, linear in the text.
"""

import re
from functools import lru_cache
from typing import Final

from .rewriting import rewritten
from .units import NAMES, UNIT_LETTERS

Tokens = tuple[str, ...]

JOINT: Final = "\x00"
"""Stands inside a number where a separator of thousands stood, until the tokens are tidied."""
LIST_COMMA: Final = "\x01"
"""A comma that certainly separates members of a list."""

_UNICODE: Final = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "﹣": "-", "-": "-",
        "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∗": "*", "÷": "\\div ", "∕": "/", "⁄": "/",
        "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "±": "\\pm ", "∓": "\\mp ",
        "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "∈": "\\in ", "∪": "\\cup ", "∩": "\\cap ",
        "∅": "\\emptyset ", "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ",
        "φ": "\\phi ", "σ": "\\sigma ", "μ": "\\mu ", "ω": "\\omega ", "δ": "\\delta ", "ρ": "\\rho ", "τ": "\\tau ",
        "Δ": "\\Delta ", "Ω": "\\Omega ", "€": " \\euro ", "£": " \\pounds ", "…": "\\ldots ",
        "°": "^\\circ ", "º": "^\\circ ", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}",
        "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "⅔": "\\frac{2}{3}", "（": "(", "）": ")", "，": ",", "％": "%",
        "“": '"', "”": '"', "’": "'", "‘": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "。": ".",
    }
)  # fmt: skip

_TOKEN: Final = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|textsf|texttt|mbox|mathrm|mathbf|mathit|mathsf|mathcal|operatorname\*?|boldsymbol"
    r"|bold|bf|rm|hbox|emph)\s*\{([^{}]*)\}"  # 1: the content of a text group
    r"|(\\[A-Za-z]+)"  # 2: a command
    r"|((?:\d[\d,]*)?\.?\d+(?:[eE][+-]?\d+(?![A-Za-z]))?)"  # 3: a number as written
    r"|([A-Za-z]+(?:'[a-z]+)?|[^\W\d_A-Za-z]+)"  # 4: letters
    r"|(\s+|\\[ ,;:!>]|\\\n|~)"  # 5: a space
    r"|(\\.|[<>=]=|=<|\.\.+|.)",  # 6: anything else
    re.DOTALL,
)

_UNIT: Final = re.compile(r"([A-Za-z]{1,2})(?:/([A-Za-z]{1,3}))?(?:\^?\{?([23])\}?)?")
_ZERO_MEMBER: Final = re.compile(r",0\d")
_DECIMAL_COMMA: Final = re.compile(r"(-?\d+),(\d+)(\D*)")
_GROUPED: Final = re.compile(r"[1-9]\d{0,2},\d{3}(?!\d)")

_DROPPED: Final = frozenset(
    "\\left \\right \\displaystyle \\textstyle \\scriptstyle \\limits \\nolimits \\big \\Big \\bigg \\Bigg "
    "\\bigl \\bigr \\Bigl \\Bigr \\biggl \\biggr \\mathstrut \\rm \\bf \\it \\middle \\hfill \\phantom \\boldmath "
    "\\! $ \\( \\) \\[ \\]".split()
)
_OPENING: Final = frozenset({"(", "[", "\\{"})
_CLOSING: Final = frozenset({")", "]", "\\}"})
_SPACES: Final = frozenset({"\\quad", "\\qquad", "\\enspace", "\\thinspace", "\\space", "\\,", "\\;", "\\:"})
_RENAMED: Final = {
    "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\nicefrac": "\\frac", "\\sfrac": "\\frac",
    "\\leq": "\\le", "\\leqslant": "\\le", "\\geq": "\\ge", "\\geqslant": "\\ge", "\\neq": "\\ne", "\\lt": "<",
    "\\gt": ">",
    "\\times": "*", "\\cdot": "*", "\\ast": "*", "\\div": "/", "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[",
    "\\rbrack": "]", "\\lvert": "|", "\\rvert": "|", "\\vert": "|", "\\mid": "|", "\\%": "%", "\\&": "&", "\\#": "#",
    "<=": "\\le", "=<": "\\le", ">=": "\\ge", "==": "=", "\\dbinom": "\\binom", "\\tbinom": "\\binom",
    "\\varnothing": "\\emptyset", "\\degree": "°", "\\degrees": "°",
    "\\dots": "\\ldots", "\\cdots": "\\ldots", "\\dotsc": "\\ldots", "\\infin": "\\infty",
    "...": "\\ldots", "..": "\\ldots", "\\langle": "(", "\\rangle": ")", "\\varphi": "\\phi",
    "\\varepsilon": "\\epsilon", "\\colon": ":", "\\backslash": "\\setminus",
    "\\_": "_", "\\minus": "-", "\\plus": "+", "\\isin": "\\in", "\\simeq": "\\approx",
    "\\thickapprox": "\\approx", "\\pounds": '"pounds', "\\$": '"dollars', "\\euro": '"euros',
}  # fmt: skip
_FUNCTIONS: Final = frozenset(
    "sin cos tan cot csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt gcd lcm".split()
)
"""Functions that are also written without a backslash. `sec`, `min` and `max` are words more often."""
_PREFIXES: Final = frozenset({"sin", "cos", "tan", "ln", "log"})
_NAMED: Final = {
    "Pi": "\\pi", "pi": "\\pi",
    "infty": "\\infty", "infinity": "\\infty", "inf": "\\infty", "oo": "\\infty", "frac": "\\frac",
    "theta": "\\theta", "alpha": "\\alpha", "beta": "\\beta", "times": "*",
}  # fmt: skip
_VOWELS: Final = frozenset("eiou")
SHORT_WORDS: Final = frozenset(
    "a an and or no yes odd all not the is are of to in on by if it he we dne none two six ten one "
    "day cm mm km ft yd mi kg mg lb lbs oz hr hrs min sec am pm mph kph ml usd cents way cup red lie "
    "tie max its per sq cu pct th st nd rd deg rad joe tom ann bob sue east west left right".split()
)
"""Runs of at most three letters that are words, not products of variables."""


@lru_cache(maxsize=200_000)
def tokens(text: str, *, thousands: bool = True) -> Tokens:
    """The tokens of an answer. Deterministic; never raises; the empty tuple for an answer of marks without meaning.

    `120,150` is a number with a separator of thousands, or with `thousands=False` a list of two.
    """
    text = unbolded(text)
    if text.isdigit() and text.isascii():
        return (text.lstrip("0") or "0",)
    text = rewritten(text)
    if not text.isascii():
        text = text.translate(_UNICODE).strip()
    cut: list[str] = []
    _cut(text if thousands else text.replace(",", ", "), cut)
    return _tidied(cut)


def readings(text: str) -> list[Tokens]:
    """The ways to read the commas of an answer: thousands, a list, a decimal comma."""
    ways = [tokens(text)]
    if _GROUPED.search(text):
        # 12,034 is a number, not a list.
        if _ZERO_MEMBER.search(text) is None:
            ways.append(tokens(text, thousands=False))
    elif "," in text and (decimal := _DECIMAL_COMMA.fullmatch(text.strip().strip("$").strip())):
        ways.append(tokens(f"{decimal[1]}.{decimal[2]}{decimal[3]}"))
    return ways


def _cut(text: str, cut: list[str]) -> None:
    depth = 0
    for group, command, digits, letters, space, other in _TOKEN.findall(text):
        if digits:
            # Inside brackets a comma separates members: (12,102) is a pair.
            _number(digits, cut, is_list=depth > 0)
        elif letters:
            _letters(letters, cut)
        elif command:
            if command.startswith("\\quad") and len(command) > 5:
                # \\quadx is a space and an x.
                cut.append(" ")
                _letters(command[5:], cut)
            elif command not in _DROPPED:
                cut.append(" " if command in _SPACES else _RENAMED.get(command, command))
        elif space:
            if space != "\\!":
                cut.append(" ")
        elif other:
            other = _RENAMED.get(other, other)
            depth += (other in _OPENING) - (other in _CLOSING)
            if other not in _DROPPED:
                cut.append(other)
        elif group:
            _group(group, cut)
        # An empty group adds nothing.


def _number(digits: str, cut: list[str], is_list: bool) -> None:
    if "," in digits:
        # 1,000 is a number and 1,2 a list: thousands come in threes, and never begin with a zero.
        head, *groups = digits.partition(".")[0].split(",")
        if not is_list and head and len(head) <= 3 and head[0] != "0" and all(len(group) == 3 for group in groups):
            cut.append(digits.replace(",", JOINT))
            return
        parts = digits.split(",")
        zeros = any(len(part) > 1 and part[0] == "0" and part[1] != "." for part in parts[1:])
        if zeros and len(parts) == 2 and not is_list:
            # 0,05 is a decimal, not a list.
            cut.append(".".join(parts))
            return
        for index, part in enumerate(parts):
            if index:
                cut.append(LIST_COMMA)
            if part:
                # A member with leading zeros is part of a decimal, but it is unknown of which.
                cut.append('"' + part if zeros else part)
        return
    cut.append(digits)


def _letters(letters: str, cut: list[str]) -> None:
    if not letters.isascii():
        # 元, 米: a unit or a word.
        cut.append('"' + letters.lower())
        return
    if len(letters) == 1:
        cut.append(letters)
        return
    low = letters.lower()
    if low[:-1] in _PREFIXES:
        # lnx, sinx.
        cut += ["\\" + low[:-1], letters[-1]]
        return
    if low in _FUNCTIONS:
        cut.append("\\" + low)
    elif letters in _NAMED:
        cut.append(_NAMED[letters])
    elif len(letters) > 3 or low in SHORT_WORDS or "'" in letters or _is_word(letters):
        cut.append('"' + low)
    else:
        cut.extend(letters)


def _is_word(letters: str) -> bool:
    """Whether two or three letters are a word or a name rather than a product: IV, HTH, dog, Leo; not xy, abc."""
    return letters.isupper() or (len(letters) == 3 and (letters[0].isupper() or not _VOWELS.isdisjoint(letters)))


def _group(content: str, cut: list[str]) -> None:
    """The content of `\\text{}` and similar commands: words stay words, everything else is cut as usual."""
    bare = content.strip(" ~")
    before = next((token for token in reversed(cut) if token != " "), "")
    if (_is_number(before) if before else False) or before in ("}", "\\pi", ")"):
        # 25\\text{ m}, 9.8\\mathrm{m/s^2}: after a number it is a unit.
        unit = _UNIT.fullmatch(bare)
        if unit and all(part is None or part in UNIT_LETTERS or part in NAMES for part in unit.group(1, 2)):
            cut.append('"' + unit[1])
            cut += ["/", '"' + unit[2]] if unit[2] else []
            cut += ["^", unit[3]] if unit[3] else []
            return
    if len(bare) == 1:
        cut.append(bare)
        return
    content = bare
    cut.append(" ")
    for part in re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[^A-Za-z]+", content):
        if part[0].isalpha():
            low = part.lower()
            if low in _FUNCTIONS:
                cut.append("\\" + low)
            else:
                cut.append(part if len(part) == 1 else '"' + low)
        else:
            _cut(part, cut)
    cut.append(" ")


def unbolded(text: str) -> str:
    """The text without outer space and the stars of Markdown."""
    text = text.strip()
    for stars in ("**", "*"):
        if len(text) > 2 * len(stars) and text.startswith(stars) and text.endswith(stars):
            text = text[len(stars) : -len(stars)].strip()
    return text


def _tidied(cut: list[str]) -> Tokens:
    """The tokens with spaces between numbers only, thousands joined, and no full stop at the end."""
    while cut and cut[-1] in (" ", ".", ",", ";", ":", "\\"):
        cut.pop()
    tidy: list[str] = []
    for index, token in enumerate(cut):
        if token == " ":
            if tidy and tidy[-1] != " " and _is_number(tidy[-1]):
                tidy.append(" ")
            continue
        if tidy and tidy[-1] == " " and not _is_number(token):
            tidy.pop()
        if tidy and token[0] in "0123456789" and _joins(tidy, token, cut, index):
            tidy[-1] += token
            continue
        tidy.append("," if token == LIST_COMMA else token)
    if tidy and tidy[-1] == " ":
        tidy.pop()
    for index, token in enumerate(tidy):
        if token[0] in "0123456789" or (token[0] == "." and len(token) > 1):
            tidy[index] = _plain_number(token)
    return tuple(tidy)


def _joins(tidy: list[str], token: str, cut: list[str], index: int) -> bool:
    r"""Whether a number goes on after `{,}` (1{,}000; 0{,}5 is a decimal comma) or a space."""
    if tidy[-3:] == ["{", ",", "}"] and len(tidy) > 3 and _is_number(tidy[-4]):
        del tidy[-3:]
        whole, point, _ = token.partition(".")
        tidy[-1] += JOINT if len(whole) == 3 or point else "."
        return True
    # 10 000 and 10\\,000: a group of three after a space.
    three = tidy[-1] == " " and len(token.partition(".")[0]) == 3 and "." not in tidy[-2] and bool(tidy[-2].strip("0"))
    if three and (JOINT in tidy[-2] or len(tidy[-2]) <= 3) and cut[index + 1 : index + 2] != ["/"]:
        tidy.pop()
        tidy[-1] += JOINT
        return True
    return False


def _is_number(token: str) -> bool:
    return token[0] in "0123456789" or (token[0] == "." and len(token) > 1)


def _plain_number(token: str) -> str:
    """One notation of a number: no separators, no leading zeros (a bare point gets one)."""
    token = token.replace(JOINT, "")
    whole, point, rest = token.partition(".")
    whole = whole.lstrip("0") or "0"
    return whole + point + rest if rest else whole
