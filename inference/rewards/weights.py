"""The weights of a reward model on a device, by the head that its format reads."""

from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, GenerationConfig
from transformers.utils import logging as transformers_logging

from openr_data.errors import InputError
from openr_data.models import ModelEntry
from openr_data.prm_format import PrmFormat

from ..serving.model_files import first_line, place
from .reader import cannot_load

_VALUE_HEAD: Final = {r"^v_head\.summary\.": "score."}
"""The names that TRL's value heads give to the weights of a classifier: Skywork's reward models use them."""


def load_weights(model: str, entry: ModelEntry, form: PrmFormat, device: str) -> Any:
    """The model on its device, ready to score. Raises `InputError` for files without the weights of this head."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    path, revision = place(entry)
    kind: Any = AutoModelForCausalLM
    more: dict[str, Any] = {}
    if form.head != "lm_pair":
        kind, more = AutoModelForTokenClassification, {"key_mapping": _VALUE_HEAD}
        # A value head has one number; a config that does not name any stands for 2.
        more |= {"num_labels": 1} if form.head == "scalar" else {}
    dtype = "auto" if entry.dtype == "auto" else getattr(torch, entry.dtype)
    try:
        loaded, report = kind.from_pretrained(
            path, revision=revision, dtype=dtype, attn_implementation="sdpa", output_loading_info=True, **more
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(cannot_load(model, error)) from error
    missing = sorted(report["missing_keys"])
    if missing:
        # Filled by chance, they would give scores like any others.
        raise InputError(
            f"{model} has no weights for {', '.join(missing[:3])} of a {type(loaded).__name__}: its head is another. "
            "Use the backend vllm, which has the heads of Qwen's models."
        )
    if form.head == "lm_pair":
        # Reasons are written greedily, whatever sampling its authors advise.
        loaded.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        return loaded.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{model} cannot be put on --device {device}: {first_line(error)}") from error
