"""What a model's files say of it before its weights are read: where they are, which revision, how many positions."""

import hashlib
from pathlib import Path
from typing import Any

from openr_data.models import ModelEntry


def place(entry: ModelEntry) -> tuple[str, str]:
    """The Hub name or the folder of a model, and the revision that its entry pins."""
    path = str(Path(entry.path).expanduser()) if entry.path.startswith("~") else entry.path
    return path, entry.revision or "main"


def positions(config: Any) -> int | None:
    """How many positions the model has, where it says so."""
    config = config.get_text_config()
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(length) if length else None


def revision(config: Any, entry: ModelEntry) -> str:
    """The Hub commit, or a hash over the weight files' names, sizes, beginnings and ends."""
    commit = getattr(config, "_commit_hash", None)
    if commit:
        return str(commit)[:12]
    digest = hashlib.blake2b(digest_size=6)
    folder = Path(entry.path).expanduser()
    for path in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """What an error says, in one line that ends as a sentence."""
    return sentence(str(error).strip() or type(error).__name__)


def sentence(text: str) -> str:
    """The first line of a text, with the full stop that ends it."""
    line = text.splitlines()[0]
    return line if line.endswith(".") else f"{line}."
