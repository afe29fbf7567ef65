"""Units in answers: their names, and the exact factors between units of one dimension."""

from fractions import Fraction
from typing import Final

_TABLE: Final[dict[str, dict[str, str]]] = {
    "length": {
        "mm": "1/1000 millimeter millimeters millimetre millimetres",
        "cm": "1/100 centimeter centimeters centimetre centimetres",
        "m": "1 meter meters metre metres",
        "km": "1000 kilometer kilometers kilometre kilometres kms",
        "inch": "254/10000 in inches ins",
        "foot": "3048/10000 ft feet",
        "yard": "9144/10000 yd yards yds",
        "mile": "1609344/1000 mi miles",
    },
    "time": {
        "second": "1 sec secs seconds s",
        "minute": "60 min mins minutes",
        "hour": "3600 hr hrs hours h",
        "day": "86400 days",
        "week": "604800 weeks",
    },
    "mass": {
        "mg": "1/1000000 milligram milligrams",
        "g": "1/1000 gram grams",
        "kg": "1 kilogram kilograms kgs",
        "pound": "45359237/100000000 pounds lb lbs",
        "ounce": "45359237/1600000000 ounces oz",
    },
    "euros": {"euro": "1 euros"},
    "money": {"cent": "1/100 cents c ¢", "dollar": "1 dollars usd bucks"},
    "volume": {"ml": "1/1000 milliliter milliliters", "liter": "1 liters litre litres l"},
    "angle": {"degree": "1 degrees deg °"},
    "share": {"percent": "1/100 % percents pct percentage"},
}
"""Dimension, simple name, then its factor and its other names."""

NAMES: Final[dict[str, str]] = {}
"""Every name of a unit, to its simple name."""
MEASURES: Final[dict[str, tuple[str, Fraction]]] = {}
"""Simple name to dimension and factor."""

for _dimension, _units in _TABLE.items():
    for _name, _line in _units.items():
        _factor, *_others = _line.split()
        MEASURES[_name] = (_dimension, Fraction(_factor))
        for _other in (_name, *_others):
            NAMES[_other] = _name

UNIT_LETTERS: Final = frozenset("mgshlLcNJWVKCFA")
"""Letters that may be a unit or a variable when they follow a number."""

NO_UNITS: Final = frozenset(
    "is are was not no less more short below above under over wrong right squared cubed factorial only and or from "
    "minus plus times if when because since though but bc debt loss than".split()
)
"""Words after a number that do not name what it counts."""

SCALES: Final = {
    "hundred": Fraction(100), "hundreds": Fraction(100), "thousand": Fraction(1000), "thousands": Fraction(1000),
    "million": Fraction(10**6), "millions": Fraction(10**6), "billion": Fraction(10**9), "billions": Fraction(10**9),
    "trillion": Fraction(10**12), "dozen": Fraction(12), "dozens": Fraction(12), "score": Fraction(20),
    "half": Fraction(1, 2), "halves": Fraction(1, 2), "third": Fraction(1, 3), "thirds": Fraction(1, 3),
    "quarter": Fraction(1, 4), "quarters": Fraction(1, 4), "fourth": Fraction(1, 4), "fourths": Fraction(1, 4),
    "fifth": Fraction(1, 5), "fifths": Fraction(1, 5), "sixth": Fraction(1, 6), "sixths": Fraction(1, 6),
    "eighth": Fraction(1, 8), "eighths": Fraction(1, 8), "tenth": Fraction(1, 10), "tenths": Fraction(1, 10),
    "tens": Fraction(10), "thousandths": Fraction(1, 1000),
    "hundredth": Fraction(1, 100), "hundredths": Fraction(1, 100),
}  # fmt: skip
"""Words that multiply the number before them."""

_POWERS: Final = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}


def simple_unit(words: tuple[str, ...]) -> str:
    """One spelling of a unit written as tokens: `("square", "feet")` and `("ft", "^", "2")` are `foot^2`.

    A word that is not in the table loses its plural; "per" and "an" become a slash.
    """
    power = 1
    names: list[str] = []
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
            continue
        if word in _POWERS:
            power = _POWERS[word]
        elif word == "^" and words[index + 1 : index + 2]:
            power = {"2": 2, "3": 3}.get(words[index + 1], 1)
            skip = True
        elif word in ("per", "/", "an", "a"):
            names.append("/")
        elif word in ("of", "the", "total") or (word == "in" and names):
            continue
        else:
            names.append(NAMES.get(word) or _singular(word))
    text = " ".join(names).replace(" / ", "/").strip()
    text = {"mph": "mile/hour", "kph": "km/hour"}.get(text, text)
    return text if power == 1 else f"{text}^{power}"


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def measure(unit: str) -> tuple[str, Fraction] | None:
    """Dimension and factor of a simple unit (`foot^2` is (`length^2`, …)), or None for a unit outside the table."""
    base, _, power = unit.partition("^")
    known_measure = MEASURES.get(base)
    if known_measure is None:
        return None
    dimension, factor = known_measure
    return (f"{dimension}^{power}", factor ** int(power)) if power else known_measure
