"""Words in answers: numbers, articles, fillers."""

from fractions import Fraction
from typing import Final

ARTICLES: Final = frozenset({"the", "a", "an"})
FILLERS: Final = frozenset(
    {"the", "about", "approximately", "exactly", "answer", "is", "equals", "only", "just", "there", "are", "year"}
)
COUNTS: Final = {
    word: Fraction(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty".split()
    )
} | {
    "once": Fraction(1),
    "twice": Fraction(2),
    "half": Fraction(1, 2),
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(1000),
}
NUMERAL_WORDS: Final = frozenset(
    "half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths tenth tenths "
    "hundred hundreds thousand thousands million millions billion dozen infinite infinitely infinity "
    "all every any both each many first second thirty forty fifty sixty seventy eighty ninety "
    "negative minus percent point over and".split()
) | frozenset(COUNTS)
"""Words that may name a number or a set of numbers: an answer with one of them may equal a number."""
