"""The transformers backend on real, tiny, randomly initialised models, against the library's own generate."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from openr_data.catalogs.arithmetic.tokenizer import train_tokenizer
from openr_data.errors import InputError, PolicyError, PolicyLost
from openr_data.inference.policies import row_batch
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.types import Completion, Prefix, Sampling

PREFIXES = [Prefix("Mia has 3 apples."), Prefix("Tom has 14 cards. How many?", ("Tom has 2*7=14 cards.",)), Prefix("x")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a Llama and a GPT-2 of a few thousand random parameters."""
    tokenizer = train_tokenizer(examples=500)
    size = len(tokenizer)
    torch.manual_seed(0)
    common = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    built = {
        "llama": LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, **common)),
        "gpt2": GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **common)),
        "sliding": MistralForCausalLM(MistralConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=16, **common)),
    }  # fmt: skip
    folders = {}
    for name, model in built.items():
        # Small random logits make every continuation alike; spread them out.
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(8.0)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest, models: dict[str, Path]) -> Iterator[TransformersPolicy]:
    made = TransformersPolicy(str(models[request.param]), device="cpu", max_rows=8)
    yield made
    made.close()


def ask(policy: TransformersPolicy, *requests: tuple[Prefix, int, Sampling]) -> list[list[Completion]]:
    async def all_at_once() -> Any:
        return await asyncio.gather(*(policy.sample(*request) for request in requests))

    return [list(reply) for reply in asyncio.run(all_at_once())]


def test_greedy_output_is_that_of_generate(policy: TransformersPolicy) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy.entry.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(policy.entry.path)
    replies = ask(policy, *((prefix, 1, Sampling(temperature=0, max_tokens=20)) for prefix in PREFIXES))
    for prefix, (reply,) in zip(PREFIXES, replies, strict=True):
        text = "\n\n".join((prefix.question, *prefix.steps)) + "\n\n"
        ids = tokenizer(text, return_tensors="pt")
        out = model.generate(**ids, do_sample=False, max_new_tokens=20, pad_token_id=0)[0, ids.input_ids.shape[1] :]
        ended = bool((out == 0).any())
        written = out[: int((out == 0).nonzero()[0])] if ended else out
        assert reply.text == tokenizer.decode(written)
        assert reply.n_tokens == len(written) + ended
        assert reply.ended == ("end" if ended else "length")
        assert reply.prompt_tokens == ids.input_ids.shape[1]


def test_a_sample_does_not_depend_on_what_else_is_asked(policy: TransformersPolicy) -> None:
    sampling = [Sampling(seed=seed, max_tokens=24) for seed in range(6)]
    alone = [ask(policy, (PREFIXES[seed % 3], 3, sampling[seed]))[0] for seed in range(6)]
    together = ask(policy, *((PREFIXES[seed % 3], 3, sampling[seed]) for seed in range(6)))
    backwards = ask(policy, *((PREFIXES[seed % 3], 3, sampling[seed]) for seed in reversed(range(6))))
    assert alone == together == backwards[::-1]


def test_close_calls_are_settled_by_reading_the_row_alone(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = (PREFIXES[0], 3, Sampling(seed=2, max_tokens=8))
    (usual,) = ask(policy, request)
    read: list[int] = []
    real = row_batch.RowBatch._alone

    def counted(self: Any, row: int) -> torch.Tensor:
        read.append(row)
        return real(self, row)

    # With margins this wide every draw and every log-probability is a close call.
    monkeypatch.setattr(row_batch.RowBatch, "_alone", counted)
    monkeypatch.setattr(row_batch, "MARGIN", 3.0)
    monkeypatch.setattr(row_batch, "LOGPROB_MARGIN", 1.0)
    (settled,) = ask(policy, request)
    assert settled == usual
    assert len(read) == sum(reply.n_tokens for reply in settled) + len(settled)


def test_more_samples_than_rows_come_in_order_and_differ(policy: TransformersPolicy) -> None:
    (many,) = ask(policy, (PREFIXES[0], 30, Sampling(seed=5, max_tokens=12)))
    (few,) = ask(policy, (PREFIXES[0], 5, Sampling(seed=5, max_tokens=12)))
    assert len(many) == 30
    assert many[:5] == few
    assert len({reply.text for reply in many}) > 20


def test_the_log_probability_is_that_of_the_model(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    # A random model writes bytes that encode differently together: the tokens have to be looked at.
    drawn: dict[int, list[int]] = {}
    close = row_batch.RowBatch._close

    def watched(batch: Any, row: int, reason: Any, text: str | None) -> None:
        drawn[batch.rows[row].index] = batch.written[row, : batch.counts[row]].tolist()
        close(batch, row, reason, text)

    monkeypatch.setattr(row_batch.RowBatch, "_close", watched)
    model = AutoModelForCausalLM.from_pretrained(policy.entry.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(policy.entry.path)
    sampling = Sampling(temperature=0.7, seed=3, max_tokens=10)
    for index, reply in enumerate(ask(policy, (PREFIXES[0], 4, sampling))[0]):
        prompt, written = tokenizer(PREFIXES[0].question + "\n\n").input_ids, drawn[index]
        assert len(written) == reply.n_tokens
        logits = model(torch.tensor([prompt + written])).logits[0].double() / 0.7
        scores = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
        expected = scores.gather(1, torch.tensor(written)[:, None]).sum().item()
        assert reply.logprob == pytest.approx(expected, abs=0.006)


def test_a_stop_string_ends_a_completion_and_is_left_out(policy: TransformersPolicy) -> None:
    free = ask(policy, (PREFIXES[0], 1, Sampling(seed=1, max_tokens=30)))[0][0]
    stop = free.text[len(free.text) // 2 :][:2]
    (reply,) = ask(policy, (PREFIXES[0], 1, Sampling(seed=1, max_tokens=30, stop=(stop,))))[0]
    assert reply.text == free.text[: free.text.index(stop)]
    assert reply.ended == "stop"
    assert reply.n_tokens < free.n_tokens


def test_the_models_positions_bound_a_completion(policy: TransformersPolicy) -> None:
    (reply,) = ask(policy, (Prefix("apples " * 100), 1, Sampling(temperature=0, max_tokens=10_000)))[0]
    assert reply.prompt_tokens + reply.n_tokens <= 128
    with pytest.raises(PolicyError, match=r"does not fit the 128 positions"):
        ask(policy, (Prefix("apples " * 300), 1, Sampling()))


def test_a_cancelled_request_frees_its_rows(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    real = policy._model.forward

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        return real(*args, **options)

    async def cancel_and_go_on() -> int:
        # Greedy and endless on a random model: without cancelling, the eight rows take 100 steps.
        task = asyncio.ensure_future(policy.sample(PREFIXES[0], 8, Sampling(max_tokens=100, temperature=0)))
        while steps < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        reply = await policy.sample(PREFIXES[2], 8, Sampling(max_tokens=5, temperature=0))
        return max(item.n_tokens for item in reply)

    monkeypatch.setattr(policy._model, "forward", counted)
    assert asyncio.run(cancel_and_go_on()) <= 5
    assert steps < 60


def test_no_samples_are_no_samples(policy: TransformersPolicy) -> None:
    assert ask(policy, (PREFIXES[0], 0, Sampling())) == [[]]


def test_a_closed_policy_says_so(models: dict[str, Path]) -> None:
    policy = TransformersPolicy(str(models["llama"]), device="cpu")
    policy.close()
    policy.close()
    with pytest.raises(PolicyLost, match="closed"):
        ask(policy, (PREFIXES[0], 1, Sampling()))


def test_closing_fails_what_is_under_way(models: dict[str, Path]) -> None:
    policy = TransformersPolicy(str(models["llama"]), device="cpu", max_rows=4)

    async def close_meanwhile() -> list[Any]:
        waiting = [asyncio.ensure_future(policy.sample(p, 8, Sampling(max_tokens=100))) for p in PREFIXES]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(policy.close)
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcome = asyncio.run(close_meanwhile())
    assert any(isinstance(item, PolicyLost) for item in outcome)


def test_a_model_that_breaks_fails_every_request_with_its_reason(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TransformersPolicy(str(models["llama"]), device="cpu")

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(policy._model, "forward", broken)
    with pytest.raises(PolicyLost, match="device-side assert"):
        ask(policy, (PREFIXES[0], 2, Sampling()))


def test_a_model_that_breaks_on_the_prompt_fails_its_requests_too(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = TransformersPolicy(str(models["llama"]), device="cpu")

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("no room for the prompt")

    monkeypatch.setattr(policy._model.base_model, "forward", broken)
    for _ in range(2):
        with pytest.raises(PolicyLost, match="no room for the prompt"):
            ask(policy, *((prefix, 3, Sampling()) for prefix in PREFIXES))


def test_a_prompt_of_one_token_is_a_prompt(models: dict[str, Path]) -> None:
    policy = TransformersPolicy(str(models["llama"]), device="cpu")
    assert len(policy.tokenizer.encode("\n\n")) == 1
    (reply,) = ask(policy, (Prefix(""), 2, Sampling(max_tokens=4)))
    assert [item.prompt_tokens for item in reply] == [1, 1]
    policy.close()


def test_special_tokens_of_a_chat_prompt_come_from_its_template_alone(models: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    tokenizer.chat_template = "<|im_start|>{{ messages[0]['content'] }}<|im_end|>"
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(models["llama"]).save_pretrained(tmp_path)
    policy = TransformersPolicy(str(tmp_path), device="cpu")
    ids = policy._encode(Prefix("Mia"))
    assert policy.tokenizer.decode(ids) == "<|im_start|>Mia<|im_end|>"
    policy.close()


def test_a_model_with_another_kind_of_cache_is_refused(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="sliding.*--backend vllm"):
        TransformersPolicy(str(models["sliding"]), device="cpu")


def test_a_folder_without_a_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot load the model"):
        TransformersPolicy(str(tmp_path), device="cpu")
    with pytest.raises(InputError, match="No model folder"):
        TransformersPolicy(str(tmp_path / "absent"), device="cpu")


def test_the_name_changes_with_the_weights(models: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models["llama"])
    names = []
    for number in range(2):
        folder = tmp_path / "m"
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(number)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(folder)
        policy = TransformersPolicy(str(folder), device="cpu")
        names.append(policy.name)
        policy.close()
    assert names[0] != names[1]


@pytest.mark.gpu
def test_greedy_output_on_the_gpu_is_that_of_the_cpu(models: dict[str, Path]) -> None:
    replies = []
    for device in ("cpu", "cuda"):
        policy = TransformersPolicy(str(models["llama"]), device=device)
        replies.append(ask(policy, *((prefix, 2, Sampling(temperature=0, max_tokens=20)) for prefix in PREFIXES)))
        policy.close()
    assert [[c.text for c in r] for r in replies[0]] == [[c.text for c in r] for r in replies[1]]


def test_a_chat_template_that_cannot_write_the_prompt_is_told_at_once(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(models["llama"], folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ raise_exception('no prefix here') }}"
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match=r"cannot write the prompt \(no prefix here\)"):
        TransformersPolicy(str(folder), device="cpu")
