"""What every backend keeps: one contract, tested on each of them with the shipped model (see `contract.py`)."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.engine.step_sampling import sample_step
from openr_data.errors import PolicyError, PolicyLost
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.models import encode, model_entry
from openr_data.types import Completion, Prefix, SampledStep, Sampling

from .contract import BACKENDS, MODEL, Subject, ask, opened, transformers_policy

PREFIXES = [Prefix(item.question) for item in islice(ArithmeticSource().read(split="test"), 12)]
GREEDY = Sampling(temperature=0, max_tokens=192)
DRAWN = Sampling(max_tokens=192, seed=3)
HOT = Sampling(temperature=2.0, max_tokens=96)
"""So hot that hardly two samples are alike."""


@pytest.fixture(scope="module", params=BACKENDS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with opened(request.param, tmp_path_factory.mktemp("backend")) as made:
        yield made


@pytest.fixture
def model(subject: Subject) -> Subject:
    """A backend that samples the tokens of the shipped model."""
    if not subject.is_model:
        pytest.skip("a script has no tokens")
    return subject


@pytest.fixture(scope="module")
def reference() -> Iterator[TransformersPolicy]:
    with closing(transformers_policy()) as made:
        yield made


def test_greedy_output_is_that_of_the_transformers_backend(model: Subject, reference: TransformersPolicy) -> None:
    written = ask(reference, *((prefix, 1, GREEDY) for prefix in PREFIXES))
    begun = [
        Prefix(prefix.question, reference.steps_of(reply[0].text)[:1])
        for prefix, reply in zip(PREFIXES, written, strict=True)
    ]
    requests = [(prefix, 1, GREEDY) for prefix in (*PREFIXES, *begun)]
    for (ours,), (theirs,) in zip(ask(model.policy, *requests), ask(reference, *requests), strict=True):
        assert facts(ours) == facts(theirs)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=0.02)


def test_greedy_samples_are_all_the_same(model: Subject) -> None:
    (reply,) = ask(model.policy, (PREFIXES[0], 3, GREEDY))
    assert [facts(item) for item in reply] == [facts(reply[0])] * 3


def test_the_samples_of_a_request_are_independent(subject: Subject) -> None:
    for reply in ask(subject.policy, *((prefix, 8, replace(HOT, seed=5)) for prefix in PREFIXES[:6])):
        assert len(reply) == 8
        assert len({item.text for item in reply}) >= (6 if subject.is_model else 2)


def test_seeds_that_are_near_each_other_share_no_sample(model: Subject) -> None:
    replies = ask(model.policy, *((PREFIXES[0], 8, replace(HOT, seed=seed)) for seed in range(5, 9)))
    texts = [[item.text for item in reply] for reply in replies]
    # A sample repeats now and then; what is drawn with the seed plus the index repeats seven of eight.
    assert len({text for reply in texts for text in reply}) > 24


def test_a_seed_gives_the_same_samples_alone_and_among_others(subject: Subject) -> None:
    requests = [(prefix, 4, replace(DRAWN, seed=index)) for index, prefix in enumerate(PREFIXES[:4])]
    others = [(prefix, 2, replace(DRAWN, seed=99)) for prefix in PREFIXES]
    alone = [told(ask(subject.policy, request)[0]) for request in requests]
    among = [told(reply) for reply in ask(subject.policy, *others, *requests)[len(others) :]]
    assert alone == among
    assert alone != [
        told(reply) for reply in ask(subject.policy, *((p, n, replace(s, seed=50)) for p, n, s in requests))
    ]


def test_the_log_probability_is_that_of_the_model(model: Subject, reference: TransformersPolicy) -> None:
    tokenizer, entry = reference.tokenizer, model_entry(MODEL)
    for prefix, reply in zip(PREFIXES, ask(model.policy, *((p, 2, DRAWN) for p in PREFIXES)), strict=True):
        prompt = encode(prefix, entry, tokenizer)
        for item in reply:
            ended = [tokenizer.eos_token_id] if item.ended == "end" else []
            written = tokenizer.encode(item.text) + ended
            with torch.inference_mode():
                logits = reference._model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1].double()
            scores = torch.log_softmax(logits, -1).gather(1, torch.tensor(written)[:, None])
            assert item.logprob == pytest.approx(float(scores.sum()), abs=0.02)


def test_a_log_probability_is_never_that_of_another_distribution(model: Subject, reference: TransformersPolicy) -> None:
    request = (PREFIXES[0], 4, replace(DRAWN, temperature=0.5, top_p=0.9))
    for item in ask(model.policy, request)[0]:
        assert item.logprob is None or model.name == reference.name or item.logprob > -5


def test_tokens_are_counted_as_the_tokenizer_counts(model: Subject, reference: TransformersPolicy) -> None:
    tokenizer, entry = reference.tokenizer, model_entry(MODEL)
    begun = [Prefix(prefix.question, ("A step.", "And another.")) for prefix in PREFIXES]
    requests = [(prefix, 3, DRAWN) for prefix in (*PREFIXES, *begun)]
    for (prefix, *_), reply in zip(requests, ask(model.policy, *requests), strict=True):
        for item in reply:
            assert item.n_tokens == len(tokenizer.encode(item.text)) + (item.ended == "end")
            assert item.prompt_tokens == len(encode(prefix, entry, tokenizer))


def test_the_limit_ends_a_completion(subject: Subject) -> None:
    ((cut,),) = ask(subject.policy, (PREFIXES[0], 1, replace(GREEDY, max_tokens=4)))
    assert (cut.ended, cut.n_tokens) == ("length", 4)
    ((whole,),) = ask(subject.policy, (PREFIXES[0], 1, GREEDY))
    assert whole.ended == "end"
    assert whole.n_tokens > 4


def test_a_stop_string_ends_a_completion_and_is_left_out(model: Subject) -> None:
    ((whole,), (cut,)) = ask(
        model.policy, (PREFIXES[0], 1, GREEDY), (PREFIXES[0], 1, replace(GREEDY, stop=("nowhere", "=")))
    )
    assert (whole.ended, whole.finish_reason) == ("end", "stop")
    assert (cut.ended, cut.finish_reason) == ("stop", "stop")
    assert cut.text == whole.text[: whole.text.index("=")]
    assert 0 < cut.n_tokens < whole.n_tokens


def test_the_own_end_of_the_model_is_no_stop_string(subject: Subject) -> None:
    # The last sample ends by itself though the request has a stop string, the others at it.
    for question in PREFIXES[:6]:
        ((whole,),) = ask(subject.policy, (question, 1, GREEDY))
        steps = subject.policy.steps_of(whole.text)
        prefixes = [Prefix(question.question, steps[:depth]) for depth in range(len(steps))]
        stopped = replace(GREEDY, stop=(subject.policy.separator,))
        replies = ask(subject.policy, *((prefix, 1, stopped) for prefix in prefixes))
        assert [reply.ended for (reply,) in replies] == ["stop"] * (len(steps) - 1) + ["end"]
        if subject.is_model:
            assert tuple(reply.text for (reply,) in replies) == steps


def test_the_steps_of_a_greedy_path_are_those_of_the_whole_solution(model: Subject) -> None:
    async def path(prefix: Prefix) -> tuple[list[SampledStep], SampledStep]:
        steps: list[SampledStep] = []
        while True:
            begun = Prefix(prefix.question, tuple(step.text for step in steps))
            step, again = await sample_step(model.policy, begun, 2, GREEDY)
            assert step.text == again.text
            if step.ended != "stop":
                return steps, step
            steps.append(step)

    async def all_paths() -> list[tuple[list[SampledStep], SampledStep]]:
        return await asyncio.gather(*map(path, PREFIXES))

    wholes = ask(model.policy, *((prefix, 1, GREEDY) for prefix in PREFIXES))
    for (steps, last), (whole,) in zip(asyncio.run(all_paths()), wholes, strict=True):
        assert model.policy.steps_of(whole.text) == tuple(step.text for step in (*steps, last))
        assert last.ended == "end"
        assert sum(step.n_tokens for step in (*steps, last)) == whole.n_tokens
        assert sum(step.logprob or 0.0 for step in (*steps, last)) == pytest.approx(whole.logprob, abs=0.05)


def test_a_step_that_is_too_long_is_cut(subject: Subject) -> None:
    (step,) = asyncio.run(sample_step(subject.policy, PREFIXES[0], 1, replace(GREEDY, max_tokens=3)))
    assert (step.ended, step.n_tokens, step.calls) == ("length", 3, 1)


def test_the_separator_is_that_of_the_model_s_entry(subject: Subject) -> None:
    assert subject.policy.separator == model_entry(MODEL).separator


def test_no_samples_are_no_samples(subject: Subject) -> None:
    assert ask(subject.policy, (PREFIXES[0], 0, DRAWN)) == [()]


def test_it_is_asked_from_several_loops_at_once(subject: Subject) -> None:
    expected = [told(ask(subject.policy, (prefix, 2, DRAWN))[0]) for prefix in PREFIXES[:4]]
    found: dict[int, Any] = {}

    def of_one(index: int) -> None:
        found[index] = told(ask(subject.policy, (PREFIXES[index], 2, DRAWN))[0])

    threads = [threading.Thread(target=of_one, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


def test_a_cancelled_request_frees_its_place(subject: Subject) -> None:
    async def give_up() -> None:
        # Minutes of work: longer than all that is waited for here.
        large = (PREFIXES[0], 16_384, replace(HOT, max_tokens=900))
        task = asyncio.ensure_future(subject.policy.sample(*large))
        await begun(subject)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await subject.policy.sample(PREFIXES[1], 2, replace(DRAWN, max_tokens=8))
        # Here, since a loop that ends cancels what it has left over.
        while await asyncio.to_thread(subject.under_way):
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(give_up(), 60.0))


def test_a_prompt_that_is_too_long_fails_alone(model: Subject) -> None:
    async def both() -> list[Any]:
        long = model.policy.sample(Prefix("How many apples? " * 3_000), 2, DRAWN)
        others = (model.policy.sample(prefix, 2, DRAWN) for prefix in PREFIXES[:3])
        return await asyncio.gather(long, *others, return_exceptions=True)

    failed, *replies = asyncio.run(both())
    assert type(failed) is PolicyError
    assert "tokens" in str(failed) or "length" in str(failed)
    assert [len(reply) for reply in replies] == [2, 2, 2]


def test_closing_fails_what_is_under_way(model: Subject) -> None:
    policy = model.another()

    async def close_meanwhile() -> list[Any]:
        hot = Sampling(temperature=2.0, max_tokens=900)
        waiting = [asyncio.ensure_future(policy.sample(prefix, 32, hot)) for prefix in PREFIXES]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(policy.close)
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcome = asyncio.run(asyncio.wait_for(close_meanwhile(), 120.0))
    assert {type(item) for item in outcome if not isinstance(item, (list, tuple))} == {PolicyLost}
    policy.close()
    with pytest.raises(PolicyLost, match="closed"):
        ask(policy, (PREFIXES[0], 1, DRAWN))
    assert ask(model.policy, (PREFIXES[0], 1, DRAWN))


def facts(item: Completion) -> tuple[Any, ...]:
    return item.text, item.n_tokens, item.ended, item.prompt_tokens


def told(reply: tuple[Completion, ...]) -> list[tuple[Any, ...]]:
    """What a seed fixes of a reply; the rest tells of the cache and of roundings."""
    return [facts(item) for item in reply]


async def begun(subject: Subject) -> None:
    """Wait until a request is at work; a script counts none and is at work at once."""
    while subject.is_model and not subject.under_way():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
