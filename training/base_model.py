"""Loads the base model of a training run: its format, its head, its tokenizer."""

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from openr_data.errors import InputError
from openr_data.models import model_entry
from openr_data.prm_format import CONFIG_KEY, PrmEncoder, PrmFormat, format_of, prm_format

OURS: Final = ("openr-data", "openr-qwen")
"""Formats that are tried in turn if none is named."""


def choose_format(model: str, wanted: str) -> PrmFormat:
    """Return the format to train with: the named one, that of a base model that is a reward model, else the first fit.

    Raises `InputError` if no format fits the tokenizer.
    """
    tokenizer, config = _tokenizer(model)
    if wanted:
        return prm_format(wanted)
    if config.get(CONFIG_KEY):
        return format_of(model, config)
    reasons: list[str] = []
    for name in OURS:
        try:
            PrmEncoder(prm_format(name), tokenizer)
        except InputError as error:
            reasons.append(str(error).split(" has to be")[0])
        else:
            return prm_format(name)
    raise InputError(
        f"The tokenizer of {model} has the tokens of neither {' nor '.join(OURS)} ({'; '.join(reasons)}). Name with "
        "--format one whose tokens it has; see the tables [prm.NAME] of catalogs/models.toml."
    )


def load_base(model: str, form: PrmFormat) -> tuple[Any, Any]:
    """Load the model with the head of the format, in float32 (autocast handles bf16), and its tokenizer.

    Raises `InputError` for a path or name that is not a model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer, _ = _tokenizer(model)
    path, revision = _place(model)
    options: dict[str, Any] = {"revision": revision, "dtype": torch.float32, "attn_implementation": "sdpa"}
    kind: Any = AutoModelForCausalLM
    if form.head != "lm_pair":
        kind = AutoModelForTokenClassification
        options["num_labels"] = 2 if form.head == "classes" else 1
    try:
        loaded, info = kind.from_pretrained(path, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(_unusable(model, error)) from error
    # A new head may be missing; any other missing weight would silently be random.
    missing = [name for name in info["missing_keys"] if name.startswith(f"{loaded.base_model_prefix}.")]
    if missing:
        raise InputError(
            f"{model!r} is not a {type(loaded).__name__}: it lacks weights for {min(missing)} and {len(missing) - 1:,} "
            "others. Name a folder with a model, or a Hub repository."
        )
    if len(tokenizer) > loaded.get_input_embeddings().num_embeddings:
        raise InputError(
            f"The tokenizer of {model} has more tokens than the model's embeddings. Resize the model first."
        )
    return loaded, tokenizer


def _tokenizer(model: str) -> tuple[Any, dict[str, Any]]:
    path, revision = _place(model)
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        return AutoTokenizer.from_pretrained(path, revision=revision), config.to_dict()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(_unusable(model, error)) from error


def _place(model: str) -> tuple[str, str]:
    entry = model_entry(model)
    path = str(Path(entry.path).expanduser()) if entry.path.startswith("~") else entry.path
    return path, entry.revision or "main"


def _unusable(model: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return f"{model!r} is not a trainable model: {reason}. Name a folder with a model, or a Hub repository."
