"""Group answers that are the same, for votes: by mathematics, or by their text alone.

Numbers of one exact value and answers with equal tokens are one group at once; the remaining pairs are compared, each
group represented by its shortest text. Two groups are joined if the grader calls them equal in both directions, unless
that would put two answers into one group that it calls different. The result does not depend on the order of the
answers, even if the grader is asymmetric.
"""

from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from itertools import combinations

from ...types import Grade, Verdict
from ..groups import Groups, grouped, joined
from .equivalence import plain_number
from .parsing.tokens import Tokens, tokens

GradeAll = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Grade]]]
"""The grades of many (answer, gold) pairs."""


def cluster_by_text(answers: Sequence[str]) -> Groups:
    """Answers that are written the same, up to spacing and double names of LaTeX commands."""
    return grouped(tokens(answer) for answer in answers)


async def cluster_by_value(answers: Sequence[str], grade_all: GradeAll) -> Groups:
    """Answers that are mathematically equal. An unknown comparison joins nothing."""
    keys = [_key(answer) for answer in answers]
    groups = grouped(keys)
    texts = [min((answers[place] for place in group), key=_length) for group in groups]
    # The shorter text first: neither the pairs nor their order depend on the order of the answers.
    order = sorted(range(len(groups)), key=lambda place: _length(texts[place]))
    pairs = list(combinations(order, 2))
    integers = {place for place, group in enumerate(groups) if _is_integer(keys[group[0]])}
    compared = [pair for pair in pairs if not integers.issuperset(pair)]
    forwards = await grade_all([(texts[first], texts[second]) for first, second in compared])
    backwards = await grade_all([(texts[second], texts[first]) for first, second in compared])
    verdicts = {
        pair: {there.verdict, back.verdict} for pair, there, back in zip(compared, forwards, backwards, strict=True)
    }
    equal = [pair for pair in compared if verdicts[pair] == {Verdict.CORRECT}]
    different = [pair for pair in pairs if pair not in verdicts or Verdict.INCORRECT in verdicts[pair]]
    return joined(groups, equal, different)


def _key(answer: str) -> Fraction | Tokens:
    value = plain_number(answer)
    return tokens(answer) if value is None else value


def _length(text: str) -> tuple[int, str]:
    return len(text), text


def _is_integer(key: Fraction | Tokens) -> bool:
    """Whether a key is a whole number: two different ones are different, without a comparison."""
    return isinstance(key, Fraction) and key.denominator == 1
