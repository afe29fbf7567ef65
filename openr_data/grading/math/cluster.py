"""Group answers that are the same, for votes: by mathematics, and by text beside it.

Exact values and equal tokens go together at once; only what is left is compared in pairs. Two groups are joined where
the grader calls them equal in both directions, so an asymmetric grader cannot make the result depend on the order.
"""

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from itertools import combinations

from ...types import Verdict
from .equivalence import exact_number
from .grader import MathGrader
from .tokens import Tokens, tokens

Clusters = list[list[int]]
"""Indices into the answers; groups in the order of their first members, members in order."""


def cluster_by_text(answers: Sequence[str]) -> Clusters:
    """Answers that are written the same, up to spacing and double names of LaTeX commands."""
    return _grouped([tokens(answer) for answer in answers])


async def cluster(answers: Sequence[str], grader: MathGrader | None = None) -> Clusters:
    """Answers that are mathematically equal. An unknown comparison joins nothing."""
    if grader is not None:
        return await _cluster(answers, grader)
    with closing(MathGrader()) as own:
        return await _cluster(answers, own)


async def _cluster(answers: Sequence[str], grader: MathGrader) -> Clusters:
    keys = [_key(answer) for answer in answers]
    groups = _grouped(keys)
    firsts = [group[0] for group in groups]
    # Two rational numbers with different keys are different.
    open_pairs = [
        (first, second)
        for first, second in combinations(range(len(groups)), 2)
        if not (isinstance(keys[firsts[first]], Fraction) and isinstance(keys[firsts[second]], Fraction))
    ]
    texts = [answers[index] for index in firsts]
    forwards = await grader.grade_all([(texts[first], texts[second]) for first, second in open_pairs])
    backwards = await grader.grade_all([(texts[second], texts[first]) for first, second in open_pairs])
    parents = list(range(len(groups)))
    for (first, second), there, back in zip(open_pairs, forwards, backwards, strict=True):
        if there.verdict is Verdict.CORRECT and back.verdict is Verdict.CORRECT:
            left, right = _root(parents, first), _root(parents, second)
            parents[max(left, right)] = min(left, right)
    joined: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        joined.setdefault(_root(parents, place), []).extend(group)
    return [sorted(group) for group in joined.values()]


def _key(answer: str) -> Fraction | Tokens:
    value = exact_number(answer)
    return tokens(answer) if value is None else value


def _grouped(keys: Sequence[object]) -> Clusters:
    found: dict[object, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return list(found.values())


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        place = parents[place]
    return place
