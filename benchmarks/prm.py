"""Compares the trainer of reward models with a plain padded `Trainer` with full logits, and measures state reuse.

    python benchmarks/prm.py [--device cuda --model-size 1.5B]

Every variant trains the same model on the same solutions in a process of its own. Measured are tokens of the solutions
per second (counted per separate solution, however many are read), peak memory beyond the loaded model, and the loss of
one update, which must be equal. "padded" is a fine-tune without this project: rows padded to the longest of the batch,
logits for every position and token, the loss masked afterwards. The vocabulary is that of Qwen2.5, the rest of the
model is small, so that it runs on a CPU; `--model-size` selects a real size for a GPU.

Bars: at least 1.5 times the tokens per second and at most 0.6 times the peak memory of padded; scoring a path step by
step reads at most 0.3 times the tokens of scoring every prefix from scratch, with the same scores.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SIZES: dict[str, dict[str, int]] = {
    "small": dict(zip(_NAMES, (128, 384, 4, 4, 2), strict=True)),
    "1.5B": dict(zip(_NAMES, (1536, 8960, 28, 12, 2), strict=True)),
}
VARIANTS = ("padded", "packed", "tries")
VOCABULARY = 151_936


def examples(count: int) -> list[Any]:
    """Make solutions of the arithmetic world, six per question, written by its teacher and judged by its oracle."""
    import random

    from openr_data.catalogs.arithmetic.problems import problems
    from openr_data.catalogs.arithmetic.source import ArithmeticSource, to_question
    from openr_data.catalogs.arithmetic.teacher import teach
    from openr_data.training.prm.examples import Example

    source, rng, made = ArithmeticSource(), random.Random(0), []
    for problem in islice(problems("train", 3), -(-count // 6)):
        question = to_question(problem, "train")
        for _ in range(6):
            steps = teach(problem, rng)
            labels = source.judge(question, steps)
            target = tuple(None if label is None else float(label >= 0) for label in labels)
            made.append(Example(question.question_id, "", question.question, steps, target, (1.0,) * len(steps)))
    return made[:count]


def model(size: str, device: str) -> Any:
    """Make a new model, the same for every variant."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    made = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=VOCABULARY, max_position_embeddings=4096, tie_word_embeddings=True, **SIZES[size])
    )
    return made.to(device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)


def peak(device: str) -> float:
    """Return the peak memory in MB so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(variant: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one variant in this process: a few updates with the same solutions."""
    from transformers import AutoTokenizer

    from openr_data.models import model_entry
    from openr_data.prm_format import PrmEncoder, prm_format
    from openr_data.training.prm.packing import Collator, EncodedExamples, plan_packs, write_encoded
    from openr_data.training.prm.trainer import StepLoss

    encoder = PrmEncoder(prm_format("openr-data"), AutoTokenizer.from_pretrained(model_entry("arithmetic").path))
    chosen, device = examples(options.solutions), options.device
    alone = [encoder.encode(example.question, example.steps) for example in chosen]
    judged = sum(target is not None for example in chosen for target in example.target)
    network = model(options.model_size, device)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    before = peak(device)
    loss_of = StepLoss(encoder, generative=False)
    if variant == "padded":
        batches = [_padded(alone[i : i + 8], chosen[i : i + 8]) for i in range(0, len(chosen), 8)]
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.arrow"
            write_encoded(chosen, encoder, path, longest=0, room=options.pack, share=variant == "tries")
            data = EncodedExamples(path)
            collator = Collator(data, keep=True, branches=variant == "tries")
            batches = [collator([pack]) for pack in plan_packs(data.lengths, options.pack, 0)]
    first, seconds = 0.0, []
    for round_ in range(options.rounds + 1):
        started = time.monotonic()
        total = 0.0
        for batch in batches:
            held = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = held.pop("labels")
            outputs = network(**held, use_cache=False)
            if variant == "padded":
                logits, masked = outputs.logits, labels[0] != -100
                pairs = logits[masked][:, encoder.good].float() - logits[masked][:, encoder.bad].float()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(pairs, labels[0][masked], reduction="sum")
                loss = loss / judged
            else:
                loss = loss_of(outputs, labels, 2 * judged)
            loss.backward()
            total += loss.item()
        if not round_:
            first = total
        else:
            seconds.append(time.monotonic() - started)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    tokens = sum(len(encoded.ids) for encoded in alone)
    return {
        "solution_tokens_per_second": tokens / min(seconds),
        "peak_mb": peak(device) - before,
        "first_loss": first,
        "tokens": tokens,
    }


def _padded(encoded: list[Any], chosen: list[Any]) -> dict[str, torch.Tensor]:
    longest = max(len(item.ids) for item in encoded)
    ids = torch.zeros((len(encoded), longest), dtype=torch.long)
    seen = torch.zeros_like(ids)
    labels = torch.full((len(encoded), longest), -100.0)
    for row, (item, example) in enumerate(zip(encoded, chosen, strict=True)):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        seen[row, : len(item.ids)] = 1
        for at, target in zip(item.read, example.target, strict=True):
            if target is not None:
                labels[row, at] = target
    return {"input_ids": ids, "attention_mask": seen, "labels": labels[None]}


async def reuse(name: str, solutions: int) -> dict[str, float]:
    """Measure the cost of scoring paths step by step, as a search does, and the difference from scoring at once."""
    from openr_data.inference.rewards.transformers import TransformersReward

    cases = [(item.question, item.steps) for item in examples(solutions)]
    with closing(TransformersReward(name)) as walking, closing(TransformersReward(name, reuse=False)) as whole:
        apart = 0.0
        for question, steps in cases:
            for count in range(1, len(steps) + 1):
                stepwise = await walking.score(question, steps[:count])
            once = await whole.score(question, steps)
            apart = max(apart, *(abs(a - b) for a, b in zip(stepwise, once, strict=True)))
        return {"read_of_asked": walking.tokens_read / walking.tokens_asked, "largest_difference": apart}


def main() -> None:
    """Run every variant in a process of its own and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--solutions", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pack", type=int, default=1_024)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model-size", choices=sorted(SIZES), default="small")
    parser.add_argument("--reward", default="arithmetic-reward", help="the model whose reuse of states is measured")
    parser.add_argument("--variant", choices=VARIANTS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options)))
        return
    results: dict[str, Any] = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[variant] = json.loads(done.stdout)
    base = results["padded"]
    print("variant  solution tokens/s  ratio  peak MB beyond the model  ratio  loss of the first update")
    for variant, figures in results.items():
        speed, memory = figures["solution_tokens_per_second"], figures["peak_mb"]
        ratios = speed / base["solution_tokens_per_second"], memory / base["peak_mb"]
        print(
            f"{variant:7}  {speed:9,.0f}  {ratios[0]:.2f}  {memory:9,.0f}  {ratios[1]:.2f}  {figures['first_loss']:.6f}"
        )
        figures |= {"speed_ratio": ratios[0], "memory_ratio": ratios[1]}
    if options.device == "cpu":
        results["reuse"] = asyncio.run(reuse(options.reward, 60))
        print(f"step by step reads {results['reuse']['read_of_asked']:.3f} of the tokens of whole prefixes; ", end="")
        print(f"scores differ by at most {results['reuse']['largest_difference']:.1e}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prm.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
