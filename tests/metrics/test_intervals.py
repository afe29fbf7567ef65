"""Checks bootstrap intervals over questions: their coverage, the inputs they refuse, and their memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.metrics.intervals import VALUES_AT_ONCE, Estimate, bootstrap_mean, paired_difference

VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=12)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(VALUES, st.sampled_from([1, 50]))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values: list[float], draws: int) -> None:
    estimate = bootstrap_mean(values, rng(), draws)
    assert estimate.mean == pytest.approx(np.mean(values))
    assert estimate.n == len(values)
    assert estimate.low <= estimate.mean <= estimate.high
    assert min(values) - 1e-12 <= estimate.low
    assert estimate.high <= max(values) + 1e-12


def test_the_interval_is_that_of_the_normal_approximation_for_many_questions() -> None:
    values = rng(1).random(2000)
    estimate = bootstrap_mean(values, rng(2), draws=4000)
    reach = 1.96 * values.std() / np.sqrt(2000)
    assert estimate.high - estimate.mean == pytest.approx(reach, rel=0.1)
    assert estimate.mean - estimate.low == pytest.approx(reach, rel=0.1)


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.9, 0.99), (0.6, 0.5, 0.7)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(level: float, least: float, most: float) -> None:
    generator = rng(4)
    covered = 0
    for _ in range(400):
        estimate = bootstrap_mean((generator.random(80) < 0.7).astype(float), generator, draws=400, level=level)
        covered += estimate.low <= 0.7 <= estimate.high
    assert least < covered / 400 < most


def test_pairing_removes_what_both_share() -> None:
    difficulty = rng(5).random(300)
    better = difficulty + 0.01 + 0.01 * rng(6).standard_normal(300)
    paired = paired_difference(better, difficulty, rng())
    assert paired.clear_of_zero
    assert paired.mean == pytest.approx(0.01, abs=0.003)
    alone = bootstrap_mean(difficulty, rng())
    assert paired.high - paired.low < (alone.high - alone.low) / 10


def test_a_difference_turned_round_is_its_negative() -> None:
    a, b = [0.0, 1.0, 1.0, 0.5], [1.0, 1.0, 0.0, 0.25]
    one, other = paired_difference(a, b, rng(), draws=501), paired_difference(b, a, rng(), draws=501)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_a_method_does_not_differ_from_itself() -> None:
    estimate = paired_difference([0.1, 0.7, 0.3], [0.1, 0.7, 0.3], rng())
    assert estimate == Estimate(0.0, 0.0, 0.0, 3)
    assert not estimate.clear_of_zero


@pytest.mark.parametrize(
    ("low", "high", "clear"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False)],
)
def test_an_interval_is_clear_of_zero_where_it_lies_on_one_side(low: float, high: float, clear: bool) -> None:
    assert Estimate((low + high) / 2, low, high, 9).clear_of_zero is clear


def test_an_estimate_is_four_figures_under_its_name() -> None:
    figures = Estimate(0.5, 0.25, 0.75, 8).as_dict("accuracy")
    assert figures == {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "accuracy_n": 8}


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = rng(7).random(40)
    assert bootstrap_mean(values, rng(1)) == bootstrap_mean(values, rng(1))
    assert bootstrap_mean(values, rng(1)) != bootstrap_mean(values, rng(2))


def test_a_higher_level_gives_a_wider_interval() -> None:
    values = rng(8).random(50)
    narrow, wide = (bootstrap_mean(values, rng(), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_questions_do_not_take_much_memory() -> None:
    values = rng(9).random(20_000)
    tracemalloc.start()
    bootstrap_mean(values, rng(), draws=500)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 8 * VALUES_AT_ONCE
    assert peak < 8 * 500 * 20_000


def test_what_has_no_mean_is_an_error() -> None:
    for values in ([], [0.5, float("nan")], np.zeros((2, 2))):
        with pytest.raises(ValueError, match="at least one question|finite"):
            bootstrap_mean(values, rng())
    for draws, level in ((0, 0.95), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match="draws at level"):
            bootstrap_mean([0.5], rng(), draws, level)
    with pytest.raises(ValueError, match="2 and 3 values"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3], rng())
    with pytest.raises(ValueError, match="at least one question"):
        paired_difference([], [], rng())
