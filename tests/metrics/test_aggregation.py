"""Checks the choice of one answer: every rule on small cases, ties, and changes that must not matter."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.metrics.aggregation import (
    REDUCERS,
    RULES,
    Reducer,
    Rule,
    ScoredAnswer,
    choose,
    path_values,
    reduce_scores,
)

GROUPS = st.none() | st.integers(0, 3)
SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0]), min_size=1, max_size=3).map(tuple)
CANDIDATES = st.lists(st.builds(ScoredAnswer, GROUPS, SCORES), max_size=8)
RULE = st.sampled_from(sorted(RULES)).map(RULES.__getitem__)


def of(*pairs: tuple[int | None, float]) -> list[ScoredAnswer]:
    """Make candidates with one step each."""
    return [ScoredAnswer(group, (score,)) for group, score in pairs]


@pytest.mark.parametrize(("reducer", "value"), [("last", 0.5), ("min", 0.25), ("product", 0.125), ("mean", 7 / 12)])
def test_a_reducer_makes_one_value_of_the_step_scores(reducer: Reducer, value: float) -> None:
    assert reduce_scores((1.0, 0.25, 0.5), reducer) == value


def test_of_one_step_every_reducer_returns_its_score() -> None:
    assert {reduce_scores((0.3,), reducer) for reducer in REDUCERS} == {0.3}


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize(
    ("scores", "message"), [((), "no step scores"), ((0.5, math.nan), "finite"), ((math.inf,), "finite")]
)
def test_missing_or_broken_scores_are_an_error_and_never_a_number(
    reducer: Reducer, scores: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reduce_scores(scores, reducer)


def test_there_are_nine_rules_and_each_knows_its_name() -> None:
    assert sorted(RULES) == sorted(
        "majority last-max last-vote min-max min-vote product-max product-vote mean-max mean-vote".split()
    )
    assert all(rule.name == name for name, rule in RULES.items())


def test_the_majority_counts_votes_and_needs_no_scores() -> None:
    assert choose([ScoredAnswer(0), ScoredAnswer(1), ScoredAnswer(1)], RULES["majority"]) == 1


def test_max_takes_the_best_path_and_vote_the_heaviest_answer() -> None:
    candidates = of((0, 0.9), (1, 0.5), (1, 0.6), (2, 0.1), (2, 0.1), (2, 0.1))
    assert choose(candidates, RULES["last-max"]) == 0
    assert choose(candidates, RULES["last-vote"]) == 2
    assert choose(candidates, RULES["majority"]) == 3


def test_every_reducer_can_choose_another_path() -> None:
    candidates = [
        ScoredAnswer(0, (0.1, 0.99)),
        ScoredAnswer(1, (0.55, 0.55, 0.55, 0.55)),
        ScoredAnswer(2, (0.5, 0.9)),
        ScoredAnswer(3, (1.0, 1.0, 1.0, 0.45)),
    ]
    chosen = {name: choose(candidates, RULES[f"{name}-max"]) for name in ("last", "min", "mean")}
    assert chosen == {"last": 0, "min": 1, "mean": 3}
    assert choose(candidates[:3], RULES["product-max"]) == 2


def test_a_candidate_without_an_answer_neither_votes_nor_wins() -> None:
    candidates = of((None, 1.0), (None, 1.0), (7, 0.0))
    assert [choose(candidates, rule) for rule in RULES.values()] == [2] * len(RULES)


def test_nobody_is_chosen_where_nobody_has_an_answer() -> None:
    assert {choose(items, rule) for items in ([], of((None, 1.0))) for rule in RULES.values()} == {None}


def test_the_scores_of_a_candidate_without_an_answer_are_not_read() -> None:
    candidates = [ScoredAnswer(None), ScoredAnswer(0, (0.5,))]
    assert path_values(candidates, RULES["min-max"]) == [None, 0.5]


def test_an_answer_without_scores_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match='candidate 1: no step scores, expected at least one for "min"'):
        choose([ScoredAnswer(0, (0.5,)), ScoredAnswer(0)], RULES["min-vote"])


def test_equal_best_paths_go_to_the_answer_with_more_votes_then_to_the_first() -> None:
    assert choose(of((0, 0.5), (1, 0.5), (1, 0.1)), RULES["last-max"]) == 1
    assert choose(of((1, 0.1), (0, 0.5), (1, 0.5), (0, 0.2)), RULES["last-max"]) == 1


def test_equal_votes_go_to_the_better_path_then_to_more_votes_then_to_the_first() -> None:
    assert choose(of((0, 0.25), (0, 0.25), (1, 0.5)), RULES["last-vote"]) == 2
    assert choose(of((0, 0.5), (1, 0.5), (1, 0.0)), RULES["last-vote"]) == 1
    assert choose(of((3, 0.5), (1, 0.5)), RULES["last-vote"]) == 0
    assert choose(of((3, 0.0), (1, 0.5)), RULES["majority"]) == 0


def test_totals_that_only_rounding_sets_apart_are_a_tie() -> None:
    assert 0.1 + 0.2 > 0.3
    assert choose(of((0, 0.1), (0, 0.2), (1, 0.3)), RULES["last-vote"]) == 2


def test_negative_values_can_be_voted_on() -> None:
    assert choose(of((0, -1.0), (0, -1.0), (1, -1.5)), RULES["last-vote"]) == 2
    assert choose(of((0, -1.0), (1, -2.0)), RULES["last-max"]) == 0


@given(CANDIDATES, RULE)
def test_the_chosen_has_an_answer_that_no_other_beats(candidates: list[ScoredAnswer], rule: Rule) -> None:
    chosen = choose(candidates, rule)
    worth: dict[int, list[float]] = {}
    for value, item in zip(path_values(candidates, rule), candidates, strict=True):
        if item.group is not None and value is not None:
            worth.setdefault(item.group, []).append(value)
    if chosen is None:
        assert not worth
        return
    group = candidates[chosen].group
    assert group is not None
    measure = sum if rule.votes else max
    assert measure(worth[group]) >= max(map(measure, worth.values())) - 1e-6
    assert path_values(candidates, rule)[chosen] == max(worth[group])


@given(CANDIDATES, RULE, st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_only_between_equals(
    candidates: list[ScoredAnswer], rule: Rule, random: Random
) -> None:
    order = random.sample(range(len(candidates)), len(candidates))
    chosen, again = choose(candidates, rule), choose([candidates[index] for index in order], rule)
    if chosen is None or again is None:
        assert chosen is again
        return
    values = path_values(candidates, rule)
    votes = Counter(item.group for item in candidates)
    first, second = chosen, order[again]
    assert (values[first], votes[candidates[first].group]) == (values[second], votes[candidates[second].group])
