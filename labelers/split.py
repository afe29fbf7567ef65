r"""Split points inside a step (lines, sentences or tokens), and a policy that continues from any of them.

A policy separates its steps, while OmegaPRM as published has none: "any run of tokens may be a step" (section 3 of
arXiv 2406.06592). `SplitPolicy` wraps the policy of a labeler and presents pieces of a text as its steps. Pieces are
joined without a separator, and a prefix of pieces is an open one (`Prefix.open`), whose prompt ends where the last
piece ends. The labeler needs no change.

    line       after every run of line ends
    sentence   there, and after [.!?] before white space; never inside $...$, \(...\), \[...\], \begin{}...\end{}, and
               not after abbreviations, the number of a list item, or before a small letter
    token      after a word, a number, a run of punctuation: about the pre-tokens of a byte-level BPE tokenizer
               (Qwen2's, numbers whole). The policy's own tokens are not seen through the `Policy` seam

A run of line ends belongs to the piece before it and any other white space to the piece after it. A BPE tokenizer
splits its text at the same places (".\n\n" and " word" are tokens), so that a prompt is read as the tokens that the
policy wrote.

Units are joined to pieces of at most `size` characters (a longer unit is a piece of its own): the paper's rule that
what is shorter than the average solution / 16 counts as one step. The paper stops its search there; here nothing finer
is made in the first place, which locates the error as closely, and each edge of the tree is still one step with a label
of its own. `size` is taken from the first rollouts of the question, in characters for the paper's tokens: within a
question one is as good a measure of its pieces as the other.

There is no split inside of \boxed{...}, and at the level of tokens none after the first word of an answer ("The answer
is ..." to the end of the line): half an answer in the prompt leaves nothing to grade in the rollout.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, get_args

from openr_data.engine.protocols import Policy
from openr_data.types import Completion, Prefix, Sampling

Level = Literal["line", "sentence", "token"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
JOINER: Final = ""
"""Between two pieces of a solution."""

# The bounds of these patterns keep the time linear in the length of a text that never closes a formula.
_FORMULA: Final = re.compile(
    r"\$\$.{1,2000}?\$\$|\\\[.{1,2000}?\\\]|\\\(.{1,2000}?\\\)|\\begin\{([a-z]+\*?)\}.{1,4000}?\\end\{\1\}"
    # An amount of money does not open a formula: no space inside of the dollar signs, no digit after them.
    r"|(?<!\\)\$(?=\S)(?:[^$\\\n]|\\.|\n(?!\s*\n)){1,1000}(?<=\S)\$(?!\d)",
    re.DOTALL,
)
_INSIDE: Final = r"(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}){0,500}"
_BOX: Final = re.compile(rf"\\(?:boxed|fbox)\s*(?:\{{{_INSIDE}\}}|-?\d+(?:\.\d+)?)")
_ANSWER: Final = re.compile(
    r"^[ \t]*####[^\n]*|\banswers?\b\**(?:\s+(?:to|of)\s[^.\n]{1,80}?)?\s*(?:\b(?:is|are|was|equals)\b|[=:])[^\n]*",
    re.IGNORECASE | re.MULTILINE,
)
_WHITE: Final = re.compile(r"\s+")
_TOKEN: Final = re.compile(r"[^\w\s]?[^\W\d_]+|\d+|(?:[^\w\s]|_)+")
_END: Final = re.compile(r"[.!?]+[\"'”’)\]*_]*(?=\s+(\S))|[。！？]+")  # noqa: RUF001
_LAST_WORD: Final = re.compile(r"[\w.]+$")
_OPERATORS: Final = frozenset("=+-*/<>^,;:)]}|&%")
"""Characters that continue a sentence after a factorial sign or a point that did not end it."""
_ITEM: Final = re.compile(r"\s*(?:\d{1,3}|[A-Za-z])")
_ABBREVIATIONS: Final = frozenset("e.g i.e etc vs cf mr mrs ms dr prof st approx resp figs eqs al jr sr w.r.t".split())
_NUMBERED: Final = frozenset("no nos fig eq sec ch thm p pp vol art".split())
"""Abbreviations only before a number: "No." may be a sentence."""


def split_text(text: str, level: Level) -> tuple[str, ...]:
    """The smallest pieces of a text at a level; joined they are the text, none is blank unless all of it is."""
    pieces: list[str] = []
    start = 0
    for cut in (*_cuts(text, level), len(text)):
        piece = text[start:cut]
        is_blank = not piece.strip()
        if is_blank and not pieces and cut < len(text):
            # White space at the beginning belongs to the piece after it.
            continue
        if is_blank and pieces:
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)
        start = cut
    assert JOINER.join(pieces) == text, "pieces that are not the text"
    return tuple(pieces)


def pieces_of(text: str, level: Level, size: float) -> tuple[str, ...]:
    """The pieces of a text: units of `split_text`, joined from the beginning on up to `size` characters."""
    pieces: list[str] = []
    for unit in split_text(text, level):
        if pieces and len(pieces[-1]) + len(unit) <= size:
            pieces[-1] += unit
        else:
            pieces.append(unit)
    assert JOINER.join(pieces) == text, "pieces that are not the text"
    return tuple(pieces)


def piece_size(texts: Sequence[str], pieces: int) -> float:
    """The most characters of a piece: the average length of the texts divided by `pieces`."""
    return sum(map(len, texts)) / (len(texts) * pieces) if texts else 0.0


def split_metadata(level: Level, pieces: int) -> str:
    """The metadata of solutions and label sets of pieces: how to join them, and how they were made."""
    return json.dumps({"split": level, "joiner": JOINER, "pieces": pieces})


class SplitPolicy:
    """A `Policy` of one question whose steps are pieces of what `policy` writes, a `pieces`-th of its solutions long.

    The first rollouts from the question give the length of solutions; before them pieces have the smallest size.
    """

    def __init__(self, policy: Policy, level: Level, pieces: int) -> None:
        self._policy, self._level, self._pieces = policy, level, pieces
        self._size: float | None = None

    @property
    def name(self) -> str:
        return self._policy.name

    @property
    def separator(self) -> str:
        """Nothing: a piece holds the white space around it."""
        return JOINER

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """Draw n samples that continue where the last piece ends."""
        if prefix.steps:
            written = JOINER.join(prefix.steps)
            return await self._policy.sample(Prefix(prefix.question, (written,), open=True), n, sampling)
        # Samples from the question alone do not depend on pieces, so that those of other jobs can be reused.
        samples = await self._policy.sample(prefix, n, sampling)
        if self._size is None:
            self._size = piece_size([item.text for item in samples], self._pieces)
        return samples

    def steps_of(self, text: str) -> tuple[str, ...]:
        return pieces_of(text, self._level, self._size or 0.0)


def _cuts(text: str, level: Level) -> list[int]:
    """The places where a text may be cut, in order; some leave blank pieces."""
    candidates = set(_line_ends(text))
    closed = [_BOX]
    if level == "sentence":
        candidates.update(_sentence_ends(text))
        closed.append(_FORMULA)
    elif level == "token":
        candidates.update(match.end() for match in _TOKEN.finditer(text))
        closed.append(_ANSWER)
    spans = sorted(match.span() for pattern in closed for match in pattern.finditer(text))
    cuts: list[int] = []
    place = closed_until = 0
    for cut in sorted(candidates):
        while place < len(spans) and spans[place][0] < cut:
            closed_until = max(closed_until, spans[place][1])
            place += 1
        if cut >= closed_until:
            cuts.append(cut)
    return cuts


def _line_ends(text: str) -> Iterator[int]:
    for match in _WHITE.finditer(text):
        last = max(match[0].rfind("\n"), match[0].rfind("\r"))
        if last >= 0:
            yield match.start() + last + 1


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        follows = match[1] or ""
        if follows.islower() or follows in _OPERATORS:
            continue
        if match[0].startswith(".") and not match[0].startswith(".."):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            word = _LAST_WORD.search(line[-20:])
            last = word[0].lower().strip(".") if word else ""
            if last in _ABBREVIATIONS or (last in _NUMBERED and not follows.isalpha()) or _ITEM.fullmatch(line):
                continue
        yield match.end()
