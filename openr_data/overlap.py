r"""Finds questions that were seen before: in a known benchmark, or on the other side of a split.

Questions are compared as whole `normalised` text. Near copies are found by windows of 13 tokens, as for GPT-3
(arXiv 2005.14165, appendix C), with two deviations: only tokens of `normalised` with a letter or a digit count, so
LaTeX commands do and brackets do not, and no window is left out for being frequent.

The benchmarks are stored as fingerprints only, in `catalogs/benchmarks/NAME.txt`, which `benchmarks/fingerprints.py`
writes. A file in the folder of a reward model stores the fingerprints of its questions.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from types import MappingProxyType
from typing import Final

from .errors import UsageError
from .ids import content_hash
from .registry import catalog_names, catalog_text

FOLDER: Final = "benchmarks"
"""A folder of the catalogs with one file of fingerprints for each benchmark."""
SEEN_FILE: Final = "seen_questions.txt"
"""A file of a reward model's folder: fingerprints of the questions it was trained on or chosen by, one a line."""
WINDOW: Final = 13
"""Tokens of a window."""

_WORD: Final = 3
"""The least number of letters of a word of prose; `AB` is a segment."""

_SAME: Final = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u02bc\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
    | dict.fromkeys("\u2044\u2215", "/")
    | dict.fromkeys("\u00ad\u200c\u200d\u2060\ufeff", "")
    | {"\u2014": ",", "\u2015": ",", "\u200b": " "}
    | {"\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne ", "\u00d7": r"\times ", "\u00f7": r"\div "}
    | {"\u00b7": r"\cdot ", "\u22c5": r"\cdot "}
)
"""Characters with one meaning: dashes that are a minus or a hyphen, quotation marks, signs that LaTeX spells out."""
_SCRIPTS: Final = {"<super>": "^", "<sub>": "_"}
_DIGIT: Final = re.compile(r"\d")
_QUOTED: Final = re.compile(r"``([^`]*?)''")
_THOUSANDS: Final = re.compile(r"(?<=\d)(?:,\\!|\{,\})(?=\d)")
_COMMAND: Final = re.compile(r"(\\\\|\\[A-Za-z]+)")
_TOKEN: Final = re.compile(
    r"""
      (?P<dropped> \\[hv]space\*?\s*\{[^{}]*\} | \\(?:left|right)\s*\. | \s+ | \$ )
    | \\[A-Za-z]+ | \\.
    | \d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)? | \d+(?:\.\d+)* | \.\d+
    | [^\W\d_]+
    | \S
    """,
    re.VERBOSE | re.DOTALL,
)
_DROPPED: Final = frozenset(
    r"""\, \; \: \! \> \$ \( \) \[ \] \quad \qquad \enspace \thinspace \medspace \thickspace \negthinspace \allowbreak
    \left \right \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \Biggl \Biggr
    \displaystyle \textstyle \smallskip \medskip \bigskip \noindent \indent""".split()
)
"""Commands that move or size what is printed and nothing more; a backslash before white space is one of them."""
_SYNONYMS: Final = {
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\dbinom": r"\binom", r"\tbinom": r"\binom",
    r"\leq": r"\le", r"\geq": r"\ge", r"\neq": r"\ne", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\%": "%",
}  # fmt: skip
_SOFT: Final = frozenset(',;.?"')
"""Punctuation that carries mathematics only between two pieces of mathematics."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many of some questions are in each benchmark; one may be in several. Without hits there is no entry."""

    questions: int
    found: Mapping[str, int]


def normalised(question: str) -> str:
    r"""The text that two printings of one question have in common: its tokens, separated by spaces.

    It drops case (except in commands: `\Delta` is not `\delta`), the amount of white space, `$` and the other
    brackets of formulas (a sum in dollars is a number), LaTeX's spaces, sizes, `\left` and `\right`, braces round one
    character, and the writing of `\dfrac`, `\frac12`, `\leq`, ≤, ½, x², curly quotes, TeX quotes and dashes.
    Commas, full stops, semicolons, question and quotation marks go at both ends and beside a word of three letters;
    between two pieces of mathematics they stay.

    Nothing else goes: no digit, sign, bracket, index, prime or `!`. `x²`, `x2` and `x_2` are three, so are `1¾` and
    `13/4`, `100,200` and `100, 200` and `100200`; `0.5` and `.5` are two, as are `\frac{1}{2}` and `1/2`.
    """
    if not question.isascii():
        question = _plain(question).translate(_SAME)
    if "``" in question:
        question = _QUOTED.sub(r'"\1"', question)
    if "~" in question and ("\\" in question or question.count("$") > 1):
        # A space in TeX; elsewhere it means "similar".
        question = question.replace("~", " ")
    parts = _COMMAND.split(_THOUSANDS.sub(",", question))
    parts[::2] = [unicodedata.normalize("NFKC", part.casefold()) for part in parts[::2]]
    return " ".join(_without_soft(_tokens("".join(parts))))


def _plain(text: str) -> str:
    """NFKC that separates what NFKC joins: x² is x^2, 1¾ is 1 3/4, 2① is 2 1."""
    parts: list[str] = []
    for kind, group in groupby(text, lambda char: unicodedata.decomposition(char).partition(" ")[0]):
        chars = "".join(group)
        if kind in _SCRIPTS:
            script = unicodedata.normalize("NFKC", chars)
            parts.append(_SCRIPTS[kind] + (script if len(script) == 1 else f"{{{script}}}"))
        elif kind in ("<fraction>", "<circle>", "<square>", "<compat>"):
            # A ligature belongs to its word; a number does not belong to the number before it.
            for char in chars:
                whole = unicodedata.normalize("NFKC", char)
                if kind == "<square>":
                    inner = unicodedata.decomposition(char).partition(" ")[2].split()
                    whole = "".join(_plain(chr(int(code, 16))) for code in inner)
                parts.append(f" {whole} " if _DIGIT.search(whole) else whole)
        else:
            parts.append(chars)
    return unicodedata.normalize("NFKC", "".join(parts))


def _tokens(text: str) -> list[str]:
    """Numbers, words, commands and single characters, without layout commands."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match["dropped"] or token in _DROPPED or (token[0] == "\\" and token[1:].isspace()):
            continue
        token = _SYNONYMS.get(token, token)
        if token == "}" and tokens[-2:-1] == ["{"] and len(tokens[-1]) == 1 and tokens[-1].isalnum():
            tokens[-2:] = tokens[-1:]
        elif len(token) > 1 and token.isdecimal() and tokens[-1:] == [r"\frac"]:
            # TeX takes one digit for each part of the fraction.
            tokens += [token[0], token[1], *filter(None, [token[2:]])]
        else:
            tokens.append(token)
    return tokens


def _without_soft(tokens: list[str]) -> Iterator[str]:
    """Leave out each run of punctuation next to a word, the beginning or the end."""
    waiting: list[str] = []
    prose = True
    for token in tokens:
        if token in _SOFT:
            waiting.append(token)
            continue
        word = len(token) >= _WORD and token.isalpha()
        if not (prose or word):
            yield from waiting
        waiting.clear()
        yield token
        prose = word


def fingerprint(question: str) -> str:
    """A hash of the normalised text: 16 hex digits."""
    return content_hash("normalised question", normalised(question))[:16]


@cache
def benchmarks() -> Mapping[str, frozenset[str]]:
    """The fingerprints of the questions of every known benchmark, by name."""
    return MappingProxyType({name: _listed(f"{FOLDER}/{name}.txt") for name in catalog_names(FOLDER, ".txt")})


def _listed(path: str) -> frozenset[str]:
    return read_fingerprints(catalog_text(path))


def find_benchmarks(questions: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The ids of those (id, text) pairs that are in a benchmark, by its name; one without hits has no entry."""
    hits: dict[str, list[str]] = {name: [] for name in benchmarks()}
    for question_id, text in questions:
        mark = fingerprint(text)
        for name, marks in benchmarks().items():
            if mark in marks:
                hits[name].append(question_id)
    return {name: ids for name, ids in hits.items() if ids}


def count_benchmarks(questions: Iterable[str]) -> Overlap:
    """How many questions there are, and how many of them are in each benchmark."""
    pairs = [("", text) for text in questions]
    return Overlap(len(pairs), {name: len(ids) for name, ids in find_benchmarks(pairs).items()})


def read_fingerprints(text: str) -> frozenset[str]:
    """The fingerprints in a file of them; a line that begins with # is a remark."""
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def count_seen(questions: Iterable[str], seen: frozenset[str]) -> int:
    """How many different questions are among those seen."""
    return sum(fingerprint(text) in seen for text in set(questions))


def shared_questions(train: Iterable[str], held_out: Iterable[str]) -> int:
    """How many different normalised questions are on both sides; an empty text does not count."""
    return len(({normalised(text) for text in train} & {normalised(text) for text in held_out}) - {""})


def thirteen_grams(text: str) -> Iterator[tuple[str, ...]]:
    """All windows of 13 tokens; a shorter text is one window, an empty one has none."""
    return _windows(_counted(text), WINDOW)


def ngram_overlap(train: Iterable[str], held_out: Iterable[str], n: int = WINDOW) -> list[int]:
    """The indices of those held-out questions that share a window of `n` tokens with any of `train`, in order.

    A text with fewer tokens must equal the other text. The signs between the tokens do not count, and drawings share
    their code, so this finds more than copies: inspect each hit. 100,000 questions take seconds; memory holds only the
    windows of `held_out`. Raises `UsageError` for a window of no tokens.
    """
    if n < 1:
        raise UsageError(f"A window holds one token or more, not {n}. The usual size is {WINDOW}.")
    held = [_counted(text) for text in held_out]
    wanted = {window for tokens in held for window in _windows(tokens, n)}
    hits = {window for text in train for window in filter(wanted.__contains__, _windows(_counted(text), n))}
    return [place for place, tokens in enumerate(held) if not hits.isdisjoint(_windows(tokens, n))]


def _counted(text: str) -> list[str]:
    """The tokens that windows consist of."""
    return [token for token in normalised(text).split(" ") if token[-1:].isalnum()]


def _windows(tokens: list[str], n: int) -> Iterator[tuple[str, ...]]:
    if len(tokens) < n:
        return iter([tuple(tokens)] if tokens else [])
    return zip(*(tokens[start:] for start in range(n)), strict=False)
