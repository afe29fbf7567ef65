"""Group answers that are the same, for votes: by mathematics, or by their text alone.

Answers of one exact value or with equal tokens are one group at once; only the remaining pairs are compared. Two
groups are joined where the grader calls them equal in both directions, and each is represented by its shortest text,
so the result does not depend on the order of the answers even if the grader is asymmetric.
"""

from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from itertools import combinations

from ...types import Grade, Verdict
from ..groups import Groups, grouped, joined
from .equivalence import exact_number
from .tokens import Tokens, tokens

GradeAll = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Grade]]]
"""The grades of many (answer, gold) pairs."""


def cluster_by_text(answers: Sequence[str]) -> Groups:
    """Answers that are written the same, up to spacing and double names of LaTeX commands."""
    return grouped(tokens(answer) for answer in answers)


async def cluster_by_value(answers: Sequence[str], grade_all: GradeAll) -> Groups:
    """Answers that are mathematically equal. An unknown comparison joins nothing."""
    keys = [_key(answer) for answer in answers]
    groups = grouped(keys)
    # Two rational numbers with different keys are different.
    open_pairs = [
        (first, second)
        for first, second in combinations(range(len(groups)), 2)
        if not (isinstance(keys[groups[first][0]], Fraction) and isinstance(keys[groups[second][0]], Fraction))
    ]
    texts = [min((answers[place] for place in group), key=lambda text: (len(text), text)) for group in groups]
    forwards = await grade_all([(texts[first], texts[second]) for first, second in open_pairs])
    backwards = await grade_all([(texts[second], texts[first]) for first, second in open_pairs])
    equal = [
        pair
        for pair, there, back in zip(open_pairs, forwards, backwards, strict=True)
        if there.verdict is Verdict.CORRECT and back.verdict is Verdict.CORRECT
    ]
    return joined(groups, equal)


def _key(answer: str) -> Fraction | Tokens:
    value = exact_number(answer)
    return tokens(answer) if value is None else value
