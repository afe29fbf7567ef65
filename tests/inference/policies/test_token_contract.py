"""What a trainer may rely on of every token policy, held against the plain forward pass of the shipped model."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.errors import InputError, PolicyError, PolicyLost
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.inference.policies.transformers_tokens import TransformersTokens
from openr_data.models import encode, model_entry
from openr_data.types import Prefix, Sampling, TokenCompletion

from .contract import MODEL, ask, transformers_policy
from .token_contract import TOKEN_BACKENDS, opened_tokens

PREFIXES = [Prefix(item.question) for item in islice(ArithmeticSource().read(split="test"), 4)]
GREEDY = Sampling(temperature=0, max_tokens=96)
DRAWN = Sampling(max_tokens=64, seed=3)
SHIPPED = Path(model_entry(MODEL).path)


@pytest.fixture(scope="module", params=TOKEN_BACKENDS)
def subject(request: pytest.FixtureRequest) -> Iterator[Any]:
    with opened_tokens(request.param) as made:
        yield made


@pytest.fixture
def policy(subject: Any) -> Iterator[Any]:
    """The policy with the shipped weights, whatever a test before has loaded."""
    before = subject.version
    yield subject
    if subject.version != before:
        subject.load_weights(SHIPPED, subject.version + 1)


@pytest.fixture(scope="module")
def texts() -> Iterator[TransformersPolicy]:
    with closing(transformers_policy()) as made:
        yield made


@pytest.fixture
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()


def perturbed(model: Any) -> Any:
    """The model with other weights, in place."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return model


def prompt(policy: Any, prefix: Prefix) -> list[int]:
    return encode(prefix, model_entry(MODEL), policy.tokenizer)


def sampled(policy: Any, ids: Sequence[int], n: int, sampling: Sampling) -> Sequence[TokenCompletion]:
    replies: Sequence[TokenCompletion] = asyncio.run(policy.sample_tokens(ids, n, sampling))
    return replies


def tokens(completions: Sequence[TokenCompletion]) -> list[tuple[int, ...]]:
    return [item.ids for item in completions]


def forward(model: Any, ids: Sequence[int], written: Sequence[int]) -> torch.Tensor:
    """The log-probabilities `[written, vocabulary]` of the model after each token."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*ids, *written]])).logits[0, len(ids) - 1 : -1]
    return torch.log_softmax(logits, -1)


def holds_those_of(model: Any, ids: Sequence[int], item: TokenCompletion) -> bool:
    """Whether the log-probabilities are those of a forward pass."""
    expected = forward(model, ids, item.ids).gather(1, torch.tensor(item.ids)[:, None])[:, 0].tolist()
    return bool(item.logprobs == pytest.approx(expected, abs=1e-4))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.0, 1.0), (0.6, 0.9)])
def test_log_probabilities_are_those_of_a_forward_pass(
    policy: Any, model: Any, temperature: float, top_p: float
) -> None:
    version = policy.version
    for prefix in PREFIXES:
        ids = prompt(policy, prefix)
        completions = sampled(policy, ids, 3, Sampling(temperature, top_p, max_tokens=96, seed=3))
        assert len(completions) == 3
        for item in completions:
            assert holds_those_of(model, ids, item)
            assert (item.ids[-1] == policy.tokenizer.eos_token_id) == (item.ended == "end")
            assert item.version == version


def test_greedy_tokens_are_the_most_probable_ones_after_exactly_this_prompt(policy: Any, model: Any) -> None:
    # Ids that no tokenizer writes for a text: the prompt must not be decoded and encoded again.
    ids = [*prompt(policy, PREFIXES[0])[:-1], 5, 5, 700, 5]
    (item,) = sampled(policy, ids, 1, GREEDY)
    assert list(item.ids) == forward(model, ids, item.ids).argmax(-1).tolist()
    assert holds_those_of(model, ids, item)


def test_greedy_tokens_are_the_text_of_the_policy(policy: Any, texts: TransformersPolicy) -> None:
    for prefix in PREFIXES:
        ((text,),) = ask(texts, (prefix, 1, GREEDY))
        first, again = sampled(policy, prompt(policy, prefix), 2, GREEDY)
        assert first == again
        assert policy.tokenizer.decode(first.ids, skip_special_tokens=True) == text.text
        assert (len(first.ids), first.ended) == (text.n_tokens, text.ended)


def test_a_seed_gives_the_same_tokens_again_and_another_seed_others(policy: Any) -> None:
    ids = prompt(policy, PREFIXES[0])
    first, again, other = (
        tokens(sampled(policy, ids, 4, Sampling(temperature=2.0, max_tokens=32, seed=seed))) for seed in (3, 3, 4)
    )
    assert first == again
    assert len({*first, *other}) == 8
    assert sampled(policy, ids, 0, DRAWN) == ()


def test_a_stop_string_and_the_limit_end_a_completion(policy: Any, texts: TransformersPolicy) -> None:
    stop = model_entry(MODEL).separator
    sampling = Sampling(temperature=0, max_tokens=96, stop=(stop,))
    for prefix in PREFIXES:
        ids = prompt(policy, prefix)
        ((text,),) = ask(texts, (prefix, 1, sampling))
        (item,) = sampled(policy, ids, 1, sampling)
        assert (item.ended, len(item.ids)) == ("stop", text.n_tokens)
        written = policy.tokenizer.decode(item.ids)
        assert written.startswith(text.text + stop)
        assert stop not in policy.tokenizer.decode(item.ids[:-1])
        assert len(item.logprobs) == len(item.ids)
        (short,) = sampled(policy, ids, 1, Sampling(temperature=0, max_tokens=3))
        assert (short.ended, short.ids) == ("length", item.ids[:3])


def test_new_weights_draw_the_samples_and_date_them(policy: Any, model: Any) -> None:
    version = policy.version
    ids = prompt(policy, PREFIXES[0])
    before = sampled(policy, ids, 4, DRAWN)
    policy.load_weights(perturbed(model).state_dict(), version + 1)
    after = sampled(policy, ids, 4, DRAWN)
    assert tokens(before) != tokens(after)
    for item in after:
        assert item.version == policy.version == version + 1
        assert holds_those_of(model, ids, item)
    policy.load_weights(SHIPPED, version + 2)
    assert tokens(sampled(policy, ids, 4, DRAWN)) == tokens(before)
    with pytest.raises(ValueError, match="versions of weights grow"):
        policy.load_weights(model.state_dict(), version + 2)


def test_weights_that_are_loaded_meanwhile_wait_for_the_samples_under_way(policy: Any, model: Any) -> None:
    version = policy.version
    ids = prompt(policy, PREFIXES[0])
    hot = Sampling(temperature=2.0, max_tokens=600, seed=3)
    models: Mapping[int, Any] = {
        version: model,
        version + 1: perturbed(AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()),
    }

    async def load_meanwhile() -> tuple[Sequence[TokenCompletion], list[Sequence[TokenCompletion]]]:
        early = asyncio.ensure_future(policy.sample_tokens(ids, 8, hot))
        while not policy.requests_under_way:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert not early.done()
        load = asyncio.ensure_future(
            asyncio.to_thread(policy.load_weights, models[version + 1].state_dict(), version + 1)
        )
        late = []
        while not load.done():
            late.append(asyncio.ensure_future(policy.sample_tokens(ids, 1, DRAWN)))
            await asyncio.sleep(0.05)
        await load
        return await early, [await item for item in late]

    early, late = asyncio.run(asyncio.wait_for(load_meanwhile(), 120.0))
    assert {item.version for item in early} == {version}
    assert {item.version for reply in late for item in reply} >= {version + 1}
    for item in (*early, *(item for reply in late for item in reply)):
        assert holds_those_of(models[item.version], ids, item)


def test_weights_that_do_not_fit_change_nothing(policy: Any, model: Any, tmp_path: Path) -> None:
    version = policy.version
    state = dict(model.state_dict())
    name = "model.norm.weight"
    with pytest.raises(InputError, match="has the shape"):
        policy.load_weights({**state, name: torch.zeros(3)}, version + 1)
    with pytest.raises(InputError, match="no weight 'other'"):
        policy.load_weights({**state, "other": torch.zeros(3)}, version + 1)
    del state[name]
    with pytest.raises(InputError, match="lack 'model.norm.weight'"):
        policy.load_weights(state, version + 1)
    with pytest.raises(InputError, match="No weights in"):
        policy.load_weights(tmp_path, version + 1)
    assert policy.version == version


def test_a_prompt_that_the_model_cannot_read_fails_alone(policy: Any) -> None:
    for bad in ([], [10**6], [-1], [5] * 2_000):
        with pytest.raises(PolicyError, match="A prompt"):
            sampled(policy, bad, 1, Sampling(max_tokens=2))
    assert sampled(policy, [5], 1, Sampling(max_tokens=2))


def test_an_engine_that_has_failed_to_read_weights_samples_no_more(subject: Any, tmp_path: Path) -> None:
    if isinstance(subject, TransformersTokens):
        pytest.skip("it reads the weights before the model changes")
    version = subject.version
    # As when a file is lost after it was checked. What the model holds then is of no version.
    with pytest.raises(PolicyLost, match="cannot read the weights"):
        subject._own.call_and_wait(lambda: subject._replace(tmp_path / "lost", version + 1))
    with pytest.raises(PolicyLost, match="cannot read the weights"):
        sampled(subject, [5], 1, DRAWN)
    with pytest.raises(PolicyLost, match="cannot read the weights"):
        subject.load_weights(SHIPPED, version + 1)
    assert subject.version == version


def test_a_closed_policy_takes_neither_prompts_nor_weights(subject: Any) -> None:
    # The last test of a backend: a start of vLLM takes longer than all others.
    subject.close()
    with pytest.raises(PolicyLost, match="closed"):
        sampled(subject, [5], 1, DRAWN)
    with pytest.raises(PolicyLost, match="closed"):
        subject.load_weights(SHIPPED, subject.version + 1)
