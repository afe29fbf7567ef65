"""Checks step metrics against hand-worked figures, brute force, and changes that must not matter."""

import json
import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.metrics.step_metrics import LOG_CLIP, ReliabilityBin, StepMetrics, step_metrics

UNIT = st.floats(0, 1)
# Few distinct values, so that ties are common; their squares are exact and as distinct as they are.
GRID = st.integers(0, 8).map(lambda number: number / 8)
SCORE = st.one_of(GRID, UNIT)
ROWS = st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=40)
SOFT_ROWS = st.lists(st.tuples(SCORE, st.one_of(UNIT, GRID)), min_size=1, max_size=60)
WEIGHTED_ROWS = st.lists(st.tuples(GRID, GRID, st.integers(0, 4)), min_size=1, max_size=30)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def figures(metrics: StepMetrics) -> dict[str, Any]:
    return {name: value for name, value in metrics.as_dict().items() if name not in ("steps", "bins")}


def auroc_by_pairs(rows: Sequence[tuple[float, bool, float]]) -> float | None:
    pairs = [(a, b, w * v) for a, good, w in rows if good for b, other, v in rows if not other]
    whole = sum(weight for *_, weight in pairs)
    won = sum(weight * (1 if a > b else 0.5 if a == b else 0) for a, b, weight in pairs)
    return won / whole if whole else None


# Hand-worked


def test_the_figures_of_four_steps_are_those_worked_out_by_hand() -> None:
    metrics = step_metrics([0.9, 0.6, 0.4, 0.2], [True, False, True, False], bins=2)
    assert metrics.steps == 4
    assert metrics.good_share == metrics.accuracy == metrics.balanced_accuracy == 0.5
    # Good above bad: 0.9 > 0.6, 0.9 > 0.2, 0.4 > 0.2 of four pairs.
    assert metrics.auroc == 0.75
    assert metrics.brier == pytest.approx((0.01 + 0.36 + 0.36 + 0.04) / 4)
    assert metrics.log_loss == pytest.approx(-(math.log(0.9) + 2 * math.log(0.4) + math.log(0.8)) / 4)
    assert metrics.bins == (
        ReliabilityBin(0.2, 0.4, 2, 0.5, pytest.approx(0.3), 0.5),
        ReliabilityBin(0.6, 0.9, 2, 0.5, pytest.approx(0.75), 0.5),
    )
    assert metrics.ece == pytest.approx((0.2 + 0.25) / 2)


def test_accuracy_flatters_where_one_class_is_rare_and_balanced_accuracy_does_not() -> None:
    metrics = step_metrics([0.9] * 10, [1] * 9 + [0])
    assert (metrics.accuracy, metrics.good_share, metrics.balanced_accuracy, metrics.auroc) == (0.9, 0.9, 0.5, 0.5)


def test_a_score_at_the_threshold_is_called_good() -> None:
    assert step_metrics([0.5, 0.7], [1, 1]).accuracy == 1
    assert step_metrics([0.5, 0.7], [1, 1], threshold=0.6).accuracy == 0.5
    assert step_metrics([0.5], [1], threshold=0.6).threshold == 0.6


def test_a_sure_mistake_costs_the_clip_and_not_infinity() -> None:
    for score, truth in [(0.0, 1), (1.0, 0)]:
        assert step_metrics([score], [truth]).log_loss == pytest.approx(-math.log(LOG_CLIP))
    assert step_metrics([1.0, 0.0], [1, 0]).log_loss == pytest.approx(LOG_CLIP, rel=1e-3)


def test_nothing_has_no_rates() -> None:
    assert step_metrics([], [], threshold=0.3) == StepMetrics(threshold=0.3)
    assert step_metrics([0.3], [1], weights=[0]) == StepMetrics()
    assert set(figures(step_metrics([], [])).values()) == {None, 0.5}


@pytest.mark.parametrize("truth", [0, 1])
def test_of_one_class_alone_only_what_compares_classes_is_none(truth: int) -> None:
    metrics = step_metrics([0.2, 0.9], [truth, truth])
    assert metrics.auroc is None
    assert metrics.balanced_accuracy is None
    assert None not in (metrics.accuracy, metrics.log_loss, metrics.brier, metrics.ece)
    assert metrics.good_share == truth


# AUROC


@given(st.lists(st.tuples(SCORE, st.booleans(), st.integers(1, 5)), min_size=1, max_size=40))
def test_auroc_is_the_chance_that_a_good_step_scores_above_a_bad_one(rows: list[tuple[float, bool, float]]) -> None:
    scores, truths, weights = columns(rows)
    metrics, expected = step_metrics(scores, truths, weights=weights).auroc, auroc_by_pairs(rows)
    assert metrics == (None if expected is None else pytest.approx(expected, abs=1e-12))


@given(st.lists(st.tuples(GRID, st.booleans()), min_size=1, max_size=40))
def test_auroc_sees_only_the_order_of_scores(rows: list[tuple[float, bool]]) -> None:
    scores, truths = columns(rows)
    plain = step_metrics(scores, truths).auroc
    assert step_metrics([score**2 for score in scores], truths).auroc == plain
    assert step_metrics([0.3 + score / 2 for score in scores], truths).auroc == plain
    turned = step_metrics([1 - score for score in scores], truths).auroc
    assert turned == (None if plain is None else pytest.approx(1 - plain, abs=1e-12))


def test_auroc_of_a_perfect_order_is_one_and_of_equal_scores_a_half() -> None:
    assert step_metrics([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 0, 1, 1]).auroc == 1
    assert step_metrics([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 0, 0, 0]).auroc == 0
    assert step_metrics([0.7] * 6, [0, 1, 0, 1, 1, 1]).auroc == 0.5


def test_auroc_of_shuffled_truths_is_about_a_half() -> None:
    draw = np.random.default_rng(7)
    scores, truths = draw.random(20_000), draw.random(20_000) < 0.8
    assert step_metrics(scores, truths).auroc == pytest.approx(0.5, abs=0.02)


# Calibration


@given(SOFT_ROWS, st.integers(1, 20))
@example([(1.0, 0.0)], 1)
def test_ece_lies_between_the_distance_of_the_means_and_the_mean_distance(
    rows: list[tuple[float, float]], bins: int
) -> None:
    scores, truths = columns(rows)
    metrics = step_metrics(scores, truths, bins=bins).ece
    assert metrics is not None
    assert 0 <= metrics <= 1
    assert metrics >= abs(np.mean(scores) - np.mean(truths)) - 1e-12
    assert metrics <= np.mean(np.abs(np.subtract(scores, truths))) + 1e-12
    assert step_metrics(scores, truths, bins=1).ece == pytest.approx(abs(np.mean(scores) - np.mean(truths)), abs=1e-12)


@given(st.lists(st.integers(1, 19), min_size=1, max_size=12, unique=True), st.integers(1, 20))
def test_ece_is_zero_where_each_score_is_the_share_of_good_steps(shares: list[int], bins: int) -> None:
    rows = [(share / 20, index < share) for share in shares for index in range(20)]
    random.Random(3).shuffle(rows)
    scores, truths = columns(rows)
    assert step_metrics(scores, truths, bins=bins).ece == pytest.approx(0, abs=1e-12)
    worse = [min(1.0, score + 0.05) for score in scores]
    assert step_metrics(worse, truths, bins=bins).ece == pytest.approx(0.05)


def test_a_scorer_that_is_sure_and_half_wrong_is_half_off() -> None:
    assert step_metrics([1.0] * 10, [0, 1] * 5).ece == 0.5


@given(SOFT_ROWS, st.integers(1, 20))
def test_bins_are_disjoint_ranges_that_hold_every_step_once(rows: list[tuple[float, float]], bins: int) -> None:
    scores, truths = columns(rows)
    metrics = step_metrics(scores, truths, bins=bins).bins
    assert 1 <= len(metrics) <= bins
    assert sum(item.share for item in metrics) == pytest.approx(1)
    for item in metrics:
        inside = [(score, truth) for score, truth in rows if item.low <= score <= item.high]
        own, true = columns(inside)
        assert (min(own), max(own), len(inside)) == (item.low, item.high, item.steps)
        assert item.low <= item.mean_score <= item.high
        assert (item.mean_score, item.mean_truth) == (
            pytest.approx(np.mean(own), abs=1e-12),
            pytest.approx(np.mean(true), abs=1e-12),
        )
    assert sum(item.steps for item in metrics) == len(rows)
    assert all(before.high < after.low for before, after in pairwise(metrics))


@given(st.lists(UNIT, min_size=30, max_size=200, unique=True), st.integers(1, 15))
def test_bins_of_distinct_scores_hold_equally_many_steps_to_within_one(scores: list[float], bins: int) -> None:
    metrics = [item.steps for item in step_metrics(scores, [1] * len(scores), bins=bins).bins]
    assert len(metrics) == bins
    assert max(metrics) - min(metrics) <= 1


def test_bins_have_equal_mass_by_default_fifteen_of_them() -> None:
    # All scores lie in a tenth of the range, where bins of equal width would put them into two.
    scores = [0.9 + index / 1500 for index in range(150)]
    assert [item.steps for item in step_metrics(scores, [1] * 150).bins] == [10] * 15


def test_a_score_with_much_mass_gets_one_bin_and_swallows_others() -> None:
    metrics = step_metrics([0.1, *[1.0] * 97, 0.2, 0.3], [1] * 100, bins=10).bins
    assert [(item.low, item.high, item.steps) for item in metrics] == [(0.1, 0.3, 3), (1.0, 1.0, 97)]


# Soft truths


def test_soft_truths_are_taken_as_they_are_where_no_class_is_needed() -> None:
    metrics = step_metrics([0.25, 0.75], [0.5, 0.75], bins=2)
    assert metrics.brier == pytest.approx(0.25**2 / 2)
    assert metrics.ece == pytest.approx(0.25 / 2)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert metrics.log_loss == pytest.approx((-(math.log(0.25) + math.log(0.75)) / 2 + entropy) / 2)


def test_a_soft_truth_counts_as_good_above_the_bound_alone() -> None:
    scores, truths = [0.2, 0.6, 0.9], [0.0, 0.25, 1.0]
    metrics = step_metrics(scores, truths)
    assert (metrics.good_share, metrics.accuracy, metrics.auroc) == (pytest.approx(2 / 3), 1, 1)
    stricter = step_metrics(scores, truths, good_above=0.25)
    assert (stricter.good_share, stricter.accuracy) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert stricter.balanced_accuracy == 0.75
    assert (stricter.brier, stricter.ece, stricter.log_loss) == (metrics.brier, metrics.ece, metrics.log_loss)


@given(st.lists(st.tuples(SCORE, st.integers(0, 8)), min_size=1, max_size=30))
def test_log_loss_of_a_share_is_that_of_its_rollouts_each_counted_alone(rows: list[tuple[float, int]]) -> None:
    scores, correct = columns(rows)
    rollouts = [(score, index < n) for score, n in rows for index in range(8)]
    soft, hard = step_metrics(scores, [n / 8 for n in correct]), step_metrics(*columns(rollouts))
    assert soft.log_loss == pytest.approx(hard.log_loss)
    assert soft.ece == pytest.approx(hard.ece, abs=1e-12)


# Weights, order, and kinds of columns


@given(WEIGHTED_ROWS, st.integers(1, 20))
def test_a_weight_counts_a_step_as_often(rows: list[tuple[float, float, int]], bins: int) -> None:
    scores, truths, weights = columns(rows)
    repeated = [(score, truth) for score, truth, weight in rows for _ in range(weight)]
    weighted = step_metrics(scores, truths, weights=weights, bins=bins)
    plain = step_metrics(*columns(repeated), bins=bins) if repeated else StepMetrics()
    assert figures(weighted) == pytest.approx(figures(plain), abs=1e-12)
    assert [(item.low, item.high) for item in weighted.bins] == [(item.low, item.high) for item in plain.bins]
    assert [item.share for item in weighted.bins] == pytest.approx([item.share for item in plain.bins])
    assert weighted.steps == sum(weight > 0 for weight in weights)
    assert sum(item.steps for item in weighted.bins) == weighted.steps


@given(WEIGHTED_ROWS, st.sampled_from([0.125, 3.0, 1e-90, 1e90]))
def test_the_unit_of_the_weights_does_not_matter(rows: list[tuple[float, float, int]], unit: float) -> None:
    scores, truths, weights = columns(rows)
    scaled = step_metrics(scores, truths, weights=[weight * unit for weight in weights])
    assert figures(scaled) == pytest.approx(figures(step_metrics(scores, truths, weights=weights)), abs=1e-12)


@given(SOFT_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_steps_does_not_matter(rows: list[tuple[float, float]], chance: random.Random) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    metrics, other = step_metrics(*columns(rows)), step_metrics(*columns(shuffled))
    assert figures(metrics) == pytest.approx(figures(other), abs=1e-12)
    assert [(item.low, item.steps) for item in metrics.bins] == [(item.low, item.steps) for item in other.bins]


@given(ROWS)
def test_lists_and_arrays_bools_and_numbers_give_the_same(rows: list[tuple[float, bool]]) -> None:
    scores, truths = columns(rows)
    metrics = step_metrics(scores, truths)
    for kind in (bool, int, np.float32, np.int8):
        assert step_metrics(np.array(scores), np.array(truths, dtype=kind)) == metrics
    assert step_metrics(scores, [float(truth) for truth in truths], weights=np.ones(len(rows))) == metrics


def test_the_dictionary_is_json_with_the_bins_last() -> None:
    metrics = step_metrics(np.array([0.25, 0.75], dtype=np.float32), np.array([False, True]), bins=2)
    again = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert again == metrics.as_dict()
    assert list(again)[-1] == "bins"
    assert again["bins"][1] == {
        "low": 0.75, "high": 0.75, "steps": 1, "share": 0.5, "mean_score": 0.75, "mean_truth": 1.0,
    }  # fmt: skip
    assert set(StepMetrics.__slots__) == set(again)


# Errors


@pytest.mark.parametrize(
    ("scores", "truths", "settings", "message"),
    [
        ([0.5], [1, 0], {}, "1 scores, 2 truths and 1 weights"),
        ([0.5], [1], {"weights": [1, 1]}, "1 scores, 1 truths and 2 weights"),
        ([0.5, math.nan], [1, 0], {}, r"scores\[1\] is nan"),
        ([1.5], [1], {}, r"scores\[0\] is 1.5, not from 0 to 1"),
        ([-0.1], [1], {}, r"scores\[0\] is -0.1"),
        ([math.inf], [1], {}, r"scores\[0\] is inf"),
        ([0.5], [-1], {}, r"truths\[0\] is -1.0, not from 0 to 1"),
        ([0.5], [None], {}, r"truths\[0\] is nan"),
        ([0.5], [1], {"weights": [-1]}, r"weights\[0\] is -1.0"),
        ([0.5], [1], {"weights": [math.inf]}, r"weights\[0\] is inf"),
        ([[0.5]], [1], {}, r"scores have the shape \(1, 1\)"),
        ([0.5], [1], {"threshold": math.nan}, "threshold is nan"),
        ([0.5], [1], {"threshold": 1.1}, "threshold is 1.1"),
        ([0.5], [1], {"good_above": 1.0}, "good_above is 1.0"),
        ([0.5], [1], {"bins": 0}, "bins is 0"),
    ],
)
def test_columns_and_settings_without_sense_are_refused(
    scores: Any, truths: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        step_metrics(scores, truths, **settings)
