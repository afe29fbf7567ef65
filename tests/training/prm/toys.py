"""Makes tiny models, a tokenizer, and solutions whose steps are right if they have an even number of ones."""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from openr_data.exchange.formats.format import Format
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.prm_format import PrmEncoder, PrmFormat, prm_format
from openr_data.registry import load
from openr_data.store import Dataset, Store
from openr_data.training.prm.examples import Example
from openr_data.training.prm.packing import EncodedExamples, write_encoded
from tests.conftest import ROOT

KINDS: Final[dict[str, tuple[Any, Any]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "classifier": (Qwen2Config, Qwen2ForTokenClassification),
}
PAIR: Final = prm_format("openr-data")
CLASSES: Final = PrmFormat("classes", tag="<|step|>", step_joiner="\n\n", head="classes")
SCALAR: Final = PrmFormat("scalar", tag="<|step|>", step_joiner="\n\n", head="scalar")
TURNS: Final = PrmFormat("turns", template="turns", joiner=" ", good="<|good|>", bad="<|bad|>")


@cache
def tokenizer() -> Any:
    """Return the tokenizer of the shipped arithmetic policy: one token per digit."""
    return AutoTokenizer.from_pretrained(ROOT / "catalogs" / "arithmetic" / "policy")


@cache
def encoder(form: PrmFormat = PAIR) -> PrmEncoder:
    return PrmEncoder(form, tokenizer())


def tiny(kind: str = "qwen2", seed: int = 0, attention: str = "sdpa", **more: Any) -> Any:
    """Make a random model of two layers in float32, with weights large enough to learn parity."""
    config, model = KINDS[kind]
    size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
    own: dict[str, Any] = {"head_dim": 8} if kind == "qwen3" else {}
    own |= {"sliding_window": None} if kind == "mistral" else {}
    # Packing is compared with reading one by one, so dropout must be off.
    own |= {"classifier_dropout": 0.0} if kind == "classifier" else {}
    rest: dict[str, Any] = {"vocab_size": len(tokenizer()), "max_position_embeddings": 256, "initializer_range": 0.1}
    rest |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.manual_seed(seed)
    made = model(config(**{**size, **heads, **own, **rest, "attn_implementation": attention, **more}))
    return made.train()


def parity(count: int, seed: int = 0, *, solutions: int = 2, bits: int = 2, shuffled: bool = False) -> list[Example]:
    """Make solutions of `count` questions; a step lists bits and is right if an even number of them is 1.

    `shuffled`: the labels are random, independent of the steps.
    """
    rng = random.Random(seed)
    found: list[Example] = []
    for number in range(count):
        shared = [[rng.randrange(2) for _ in range(bits)]]
        for _ in range(solutions):
            said = shared + [[rng.randrange(2) for _ in range(bits)] for _ in range(2)]
            right = [rng.random() < 0.5 if shuffled else sum(step) % 2 == 0 for step in said]
            steps = tuple(" ".join(map(str, step)) for step in said)
            found.append(
                Example(
                    f"q{seed}-{number:05d}", "toy", f"Question {number}.", steps, tuple(map(float, right)), (1.0,) * 3
                )
            )
    return found


def written(
    examples: Iterable[Example],
    path: Path,
    *,
    form: PrmFormat = PAIR,
    longest: int = 256,
    room: int = 512,
    share: bool = True,
) -> EncodedExamples:
    """Encode examples through the Arrow file, as in a run."""
    write_encoded(examples, encoder(form), path, longest=longest, room=room, share=share)
    return EncodedExamples(path)


def saved(model: Any, folder: Path) -> Path:
    """Make a folder with the model and the tokenizer."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: item.detach().clone() for name, item in model.state_dict().items()}


def farthest(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of two sets of weights or gradients."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def form_of(name: str) -> Format:
    kind = load("format", name)
    made: Format = kind(kind.config_type(), "test", "")
    return made


def a_row(question: str, steps: Sequence[str], label: Sequence[int | None], **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": "1", "steps": list(steps), "label": list(label), "method": "toy", **more}


def parity_rows(count: int, seed: int = 0, solutions: int = 2) -> list[dict[str, Any]]:
    """Return the parity task as rows of records with labels up to the first error."""
    rows: list[dict[str, Any]] = []
    for example in parity(count, seed, solutions=solutions):
        right = [item == 1.0 for item in example.target]
        error = right.index(False) if False in right else len(right)
        label = [1 if at < error else -1 if at == error else None for at in range(len(right))]
        rows.append(a_row(f"{example.question} ({seed})", example.steps, label))
    return rows


def bring(store: Store, rows: Sequence[dict[str, Any]], name: str = "d", form: str = "records") -> Dataset:
    """Import rows of a format into a dataset of the store, with a snapshot."""
    dataset = store.dataset(name, create=True)
    found = ((f"line {place}", row) for place, row in enumerate(rows))
    import_rows(dataset, ImportConfig(form, "test"), form_of(form), found, "x")
    return dataset
