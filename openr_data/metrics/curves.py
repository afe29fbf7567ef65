"""Estimates the expected accuracy with k candidates, for every k up to N, from one run with N.

Sources: pass@k, arXiv 2107.03374, section 2.1. Best of k has a closed form by the same counting of subsets: see
`best_curve`.

A curve is the mean, over all subsets of k of the N candidates (drawn without replacement), of the accuracy of the
choice from the subset. Ties are shared evenly, because a curve must not depend on the order of the candidates.
Candidates without an answer are in the subsets but never win; a subset without any answer counts 0.

All curves are exact except weighted votes, which have no closed form. For those, subsets are sampled, or enumerated if
they are no more than the samples (always for k = N; k = 1 has a closed form).

Curves are float arrays [K], aligned with `ks`; `ks` None means 1 to N. All functions raise `ValueError` without
candidates, for lists of different lengths, for a k outside 1 to N, and for a value that is missing or not finite.
Shapes below: N candidates, G groups, D subsets.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .aggregation import SAME_TOTAL, Rule, ScoredAnswer, path_values

Curve = NDArray[np.float64]

MOST_CANDIDATES: Final = 1000
"""The limit of an exact majority: with more candidates, the number of subsets exceeds the range of floats."""


def oracle_curve(correct: Sequence[bool], ks: Sequence[int] | None = None) -> Curve:
    """Return the probability that at least one of k is correct: 1 - C(n - c, k) / C(n, k) (pass@k)."""
    n = len(correct)
    return _shares(1 - _within(n, n - sum(correct))[_sizes(n, ks)])


def random_curve(correct: Sequence[bool], ks: Sequence[int] | None = None) -> Curve:
    """Return the accuracy of a random candidate, the same for every k; it may be one without an answer."""
    sizes = _sizes(len(correct), ks)
    return np.full(len(sizes), sum(correct) / len(correct))


def best_curve(values: Sequence[float | None], correct: Sequence[bool], ks: Sequence[int] | None = None) -> Curve:
    """Return the accuracy of the candidate with the largest value among k; None is a candidate without an answer.

    Equal values share evenly. Without ties this is the sum over ranks r (0 is best) of
    correct(r) C(n - 1 - r, k - 1) / C(n, k).
    """
    sizes = _sizes(len(values), ks)
    blocks: defaultdict[float, list[bool]] = defaultdict(list)
    for value, right in zip(values, correct, strict=True):
        if value is not None:
            blocks[_finite(value)].append(right)
    n = worse = len(values)
    before, curve = _within(n, n), np.zeros(n + 1)
    for value in sorted(blocks, reverse=True):
        block = blocks[value]
        worse -= len(block)
        after = _within(n, worse)
        # Weight of the subsets whose best lies in this block: no member is better, and not all are worse.
        curve += sum(block) / len(block) * (before - after)
        before = after
    return _shares(curve[sizes])


def majority_curve(groups: Sequence[int | None], correct: Sequence[bool], ks: Sequence[int] | None = None) -> Curve:
    """Return the exact accuracy of the largest group among k; None is a candidate without an answer.

    Groups of equal size share evenly. A group is as correct as the share of its members that are.

    Subsets are counted by their largest number of votes, which is the coefficient of x^k in a product over groups of
    polynomials in x. All terms are positive, so floats do not cancel. Takes about N^3 log N operations; raises
    `ValueError` for more than `MOST_CANDIDATES`.
    """
    n = len(groups)
    sizes = _sizes(n, ks)
    if n > MOST_CANDIDATES:
        raise ValueError(f"{n} candidates, an exact majority takes at most {MOST_CANDIDATES}")
    blocs = [(len(members), sum(members) / len(members)) for members in _members(groups, correct).values()]
    largest = int(sizes.max())
    won = np.zeros(largest + 1)
    for votes in range(1, min(largest, max((size for size, _ in blocs), default=0)) + 1):
        won += _won_with(votes, blocs, n, largest)
    return _shares(won[sizes] / _binomials(n)[sizes])


def vote_curve(
    groups: Sequence[int | None],
    weights: Sequence[float | None],
    correct: Sequence[bool],
    ks: Sequence[int] | None = None,
    *,
    rng: np.random.Generator,
    draws: int = 200,
) -> Curve:
    """Return the accuracy of the group with the largest sum of weights among k; None is a candidate without an answer.

    Equal sums share evenly (equal up to `SAME_TOTAL`). The accuracy of a group is the share of its members that are
    correct. The weights of candidates without an answer are ignored.

    Equal positive weights give a majority, which is exact. Otherwise, for a k with more than `draws` subsets, the value
    is the mean over `draws` random ones, with a standard error of at most 0.5 / sqrt(draws) per question. The subsets
    of one draw are nested, so the curve is smooth in k, and errors at different k are not independent.
    """
    n = len(groups)
    sizes = _sizes(n, ks)
    if draws < 1:
        raise ValueError(f"{draws} draws, expected at least 1")
    pairs = list(zip(groups, weights, correct, strict=True))
    mass = np.array([0.0 if group is None else _finite(weight) for group, weight, _ in pairs])
    of_answers = {float(mass[index]) for index, group in enumerate(groups) if group is not None}
    if not of_answers:
        return np.zeros(len(sizes))
    if len(of_answers) == 1 and min(of_answers) > 0:
        return majority_curve(groups, correct, ks)

    members = _members(groups, correct)
    right = np.array([sum(verdicts) / len(verdicts) for verdicts in members.values()])
    member = np.array([[group == name for name in members] for group in groups], dtype=np.float64)
    rank: NDArray[np.intp] | None = None
    curve = np.zeros(len(sizes))
    for index, k in enumerate(sizes.tolist()):
        if k == 1:
            curve[index] = (member @ right).mean()
            continue
        if math.comb(n, k) <= draws:
            drawn = _all_subsets(n, k)
        else:
            if rank is None:
                rank = rng.random((draws, n)).argsort(axis=1)
            drawn = rank < k
        curve[index] = _vote_accuracy(drawn.astype(np.float64), member, mass, right)
    return _shares(curve)


def rule_curve(
    candidates: Sequence[ScoredAnswer],
    correct: Sequence[bool],
    rule: Rule,
    ks: Sequence[int] | None = None,
    *,
    rng: np.random.Generator,
    draws: int = 200,
) -> Curve:
    """Return the curve of any rule; only votes with unequal weights use `rng`.

    Raises `ValueError` also if the rule needs scores and a candidate with an answer has none.
    """
    values = path_values(candidates, rule)
    if not rule.votes:
        return best_curve(values, correct, ks)
    return vote_curve([candidate.group for candidate in candidates], values, correct, ks, rng=rng, draws=draws)


def mean_curve(per_question: Sequence[Curve] | NDArray[np.float64]) -> Curve:
    """Return the mean over questions of curves at the same ks: from [questions, K] to [K].

    Raises `ValueError` without questions or for curves of different lengths.
    """
    if not len(per_question):
        raise ValueError("no questions to take the mean of")
    lengths = {len(curve) for curve in per_question}
    if len(lengths) > 1:
        raise ValueError(f"curves of different lengths: {sorted(lengths)}")
    mean: Curve = np.asarray(per_question, dtype=np.float64).mean(axis=0)
    return mean


def _sizes(n: int, ks: Sequence[int] | None) -> NDArray[np.intp]:
    """Return the requested sizes of subsets after checking them."""
    if not n:
        raise ValueError("no candidates")
    sizes = list(range(1, n + 1)) if ks is None else list(ks)
    wrong = [k for k in sizes if not 1 <= k <= n]
    if wrong or not sizes:
        raise ValueError(f"ks must be some of 1 to {n}, the number of candidates, not {wrong}")
    return np.array(sizes, dtype=np.intp)


def _finite(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        raise ValueError(f"the value of a candidate with an answer must be a finite number, not {value}")
    return float(value)


def _shares(curve: Curve) -> Curve:
    """Clip a curve, because rounding must not put an accuracy outside 0 to 1."""
    return np.clip(curve, 0.0, 1.0)


def _members(groups: Sequence[int | None], correct: Sequence[bool]) -> dict[int, list[bool]]:
    """Return the verdicts of each group."""
    verdicts: defaultdict[int, list[bool]] = defaultdict(list)
    for group, right in zip(groups, correct, strict=True):
        if group is not None:
            verdicts[group].append(right)
    return verdicts


def _within(n: int, m: int) -> NDArray[np.float64]:
    """Return C(m, k) / C(n, k) for k from 0 to n: the probability that k of n all lie within m given ones."""
    drawn = np.arange(n, dtype=np.float64)
    chance = np.ones(n + 1)
    np.cumprod(np.maximum(m - drawn, 0) / (n - drawn), out=chance[1:])
    return chance


@lru_cache(maxsize=2 * MOST_CANDIDATES)
def _binomials(n: int) -> NDArray[np.float64]:
    """Return C(n, i) for i from 0 to n, each as the nearest float."""
    row = np.array([float(math.comb(n, i)) for i in range(n + 1)])
    row.flags.writeable = False
    return row


def _times(rows: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply every row, a polynomial along the last axis, by one polynomial, and truncate to the row's length."""
    length, beyond = rows.shape[-1], len(factor) - 1
    if not beyond:
        return rows * float(factor[0])
    # Zeros between the rows absorb the overflow, so one long convolution equals that of each row.
    padded = np.concatenate((rows, np.zeros((*rows.shape[:-1], beyond))), axis=-1)
    product: NDArray[np.float64] = np.convolve(padded.ravel(), factor)[: padded.size].reshape(padded.shape)
    return product[..., :length]


def _won_with(votes: int, blocs: Sequence[tuple[int, float]], n: int, largest: int) -> NDArray[np.float64]:
    """Sum the accuracies of all subsets whose leading groups have this many votes, by subset size 0 to `largest`.

    `blocs` are the size and the correct share of each group. The state holds two polynomials in x (the size of the
    subset) per number of leaders so far: the number of subsets, and the sum over them of the shares of the leaders.
    Groups too small to lead can have any number of votes, and so can candidates without an answer.
    """
    able = [bloc for bloc in blocs if bloc[0] >= votes]
    free = _binomials(n - sum(size for size, _ in able))[: largest + 1]
    most_leaders = min(len(able), largest // votes)
    state = np.zeros((2, 1, largest + 1))
    state[0, 0, : len(free)] = free
    for size, share in able:
        ways = _binomials(size)
        follows = _times(state, ways[:votes])
        leads = float(ways[votes]) * state[..., : largest + 1 - votes]
        leads[1] += share * leads[0]
        state = np.zeros((2, min(state.shape[1], most_leaders) + 1, largest + 1))
        state[:, : follows.shape[1]] = follows
        state[:, 1:, votes:] += leads[:, : state.shape[1] - 1]
    leaders = np.arange(1, state.shape[1])
    won: NDArray[np.float64] = (state[1, 1:] / leaders[:, None]).sum(axis=0)
    return won


def _all_subsets(n: int, k: int) -> NDArray[np.bool_]:
    """List every subset of k of n, as [subsets, n]."""
    chosen = np.array(list(combinations(range(n), k)), dtype=np.intp)
    drawn = np.zeros((len(chosen), n), dtype=np.bool_)
    np.put_along_axis(drawn, chosen, True, axis=1)
    return drawn


def _vote_accuracy(
    drawn: NDArray[np.float64],
    member: NDArray[np.float64],
    mass: NDArray[np.float64],
    right: NDArray[np.float64],
) -> float:
    """Return the mean over subsets of the accuracy of the group with the largest sum of weights.

    Takes the members of each subset [D, N], the group of each candidate [N, G], weights [N] and correct shares [G].
    """
    present = drawn @ member > 0
    totals = np.where(present, drawn @ (member * mass[:, None]), -np.inf)
    most = np.where(present.any(axis=1), totals.max(axis=1), 0.0)
    leads = totals >= (most - SAME_TOTAL * np.abs(most))[:, None]
    return float((leads @ right / np.maximum(leads.sum(axis=1), 1)).mean())
