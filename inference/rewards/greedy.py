"""Greedy continuations of token ids by a model of `transformers`, several at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from transformers import GenerationConfig

BATCH_TOKENS: Final = 16_384
"""Tokens of a batch, with padding and with the tokens to be written."""


def batches_of(lengths: Sequence[int], most: Sequence[int]) -> Iterator[list[int]]:
    """The places of prompts that are continued together: of about the same length, and with the same limit.

    The limit of a prompt is at most the room that the model has after it; under a higher limit it would outgrow the
    model's context.
    """
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: (most[at], lengths[at])):
        tokens = (len(batch) + 1) * (lengths[at] + most[at])
        if batch and (most[at] != most[batch[0]] or tokens > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


@torch.inference_mode()
def continue_greedily(
    model: Any, prompts: Sequence[Sequence[int]], end: int, most: int
) -> list[tuple[list[int], bool]]:
    """What the model writes after each prompt, up to its `end` (left out) or `most` tokens, and whether it ended.

    The model's `generation_config` has to be plain: options that are not set here are taken from it.
    """
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), end, dtype=torch.long)
    seen = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        seen[row, longest - len(prompt) :] = 1
    greedy = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=most, do_sample=False, eos_token_id=end, pad_token_id=end
    )
    device = model.device
    written = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=greedy)
    rows: list[list[int]] = written[:, longest:].tolist()
    return [(row[: row.index(end)], True) if end in row else (row, False) for row in rows]
