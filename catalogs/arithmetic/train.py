"""Trains the policy of the arithmetic world: `python -m openr_data.catalogs.arithmetic.train`.

A Qwen2-architecture language model of about one million parameters learns the solutions of an imperfect teacher
(`teacher.py`) to fresh training problems, each seen once, with a next-token loss on the solution only. With a fixed
seed the run is reproducible up to the machine's floating-point order. The policy is meant to be *wrong on about half of
the problems*: labels carry information only if a solution can fail. It is trained until it calculates well, so that it
fails by misreading, like its teacher.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .problems import WordProblem, problems
from .teacher import teach
from .tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The recipe of the shipped policy. `tokens` counts question and solution tokens together.

    The learning rate rises over `warmup_tokens`, stays constant, and falls to zero over the last `decay_tokens`.
    """

    seed: int = 0
    tokens: int = 16_000_000
    decay_tokens: int = 3_000_000
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 384
    batch_tokens: int = 4_096
    learning_rate: float = 2e-3
    warmup_tokens: int = 300_000
    weight_decay: float = 0.05
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)


def build_model(config: TrainConfig, tokenizer: Any) -> Any:
    """Make a new `transformers.Qwen2ForCausalLM` with tied embeddings, initialised from `config.seed`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(config.seed)
    vocabulary = -(-len(tokenizer) // 64) * 64
    end = tokenizer.eos_token_id
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def example(tokenizer: Any, problem: WordProblem, rng: random.Random) -> tuple[list[int], int]:
    """Return the token ids of question, teacher's solution and end mark, and the length of the question part."""
    question = tokenizer.encode(problem.text + "\n\n")
    solution = tokenizer.encode("\n\n".join(teach(problem, rng)))
    return [*question, *solution, tokenizer.eos_token_id], len(question)


def batches(config: TrainConfig, tokenizer: Any) -> Iterator[tuple[Any, Any, int]]:
    """Yield endless batches of similar length: ids and labels `[batch, length]`, and the count of real tokens.

    Padding is on the right, which causal attention never reads, so no mask is needed; labels are -100 on the question
    and on padding.
    """
    import torch

    rng = random.Random(config.seed)
    stream = problems("train", config.seed, config.levels)
    end = tokenizer.eos_token_id
    while True:
        pool = sorted(
            (example(tokenizer, problem, rng) for problem in islice(stream, 4096)),
            key=lambda encoded: len(encoded[0]),
        )
        cuts: list[list[tuple[list[int], int]]] = []
        batch: list[tuple[list[int], int]] = []
        for encoded in pool:
            if batch and (len(batch) + 1) * len(encoded[0]) > config.batch_tokens:
                cuts.append(batch)
                batch = []
            batch.append(encoded)
        cuts.append(batch)
        rng.shuffle(cuts)
        for cut in cuts:
            length = max(len(ids) for ids, _ in cut)
            ids = torch.full((len(cut), length), end)
            labels = torch.full((len(cut), length), -100)
            for row, (tokens, question) in enumerate(cut):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, question : len(tokens)] = torch.tensor(tokens[question:])
            yield ids, labels, sum(len(tokens) for tokens, _ in cut)


def train(config: TrainConfig, out: Path, device: str = "cpu") -> dict[str, float]:
    """Train, write model and tokenizer to `out`, return the figures of the run."""
    import torch

    tokenizer = train_tokenizer(seed=config.seed)
    model = build_model(config, tokenizer).to(device)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    seen, step, started, recent = 0, 0, time.monotonic(), 0.0
    for ids, labels, tokens in batches(config, tokenizer):
        if seen >= config.tokens:
            break
        rate = config.learning_rate * min(
            1.0, (seen + 1) / config.warmup_tokens, (config.tokens - seen) / config.decay_tokens
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device_type=device, dtype=torch.bfloat16):
            loss = model(
                input_ids=ids.to(device),
                labels=labels.to(device),
                use_cache=False,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += tokens
        step += 1
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 0:
            speed = seen / (time.monotonic() - started)
            done = f"{seen / 1e6:.1f}M tokens ({seen / config.tokens:.0%})"
            sys.stderr.write(f"step {step}  {done}  loss {recent:.4f}  {speed / 1e3:.1f}k tokens/s\n")
            sys.stderr.flush()
        if step % 1000 == 0:
            _save(model, tokenizer, out)
    _save(model, tokenizer, out)
    figures = {
        "parameters": float(model.num_parameters()),
        "tokens": float(seen),
        "steps": float(step),
        "seconds": round(time.monotonic() - started, 1),
        "loss": round(recent, 4),
    }
    (out / "training.json").write_text(json.dumps({"config": asdict(config), "figures": figures}, indent=2) + "\n")
    return figures


def _save(model: Any, tokenizer: Any, out: Path) -> None:
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Run the training from the command line; options set the output folder and the number of tokens."""
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "policy")
    parser.add_argument("--tokens", type=int, default=defaults.tokens)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    figures = train(TrainConfig(seed=options.seed, tokens=options.tokens), options.out, options.device)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
