"""Computes the losses of a process reward model, as pure functions of tensors.

Shapes: R labelled prefixes, V vocabulary, C classes. Targets lie in [0, 1], so hard and soft labels are one code path.
"""

import torch
from torch import Tensor
from torch.nn import functional


def pair_logits(logits: Tensor, good: int, bad: int) -> Tensor:
    """Return `[R]` from `[R, V]`: the logit of the good label token minus the bad one's; its sigmoid is P(correct)."""
    return logits[:, good].float() - logits[:, bad].float()


def class_logits(logits: Tensor, good_class: int) -> Tensor:
    """Return `[R]` from the `[R, C]` of a classifier: the difference of two classes, or a single class itself."""
    if logits.shape[-1] == 1:
        return logits[:, 0].float()
    others = torch.cat([logits[:, :good_class], logits[:, good_class + 1 :]], dim=-1).float()
    return logits[:, good_class].float() - others.logsumexp(dim=-1)


def step_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum over R the weight times the binary cross-entropy of sigmoid(logits) against the target.

    With two tokens or classes this equals the cross-entropy of their softmax against [target, 1 - target].
    """
    return functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def token_loss(logits: Tensor, token: Tensor, weight: Tensor) -> Tensor:
    """Sum over `[R, V]` the weight times the cross-entropy against the token of each row."""
    return (weight * functional.cross_entropy(logits.float(), token, reduction="none")).sum()


def verdict_loss(logits: Tensor, target: Tensor, weight: Tensor, good: int, bad: int) -> Tensor:
    """Sum over R the weight times the cross-entropy of the whole vocabulary `[R, V]` against the verdict token.

    With this loss a generative reward model learns to write the verdict, not only to prefer one over the other.
    """
    logs = logits.float().log_softmax(dim=-1)
    return -(weight * (target * logs[:, good] + (1 - target) * logs[:, bad])).sum()
