"""What a search is worth: accuracy of every way to choose, for every number of candidates, with intervals.

Everything is a function of stored rollouts and their scores: no policy is called. A rollout whose verdict is unknown
(cut off, no answer, undecided by the grader) counts as wrong and is counted. Answers are grouped for votes by
the grader of the job.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..grading.grader import Grader
from ..metrics.aggregation import RULES, Candidate
from ..metrics.curves import mean_curve, oracle_curve, random_curve, rule_curve
from ..metrics.intervals import Estimate, bootstrap_mean, paired_difference
from ..steps import split_steps
from ..store import View

ORACLE: Final = "oracle"
RANDOM: Final = "random"
MAJORITY: Final = "majority"
EVERY_K: Final = 64
"""Up to so many candidates a curve has a point for every k, beyond for powers of two."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One candidate as it is stored; `steps` is empty where the text has none."""

    steps: tuple[str, ...]
    answer: str | None
    is_correct: bool
    is_unknown: bool
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its candidates, in the order of their ids; `group` is the cluster of each answer."""

    question_id: str
    question: str
    candidates: tuple[Sampled, ...]
    group: tuple[int | None, ...]


Scores = Mapping[tuple[str, tuple[str, ...]], tuple[float, ...]]
"""Step scores by question id and steps; what has none could not be scored."""


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """Accuracy by rule: `curves[rule]` is parallel to `ks`; `at_n` and the differences to the majority are at all N.

    `tokens` is the mean of the completion tokens of a candidate, so k candidates cost `k * tokens` a question.
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
        """The rule of a reward model with the best accuracy at N, or the majority where there is none."""
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


def read_rollouts(view: View, job: str, separator: str) -> list[tuple[str, str, list[Sampled]]]:
    """The candidates of a search job by question: its id, its text, the rollouts from its root.

    Raises `InputError` where there are none, or where their text was not kept.
    """
    rows = view.sql(
        "select r.question_id, q.question, r.rollout_id, r.text, r.answer, r.verdict, r.n_tokens "
        f"from rollouts r join questions q using (question_id) where r.job_id = '{job}' "
        "order by r.question_id, r.rollout_id"
    ).to_pylist()
    if not rows:
        raise InputError(f"The job {job} has no rollouts in {view.dataset.name}. Run the same command again.")
    found: dict[str, tuple[str, str, list[Sampled]]] = {}
    for row in rows:
        steps = split_steps(row["text"] or "", separator)
        item = Sampled(
            steps if all(step.strip() for step in steps) else (),
            row["answer"],
            row["verdict"] == "correct",
            row["verdict"] == "unknown",
            row["n_tokens"],
        )
        found.setdefault(row["question_id"], (row["question_id"], row["question"], []))[2].append(item)
    return list(found.values())


async def group_answers(read: Sequence[tuple[str, str, list[Sampled]]], grader: Grader) -> list[Asked]:
    """The questions with their answers in the groups that the grader calls the same."""
    asked: list[Asked] = []
    for name, text, items in read:
        answers = [item.answer for item in items if item.answer is not None]
        places = [place for place, item in enumerate(items) if item.answer is not None]
        group: list[int | None] = [None] * len(items)
        for number, members in enumerate(await grader.same(answers)):
            for member in members:
                group[places[member]] = number
        asked.append(Asked(name, text, tuple(items), tuple(group)))
    return asked


def evaluate(asked: Sequence[Asked], scores: Scores | None, *, seed: int = 0) -> SearchFigures:
    """The figures of a search; with `scores` the rules of a reward model are among them.

    All questions need the same number of candidates: those with fewer (a job that was stopped) raise `InputError`.
    """
    sizes = {len(item.candidates) for item in asked}
    if len(sizes) != 1:
        raise InputError(
            f"The questions have between {min(sizes)} and {max(sizes)} candidates: the search is not over. Go on with "
            "the same command."
        )
    n = sizes.pop()
    ks = tuple(range(1, n + 1)) if n <= EVERY_K else (*(2**i for i in range(n.bit_length()) if 2**i < n), n)
    rules = [MAJORITY] if scores is None else list(RULES)
    per_rule: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (*rules, ORACLE, RANDOM)}
    rng = np.random.default_rng(seed)
    unscored = 0
    for item in asked:
        correct = [candidate.is_correct for candidate in item.candidates]
        candidates: list[Candidate] = []
        for candidate, group in zip(item.candidates, item.group, strict=True):
            found = scores.get((item.question_id, candidate.steps)) if scores is not None else None
            if scores is not None and group is not None and found is None:
                # Without a score nobody can choose it: it neither votes nor wins, and is counted.
                unscored, group = unscored + 1, None
            candidates.append(Candidate(group, found or ()))
        plain = [Candidate(group) for group in item.group]
        for name in rules:
            voters = plain if name == MAJORITY else candidates
            per_rule[name].append(rule_curve(voters, correct, RULES[name], ks, rng=rng))
        per_rule[ORACLE].append(oracle_curve(correct, ks))
        per_rule[RANDOM].append(random_curve(correct, ks))
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
