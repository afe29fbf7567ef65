r"""Cut an answer into tokens that are equal where two writings of it are.

What carries no meaning goes (spacing, `\left`, `\displaystyle`, dollar signs, a full stop at the end), what has two
names gets one (`\dfrac` is `\frac`, `\times` is `*`), and words are told from products of variables. A token is a
plain string:

    "12" "0.5" "1000"   a number, thousands separators taken out
    "x" "\\pi" "\\frac" a letter, a command
    '"cm'               a word (of a `\text{}`, or a run of letters that is no product), in lower case
    " "                 a space between two numbers, the only one that is kept
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
"""A comma that is known to part a list."""

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
"""Functions that are written without a backslash too. `sec`, `min` and `max` are words more often."""
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
    """The tokens of an answer. Deterministic; never raises; the empty tuple for an answer of nothing but dressing.

    `120,150` is a number with a separator of thousands, or with `thousands=False` a list of two.
    """
    text = unbolded(text)
    if text.isdigit() and text.isascii():
        return (text.lstrip("0") or "0",)
    text = rewritten(text)
    if not text.isascii():
        text = text.translate(_UNICODE).strip()
    found: list[str] = []
    _cut(text if thousands else text.replace(",", ", "), found)
    return _tidied(found)


def readings(text: str) -> list[Tokens]:
    """The ways to read the commas of an answer: thousands, a list, a decimal comma."""
    found = [tokens(text)]
    if _GROUPED.search(text):
        # 12,034 is no list.
        if _ZERO_MEMBER.search(text) is None:
            found.append(tokens(text, thousands=False))
    elif "," in text and (decimal := _DECIMAL_COMMA.fullmatch(text.strip().strip("$").strip())):
        found.append(tokens(f"{decimal[1]}.{decimal[2]}{decimal[3]}"))
    return found


def _cut(text: str, found: list[str]) -> None:
    depth = 0
    for group, command, digits, letters, space, other in _TOKEN.findall(text):
        if digits:
            # Inside brackets a comma parts the members: (12,102) is a pair.
            _number(digits, found, is_list=depth > 0)
        elif letters:
            _letters(letters, found)
        elif command:
            if command.startswith("\\quad") and len(command) > 5:
                # \\quadx is a space and an x.
                found.append(" ")
                _letters(command[5:], found)
            elif command not in _DROPPED:
                found.append(" " if command in _SPACES else _RENAMED.get(command, command))
        elif space:
            if space != "\\!":
                found.append(" ")
        elif other:
            other = _RENAMED.get(other, other)
            depth += (other in _OPENING) - (other in _CLOSING)
            if other not in _DROPPED:
                found.append(other)
        elif group:
            _group(group, found)
        # An empty group has left no trace.


def _number(digits: str, found: list[str], is_list: bool) -> None:
    if "," in digits:
        # 1,000 is a number and 1,2 a list: thousands come in threes, and never begin with a zero.
        head, *groups = digits.partition(".")[0].split(",")
        if not is_list and head and len(head) <= 3 and head[0] != "0" and all(len(group) == 3 for group in groups):
            found.append(digits.replace(",", JOINT))
            return
        parts = digits.split(",")
        zeros = any(len(part) > 1 and part[0] == "0" and part[1] != "." for part in parts[1:])
        if zeros and len(parts) == 2 and not is_list:
            # 0,05 is no list.
            found.append(".".join(parts))
            return
        for index, part in enumerate(parts):
            if index:
                found.append(LIST_COMMA)
            if part:
                # A member with leading zeros is part of a decimal, of which is not known.
                found.append('"' + part if zeros else part)
        return
    found.append(digits)


def _letters(letters: str, found: list[str]) -> None:
    if not letters.isascii():
        # 元, 米: a unit or a word.
        found.append('"' + letters.lower())
        return
    if len(letters) == 1:
        found.append(letters)
        return
    low = letters.lower()
    if low[:-1] in _PREFIXES:
        # lnx, sinx.
        found += ["\\" + low[:-1], letters[-1]]
        return
    if low in _FUNCTIONS:
        found.append("\\" + low)
    elif letters in _NAMED:
        found.append(_NAMED[letters])
    elif len(letters) > 3 or low in SHORT_WORDS or "'" in letters or _is_word(letters):
        found.append('"' + low)
    else:
        found.extend(letters)


def _is_word(letters: str) -> bool:
    """Whether two or three letters are a word or a name rather than a product: IV, HTH, dog, Leo; not xy, abc."""
    return letters.isupper() or (len(letters) == 3 and (letters[0].isupper() or not _VOWELS.isdisjoint(letters)))


def _group(content: str, found: list[str]) -> None:
    """The content of `\\text{}` and its kin: words are words there, everything else is cut as usual."""
    bare = content.strip(" ~")
    before = next((token for token in reversed(found) if token != " "), "")
    if (_is_number(before) if before else False) or before in ("}", "\\pi", ")"):
        # 25\\text{ m}, 9.8\\mathrm{m/s^2}: behind a number it is a unit.
        unit = _UNIT.fullmatch(bare)
        if unit and all(part is None or part in UNIT_LETTERS or part in NAMES for part in unit.group(1, 2)):
            found.append('"' + unit[1])
            found += ["/", '"' + unit[2]] if unit[2] else []
            found += ["^", unit[3]] if unit[3] else []
            return
    if len(bare) == 1:
        found.append(bare)
        return
    content = bare
    found.append(" ")
    for part in re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[^A-Za-z]+", content):
        if part[0].isalpha():
            low = part.lower()
            if low in _FUNCTIONS:
                found.append("\\" + low)
            else:
                found.append(part if len(part) == 1 else '"' + low)
        else:
            _cut(part, found)
    found.append(" ")


def unbolded(text: str) -> str:
    """The text without outer space and the stars of Markdown."""
    text = text.strip()
    for stars in ("**", "*"):
        if len(text) > 2 * len(stars) and text.startswith(stars) and text.endswith(stars):
            text = text[len(stars) : -len(stars)].strip()
    return text


def _tidied(found: list[str]) -> Tokens:
    """Spaces left only between two numbers; thousands joined; the full stop at the end gone."""
    while found and found[-1] in (" ", ".", ",", ";", ":", "\\"):
        found.pop()
    kept: list[str] = []
    for index, token in enumerate(found):
        if token == " ":
            if kept and kept[-1] != " " and _is_number(kept[-1]):
                kept.append(" ")
            continue
        if kept and kept[-1] == " " and not _is_number(token):
            kept.pop()
        if kept and token[0] in "0123456789" and _joins(kept, token, found, index):
            kept[-1] += token
            continue
        kept.append("," if token == LIST_COMMA else token)
    if kept and kept[-1] == " ":
        kept.pop()
    for index, token in enumerate(kept):
        if token[0] in "0123456789" or (token[0] == "." and len(token) > 1):
            kept[index] = _plain_number(token)
    return tuple(kept)


def _joins(kept: list[str], token: str, found: list[str], index: int) -> bool:
    r"""Whether a number goes on after `{,}` (1{,}000; 0{,}5 is a decimal comma) or a space."""
    if kept[-3:] == ["{", ",", "}"] and len(kept) > 3 and _is_number(kept[-4]):
        del kept[-3:]
        whole, point, _ = token.partition(".")
        kept[-1] += JOINT if len(whole) == 3 or point else "."
        return True
    # 10 000 and 10\\,000: a group of three behind a space.
    three = kept[-1] == " " and len(token.partition(".")[0]) == 3 and "." not in kept[-2] and bool(kept[-2].strip("0"))
    if three and (JOINT in kept[-2] or len(kept[-2]) <= 3) and found[index + 1 : index + 2] != ["/"]:
        kept.pop()
        kept[-1] += JOINT
        return True
    return False


def _is_number(token: str) -> bool:
    return token[0] in "0123456789" or (token[0] == "." and len(token) > 1)


def _plain_number(token: str) -> str:
    """One writing of a number: no separators, no leading zeros (a bare point gets one)."""
    token = token.replace(JOINT, "")
    whole, point, rest = token.partition(".")
    whole = whole.lstrip("0") or "0"
    return whole + point + rest if rest else whole
