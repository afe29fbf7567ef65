"""Load a local or Hub causal language model for the transformers backend, or say why it cannot be used."""

import inspect
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from openr_data.errors import InputError
from openr_data.models import ModelEntry, check_template

from .model_files import place


def load(entry: ModelEntry, device: str) -> tuple[Any, Any]:
    """The model on its device and its tokenizer. Raises `InputError` for what cannot be found or used."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    path, wanted = place(entry)
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
    tokens = set(ends if isinstance(ends, list) else [ends])
    tokens.add(tokenizer.eos_token_id)
    return sorted(int(item) for item in tokens if item is not None)
