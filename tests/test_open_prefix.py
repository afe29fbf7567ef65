"""A prefix whose last step is not finished: its prompt ends there, and no other prefix shares its key."""

import asyncio
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.engine.request_keys import request_key, stem_key
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.models import ModelEntry, model_entry, render
from openr_data.types import Completion, Prefix, Sampling

HALF = Fraction(1, 2)
SCRIPT = {
    (): [Branch(Fraction(1, 4), "It is two."), Branch(Fraction(3, 4), "It is three.")],
    ("It is two.",): [Branch(HALF, "Done."), Branch(HALF, "Over.")],
    ("It is three.",): [Branch(Fraction(1), "Done.")],
}


class Plain:
    chat_template = None

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        raise AssertionError("a plain model has no chat template")


class Chat:
    chat_template = "yes"

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return "".join(f"<{turn['role']}>{turn['content']}" for turn in conversation) + "<assistant>"


@pytest.mark.parametrize(
    ("entry", "tokenizer", "prefix", "prompt"),
    [
        (ModelEntry("m"), Plain(), Prefix("Q", ("a b",), open=True), "Q\n\na b"),
        (ModelEntry("m"), Plain(), Prefix("Q", ("a", "b"), open=True), "Q\n\na\n\nb"),
        (ModelEntry("m"), Plain(), Prefix("Q", ("a\n\n",), open=True), "Q\n\na\n\n"),
        (ModelEntry("m"), Plain(), Prefix("Q", open=True), "Q\n\n"),
        (ModelEntry("m", separator="\n"), Plain(), Prefix("Q", ("a",), open=True), "Q\na"),
        (ModelEntry("m"), Chat(), Prefix("Q", ("a b",), open=True), "<user>Q<assistant>a b"),
    ],
)
def test_the_prompt_of_an_open_prefix_ends_with_its_text(
    entry: ModelEntry, tokenizer: Any, prefix: Prefix, prompt: str
) -> None:
    assert render(prefix, entry, tokenizer) == prompt


def test_the_keys_of_closed_prefixes_are_those_of_the_journals_that_are_there() -> None:
    """Bytes of the version before open prefixes: another key would ask for everything again."""
    stem = stem_key("p", Prefix("q", ("a", "b")), Sampling(seed=3, stop=("x",)))
    assert stem.hex() == "0b8b84b4e6c6a2598c2a01ab40c0e406"
    assert request_key(stem, 8, 3).hex() == "609682fd2a7cd75ca69cc971709c840e"
    assert stem_key("p", Prefix("q"), Sampling()).hex() == "42f66e03562c09e98cec87ee31df37fa"


prefixes = st.builds(
    Prefix, st.text("ab 0", max_size=2), st.lists(st.text("ab 0pen", max_size=4), max_size=3).map(tuple), st.booleans()
)
stops = st.lists(st.sampled_from(["a", " open", "0 open"]), max_size=2).map(tuple)


@given(prefixes, prefixes, stops, stops)
def test_no_two_prefixes_share_a_key_be_they_open_or_closed(
    one: Prefix, other: Prefix, stop: tuple[str, ...], other_stop: tuple[str, ...]
) -> None:
    left, right = (one, Sampling(stop=stop)), (other, Sampling(stop=other_stop))
    assert (stem_key("p", *left) == stem_key("p", *right)) == (left == right)


def sample(policy: ScriptedPolicy, prefix: Prefix, n: int, seed: int = 0) -> list[str]:
    return [item.text for item in asyncio.run(policy.sample(prefix, n, Sampling(seed=seed)))]


def test_a_script_goes_on_inside_a_step_with_the_probabilities_that_are_left() -> None:
    policy = ScriptedPolicy(SCRIPT, exact=True)
    assert sample(policy, Prefix("q", ("It is t",), open=True), 8) == [
        "wo.\n\nDone.",
        "wo.\n\nOver.",
        *["hree.\n\nDone."] * 6,
    ]
    assert sample(policy, Prefix("q", ("It is two",), open=True), 4) == [".\n\nDone."] * 2 + [".\n\nOver."] * 2
    assert sample(policy, Prefix("q", ("It is two.\n\nO",), open=True), 2) == ["ver."] * 2
    assert sample(policy, Prefix("q", ("It is two.\n\nOver.",), open=True), 2) == [""] * 2
    with pytest.raises(ValueError, match="no path of the script begins with 'It is f'"):
        sample(policy, Prefix("q", ("It is f",), open=True), 1)


def test_the_draws_of_an_open_prefix_depend_on_their_seed_alone() -> None:
    policy, prefix = ScriptedPolicy(SCRIPT), Prefix("q", ("It is",), open=True)
    assert (
        sample(policy, prefix, 64, seed=1) == sample(policy, prefix, 64, seed=1) != sample(policy, prefix, 64, seed=2)
    )
    found = sample(policy, prefix, 400)
    assert 250 < found.count(" three.\n\nDone.") < 350


@pytest.fixture(scope="module")
def arithmetic() -> Iterator[Any]:
    transformers_local = pytest.importorskip("openr_data.inference.policies.transformers")
    made = transformers_local.TransformersPolicy("arithmetic", device="cpu")
    yield made
    made.close()


def test_a_model_goes_on_from_any_token_of_its_own_text_as_it_went_on_before(arithmetic: Any) -> None:
    from openr_data.labelers.split import split_text

    sampling = Sampling(temperature=0, max_tokens=192)

    async def ask(prefixes: list[Prefix]) -> list[Completion]:
        replies = await asyncio.gather(*(arithmetic.sample(prefix, 1, sampling) for prefix in prefixes))
        return [reply for (reply,) in replies]

    for question in islice(ArithmeticSource().read(split="test"), 2):
        (whole,) = asyncio.run(ask([Prefix(question.question)]))
        pieces = split_text(whole.text, "token")
        begun = ["".join(pieces[:count]) for count in range(1, len(pieces) + 1)]
        replies = asyncio.run(ask([Prefix(question.question, (text,), open=True) for text in begun]))
        assert len(begun) > 15
        assert [text + reply.text for text, reply in zip(begun, replies, strict=True)] == [whole.text] * len(begun)


def test_behind_a_whole_step_and_its_separator_the_tokens_are_those_of_the_closed_prefix(arithmetic: Any) -> None:
    closed = Prefix("How many?", ("Two and two.", "That is 4."))
    opened = Prefix("How many?", ("Two and two.\n\nThat is 4.\n\n",), open=True)
    assert model_entry("arithmetic").separator == "\n\n"
    assert arithmetic._encode(opened) == arithmetic._encode(closed)
    assert arithmetic._encode(Prefix("How many?", closed.steps, open=True)) != arithmetic._encode(closed)
