"""Measures the shipped policy and writes its model card: `python -m openr_data.catalogs.arithmetic.card`."""

import argparse
import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from openr_data.engine.protocols import Policy
from openr_data.grading import compare, extract_answer
from openr_data.models import model_entry
from openr_data.registry import load
from openr_data.types import Prefix, Question, Sampling, Verdict

from .problems import LEVELS
from .source import ArithmeticSource
from .teacher import CARELESS, TRAPPED

QUESTIONS = 1_000
SAMPLES = 8


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """The policy's shares of right answers on one level, greedy and sampled."""

    level: int
    questions: int
    greedy: float
    sampled: float


async def measure(policy: Policy, questions: Sequence[Question], samples: int = SAMPLES) -> list[LevelFigures]:
    """Measure greedy accuracy and the mean over `samples` samples at temperature 1, by level."""
    limit = model_entry("arithmetic").max_tokens

    async def shares(question: Question, index: int) -> tuple[float, float]:
        prefix = Prefix(question.question)
        greedy = await policy.sample(prefix, 1, Sampling(temperature=0, max_tokens=limit))
        sampled = await policy.sample(prefix, samples, Sampling(temperature=1, max_tokens=limit, seed=index))
        right = [_is_right(reply.text, question) for reply in (*greedy, *sampled)]
        return float(right[0]), sum(right[1:]) / max(1, samples)

    pairs = await asyncio.gather(*(shares(question, index) for index, question in enumerate(questions)))
    figures: list[LevelFigures] = []
    for level in LEVELS:
        rows = [pair for pair, question in zip(pairs, questions, strict=True) if question.level == str(level)]
        greedy, sampled = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        figures.append(LevelFigures(level, len(rows), greedy, sampled))
    return figures


def _is_right(text: str, question: Question) -> bool:
    answer = extract_answer(text)
    return answer is not None and compare(answer, question.answer) is Verdict.CORRECT


def card(figures: Sequence[LevelFigures], training: dict[str, Any]) -> str:
    """Write the model card as Markdown."""
    total = sum(level.questions for level in figures)
    greedy = sum(level.greedy * level.questions for level in figures) / total
    sampled = sum(level.sampled * level.questions for level in figures) / total
    rows = [
        f"| {row.level} | {LEVELS[row.level].operations[0]}–{LEVELS[row.level].operations[1]} | {row.greedy:.1%} "  # noqa: RUF001
        f"| {row.sampled:.1%} |"
        for row in figures
    ]
    made, config = training["figures"], training["config"]
    return "\n".join(
        [
            "---",
            "license: apache-2.0",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "---",
            "",
            "# The policy of the arithmetic world",
            "",
            f"A Qwen2-architecture language model of {made['parameters'] / 1e6:.2f}M parameters that solves the word",
            "problems of openr-data's arithmetic world step by step. It is right about half of the time on purpose:",
            "step labels carry information only if a solution can fail. It can do nothing else.",
            "",
            "The prompt is the question and a blank line. The model writes steps separated by blank lines, the last",
            "one with the answer in `\\boxed{}`, and its end token. The tokenizer is Qwen2's, learned on this world,",
            "with one token per digit.",
            "",
            "| level | operations | greedy | sampled (T = 1) |",
            "|---|---|---|---|",
            *rows,
            f"| all | | {greedy:.1%} | {sampled:.1%} |",
            "",
            f"Share of right answers on {total:,} held-out problems (test split, seed 0), {SAMPLES} samples each.",
            "Made by `python -m openr_data.catalogs.arithmetic.card`.",
            "",
            "## Training",
            "",
            f"`python -m openr_data.catalogs.arithmetic.train`: {made['tokens'] / 1e6:.1f}M tokens of fresh training",
            f"problems, {made['steps']:,.0f} steps, {made['seconds'] / 60:.0f} minutes on two busy CPU cores, seed",
            f"{config['seed']}. Final loss {made['loss']:.3f} nats per solution token. All figures: `training.json`.",
            "",
            f"Its teacher (`teacher.py`) calculates without errors, but falls into {TRAPPED:.0%} of the traps",
            f"(sentences that are easily misread) and misreads {CARELESS:.0%} of all others. So the policy errs like",
            "large models, more by misreading than by calculating, and calculates correctly after a mistake.",
            "Sums in bfloat16 depend on the machine: a rerun gives a model of the same kind, not the same bits.",
            "",
        ]
    )


def main() -> None:
    """Measure the policy and write `README.md` beside its weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    options = parser.parse_args()
    folder = Path(model_entry("arithmetic").path)
    questions = list(islice(ArithmeticSource().read("test", 0), options.questions))
    with closing(load("policy", "transformers")("arithmetic")) as policy:
        figures = asyncio.run(measure(policy, questions))
    training = json.loads((folder / "training.json").read_text())
    (folder / "README.md").write_text(card(figures, training), encoding="utf-8")


if __name__ == "__main__":
    main()
