"""How a policy is prompted: its entry in `catalogs/models.toml`, and the rendering of a prefix.

A model without an entry is prompted by its tokenizer: with a chat template as `chat`, without one as `plain`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, Protocol

from .config import build
from .errors import InputError
from .ids import content_hash
from .registry import catalog_text
from .steps import SEPARATOR, join_steps
from .types import Prefix


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """How a policy is prompted. `path` is a Hub name or a folder; `revision` pins it.

    `template` "plain" writes question, separator, steps; "chat" writes the question as the user's turn
    and the steps as the beginning of the assistant's own turn (a true prefill).
    """

    path: str
    template: Literal["plain", "chat", "auto"] = "auto"
    separator: str = SEPARATOR
    system: str = ""
    question_format: str = "{question}"
    stop: tuple[str, ...] = ()
    revision: str = ""
    dtype: str = "auto"
    max_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that rendering needs."""

    chat_template: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...


@cache
def catalog() -> Mapping[str, ModelEntry]:
    """All entries of `catalogs/models.toml` by name."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(catalog_text("models.toml"))
    # `[prm.NAME]` tables are those of `prm_format.py`.
    return {name: build(ModelEntry, {"path": name}, table) for name, table in tables.items() if name != "prm"}


def model_entry(name: str) -> ModelEntry:
    """The entry of a model, or a plain default for a Hub name or a folder.

    A `path` that begins with `catalogs/` is in the package. Raises `InputError` for a name that looks like a folder
    and is not one.
    """
    entry = catalog().get(name, ModelEntry(path=name))
    if entry.path.startswith("catalogs/"):
        with as_file(files("openr_data.catalogs")) as root:
            return replace(entry, path=str(root / entry.path.removeprefix("catalogs/")))
    if entry.path.startswith((".", "/", "~")) and not Path(entry.path).expanduser().is_dir():
        names = ", ".join(sorted(catalog()))
        raise InputError(f"No model folder {entry.path!r}. Name a folder, a Hub repository or one of: {names}.")
    return entry


def uses_chat(entry: ModelEntry, tokenizer: ChatTokenizer) -> bool:
    """Whether the prompt is written by the chat template (which then writes the special tokens too)."""
    has_template = bool(getattr(tokenizer, "chat_template", None))
    return entry.template == "chat" or (entry.template == "auto" and has_template)


def prompt_hash(entry: ModelEntry) -> str:
    """4 hex digits over everything of an entry that shapes a prompt or ends a completion."""
    parts = (entry.template, entry.separator, entry.system, entry.question_format, *entry.stop)
    return content_hash("prompt", *parts)[:4]


def render(prefix: Prefix, entry: ModelEntry, tokenizer: ChatTokenizer) -> str:
    """The prompt text that makes the model write the next step of `prefix`, or continue an open one."""
    separator = entry.separator
    written = join_steps(prefix.steps, separator) + (separator if prefix.steps and not prefix.open else "")
    question = entry.question_format.replace("{question}", prefix.question)
    if not uses_chat(entry, tokenizer):
        return f"{question}{separator}{written}"
    turns: list[dict[str, str]] = [{"role": "user", "content": question}]
    if entry.system:
        turns.insert(0, {"role": "system", "content": entry.system})
    # The assistant's turn is opened by the template and continued by us: a template may trim an
    # assistant message (and so lose the separator) when it renders it itself.
    opened: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return opened + written


def check_template(entry: ModelEntry, tokenizer: ChatTokenizer) -> None:
    """Raise `InputError` if the model's chat template cannot write a prompt; called once, before the first request."""
    try:
        render(Prefix("How much is 1+1?", ("First we add.",)), entry, tokenizer)
    except Exception as error:  # A template is a program and may raise anything.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        system = ", without `system` where it takes no system message" if entry.system else ""
        raise InputError(
            f"The chat template of {entry.path!r} cannot write the prompt ({reason}). Give the model an entry in "
            f'catalogs/models.toml{system}, or one with template = "plain".'
        ) from error


def encode(prefix: Prefix, entry: ModelEntry, tokenizer: Any) -> list[int]:
    """The token ids of `render` with a Hugging Face tokenizer; the same for every backend."""
    text = render(prefix, entry, tokenizer)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=not uses_chat(entry, tokenizer))
    # Some tokenizers append an end token to every text; a prompt must stay open.
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids


def stop_strings(entry: ModelEntry, extra: Sequence[str]) -> tuple[str, ...]:
    """The model's own stop strings and those of the request, without repeats."""
    return tuple(dict.fromkeys((*entry.stop, *extra)))
