"""Chooses one answer from the candidates of a question.

A reducer turns the step scores of a candidate into one path value. A rule chooses by votes, by the largest value, or by
votes weighted by their values. The names in OpenR (arXiv 2410.09671) and here:

    majority_vote   majority
    prm_min_max     min-max          prm_min_vote    min-vote
    prm_last_max    last-max         prm_last_vote   last-vote

Deviations from OpenR:
1. Votes count per group of equal answers (1/2 and 0.5 are one), not per string.
2. A candidate without an answer neither votes nor wins; OpenR uses its text as the answer.
3. A candidate without scores is an error; OpenR scores it -1.
4. Ties do not go to the first candidate: see `choose`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Reducer = Literal["last", "min", "product", "mean"]

SAME_TOTAL: Final = 1e-9
"""Totals of votes that differ by less than this share of the largest are equal, so that the order of addition does not
matter."""


def _last(scores: Sequence[float]) -> float:
    return scores[-1]


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


REDUCERS: Final[Mapping[Reducer, Callable[[Sequence[float]], float]]] = MappingProxyType(
    {"last": _last, "min": min, "product": math.prod, "mean": _mean}
)
"""Functions from the step scores of a path (at least one) to its value; `reduce_scores` checks the scores first."""


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One finished solution of a question, as the chooser sees it: without the truth.

    `group` is its cluster of equal answers, None if no answer was extracted. `scores` are those of a reward model, one
    per step; empty without a reward model.
    """

    group: int | None
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to choose one candidate.

    With `votes`, the group with the largest sum of path values wins, else the candidate with the largest path value.
    Without a reducer every path is worth 1.
    """

    name: str
    reducer: Reducer | None
    votes: bool


def _rules() -> dict[str, Rule]:
    rules = {"majority": Rule("majority", None, votes=True)}
    for reducer in REDUCERS:
        for kind in ("max", "vote"):
            rules[f"{reducer}-{kind}"] = Rule(f"{reducer}-{kind}", reducer, votes=kind == "vote")
    return rules


RULES: Final[Mapping[str, Rule]] = MappingProxyType(_rules())
"""All rules by name: majority, and "-max" and "-vote" for every reducer."""


def reduce_scores(scores: Sequence[float], reducer: Reducer) -> float:
    """Return the value of a path from its step scores. Raises `ValueError` without scores or for a non-finite score."""
    if not scores:
        raise ValueError(f'no step scores, expected at least one for "{reducer}"')
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"step scores must be finite: {list(scores)}")
    return REDUCERS[reducer](scores)


def path_values(candidates: Sequence[ScoredAnswer], rule: Rule) -> list[float | None]:
    """Return the weight of every candidate under the rule; None for candidates without an answer, scores ignored.

    Raises `ValueError` if the rule needs scores and a candidate with an answer has none.
    """
    values: list[float | None] = []
    for index, candidate in enumerate(candidates):
        if candidate.group is None:
            values.append(None)
        elif rule.reducer is None:
            values.append(1.0)
        else:
            try:
                values.append(reduce_scores(candidate.scores, rule.reducer))
            except ValueError as error:
                raise ValueError(f"candidate {index}: {error}") from error
    return values


def choose(candidates: Sequence[ScoredAnswer], rule: Rule) -> int | None:
    """Return the index of the chosen candidate, None if no candidate has an answer.

    From a group that won by votes, this is the candidate with the largest path value. Ties between candidates or groups
    go to the higher path value, then to the group with more votes, then to the smaller index. Expected curves share
    ties instead: see `curves.py`.

    Raises `ValueError` if the rule needs scores and a candidate with an answer has none.
    """
    values = path_values(candidates, rule)
    votes = Counter(candidate.group for candidate in candidates if candidate.group is not None)
    weighed = [
        (value, candidate.group, index)
        for index, (value, candidate) in enumerate(zip(values, candidates, strict=True))
        if value is not None and candidate.group is not None
    ]
    if not weighed:
        return None
    if rule.votes:
        members: defaultdict[int, list[float]] = defaultdict(list)
        for value, group, _ in weighed:
            members[group].append(value)
        totals = {group: sum(weights) for group, weights in members.items()}
        most = max(totals.values())
        least = most - SAME_TOTAL * abs(most)
        weighed = [entry for entry in weighed if totals[entry[1]] >= least]
    return max(weighed, key=lambda entry: (entry[0], votes[entry[1]], -entry[2]))[2]
