"""Token ids in and out: what a trainer may rely on, held against the plain forward pass of the model."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.errors import InputError, PolicyError
from openr_data.inference.policies.transformers_tokens import TransformersTokens
from openr_data.models import encode, model_entry
from openr_data.types import Prefix, Sampling, TokenCompletion

from .contract import MODEL, ask, transformers_policy

PREFIXES = [Prefix(item.question) for item in islice(ArithmeticSource().read(split="test"), 4)]


@pytest.fixture
def policy() -> Iterator[TransformersTokens]:
    with closing(TransformersTokens(MODEL, device="cpu")) as made:
        yield made


@pytest.fixture
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(model_entry(MODEL).path, dtype=torch.float32).eval()


def prompt(policy: TransformersTokens, prefix: Prefix) -> list[int]:
    return encode(prefix, model_entry(MODEL), policy.tokenizer)


def sampled(policy: TransformersTokens, ids: Sequence[int], n: int, sampling: Sampling) -> Sequence[TokenCompletion]:
    return asyncio.run(policy.sample_tokens(ids, n, sampling))


def forward(model: Any, ids: Sequence[int], written: Sequence[int]) -> list[float]:
    with torch.inference_mode():
        logits = model(torch.tensor([[*ids, *written]])).logits[0, len(ids) - 1 : -1]
    scores: list[float] = torch.log_softmax(logits, -1).gather(1, torch.tensor(written)[:, None])[:, 0].tolist()
    return scores


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.0, 1.0), (0.6, 0.9)])
def test_log_probabilities_are_those_of_a_forward_pass(
    policy: TransformersTokens, model: Any, temperature: float, top_p: float
) -> None:
    for prefix in PREFIXES:
        ids = prompt(policy, prefix)
        for item in sampled(policy, ids, 3, Sampling(temperature, top_p, max_tokens=96, seed=3)):
            assert item.logprobs == pytest.approx(forward(model, ids, item.ids), abs=1e-4)
            assert (item.ids[-1] == policy.tokenizer.eos_token_id) == (item.ended == "end")
            assert item.version == 0


def test_greedy_tokens_are_the_text_of_the_policy(policy: TransformersTokens) -> None:
    greedy = Sampling(temperature=0, max_tokens=96)
    with closing(transformers_policy()) as texts:
        for prefix in PREFIXES:
            ((text,),) = ask(texts, (prefix, 1, greedy))
            first, again = sampled(policy, prompt(policy, prefix), 2, greedy)
            assert first == again
            assert policy.tokenizer.decode(first.ids, skip_special_tokens=True) == text.text
            assert (len(first.ids), first.ended) == (text.n_tokens, text.ended)


def test_new_weights_draw_the_samples_and_date_them(policy: TransformersTokens, model: Any, tmp_path: Path) -> None:
    ids, drawn = prompt(policy, PREFIXES[0]), Sampling(max_tokens=64, seed=3)
    before = sampled(policy, ids, 4, drawn)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    policy.load_weights(model.state_dict(), 1)
    after = sampled(policy, ids, 4, drawn)
    assert [item.ids for item in before] != [item.ids for item in after]
    for item in after:
        assert item.version == policy.version == 1
        assert item.logprobs == pytest.approx(forward(model, ids, item.ids), abs=1e-4)
    policy.load_weights(Path(model_entry(MODEL).path), 2)
    assert [item.ids for item in sampled(policy, ids, 4, drawn)] == [item.ids for item in before]
    with pytest.raises(ValueError, match="versions of weights grow"):
        policy.load_weights(model.state_dict(), 2)


def test_weights_that_do_not_fit_change_nothing(policy: TransformersTokens, model: Any, tmp_path: Path) -> None:
    state = dict(model.state_dict())
    name = "model.norm.weight"
    with pytest.raises(InputError, match="has the shape"):
        policy.load_weights({**state, name: torch.zeros(3)}, 1)
    with pytest.raises(InputError, match="no weight 'other'"):
        policy.load_weights({**state, "other": torch.zeros(3)}, 1)
    del state[name]
    with pytest.raises(InputError, match="lack 'model.norm.weight'"):
        policy.load_weights(state, 1)
    with pytest.raises(InputError, match="No weights in"):
        policy.load_weights(tmp_path, 1)
    assert policy.version == 0


def test_a_prompt_that_the_model_cannot_read_fails_alone(policy: TransformersTokens) -> None:
    for bad in ([], [10**6], [-1]):
        with pytest.raises(PolicyError, match="A prompt"):
            sampled(policy, bad, 1, Sampling(max_tokens=2))
    assert sampled(policy, [5], 1, Sampling(max_tokens=2))
