"""Checks expected accuracy for every k: each exact curve against an enumeration of all subsets, in fractions."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.metrics.aggregation import RULES, ScoredAnswer, choose
from openr_data.metrics.curves import (
    MOST_CANDIDATES,
    Curve,
    best_curve,
    majority_curve,
    mean_curve,
    oracle_curve,
    random_curve,
    rule_curve,
    vote_curve,
)

Sample = tuple[int | None, float, bool]
"""Group, weight and verdict of one candidate."""

ANSWERED = st.tuples(st.integers(0, 3), st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75]), st.booleans())
UNANSWERED = st.tuples(st.none(), st.sampled_from([0.25, 2.0]), st.just(False))
SAMPLES = st.lists(ANSWERED | UNANSWERED, min_size=1, max_size=7)
RIGHT_GROUPS = st.sets(st.integers(0, 3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def columns(samples: Sequence[Sample]) -> tuple[list[int | None], list[float], list[bool]]:
    return [item[0] for item in samples], [item[1] for item in samples], [item[2] for item in samples]


def with_truth(samples: Sequence[Sample], right: set[int]) -> list[Sample]:
    """Return the same samples, with one verdict for each whole group."""
    return [(group, weight, group in right) for group, weight, _ in samples]


def values_of(samples: Sequence[Sample]) -> list[float | None]:
    return [None if group is None else weight for group, weight, _ in samples]


def counted(samples: Sequence[Sample], accuracy: Callable[[Sequence[Sample]], Fraction]) -> list[float]:
    """Return the mean accuracy over all subsets, for every size."""
    n = len(samples)
    return [
        float(sum((accuracy(subset) for subset in combinations(samples, k)), Fraction()) / math.comb(n, k))
        for k in range(1, n + 1)
    ]


def share(verdicts: Sequence[bool]) -> Fraction:
    return Fraction(sum(verdicts), len(verdicts))


def best_of(subset: Sequence[Sample]) -> Fraction:
    answered = [item for item in subset if item[0] is not None]
    if not answered:
        return Fraction()
    top = max(item[1] for item in answered)
    return share([item[2] for item in answered if item[1] == top])


def voted(subset: Sequence[Sample]) -> Fraction:
    """Return the mean, over the heaviest groups, of the share of their members in the subset that are correct."""
    totals: dict[int, Fraction] = {}
    for group, weight, _ in subset:
        if group is not None:
            totals[group] = totals.get(group, Fraction()) + Fraction(weight)
    if not totals:
        return Fraction()
    leaders = [group for group, total in totals.items() if total == max(totals.values())]
    shares = [share([item[2] for item in subset if item[0] == group]) for group in leaders]
    return sum(shares, Fraction()) / len(leaders)


def close(curve: Curve, expected: Sequence[float], tolerance: float = 1e-12) -> bool:
    assert curve.shape == (len(expected),)
    return bool(np.allclose(curve, expected, rtol=0, atol=tolerance))


@given(SAMPLES)
def test_the_oracle_is_right_where_one_of_the_subset_is(samples: list[Sample]) -> None:
    expected = counted(samples, lambda subset: Fraction(any(item[2] for item in subset)))
    assert close(oracle_curve(columns(samples)[2]), expected)


@given(SAMPLES)
def test_a_random_pick_is_as_good_from_any_number(samples: list[Sample]) -> None:
    expected = counted(samples, lambda subset: share([item[2] for item in subset]))
    assert close(random_curve(columns(samples)[2]), expected)


@given(SAMPLES)
def test_best_of_k_is_what_all_subsets_give(samples: list[Sample]) -> None:
    assert close(best_curve(values_of(samples), columns(samples)[2]), counted(samples, best_of))


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_best_of_k_without_ties_is_the_published_sum(correct: list[bool]) -> None:
    n = len(correct)
    expected = [
        sum(math.comb(n - 1 - rank, k - 1) for rank in range(n) if correct[rank]) / math.comb(n, k)
        for k in range(1, n + 1)
    ]
    assert close(best_curve([-float(rank) for rank in range(n)], correct), expected)


@given(SAMPLES)
def test_the_majority_is_what_all_subsets_give(samples: list[Sample]) -> None:
    groups, _, correct = columns(samples)
    assert close(majority_curve(groups, correct), counted([(group, 1.0, right) for group, _, right in samples], voted))


@given(st.lists(st.none() | st.integers(0, 8), min_size=1, max_size=9), st.sets(st.integers(0, 8)))
def test_the_majority_of_many_small_groups_is_what_all_subsets_give(groups: list[int | None], right: set[int]) -> None:
    samples = [(group, 1.0, group in right) for group in groups]
    assert close(majority_curve(groups, columns(samples)[2]), counted(samples, voted))


@pytest.mark.parametrize(
    "groups",
    [
        [0] * 6,
        [0, 0, 0, 1, 1, 1],
        [0, 1, 2, 3, 4, 5],
        [None, 0, 0, 1, None, 1],
        [0, 0, 1, 1, 2, 2, 3],
        [None] * 4,
        [0, None, None],
    ],
)
def test_the_majority_of_shapes_with_ties_is_what_all_subsets_give(groups: list[int | None]) -> None:
    samples = [(group, 1.0, group == 0) for group in groups]
    assert close(majority_curve(groups, columns(samples)[2]), counted(samples, voted))


@given(SAMPLES, RIGHT_GROUPS)
def test_weighted_votes_of_few_candidates_are_counted_not_sampled(samples: list[Sample], right: set[int]) -> None:
    samples = with_truth(samples, right)
    groups, weights, correct = columns(samples)
    assert close(vote_curve(groups, weights, correct, rng=rng()), counted(samples, voted))


def test_sampled_votes_are_near_those_of_all_subsets() -> None:
    random = Random(5)
    samples = [(group, random.random(), group == 0) for group in [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, None, None]]
    groups, weights, correct = columns(samples)
    expected = counted(samples, voted)
    curve = vote_curve(groups, weights, correct, rng=rng(), draws=150)
    sampled = [k for k in range(1, 13) if math.comb(12, k) > 150]
    assert sampled == [3, 4, 5, 6, 7, 8, 9]
    assert all(abs(curve[k - 1] - expected[k - 1]) < 4 * 0.5 / math.sqrt(150) for k in sampled)
    assert any(abs(curve[k - 1] - expected[k - 1]) > 1e-9 for k in sampled)
    assert close(np.delete(curve, np.array(sampled) - 1), [expected[k - 1] for k in range(1, 13) if k not in sampled])
    more = vote_curve(groups, weights, correct, sampled, rng=rng(), draws=900)
    assert close(more, [expected[k - 1] for k in sampled], 4 * 0.5 / math.sqrt(900))


def test_sampling_does_not_lean_to_one_side() -> None:
    samples = [(group, 0.1 + group / 7, group % 2 == 0) for group in [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]]
    groups, weights, correct = columns(samples)
    runs = [vote_curve(groups, weights, correct, [3, 5, 7], rng=rng(seed), draws=50) for seed in range(200)]
    expected = counted(samples, voted)
    assert close(mean_curve(runs), [expected[2], expected[4], expected[6]], 4 * 0.5 / math.sqrt(200 * 50))


def test_the_same_seed_gives_the_same_votes() -> None:
    groups, weights = [index % 5 for index in range(30)], [1 / (index + 1) for index in range(30)]
    correct = [group == 2 for group in groups]
    first, second, other = (vote_curve(groups, weights, correct, rng=rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_one_vote_and_all_votes_are_exact_with_a_single_draw() -> None:
    groups, weights = [index % 5 for index in range(30)], [1 / (index + 2) for index in range(30)]
    correct = [group < 2 for group in groups]
    ends = vote_curve(groups, weights, correct, [1, 30], rng=rng(), draws=1)
    assert ends.tolist() == pytest.approx([0.4, 1.0])


def test_equal_weights_are_a_majority_and_take_nothing_from_the_generator() -> None:
    groups = [index % 7 for index in range(40)]
    correct = [group < 2 for group in groups]
    generator = rng()
    curve = vote_curve(groups, [0.3] * 40, correct, rng=generator, draws=1)
    assert np.array_equal(curve, majority_curve(groups, correct))
    assert generator.random() == rng().random()


def test_weights_of_zero_are_no_majority() -> None:
    curve = vote_curve([0, 0, 1], [0.0, 0.0, 0.0], [True, True, False], rng=rng())
    assert curve.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 2])


def test_sums_that_only_rounding_sets_apart_share() -> None:
    weights = [0.1, 0.2, 0.3, 0.3, 0.2, 0.1, 0.6]
    curve = vote_curve([0, 0, 0, 1, 1, 1, 2], weights, [True] * 3 + [False] * 4, [7], rng=rng())
    assert curve.tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize(("right", "wrong"), [(51, 50), (40, 61), (30, 34), (100, 28)])
def test_a_majority_of_two_answers_is_the_tail_of_the_hypergeometric(right: int, wrong: int) -> None:
    n = right + wrong
    curve = majority_curve([0] * right + [1] * wrong, [True] * right + [False] * wrong)
    for k in range(1, n + 1):
        ways = [math.comb(right, i) * math.comb(wrong, k - i) for i in range(k + 1)]
        tail = sum(ways[k // 2 + 1 :]) + (Fraction(ways[k // 2], 2) if k % 2 == 0 else 0)
        assert curve[k - 1] == pytest.approx(float(tail / Fraction(math.comb(n, k))), abs=1e-12)


def test_of_many_different_answers_the_majority_is_a_random_pick_up_to_the_limit() -> None:
    for n in (64, 256):
        assert close(majority_curve(list(range(n)), [index < n // 4 for index in range(n)]), [0.25] * n)
    half = [index % 2 for index in range(MOST_CANDIDATES)]
    assert close(majority_curve(half, [group == 1 for group in half], [1, 500, 1000]), [0.5] * 3, 1e-9)
    with pytest.raises(ValueError, match="at most 1000"):
        majority_curve([*half, 1], [True] * 1001)


def test_a_large_majority_agrees_with_sampling() -> None:
    random = Random(3)
    groups = [random.choice([None, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6]) for _ in range(64)]
    correct = [group == 0 for group in groups]
    ks = [2, 4, 8, 16, 32, 48]
    weights = [1.0 + 1e-12 * index for index in range(64)]
    sampled = vote_curve(groups, weights, correct, ks, rng=rng(), draws=40_000)
    assert not np.array_equal(sampled, majority_curve(groups, correct, ks))
    assert close(majority_curve(groups, correct, ks), sampled.tolist(), 4 * 0.5 / math.sqrt(40_000))


@given(SAMPLES, RIGHT_GROUPS, st.randoms(use_true_random=False))
def test_no_curve_depends_on_the_order_or_the_names_of_groups(
    samples: list[Sample], right: set[int], random: Random
) -> None:
    samples = with_truth(samples, right)
    names = random.sample(range(10, 20), 4)
    shuffled = [
        (None if group is None else names[group], weight, verdict)
        for group, weight, verdict in random.sample(samples, len(samples))
    ]

    def curves(items: Sequence[Sample]) -> list[Curve]:
        groups, weights, correct = columns(items)
        return [
            oracle_curve(correct),
            best_curve(values_of(items), correct),
            majority_curve(groups, correct),
            vote_curve(groups, weights, correct, rng=rng()),
        ]

    assert all(close(first, second.tolist()) for first, second in zip(curves(samples), curves(shuffled), strict=True))


@given(SAMPLES, RIGHT_GROUPS)
def test_with_one_sample_nothing_can_be_chosen_and_nothing_beats_the_oracle(
    samples: list[Sample], right: set[int]
) -> None:
    samples = with_truth(samples, right)
    groups, weights, correct = columns(samples)
    oracle = oracle_curve(correct)
    for curve in (
        best_curve(values_of(samples), correct),
        majority_curve(groups, correct),
        vote_curve(groups, weights, correct, rng=rng()),
    ):
        assert curve[0] == pytest.approx(random_curve(correct)[0])
        assert (curve <= oracle + 1e-12).all()
        assert (curve >= 0).all()


@given(SAMPLES)
def test_asking_for_some_sizes_picks_them_from_the_whole_curve(samples: list[Sample]) -> None:
    groups, weights, correct = columns(samples)
    n = len(samples)
    ks = [n, 1, (n + 1) // 2]
    for curve in (
        lambda sizes: oracle_curve(correct, sizes),
        lambda sizes: random_curve(correct, sizes),
        lambda sizes: best_curve(values_of(samples), correct, sizes),
        lambda sizes: majority_curve(groups, correct, sizes),
        lambda sizes: vote_curve(groups, weights, correct, sizes, rng=rng()),
    ):
        whole = curve(None)
        assert close(curve(ks), [whole[k - 1] for k in ks])


@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 3), st.integers(1, 2**20)),
        min_size=1,
        max_size=7,
        unique_by=lambda item: item[1],
    )
)
def test_of_all_candidates_a_curve_ends_at_what_is_chosen_where_nothing_ties(
    pairs: list[tuple[int | None, int]],
) -> None:
    # Distinct powers of two: no two sums of them are equal.
    ranks = {weight: rank for rank, weight in enumerate(sorted(weight for _, weight in pairs))}
    candidates = [ScoredAnswer(group, (2.0 ** -ranks[weight],)) for group, weight in pairs]
    votes = Counter(item.group for item in candidates if item.group is not None).most_common(2)
    correct = [group == 0 for group, _ in pairs]
    for name, rule in RULES.items():
        if name == "majority" and len(votes) == 2 and votes[0][1] == votes[1][1]:
            continue
        chosen = choose(candidates, rule)
        end = rule_curve(candidates, correct, rule, [len(pairs)], rng=rng())
        assert end.tolist() == [0.0 if chosen is None else float(correct[chosen])]


def test_a_rule_takes_its_own_reducer() -> None:
    candidates = [ScoredAnswer(0, (0.1, 0.9)), ScoredAnswer(1, (0.5, 0.5)), ScoredAnswer(None)]
    ends = {name: rule_curve(candidates, [True, False, False], RULES[name], [3], rng=rng())[0] for name in RULES}
    assert {name for name, end in ends.items() if end == 1} == {"last-max", "last-vote"}
    assert {name for name, end in ends.items() if end == 0.5} == {"majority", "mean-max", "mean-vote"}


def test_without_any_answer_the_accuracy_is_zero() -> None:
    none: list[int | None] = [None, None, None]
    wrong = [False] * 3
    assert majority_curve(none, wrong).tolist() == [0.0] * 3
    assert vote_curve(none, [None] * 3, wrong, rng=rng()).tolist() == [0.0] * 3
    assert best_curve([None] * 3, wrong).tolist() == [0.0] * 3


def test_the_mean_curve_is_taken_over_questions() -> None:
    assert mean_curve([np.array([0.0, 1.0]), np.array([1.0, 1.0])]).tolist() == [0.5, 1.0]
    assert mean_curve(np.array([[0.25, 0.5]])).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("ks", [[0], [4], [-1], [1, 2, 9], []])
def test_sizes_outside_of_the_candidates_are_refused(ks: list[int]) -> None:
    for curve in (
        lambda: oracle_curve([True] * 3, ks),
        lambda: random_curve([True] * 3, ks),
        lambda: best_curve([0.5] * 3, [True] * 3, ks),
        lambda: majority_curve([0] * 3, [True] * 3, ks),
        lambda: vote_curve([0] * 3, [0.1, 0.2, 0.3], [True] * 3, ks, rng=rng()),
    ):
        with pytest.raises(ValueError, match="1 to 3"):
            curve()


@pytest.mark.parametrize(
    "call",
    [
        lambda: oracle_curve([]),
        lambda: random_curve([]),
        lambda: best_curve([], []),
        lambda: majority_curve([], []),
        lambda: vote_curve([], [], [], rng=rng()),
        lambda: mean_curve([]),
        lambda: mean_curve([np.zeros(2), np.zeros(3)]),
        lambda: best_curve([0.1, 0.2], [True]),
        lambda: majority_curve([0, 1], [True]),
        lambda: vote_curve([0, 1], [0.1], [True, False], rng=rng()),
        lambda: vote_curve([0, 1], [0.1, None], [True, False], rng=rng()),
        lambda: vote_curve([0, 1], [0.1, math.nan], [True, False], rng=rng()),
        lambda: vote_curve([0, 1], [0.1, 0.2], [True, False], rng=rng(), draws=0),
        lambda: best_curve([0.1, math.inf], [True, False]),
        lambda: rule_curve([ScoredAnswer(0)], [True], RULES["last-max"], rng=rng()),
    ],
)
def test_what_makes_no_curve_is_an_error(call: Callable[[], Curve]) -> None:
    with pytest.raises(ValueError, match=r"no candidates|no questions|length|shorter|finite|draws|no step scores"):
        call()
