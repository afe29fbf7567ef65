"""Computes the accuracy of every way to choose among the candidates of a search, with intervals.

The figures are a function of stored candidates and their scores: no policy is called. A candidate whose verdict is
unknown (cut off, no answer, undecided by the grader) counts as wrong and is counted.

Independent candidates give a curve from the one run: the accuracy for every number k up to N, by exact subsets. A
guided search selects its candidates together, so a subset of them is not what a smaller search would return; its
figures are those of all its candidates alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics.aggregation import RULES, ScoredAnswer
from ..metrics.curves import mean_curve, oracle_curve, random_curve, rule_curve
from ..metrics.intervals import Estimate, bootstrap_mean, paired_difference
from .search_candidates import SearchedQuestion

ORACLE: Final = "oracle"
RANDOM: Final = "random"
MAJORITY: Final = "majority"
EVERY_K: Final = 64
"""A curve has a point for every k up to that many candidates, and for powers of two with more."""

CandidateScores = Mapping[tuple[str, tuple[str, ...]], tuple[float, ...]]
"""Step scores by question id and steps; a candidate that could not be scored is missing."""


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """Accuracy by rule: `curves[rule]` is parallel to `ks`; `at_n` and the differences to the majority are at all N.

    `tokens` is the mean of the completion tokens of a candidate, so k candidates cost `k * tokens` a question; those
    of a guided search include the tokens of the paths that it dropped, and `ks` is the largest number of candidates
    of a question alone.
    """

    questions: int
    n: int
    ks: tuple[int, ...]
    tokens: float
    curves: Mapping[str, tuple[float, ...]]
    at_n: Mapping[str, Estimate]
    over_majority: Mapping[str, Estimate]
    unknown: float
    without_answer: float
    unscored: int
    groups: float

    @property
    def best(self) -> str:
        """The rule of a reward model with the best accuracy at N, or the majority without a reward model."""
        rules = [name for name in self.at_n if name not in (ORACLE, RANDOM)]
        return max(rules, key=lambda name: self.at_n[name].mean)

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "questions": self.questions,
            "candidates": self.n,
            "mean_tokens": self.tokens,
            "unknown": self.unknown,
            "without_answer": self.without_answer,
            "unscored": self.unscored,
            "distinct_answers": self.groups,
            "selection_gap": self.at_n[ORACLE].mean - self.at_n[self.best].mean,
            "rules": [
                {
                    "rule": name,
                    **self.at_n[name].as_dict("accuracy"),
                    **(self.over_majority[name].as_dict("over_majority") if name in self.over_majority else {}),
                }
                for name in self.at_n
            ],
            "k": list(self.ks),
            "tokens_at_k": [k * self.tokens for k in self.ks],
            "curves": {name: list(curve) for name, curve in self.curves.items()},
        }


def evaluate(
    asked: Sequence[SearchedQuestion], scores: CandidateScores | None, *, independent: bool = True, seed: int = 0
) -> SearchFigures:
    """The figures of a search; with `scores` those of a reward model's rules too.

    Independent candidates are as many for each question: fewer (a job that was stopped) raise `InputError`.
    """
    sizes = {len(item.candidates) for item in asked}
    if independent and len(sizes) != 1:
        raise InputError(
            f"The questions have between {min(sizes)} and {max(sizes)} candidates: the search is not over. Go on with "
            "the same command."
        )
    n = max(sizes)
    ks = _points(n) if independent else (n,)
    rules = [MAJORITY] if scores is None else list(RULES)
    per_rule: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (*rules, ORACLE, RANDOM)}
    rng = np.random.default_rng(seed)
    unscored = 0
    for item in asked:
        own = ks if independent else (len(item.candidates),)
        correct = [candidate.is_correct for candidate in item.candidates]
        scored_answers: list[ScoredAnswer] = []
        for candidate, group in zip(item.candidates, item.group, strict=True):
            given = scores.get((item.question_id, candidate.steps)) if scores is not None else None
            if scores is not None and group is not None and given is None:
                # A candidate without a score cannot be chosen: it neither votes nor wins, and is counted.
                unscored, group = unscored + 1, None
            scored_answers.append(ScoredAnswer(group, given or ()))
        plain_answers = [ScoredAnswer(group) for group in item.group]
        for name in rules:
            voters = plain_answers if name == MAJORITY else scored_answers
            per_rule[name].append(rule_curve(voters, correct, RULES[name], own, rng=rng))
        per_rule[ORACLE].append(oracle_curve(correct, own))
        per_rule[RANDOM].append(random_curve(correct, own))
    last = {name: [float(curve[-1]) for curve in curves] for name, curves in per_rule.items()}
    every = [candidate for item in asked for candidate in item.candidates]
    return SearchFigures(
        questions=len(asked),
        n=n,
        ks=ks,
        tokens=math.fsum(candidate.n_tokens for candidate in every) / len(every),
        curves={name: tuple(map(float, mean_curve(curves))) for name, curves in per_rule.items()},
        at_n={name: bootstrap_mean(values, rng) for name, values in last.items()},
        over_majority={
            name: paired_difference(values, last[MAJORITY], rng)
            for name, values in last.items()
            if name not in (MAJORITY, ORACLE, RANDOM)
        },
        unknown=sum(candidate.is_unknown for candidate in every) / len(every),
        without_answer=sum(candidate.answer is None for candidate in every) / len(every),
        unscored=unscored,
        groups=sum(len({g for g in item.group if g is not None}) for item in asked) / len(asked),
    )


def _points(n: int) -> tuple[int, ...]:
    return tuple(range(1, n + 1)) if n <= EVERY_K else (*(2**i for i in range(n.bit_length()) if 2**i < n), n)
