"""Checks ProcessBench's protocol against hand-worked cases, and its sweep over thresholds against brute force."""

import json
import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.metrics.first_error import (
    FirstErrorMetrics,
    Scored,
    best_threshold,
    first_error_curve,
    first_error_metrics,
    last_is_lowest,
)

# Few distinct scores, so that solutions share them and repeat them; and any others, not probabilities alone.
SCORE = st.one_of(st.integers(-1, 5).map(lambda number: number / 4), st.floats(0, 1), st.floats(-1e6, 1e6))


@st.composite
def solutions(draw: st.DrawFn, score: st.SearchStrategy[float] = SCORE) -> Scored:
    scores = draw(st.lists(score, max_size=6))
    return Scored(tuple(scores), draw(st.sampled_from([None, *range(len(scores))])))


ITEMS = st.lists(solutions(), max_size=12)
BOTH_KINDS = ITEMS.filter(lambda items: len({item.first_error is None for item in items}) == 2)


def every_threshold(items: Sequence[Scored]) -> list[float]:
    """Return one threshold of each kind: at every score, just above it, and below all."""
    scores = {score for item in items for score in item.scores}
    return sorted({-math.inf, 0.5, *scores, *(math.nextafter(score, math.inf) for score in scores)})


def hits(metrics: FirstErrorMetrics) -> tuple[int, int]:
    return metrics.erroneous_hit, metrics.correct_hit


def f1_of(metrics: FirstErrorMetrics) -> float:
    assert metrics.f1 is not None
    return metrics.f1


# One threshold


@pytest.mark.parametrize(
    ("scores", "threshold", "predicted"),
    [
        ((0.9, 0.4, 0.2), 0.5, 1),
        ((0.9, 0.4, 0.2), 0.3, 2),
        ((0.9, 0.4, 0.2), 0.2, None),
        ((0.9, 0.4, 0.2), 0.95, 0),
        ((0.5,), 0.5, None),
        ((), 0.5, None),
    ],
)
def test_the_first_step_below_the_threshold_is_predicted(
    scores: tuple[float, ...], threshold: float, predicted: int | None
) -> None:
    assert Scored(scores).predicted(threshold) == predicted


def test_the_figures_of_six_solutions_are_those_worked_out_by_hand() -> None:
    items = [
        Scored((0.9, 0.1, 0.8), 1),
        Scored((0.9, 0.1, 0.0), 2),  # A step too early.
        Scored((0.9, 0.8), 1),  # Missed.
        Scored((0.2, 0.1), 0),
        Scored((0.9, 0.5)),
        Scored((0.9, 0.4)),  # A false alarm.
    ]
    metrics = first_error_metrics(items)
    assert metrics == FirstErrorMetrics(erroneous=4, erroneous_hit=2, correct=2, correct_hit=1, threshold=0.5)
    assert (metrics.accuracy_erroneous, metrics.accuracy_correct, metrics.f1, metrics.exact) == (0.5, 0.5, 0.5, 0.5)
    # At 0.4 the last two are right: accuracies of 0.5 and 1.
    assert first_error_metrics(items, 0.4).f1 == pytest.approx(2 / 3)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 300), st.integers(0, 300))
def test_f1_is_the_harmonic_mean_of_both_accuracies(erroneous: int, missed: int, correct: int, alarms: int) -> None:
    metrics = FirstErrorMetrics(erroneous, max(erroneous - missed, 0), correct, max(correct - alarms, 0))
    bad, good = metrics.accuracy_erroneous, metrics.accuracy_correct
    assert bad is not None
    assert good is not None
    assert metrics.f1 == (pytest.approx(2 / (1 / bad + 1 / good)) if bad and good else 0)


def test_rates_of_nothing_are_none_and_f1_of_no_hits_is_zero() -> None:
    nothing = first_error_metrics([])
    assert (nothing.f1, nothing.exact, nothing.accuracy_erroneous, nothing.accuracy_correct) == (None,) * 4
    assert first_error_metrics([Scored((0.1,), 0)]).f1 is None
    assert first_error_metrics([Scored((0.9,))]).f1 is None
    assert first_error_metrics([Scored((0.9,))]).exact == 1
    assert first_error_metrics([Scored((0.9,), 0), Scored((0.1,))]).f1 == 0


@given(ITEMS, SCORE)
def test_the_counts_at_a_threshold_are_those_of_the_definition(items: list[Scored], threshold: float) -> None:
    metrics = first_error_metrics(items, threshold)
    erroneous = [item for item in items if item.first_error is not None]
    hit = [
        item
        for item in erroneous
        if item.scores[item.first_error or 0] < threshold
        and all(score >= threshold for score in item.scores[: item.first_error])
    ]
    correct = [item for item in items if item.first_error is None]
    silent = [item for item in correct if not any(score < threshold for score in item.scores)]
    assert metrics == FirstErrorMetrics(len(erroneous), len(hit), len(correct), len(silent), threshold)


def test_the_dictionary_is_flat_json() -> None:
    metrics = first_error_metrics([Scored((0.9, 0.1), 1), Scored((0.9,)), Scored((0.2,))], 0.25)
    assert json.loads(json.dumps(metrics.as_dict())) == {
        "threshold": 0.25, "f1": pytest.approx(2 / 3), "accuracy_erroneous": 1.0, "accuracy_correct": 0.5,
        "exact": pytest.approx(2 / 3), "erroneous": 1, "erroneous_hit": 1, "correct": 2, "correct_hit": 1,
    }  # fmt: skip


# The curve


@given(ITEMS)
def test_the_curve_at_given_thresholds_is_that_of_each_alone_in_their_order(items: list[Scored]) -> None:
    thresholds = every_threshold(items)[::-1]
    assert first_error_curve(items, thresholds) == tuple(first_error_metrics(items, point) for point in thresholds)


@given(ITEMS)
@example([Scored((0.5, math.nextafter(0.5, 1)), 1), Scored((0.5,)), Scored((math.nextafter(0.5, 1),))])
@example([Scored((0.0,), 0), Scored((1.0,))])
@example([Scored((-1e300, 5e-324)), Scored((1e300,), 0)])
def test_the_whole_curve_shows_every_change_of_counts_and_each_as_it_is(items: list[Scored]) -> None:
    curve = first_error_curve(items, most=None)
    thresholds = [point.threshold for point in curve]
    assert thresholds == sorted(set(thresholds))
    for point in curve:
        assert point == first_error_metrics(items, point.threshold)
    # The counts met by a walk over all thresholds, repetitions dropped, are those of the curve one by one.
    walked = [hits(first_error_metrics(items, threshold)) for threshold in every_threshold(items)]
    changes = [now for before, now in zip([None, *walked], walked, strict=False) if before != now]
    assert [hits(point) for point in curve] == changes


@given(st.lists(solutions(st.floats(0, 1)), max_size=8))
def test_thresholds_lie_between_0_and_1_where_the_scores_do_but_for_one_that_a_score_of_1_is_below(
    items: list[Scored],
) -> None:
    *inner, last = [point.threshold for point in first_error_curve(items, most=None)]
    assert all(0 <= threshold <= 1 for threshold in inner)
    assert last <= 1 or any(1.0 in item.scores for item in items)


def test_the_curve_of_a_pair_has_the_midpoints_of_its_ranges() -> None:
    curve = first_error_curve([Scored((0.8, 0.2), 1), Scored((0.9, 0.4))])
    assert [point.threshold for point in curve] == pytest.approx([0.1, 0.3, 0.6, 0.9])
    assert [hits(point) for point in curve] == [(0, 1), (1, 1), (1, 0), (0, 0)]


def test_beyond_the_scores_a_curve_keeps_its_distance_whatever_their_range() -> None:
    for scores, ends in [((-2.0,), [-2.5, -0.5]), ((3.0,), [1.5, 3.5]), ((1.0,), [0.5, 1.5]), ((0.0,), [0.0, 0.5])]:
        assert [point.threshold for point in first_error_curve([Scored(scores)])] == ends


def test_a_curve_of_nothing_is_one_point() -> None:
    assert first_error_curve([]) == (FirstErrorMetrics(),)
    assert first_error_curve([Scored(())]) == (FirstErrorMetrics(correct=1, correct_hit=1),)
    assert first_error_curve([Scored((0.1, 0.9), 1)]) == (FirstErrorMetrics(erroneous=1),)


def many(count: int) -> list[Scored]:
    chance = random.Random(count)
    items = []
    for _ in range(count):
        scores = tuple(chance.random() for _ in range(chance.randint(1, 6)))
        items.append(Scored(scores, chance.choice([None, chance.randrange(len(scores))])))
    return items


@pytest.mark.parametrize("most", [3, 4, 50, 200])
def test_a_thinned_curve_keeps_its_ends_and_the_best(most: int) -> None:
    items = many(600)
    whole, thin = first_error_curve(items, most=None), first_error_curve(items, most=most)
    assert len(whole) > 400
    assert most - 1 <= len(thin) <= most
    assert set(thin) <= set(whole)
    assert (thin[0], thin[-1]) == (whole[0], whole[-1])
    best = max(whole, key=f1_of)
    assert max(thin, key=f1_of) == best
    assert best_threshold(items) == best.threshold
    assert [point.threshold for point in thin] == sorted(point.threshold for point in thin)


def test_a_curve_is_thinned_to_two_hundred_by_default_and_evenly() -> None:
    items = many(2000)
    whole, thin = first_error_curve(items, most=None), first_error_curve(items)
    assert 199 <= len(thin) <= 200 < len(whole)
    places = [whole.index(point) for point in thin]
    assert max(after - before for before, after in pairwise(places)) <= len(whole) / 198 + 1


def test_the_sweep_is_not_one_pass_for_each_threshold() -> None:
    # Sixty thousand thresholds over as many solutions: by one pass for each this would take hours.
    items = many(60_000)
    curve = first_error_curve(items, most=None)
    assert len(curve) > 50_000
    for point in random.Random(1).sample(curve, 3):
        assert point == first_error_metrics(items, point.threshold)


# The best threshold


@given(BOTH_KINDS)
def test_no_threshold_is_better_than_the_best(items: list[Scored]) -> None:
    best = f1_of(first_error_metrics(items, best_threshold(items)))
    assert best == max(f1_of(first_error_metrics(items, threshold)) for threshold in every_threshold(items))


@given(BOTH_KINDS)
def test_of_equally_good_ranges_the_one_nearest_to_a_half_is_taken(items: list[Scored]) -> None:
    curve, best = first_error_curve(items, most=None), best_threshold(items)
    top = max(map(f1_of, curve))
    assert abs(best - 0.5) == min(abs(point.threshold - 0.5) for point in curve if f1_of(point) == top)


def test_the_best_threshold_is_the_midpoint_of_its_range() -> None:
    items = [Scored((0.75, 0.25), 1), Scored((0.9, 0.5))]
    assert best_threshold(items) == 0.375
    assert first_error_metrics(items, 0.375).f1 == 1
    # Skywork's scores are no probabilities.
    assert best_threshold([Scored((3.0, -4.0), 1), Scored((3.0, -2.0))]) == -3


def test_a_tie_is_seen_though_the_counts_differ() -> None:
    # Accuracies of 1/3 and 1 at about 0.1 are those of 1 and 1/3 at about 0.6: the same F1, 1/2.
    low = [Scored((0.05,), 0), Scored((0.5,), 0), Scored((0.5,), 0)]
    items = [*low, Scored((0.2,)), Scored((0.2,)), Scored((0.9,))]
    assert [first_error_metrics(items, threshold).f1 for threshold in (0.1, 0.6)] == [0.5, 0.5]
    assert best_threshold(items) == pytest.approx(0.7)


@pytest.mark.parametrize("items", [[], [Scored((0.5,))], [Scored((0.5,), 0)]])
def test_without_both_kinds_there_is_no_best_threshold(items: list[Scored]) -> None:
    with pytest.raises(ValueError, match="F1 needs some of both"):
        best_threshold(items)


# The test for an ORM


def test_the_share_whose_last_step_is_lowest_counts_solutions_of_two_steps_or_more() -> None:
    items = [
        Scored((0.9, 0.8, 0.1)),
        Scored((0.9, 0.1, 0.8)),
        Scored((0.9, 0.8), 0),
        Scored((0.1, 0.9)),
        Scored((0.5,)),
    ]
    assert last_is_lowest(items) == 0.5
    assert last_is_lowest([]) is None
    assert last_is_lowest([Scored((0.5,)), Scored(())]) is None


def test_a_tie_for_the_lowest_is_no_sign_of_an_orm() -> None:
    assert last_is_lowest([Scored((0.7, 0.7)), Scored((0.9, 0.2, 0.2))]) == 0


@given(ITEMS)
def test_a_last_step_is_lowest_exactly_where_some_threshold_predicts_it_alone(items: list[Scored]) -> None:
    long = [item for item in items if len(item.scores) > 1]
    metrics = [
        any(item.predicted(threshold) == len(item.scores) - 1 for threshold in every_threshold([item])) for item in long
    ]
    assert last_is_lowest(items) == (sum(metrics) / len(long) if long else None)


# Errors


@pytest.mark.parametrize(
    ("scores", "first_error", "message"),
    [
        ((0.5, math.nan), None, "finite"),
        ((math.inf,), None, "finite"),
        ((0.5,), 1, "step 1, but 1 steps"),
        ((0.5,), -1, "step -1"),
        ((), 0, "0 steps have scores"),
    ],
)
def test_a_solution_without_sense_is_refused(scores: tuple[float, ...], first_error: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scored(scores, first_error)


def test_thresholds_and_curves_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        first_error_metrics([], math.nan)
    with pytest.raises(ValueError, match="NaN"):
        first_error_curve([], [0.5, math.nan])
    with pytest.raises(ValueError, match="most is 2"):
        first_error_curve([], most=2)
