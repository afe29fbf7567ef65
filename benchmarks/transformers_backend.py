"""Compares three ways to sample with transformers, on the same prompts, model and machine.

    python benchmarks/transformers_backend.py [--questions 64] [--n 8] [--rounds 3]

1. ours: `TransformersPolicy`, a continuously refilled batch over slots
2. generate: left-padded `model.generate`, prompts sorted by length, batches of the same number of rows
3. continuous batching: the library's `generate_batch` (paged attention)

Prints tokens per second for each and the ratio to ours; writes benchmarks/results/transformers_backend.json. Rounds are
interleaved and the best of each counts, so that a busy machine affects all in the same way.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.models import render
from openr_data.registry import load
from openr_data.types import Prefix, Sampling

RESULTS = Path(__file__).parent / "results"
ROWS = 256


def ours(policy: TransformersPolicy, prefixes: list[Prefix], n: int, max_tokens: int) -> int:
    """Sample through the backend and return the completion tokens of all samples."""

    async def ask() -> int:
        requests = (policy.sample(p, n, Sampling(seed=i, max_tokens=max_tokens)) for i, p in enumerate(prefixes))
        return sum(completion.n_tokens for reply in await asyncio.gather(*requests) for completion in reply)

    return asyncio.run(ask())


def left_padded(policy: TransformersPolicy, prefixes: list[Prefix], n: int, max_tokens: int) -> int:
    """Do the same with `generate` on batches of similar length."""
    model, tokenizer = policy._model, policy.tokenizer
    tokenizer.padding_side = "left"
    texts = sorted((render(prefix, policy.entry, tokenizer) for prefix in prefixes), key=len)
    end, total, size = tokenizer.eos_token_id, 0, max(1, ROWS // n)
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], return_tensors="pt", padding=True).to(model.device)
        with torch.inference_mode():
            out = model.generate(
                **batch,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=max_tokens,
                num_return_sequences=n,
                pad_token_id=end,
            )[:, batch["input_ids"].shape[1] :]
        ended = (out == end).int()
        lengths = torch.where(ended.any(1), ended.argmax(1) + 1, out.shape[1])
        total += int(lengths.sum())
    return total


def continuous(policy: TransformersPolicy, prefixes: list[Prefix], n: int, max_tokens: int) -> int:
    """Do the same with the library's continuous batching."""
    model, tokenizer = policy._model, policy.tokenizer
    ids = [tokenizer.encode(render(prefix, policy.entry, tokenizer)) for prefix in prefixes for _ in range(n)]
    end = tokenizer.eos_token_id
    config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, max_new_tokens=max_tokens, eos_token_id=end, pad_token_id=end
    )
    replies = model.generate_batch(inputs=ids, generation_config=config, progress_bar=False)
    return sum(len(reply.generated_tokens) for reply in replies.values())


def main() -> None:
    """Measure the three ways, print the rates and write them."""
    parser = argparse.ArgumentParser(description="three ways to sample with transformers")
    parser.add_argument("--model", default="arithmetic")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    source = load("source", "arithmetic")()
    prefixes = [Prefix(question.question) for question in islice(source.read("test", 0), options.questions)]
    ways: dict[str, Callable[..., int]] = {"ours": ours, "generate": left_padded, "continuous batching": continuous}
    best: dict[str, float] = {}
    failed: dict[str, str] = {}
    with closing(TransformersPolicy(options.model, device=options.device, max_rows=ROWS)) as policy:
        for name, way in [*ways.items()] * options.rounds:
            if name in failed:
                continue
            started = time.monotonic()
            try:
                tokens = way(policy, prefixes, options.n, options.max_tokens)
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
                continue
            best[name] = max(best.get(name, 0.0), tokens / (time.monotonic() - started))
    rows: list[dict[str, Any]] = [
        {"way": name, "tokens_per_second": round(speed), "ratio_to_ours": round(speed / best["ours"], 3)}
        for name, speed in best.items()
    ]
    for row in rows:
        print(f"{row['way']:<20} {row['tokens_per_second']:>8,} tokens/s   {row['ratio_to_ours']:.2f} of ours")
    for name, reason in failed.items():
        print(f"{name:<20} does not run here: {reason[:200]}")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "transformers_backend.json"
    out.write_text(json.dumps({"options": vars(options), "ways": rows, "failed": failed}, indent=2) + "\n")
    print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
