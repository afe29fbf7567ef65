"""How a process reward model reads a solution: one format by name, one function that lays out its tokens.

A format says where the question and the steps stand, which token marks the end of a step, where the score of a step
is read and how. Training and scoring call the same `PrmEncoder.encode`, so they cannot disagree: segments are
tokenised by themselves and concatenated as ids, and the step tag is spliced in as an id. A text that looks like a tag
stays text, and there is one position to read for every step or an error (anchors: training 1.3, inference 4.3).

The formats are those of `[prm.NAME]` in `catalogs/models.toml`; a trained model carries its own in its config.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final, Literal

from .config import build
from .errors import InputError, UnknownName
from .ids import content_hash
from .registry import catalog_text

CONFIG_KEY: Final = "openr_prm"
"""Where a model's `config.json` holds the format it was trained with."""

_MARKERS: Final = ("\u2983openr-0\u2984", "\u2983openr-1\u2984", "\u2983openr-2\u2984", "\u2983openr-3\u2984")


@dataclass(frozen=True, slots=True)
class PrmFormat:
    """The layout and the reading of a process reward model.

    `template` "plain": question, `joiner`, steps; "chat": the question as the user's turn, the steps in the
    assistant's; "turns": a step is a user's turn and its label the assistant's (RLHFlow). A step is written as
    `step_prefix` (where `{i}` counts from 1), its text and `step_suffix`, then comes the `tag`, then `step_joiner`
    before the next step. `tag_tokens` "one": the tag has to be a single token of the tokenizer; "last": its last token
    stands for it; "all": it is spliced in whole. A step is read at the last token of its tag, without a tag at its own
    last token, and with "turns" one token before its label.

    `head` "lm_pair": a causal model, `good` against `bad` as the next token; "classes": a token classifier, the
    probability of `good_class`; "scalar": one number, through a sigmoid. A step whose score is below `threshold` counts
    as wrong. `cut` False keeps question and first step in one segment, as SentencePiece models were trained.
    `models` are the Hub names that read this way.
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
        if self.template == "turns" and (self.head != "lm_pair" or self.tag):
            raise ValueError("the template turns reads the label of a turn: head lm_pair, no tag")
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold lies in [0, 1]")
        if "{question}" not in self.question_format:
            raise ValueError("question_format holds {question}")

    def as_dict(self) -> dict[str, Any]:
        """The format as a model's config keeps it."""
        kept = asdict(self)
        kept["models"] = list(self.models)
        return kept

    def digest(self) -> str:
        """8 hex digits over everything that shapes ids and scores."""
        parts = {**asdict(self), "models": (), "threshold": 0}
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
    """The format of a model: the one asked for, that of its config, or the one that lists its Hub name.

    Raises `InputError` where none is known, or where the one asked for is not the one it was trained with.
    """
    kept = config.get(CONFIG_KEY)
    own = None
    if isinstance(kept, Mapping):
        names = PrmFormat.__dataclass_fields__
        own = build(PrmFormat, {key: value for key, value in kept.items() if key in names})
    if wanted:
        chosen = prm_format(wanted)
        if own is not None and own.digest() != chosen.digest():
            raise InputError(
                f"{model} was trained with the PRM format {own.name!r}, not {wanted!r}. Leave --format out to use its own."
            )
        return chosen if own is None else own
    if own is not None:
        return own
    found = next((item for item in prm_formats().values() if model in item.models), None)
    if found is None:
        raise InputError(
            f"{model} does not say how it scores steps. Name its format with --format, one of: "
            + ", ".join(sorted(prm_formats()))
        )
    return found


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a solution, and for each step the position whose output is its score."""

    ids: tuple[int, ...]
    read: tuple[int, ...]


class PrmEncoder:
    """A format with a tokenizer: what every solution is laid out by.

    Raises `InputError` where the tokenizer lacks the tag or a label token, or writes one of them in several tokens.
    """

    def __init__(self, form: PrmFormat, tokenizer: Any) -> None:
        self.form, self._tokenizer = form, tokenizer
        self.tag: tuple[int, ...] = self._tag_ids()
        self.good = self._single(form.good, "good label") if form.head == "lm_pair" else -1
        self.bad = self._single(form.bad, "bad label") if form.head == "lm_pair" else -1
        if form.head == "lm_pair" and self.good == self.bad:
            raise InputError(f"{form.good!r} and {form.bad!r} are the same token of this tokenizer.")
        self._guarded = tuple(text for text in (form.tag, form.good, form.bad) if text in self._added())
        self._head, self._opened, self._closed, self._between = self._frame()

    def encode(self, question: str, steps: Sequence[str]) -> Encoded:
        """The ids of a solution. With fewer steps they are a beginning of those with more.

        Raises `InputError` for a solution without steps, or with an empty one.
        """
        form = self.form
        ids = list(self._head)
        read: list[int] = []
        asked = form.question_format.replace("{question}", question)
        if form.cut and form.template != "turns":
            ids += self._text(asked + ("" if form.template == "chat" else form.joiner), starts=not ids)
            ids += self._opened
            asked = ""
        elif form.template != "turns":
            asked += form.joiner
        for place, step in enumerate(steps):
            if not step.strip():
                raise InputError(f"Step {place + 1} of a solution is empty: {question[:60]!r}.")
            text = form.step_prefix.replace("{i}", str(place + 1)) + step + form.step_suffix
            if form.template == "turns":
                ids += self._between if place else ()
                ids += self._text((asked + form.joiner if not place else "") + text, starts=False)
                ids += self._closed
                read.append(len(ids) - 1)
                ids.append(self.good)
                continue
            before = asked if not place else form.step_joiner
            ids += self._text(before + text, starts=not ids)
            ids += self.tag
            read.append(len(ids) - 1)
        if not read:
            raise InputError(f"A solution without steps has no scores: {question[:60]!r}.")
        return Encoded(tuple(ids), tuple(read))

    def _text(self, text: str, *, starts: bool) -> list[int]:
        """The ids of a piece of text; what looks like a special token in it stays text."""
        pieces = [text]
        for guarded in self._guarded:
            # A token that was added without being special is found in any text: it is taken apart.
            pieces = [part for piece in pieces for part in _apart(piece, guarded)]
        ids: list[int] = []
        for piece in pieces:
            ids += self._piece(piece, starts=starts and not ids)
        return ids

    def _piece(self, text: str, *, starts: bool) -> list[int]:
        def encode(item: str) -> list[int]:
            found: list[int] = self._tokenizer.encode(item, add_special_tokens=False, split_special_tokens=True)
            return found

        if starts or not text:
            return encode(text)
        # A SentencePiece tokenizer puts a space before every text: not where the text goes on.
        alone, held = encode("\n"), encode("\n" + text)
        return held[len(alone) :] if self._adds_space() and held[: len(alone)] == alone else encode(text)

    def _adds_space(self) -> bool:
        plain = self._tokenizer.decode(self._tokenizer.encode("a", add_special_tokens=False)[:1])
        first = self._tokenizer.convert_ids_to_tokens(self._tokenizer.encode("a", add_special_tokens=False)[:1])[0]
        return str(first).startswith("\u2581") and plain.strip() in ("a", "")

    def _added(self) -> set[str]:
        return set(self._tokenizer.get_added_vocab())

    def _tag_ids(self) -> tuple[int, ...]:
        form = self.form
        if not form.tag:
            return ()
        if form.tag_tokens == "one":
            return (self._single(form.tag, "step tag"),)
        ids = self._tokenizer.encode(form.tag, add_special_tokens=False)
        return tuple(ids[-1:] if form.tag_tokens == "last" else ids)

    def _single(self, text: str, what: str) -> int:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        unknown = self._tokenizer.unk_token_id
        if len(ids) != 1 or (unknown is not None and ids[0] == unknown):
            raise InputError(
                f"The {what} {text!r} of the PRM format {self.form.name!r} has to be one token of the tokenizer, and is "
                f"{len(ids) if len(ids) != 1 else 'unknown to it'}. Use another format, or a tokenizer that has it."
            )
        return ids[0]

    def _frame(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """The ids around the texts: at the very beginning, behind the question, around a label."""
        form = self.form
        if form.template == "plain":
            marked = self._tokenizer.encode("a", add_special_tokens=True)
            bare = self._tokenizer.encode("a", add_special_tokens=False)
            start = next((i for i in range(len(marked)) if marked[i : i + len(bare)] == bare), 0)
            return marked[:start], [], [], []
        turns = [{"role": "system", "content": form.system}] if form.system else []
        roles = ("user",) if form.template == "chat" else ("user", "assistant", "user", "assistant")
        turns += [{"role": role, "content": mark} for role, mark in zip(roles, _MARKERS, strict=False)]
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=form.template == "chat"
            )
        except Exception as error:  # A template is a program of its author's: it raises what it likes.
            raise InputError(
                f"The chat template of this tokenizer cannot write the PRM format {form.name!r}: {error}."
            ) from error
        parts: list[list[int]] = []
        for mark in _MARKERS[: len(roles)]:
            before, _, text = text.partition(mark)
            parts.append(self._tokenizer.encode(before, add_special_tokens=False))
        if form.template == "chat":
            return parts[0], self._tokenizer.encode(text, add_special_tokens=False), [], []
        if parts[1] != parts[3]:
            raise InputError(f"The chat template of this tokenizer writes later turns otherwise than the first.")
        return parts[0], [], parts[1], parts[2]


def _apart(text: str, guarded: str) -> list[str]:
    """The text cut behind the first character of each occurrence of `guarded`."""
    pieces: list[str] = []
    while (at := text.find(guarded)) >= 0 and len(guarded) > 1:
        pieces.append(text[: at + 1])
        text = text[at + 1 :]
    return [*pieces, text]
