"""Load a local or Hub causal language model for the transformers backend, or say why it cannot be used."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from openr_data.errors import InputError
from openr_data.models import ModelEntry, check_template


def load(entry: ModelEntry, device: str) -> tuple[Any, Any]:
    """The model on its device and its tokenizer. Raises `InputError` for what cannot be found or used."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = entry.revision or "main"
    path = str(Path(entry.path).expanduser()) if entry.path.startswith("~") else entry.path
    try:
        config = AutoConfig.from_pretrained(path, revision=wanted)
        dtype = "auto" if entry.dtype == "auto" else getattr(torch, entry.dtype)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=wanted)
        layers = _layer_kinds(config.get_text_config())
        if layers != {"full_attention"}:
            raise InputError(
                f"{entry.path} has layers of the kinds {sorted(layers)}; the transformers backend takes full "
                "attention alone. Use --backend vllm."
            )
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, revision=wanted, dtype=dtype, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"Cannot load the model {entry.path!r}: {reason} "
            "Name a folder with a model, a Hub repository, or see: openr-data catalog ls"
        ) from error
    check_template(entry, tokenizer)
    return model.to(device).eval(), tokenizer


def positions(model: Any) -> int | None:
    """How many positions the model has, where it says so."""
    config = model.config.get_text_config()
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(found) if found else None


def _layer_kinds(config: Any) -> set[str]:
    """What kinds of attention layers a model has."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds)
    if getattr(config, "alibi", False):
        # The bias of the positions would have to be built for every row: our mask does not carry it.
        return {"alibi"}
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return {"sliding_attention" if slides else "full_attention"}


def cache_argument(model: Any) -> str:
    """What `forward` calls the key-value cache: `transformers` 5.24 renamed `past_key_values` to `cache`."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The ids that end a completion."""
    ends = model.generation_config.eos_token_id
    found = set(ends if isinstance(ends, list) else [ends])
    found.add(tokenizer.eos_token_id)
    return sorted(int(item) for item in found if item is not None)


def revision(model: Any, entry: ModelEntry) -> str:
    """The Hub commit, or a hash over the weight files' names, sizes, beginnings and ends."""
    commit = getattr(model.config, "_commit_hash", None)
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
