"""What training exchanges with a policy: token ids, their log-probabilities, and new weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .sampling import Ended

if TYPE_CHECKING:
    import torch

Weights: TypeAlias = Path | Mapping[str, "torch.Tensor"]
"""A folder with the safetensors files of a model, or its state dict: names and tensors as `transformers` has them."""


@dataclass(frozen=True, slots=True)
class TokenCompletion:
    """The tokens sampled after a prompt, the end token and those of a stop string included.

    `logprobs[t]` is the log-probability of `ids[t]` under the model's own distribution: the log-softmax of its logits,
    whatever temperature and `top_p` the token was sampled with. It is the number that a forward pass of a trainer
    gives, and at temperature 1 and `top_p` 1 (and for greedy tokens) that of the distribution sampled from. All tokens
    were sampled with the weights of `version`.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: Ended
    version: int
