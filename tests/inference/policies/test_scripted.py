"""The policy that follows a script, and the clock that jumps."""

import asyncio
from fractions import Fraction

import pytest

from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.types import Completion, Prefix, Sampling
from tests.conftest import four_steps
from tests.virtual_clock import run_virtual

COIN = {(): [Branch(Fraction(1, 4), "heads"), Branch(Fraction(3, 4), "tails")]}


def sample(policy: ScriptedPolicy, n: int, prefix: Prefix | None = None, **sampling: int) -> list[Completion]:
    return list(asyncio.run(policy.sample(prefix or Prefix("q"), n, Sampling(**sampling))))  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "heads"), [(4, 1), (8, 2), (32, 8), (1, 0), (2, 0)])
def test_exact_sampling_gives_exact_shares(n: int, heads: int) -> None:
    texts = [reply.text for reply in sample(ScriptedPolicy(COIN, exact=True), n)]
    assert len(texts) == n
    assert texts.count("heads") == heads


def test_random_sampling_depends_on_the_seed_alone() -> None:
    policy = ScriptedPolicy(four_steps)
    assert sample(policy, 8, seed=1) == sample(policy, 8, seed=1)
    assert sample(policy, 8, seed=1) != sample(policy, 8, seed=2)
    assert sample(policy, 8, seed=1)[:3] == sample(policy, 3, seed=1)


def test_random_sampling_has_the_probabilities_of_the_script() -> None:
    heads = sum(reply.text == "heads" for reply in sample(ScriptedPolicy(COIN), 4000))
    assert 900 < heads < 1100


def test_paths_and_their_probabilities_add_up_to_one() -> None:
    paths = list(ScriptedPolicy(four_steps).paths(Prefix("q")))
    assert len(paths) == 8
    assert sum(probability for probability, _ in paths) == 1


def test_a_long_completion_is_cut_and_says_so() -> None:
    policy = ScriptedPolicy({(): [Branch(Fraction(1), "one two three four")]})
    reply = sample(policy, 1, max_tokens=2)[0]
    assert (reply.text, reply.n_tokens, reply.ended) == ("one two", 2, "length")


@pytest.mark.parametrize(
    ("limit", "cut"),
    [(9, ("one two", 2, "stop")), (2, ("one two", 2, "stop")), (1, ("one", 1, "length"))],
)
def test_a_stop_string_ends_a_completion_where_the_limit_does_not(limit: int, cut: tuple[str, int, str]) -> None:
    policy = ScriptedPolicy({(): [Branch(Fraction(1), "one two\n\nthree four")]})
    (reply,) = asyncio.run(policy.sample(Prefix("q"), 1, Sampling(max_tokens=limit, stop=("nowhere", "\n\n"))))
    assert (reply.text, reply.n_tokens, reply.ended) == cut


def test_steps_are_joined_by_the_separator_of_the_policy() -> None:
    policy = ScriptedPolicy(four_steps, separator="|")
    (reply,) = sample(policy, 1, Prefix("q", ("right 1 of q",)))
    assert (policy.separator, len(policy.steps_of(reply.text))) == ("|", 3)
    assert "\n" not in reply.text
    (reply,) = sample(policy, 1, Prefix("q", ("right 1",), open=True))
    assert reply.text.startswith(" of q|")


def test_branches_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        sample(ScriptedPolicy({(): [Branch(Fraction(1, 2), "x")]}), 1)


def test_latency_takes_virtual_seconds_only() -> None:
    policy = ScriptedPolicy({(): [Branch(Fraction(1), "one two three")]}, seconds_per_token=1000.0)

    async def main() -> None:
        await asyncio.gather(*(policy.sample(Prefix(str(i)), 2, Sampling()) for i in range(50)))

    _, seconds = run_virtual(main())
    assert seconds == pytest.approx(3000.0)


def test_a_deadlock_is_an_error_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="never comes"):
        run_virtual(main())
