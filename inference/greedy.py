"""Greedy continuations of token ids by a model of `transformers`, several at a time."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import GenerationConfig

AT_ONCE: Final = 32
"""Continuations of a batch."""


@torch.inference_mode()
def continue_greedily(
    model: Any, prompts: Sequence[Sequence[int]], end: int, most: Sequence[int]
) -> list[tuple[list[int], bool]]:
    """What the model writes behind each prompt, up to its `end` (left out) or `most` tokens, and whether it ended."""
    found: list[tuple[list[int], bool]] = [([], False)] * len(prompts)
    # Prompts of a batch are padded to the longest.
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    for first in range(0, len(order), AT_ONCE):
        batch = order[first : first + AT_ONCE]
        longest = max(len(prompts[at]) for at in batch)
        ids = torch.full((len(batch), longest), end, dtype=torch.long)
        seen = torch.zeros_like(ids)
        for row, at in enumerate(batch):
            ids[row, longest - len(prompts[at]) :] = torch.tensor(prompts[at])
            seen[row, longest - len(prompts[at]) :] = 1
        # What is left open here would come from the model's own settings: nothing but its distribution decides.
        plain = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max(most[at] for at in batch),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=end,
            pad_token_id=end,
        )
        device = model.device
        written = model.generate(ids.to(device), attention_mask=seen.to(device), generation_config=plain)
        for row, at in zip(written[:, longest:].tolist(), batch, strict=True):
            said = row[: most[at]]
            found[at] = (said[: said.index(end)], True) if end in said else (said, False)
    return found
