"""Checks the shipped policy against its card: small, and wrong as often as stated on every level."""

import asyncio
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from openr_data.catalogs.arithmetic.card import measure
from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.models import model_entry
from openr_data.types import Prefix, Sampling

FOLDER = Path(model_entry("arithmetic").path)


@pytest.fixture(scope="module")
def policy() -> Iterator[TransformersPolicy]:
    made = TransformersPolicy("arithmetic", device="cpu")
    yield made
    made.close()


def test_the_weights_are_small_and_every_file_is_there() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 5_000_000
    assert {path.name for path in FOLDER.iterdir()} >= {"config.json", "tokenizer.json", "README.md", "training.json"}


def test_it_is_a_qwen2_model_of_at_most_two_million_parameters(policy: TransformersPolicy) -> None:
    assert policy._model.config.architectures == ["Qwen2ForCausalLM"]
    assert policy._model.num_parameters() <= 2_000_000


@pytest.mark.parametrize(
    "text", ["Mia has 14 apples.\n\n3*6=18", "x^2 + \\frac{1}{2}é∑\n\n\n", "a  b\tc", "👍 12,345.67"]
)
def test_any_text_encodes_and_decodes_and_a_digit_is_a_token(policy: TransformersPolicy, text: str) -> None:
    ids = policy.tokenizer.encode(text)
    assert policy.tokenizer.decode(ids) == text
    digits = [policy.tokenizer.decode([token]) for token in ids if re.search(r"\d", policy.tokenizer.decode([token]))]
    assert digits == re.findall(r"\d", text)


def test_the_tokens_of_a_prefix_are_a_prefix_of_the_tokens_of_the_whole(policy: TransformersPolicy) -> None:
    steps = ["Mia has 3*6=18 apples.", "That makes 18+4=22 apples.", "The answer is \\boxed{22}."]
    whole = policy.tokenizer.encode("Q?\n\n" + "\n\n".join(steps))
    for end in range(len(steps)):
        prefix = policy.tokenizer.encode("Q?\n\n" + "".join(step + "\n\n" for step in steps[:end]))
        assert whole[: len(prefix)] == prefix


@pytest.mark.slow
def test_accuracy_is_spread_over_the_levels_as_promised(policy: TransformersPolicy) -> None:
    questions = list(islice(ArithmeticSource().read("test", 0), 500))
    figures = asyncio.run(measure(policy, questions, samples=1))
    mean = sum(item.greedy for item in figures) / len(figures)
    assert 0.40 <= mean <= 0.65
    assert figures[0].greedy >= 0.75
    assert 0.15 <= figures[-1].greedy <= 0.40
    written = re.findall(r"^\| (\d) \|.*?\| ([\d.]+)% \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    for item, (level, share) in zip(figures, written, strict=True):
        assert int(level) == item.level
        # 100 of the card's 200 questions a level: half the sample, so a loose bound.
        assert float(share) / 100 == pytest.approx(item.greedy, abs=0.12)


def test_it_speaks_of_anything_without_failing(policy: TransformersPolicy) -> None:
    question = "Let $f(x)=\\frac{x^2}{3}$. Find $\\lim_{x\\to 0} f(x)$ — exactly."
    (reply,) = asyncio.run(policy.sample(Prefix(question), 1, Sampling(max_tokens=64)))
    assert reply.n_tokens <= 64
