r"""Find the final answer in a solution text, and the rule by which it was found.

In this order, over the whole text: the last *balanced* `\boxed{…}` or `\fbox{…}`, the last `#### N` line, the last
answer phrase ("The answer is …", in ten languages), the last formula between dollar signs or, where one comes after
it, the last number. Boxes that follow one another ("\boxed{1} and \boxed{2}") are one answer. The rule is part of the
result: a number that is merely the last one is weaker evidence than a box, and a query can exclude it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from ...steps import join_steps
from ...types import FinishReason
from ..grader import NOTHING, Extraction

Rule = Literal["boxed", "hashes", "phrase", "formula", "number"]
RULES: Final[tuple[Rule, ...]] = ("boxed", "hashes", "phrase", "formula", "number")
DELIMITED: Final[tuple[Rule, ...]] = ("boxed", "hashes")
"""The rules by which marks in the text show where its answer begins and ends."""
MARKED: Final[tuple[Rule, ...]] = (*DELIMITED, "phrase")
"""The rules by which a text itself names its answer."""

LONGEST_TEXT: Final = 200_000
"""Characters read, from the end: an answer stands at the end, and a runaway text must cost nothing."""
LONGEST_SEARCH: Final = 4_000
"""Characters in which all rules but the box search, from the end."""

MOST_WORDS: Final = 3
"""Words of an answer; a phrase that goes on longer is a sentence in which the answer stands."""

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE: Final = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE: Final = re.compile(r"-?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])")
_DRESSING: Final = re.compile(r"\\(?:text|mbox|mathrm|q?quad)(?![A-Za-z])|[\s$,;(){}\[\]\\]+")
_GOES_ON: Final = frozenset("so then therefore thus hence but we i total use get which that is are gives".split())
_CONNECTIVES: Final = frozenset(["and", "or", "und", "oder", "et", "ou", "y", "o", "и", "или", "и", "和", "或"])
_HASHES: Final = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
_ASSIGNS: Final = r"\s*(?:is|are|was|equals|=|:|：)[\s:：*]*"
_PHRASE: Final = re.compile(
    r"(?:"
    r"(?:(?:final\s+)?answers?|(?<=the )solutions?|correct\s+(?:choice|option))\**"
    rf"(?:\s+(?:to|of)\s+[^.\n]{{1,80}}?)?{_ASSIGNS}"
    r"|^[#* \t]*(?:final\s+)?answer[#*: \t]*\n\s*"
    r"|(?:la\s+)?respuesta(?:\s+final)?\s*(?:es|:)[\s:*]*"
    r"|(?:la\s+)?r[ée]ponse(?:\s+finale)?\s*(?:est|:)[\s:*]*"
    r"|(?:die\s+)?antwort\s*(?:ist|lautet|:)[\s:*]*"
    r"|(?:la\s+)?risposta(?:\s+finale)?\s*(?:è|e'|:)[\s:*]*"
    r"|(?:a\s+)?resposta(?:\s+final)?\s*(?:é|:)[\s:*]*"
    r"|(?:het\s+)?antwoord\s*(?:is|:)[\s:*]*"
    r"|ответ\s*(?:[:：—–-]|равен)[\s:*]*"
    r"|(?:最终)?答案\s*(?:是|为|為|:|：)?[\s:：*]*|故选[\s:：]*"
    r"|答え\s*(?:は|:|：)[\s:：*]*"
    r")",
    re.IGNORECASE | re.MULTILINE,
)
_MARKS: Final = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>")
_DISPLAY: Final = re.compile(r"\s*(?:\\\[(.+?)\\\]|\$\$(.+?)\$\$)", re.DOTALL)
_REASON: Final = re.compile(
    r"(?<=\S),?\s+(?:because|since|so|as|where|which|not|it|but|for)\b|(?<=\S)\s+\((?=[A-Za-z]{2,} )", re.IGNORECASE
)
_SENTENCE: Final = re.compile(r"(.+?)(?:[。\n]|\.(?:\s|$)|\s*$)")
_IS: Final = re.compile(r"\b(?:is|are|was|were|equals)\b(?![^$]*\$[^$]*$)|=(?![^$]*\$[^$]*$)")
_VERB: Final = re.compile(r"[A-Za-z$] (?:is|are|equals) ")
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_FORMULA: Final = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER: Final = re.compile(
    r"(?<![\w.,])[-−]?(?:\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}|(?:\d{1,3}(?:,\d{3})+|\d+,\d\d?(?![\d,])|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?|\.\d+)\s*\\?%?"
)


def extract(text: str, rules: tuple[Rule, ...] = RULES) -> Extraction:
    """The final answer by the first of `rules` that finds one, without outer white space and `$`.

    Linear in the text, whatever it is.
    """
    text = text[-LONGEST_TEXT:]
    if "<" in text:
        # The thoughts of a model and the marks of its turns are not part of its solution.
        after = text.rpartition("</think>")[2]
        text = _MARKS.sub(" ", after if after.strip() else text)
    for rule in rules:
        candidate = _FINDERS[rule](text)
        answer = _trim(candidate) if candidate else None
        if answer:
            return Extraction(answer, rule, rule in DELIMITED)
    return NOTHING


def extract_finished(text: str, finish_reason: FinishReason, steps: Sequence[str]) -> Extraction:
    """The answer of a completion that continues `steps`.

    A text that was cut may box an intermediate result, so only a finished one has an answer. A box, a `####` line or a
    phrase may stand in the steps already, if the policy had nothing to add; a stray number there is not an answer.
    """
    if finish_reason != "stop":
        return NOTHING
    before = join_steps(steps)
    return next(
        (
            extraction
            for part, rules in ((text, MARKED), (before, MARKED), (text, RULES))
            if (extraction := extract(part, rules)).answer is not None
        ),
        NOTHING,
    )


def extract_answer(text: str) -> str | None:
    """The final answer, or None."""
    return extract(text).answer


def _last_box(text: str) -> str | None:
    """The content of the balanced box that begins last, with the boxes just before it; one pass at any nesting."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    opened: dict[int, int] = {}
    boxes: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text):
        if match.end() >= len(text):
            break
        if text[match.end()] == "{":
            opened[match.end()] = match.start()
        elif (bare := _BARE.match(text, match.end())) is not None:
            # TeX would box a single digit of \boxed 12; its author means the number.
            boxes.append((match.start(), bare.end(), bare[0]))
    stack: list[int] = []
    for brace in _BRACE.finditer(text, min(opened, default=len(text))):
        if brace[0] == "{":
            stack.append(brace.start())
        elif brace[0] == "}" and stack:
            start = stack.pop()
            if start in opened:
                boxes.append((opened[start], brace.end(), text[start + 1 : brace.start()]))
    boxes.sort()
    return _joined(text, boxes)


def _joined(text: str, places: list[tuple[int, int, str]]) -> str | None:
    """The last of the places (begin, end, content), with those before it that only "and" or a comma separates."""
    if not places:
        return None
    begin, _, content = places.pop()
    contents = [content]
    while places and 0 <= begin - places[-1][1] <= 48 and _only_parts(text[places[-1][1] : begin]):
        begin, _, content = places.pop()
        contents.append(content)
    return ", ".join(dict.fromkeys(reversed(contents)))


def _only_parts(text: str) -> bool:
    """Whether the text between two answers only lists them: separators, and at most a few words with an "and"."""
    words = _DRESSING.sub(" ", text).split()
    if not words:
        return True
    lists = len(words) <= 5 and "." not in text and not _CONNECTIVES.isdisjoint(words)
    return lists and _GOES_ON.isdisjoint(word.lower() for word in words)


def _last_match(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    def find(text: str) -> str | None:
        matches = pattern.findall(text[-LONGEST_SEARCH:])
        return matches[-1] if matches else None

    return find


def _last_phrase(text: str) -> str | None:
    """The rest of the sentence after the last answer phrase; in a long sentence, the part after its last "is"."""
    text = text[-LONGEST_SEARCH:]
    for match in reversed(list(_PHRASE.finditer(text))):
        display = _DISPLAY.match(text, match.end())
        if display:
            return display[1] or display[2]
        sentence = _SENTENCE.match(text, match.end())
        if sentence is None or not sentence[1].strip(" *:$"):
            continue
        # "12, because 3 is odd": the part before the reason.
        phrase = _REASON.split(sentence[1])[0].strip() or sentence[1]
        if len(_WORDS.findall(phrase)) > MOST_WORDS or _VERB.search(phrase):
            *_, rest = _IS.split(phrase)
            short = len(_WORDS.findall(rest)) <= MOST_WORDS
            phrase = rest if short and rest != phrase else _last_formula(phrase) or _FINDERS["number"](phrase) or phrase
        return phrase
    return None


def _last_formula(text: str) -> str | None:
    """The last formula between dollar signs, with those listed beside it, unless a number comes after it."""
    text = text[-LONGEST_SEARCH:].replace("\\$", "\\ ")
    formulas = [
        (match.start(), match.end(), next(filter(None, match.groups()), "")) for match in _FORMULA.finditer(text)
    ]
    if formulas and _NUMBER.search(text, formulas[-1][1]):
        return None
    return _joined(text, formulas)


_FINDERS: Final[dict[Rule, Callable[[str], str | None]]] = {
    "boxed": _last_box,
    "hashes": _last_match(_HASHES),
    "phrase": _last_phrase,
    "formula": _last_formula,
    "number": _last_match(_NUMBER),
}


def _trim(answer: str) -> str | None:
    answer = answer.strip().strip("*`").strip().removesuffix(".").strip()
    if answer.endswith("$!"):
        answer = answer[:-1]
    for opening, closing in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        while len(answer) > len(opening + closing) and answer.startswith(opening) and answer.endswith(closing):
            inner = answer[len(opening) : -len(closing)]
            if opening == "$" and "$" in inner:
                break
            answer = inner.strip()
    return answer or None
