"""How a process reward model reads a solution: one format by name, one function that lays out its tokens.

A format defines the order of the question and the steps, the token that marks the end of a step, and where and how the
score of a step is read. Training and scoring call the same `PrmEncoder.encode`, so they cannot disagree: segments are
tokenised separately and concatenated as ids, and the step tag is inserted as an id. A text that looks like a tag stays
text, and every step has one position to read, or encoding fails.

The formats are the tables `[prm.NAME]` of `catalogs/models.toml`; a trained model stores its own in its config.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final, Literal

from .config import as_dict, build
from .errors import InputError, UnknownName
from .ids import content_hash
from .registry import catalog_text

CONFIG_KEY: Final = "openr_prm"
"""The key of a model's `config.json` that holds the format it was trained with."""
WRITES: Final = "writes_reasons"
"""The key beside it of a model that was trained to write a reason after its verdict."""

_MARKERS: Final = ("\u2983openr-0\u2984", "\u2983openr-1\u2984", "\u2983openr-2\u2984", "\u2983openr-3\u2984")
"""Placeholders for the texts of the turns in a chat template."""
_ANCHORS: Final = ("\n", "\u2983")
"""Prefixes for probing how a string tokenises mid-text; few vocabularies merge them with what follows."""


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """The layout and the reading of a process reward model.

    `template` "plain": question, `joiner`, steps; "chat": the question as the user's turn, the steps in the
    assistant's; "turns": a step is a user's turn and its label the assistant's (RLHFlow). A step is written as
    `step_prefix` (where `{i}` counts from 1; a step that begins with it gets no second one), its text and
    `step_suffix`, then comes the `tag`, then `step_joiner` before the next step. `tag_tokens` "one": the tag has to be
    a single token of the tokenizer; "last": its last token stands for it; "all": it is spliced in whole. A step is read
    at the last token of its tag, without a tag at its own last token, and with "turns" one token before its label. A
    tag or label that begins with a space is the token it is after other text; without a space it is the token it is
    alone.

    `head` "lm_pair": a causal model, `good` against `bad` as the next token; "classes": a token classifier, the
    probability of `good_class`; "scalar": one number, through a sigmoid. A step whose score is below `threshold` counts
    as wrong. `cut` False keeps question and first step of "plain" in one segment, for models that were trained on text
    tokenised as a whole. `models` are the Hub names of models with this format.
    """

    name: str
    version: int = 1
    template: Literal["plain", "chat", "turns"] = "plain"
    system: str = ""
    question_format: str = "{question}"
    joiner: str = "\n\n"
    step_prefix: str = ""
    step_suffix: str = ""
    step_joiner: str = ""
    tag: str = ""
    tag_tokens: Literal["one", "last", "all"] = "one"
    head: Literal["lm_pair", "classes", "scalar"] = "lm_pair"
    good: str = ""
    bad: str = ""
    good_class: int = 1
    threshold: float = 0.5
    cut: bool = True
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.head == "lm_pair" and not (self.good and self.bad):
            raise ValueError("the head lm_pair needs the tokens good and bad")
        if self.template == "turns" and (self.head != "lm_pair" or self.tag or self.step_joiner):
            raise ValueError("the template turns reads the label of a turn: head lm_pair, no tag, no step_joiner")
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold lies in [0, 1]")
        if "{question}" not in self.question_format:
            raise ValueError("question_format holds {question}")

    def as_dict(self) -> dict[str, Any]:
        """The format as a model's config stores it."""
        return as_dict(self)

    def digest(self) -> str:
        """8 hex digits over everything that shapes ids and scores."""
        parts = {**asdict(self), "name": "", "models": (), "threshold": 0}
        return content_hash("prm", repr(sorted(parts.items())))[:8]


@cache
def prm_formats() -> Mapping[str, PrmFormat]:
    """All formats of `catalogs/models.toml` by name."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(catalog_text("models.toml")).get("prm", {})
    return {name: build(PrmFormat, {"name": name}, table) for name, table in tables.items()}


def prm_format(name: str) -> PrmFormat:
    """The format with this name. Raises `UnknownName`."""
    if name not in prm_formats():
        raise UnknownName("PRM format", name, prm_formats(), "They are tables [prm.NAME] of catalogs/models.toml.")
    return prm_formats()[name]


def format_of(model: str, config: Mapping[str, Any], wanted: str = "") -> PrmFormat:
    """The format of a model: `wanted`, that of its config, or the one that lists its Hub name.

    Raises `InputError` for a model without a format, and if `wanted` is not the one it was trained with.
    """
    stored = config.get(CONFIG_KEY)
    own = None
    if isinstance(stored, Mapping):
        names = PrmFormat.__dataclass_fields__
        own = build(PrmFormat, {key: value for key, value in stored.items() if key in names})
    if wanted:
        chosen = prm_format(wanted)
        if own is not None and own.digest() != chosen.digest():
            raise InputError(
                f"{model} was trained with the PRM format {own.name!r} ({own.digest()}), not {wanted!r} "
                f"({chosen.digest()}). Leave --format out to use its own."
            )
        return chosen if own is None else own
    if own is not None:
        return own
    listed = next((form for form in prm_formats().values() if model in form.models), None)
    if listed is None:
        raise InputError(
            f"{model} does not say how it scores steps. Name its format with --format, one of: "
            + ", ".join(sorted(prm_formats()))
        )
    return listed


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a solution, and for each step the position whose output is its score."""

    ids: tuple[int, ...]
    read: tuple[int, ...]


class PrmEncoder:
    """Lays out solutions by a format and a tokenizer.

    Raises `InputError` if the tokenizer lacks the tag or a label token, or writes one of them in several tokens.
    """

    def __init__(self, form: PrmFormat, tokenizer: Any) -> None:
        self.form, self._tokenizer = form, tokenizer
        self._anchors = self._joins()
        self.tag = self._tag_ids()
        self.good = self._single(form.good, "good label") if form.head == "lm_pair" else -1
        self.bad = self._single(form.bad, "bad label") if form.head == "lm_pair" else -1
        self.end: int | None = tokenizer.eos_token_id
        if form.head == "lm_pair" and self.good == self.bad:
            raise InputError(f"{form.good!r} and {form.bad!r} are the same token of this tokenizer.")
        added: Mapping[str, int] = tokenizer.get_added_vocab()
        guarded = [text for text in (form.tag, form.good, form.bad) if text in added and len(text) > 1]
        self._guarded = frozenset(added[text] for text in guarded)
        self._inside = re.compile("|".join(f"(?<={re.escape(text[0])})(?={re.escape(text[1:])})" for text in guarded))
        self._opening, self._answer, self._ending, self._between = self._frame()

    def encode(self, question: str, steps: Sequence[str]) -> Encoded:
        """The ids of a solution. The ids of its first steps are a prefix of them.

        Raises `InputError` for a solution without steps, or with an empty one.
        """
        form = self.form
        ids, read = list(self._opening), list[int]()
        before = form.question_format.replace("{question}", question)
        if form.template == "chat":
            ids += self._text(before) + self._answer
            before = ""
        else:
            before += form.joiner
        if form.template == "plain" and form.cut:
            ids += self._text(before, starts=True)
            before = ""
        for place, step in enumerate(steps):
            prefix = form.step_prefix.replace("{i}", str(place + 1))
            text = before + prefix + step.removeprefix(prefix) + form.step_suffix
            part = self._text(text, starts=form.template == "plain" and not form.cut and not place)
            if not step.strip() or not part:
                raise InputError(f"Step {place + 1} of a solution is empty: {question[:60]!r}.")
            ids += (self._between if place else []) + part + self._ending
            read.append(len(ids) - 1)
            if form.template == "turns":
                ids.append(self.good)
            before = form.step_joiner
        if not read:
            raise InputError(f"A solution without steps has no scores: {question[:60]!r}.")
        return Encoded(tuple(ids), tuple(read))

    def verdict(self, encoded: Encoded, step: int, is_good: bool) -> tuple[int, ...]:
        """The ids up to and including the verdict of a step, which a reason continues.

        The solution itself continues without the verdict, so that no score depends on an earlier verdict or reason.
        """
        return (*encoded.ids[: encoded.read[step] + 1], self.good if is_good else self.bad)

    def reason(self, text: str) -> tuple[int, ...]:
        """The ids of a reason with the end of the text. Raises `InputError` for a tokenizer without one."""
        if self.end is None:
            raise InputError("This tokenizer has no token for the end of a text, so a reason could never end.")
        return (*self._text(text.strip()), self.end)

    def words(self, ids: Sequence[int]) -> str:
        """The text of ids that a model has written, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def _text(self, text: str, *, starts: bool = False) -> list[int]:
        """The ids of a text, at the start or after another; a tag or a label in it stays text."""
        ids = self._ids(text) if starts else self._further(text)
        if len(text) < 2 or self._guarded.isdisjoint(ids):
            return ids
        # The tokenizer finds an added token that is not special in any text. So the text is cut after the token's first
        # character, or halved until the token is gone where only the tokenizer, which normalises, sees it.
        pieces = self._inside.split(text)
        if len(pieces) == 1:
            pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
        return [item for at, piece in enumerate(pieces) for item in self._text(piece, starts=starts and not at)]

    def _ids(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text by itself; `special` tokens in it are only text unless asked for."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special)
        return ids

    def _further(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text after another one, without the space that SentencePiece puts before every text."""
        for anchor, alone in self._anchors:
            held = self._ids(anchor + text, special=special)
            if held[: len(alone)] == alone:
                return held[len(alone) :]
        return self._ids(text, special=special)

    def _joins(self) -> list[tuple[str, list[int]]]:
        """The anchors and their ids, if the tokenizer puts something before a text; else none."""
        anchors = [(anchor, self._ids(anchor)) for anchor in _ANCHORS]
        anchors = [(anchor, alone) for anchor, alone in anchors if alone and self._tokenizer.unk_token_id not in alone]
        bare = self._ids("a")
        return anchors if any(self._ids(anchor + "a") != alone + bare for anchor, alone in anchors) else []

    def _word(self, text: str) -> list[int]:
        """The ids of a tag or a label; none if the tokenizer does not know it."""
        ids = (self._further if text.startswith(" ") else self._ids)(text, special=True)
        return [] if self._tokenizer.unk_token_id in ids else ids

    def _tag_ids(self) -> tuple[int, ...]:
        form = self.form
        if not form.tag:
            return ()
        ids = self._word(form.tag)
        if form.tag_tokens == "one" or not ids:
            return (self._single(form.tag, "step tag"),)
        return tuple(ids[-1:] if form.tag_tokens == "last" else ids)

    def _single(self, text: str, what: str) -> int:
        ids = self._word(text)
        if len(ids) != 1:
            raise InputError(
                f"The {what} {text!r} of the PRM format {self.form.name!r} has to be one token of the tokenizer, and "
                f"{f'is {len(ids)} of them' if ids else 'is unknown to it'}. Use another format, or a tokenizer that "
                "has it."
            )
        return ids[0]

    def _frame(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """The ids around the texts: at the beginning, after the question, after a step, before the next step."""
        form = self.form
        if form.template == "plain":
            marked, bare = self._tokenizer.encode("a", add_special_tokens=True), self._ids("a")
            start = next((at for at in range(len(marked)) if marked[at : at + len(bare)] == bare), 0)
            # Some tokenizers define a first token that they do not write themselves; TRL and Skywork write it.
            bos = self._tokenizer.bos_token_id
            return marked[:start] or ([] if bos is None else [bos]), [], list(self.tag), []
        turns = [{"role": "system", "content": form.system}] if form.system else []
        roles = ("user",) if form.template == "chat" else ("user", "assistant", "user", "assistant")
        turns += [{"role": role, "content": mark} for role, mark in zip(roles, _MARKERS, strict=False)]
        try:
            # Templates of Llama 3.2 and later write the current date unless they are given one.
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=form.template == "chat", date_string="26 Jul 2024"
            )
        except Exception as error:  # A template is a program and may raise anything.
            raise InputError(
                f"The chat template of this tokenizer cannot write the PRM format {form.name!r}: {error}"
            ) from error
        pieces = re.split("|".join(_MARKERS[: len(roles)]), text)
        marks = re.findall("|".join(_MARKERS[: len(roles)]), text)
        if tuple(marks) != _MARKERS[: len(roles)]:
            raise InputError("The chat template of this tokenizer does not write every turn once, in their order.")
        parts = [self._ids(pieces[0], special=True), *(self._further(piece, special=True) for piece in pieces[1:])]
        if form.template == "chat":
            return parts[0], parts[1], list(self.tag), []
        if parts[1] != parts[3]:
            raise InputError("The chat template of this tokenizer writes later turns otherwise than the first.")
        return parts[0], [], parts[1], parts[2]
