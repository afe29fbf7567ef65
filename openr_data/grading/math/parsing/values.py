"""The values that an answer is read as: a quantity, a word, an interval, a group of values, an equation.

Values are plain and frozen; `equivalence.py` compares them.
"""

from dataclasses import dataclass
from typing import Literal

from .exact import Expression

GroupKind = Literal["tuple", "bracket", "list", "set", "row", "matrix", "ratio", "time", "plus-minus"]
"""(1,2) · [1,2] · 1,2 · {1,2} · a row of a matrix · a matrix (of rows) · 2:3 · 2:30 p.m. (as 14:30) · both of 1±2."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number or an expression, with the unit written after it (one word in its simple form, or empty).

    `base` is the base of a number written as `1011_2`, and `digits` its digits. `decimal` is the decimal fraction as it
    was written, if the quantity is just that.
    """

    value: Expression
    unit: str = ""
    base: int = 10
    digits: str = ""
    decimal: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """Words: a name, yes or no, an option, "no solution". Lower case, articles left out."""

    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """The letter of a multiple-choice option, A to J, and the tokens after it."""

    letter: str
    rest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Several values. The order counts in a tuple, a bracket, a row, a matrix and a ratio."""

    kind: GroupKind
    items: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers between two ends; an infinite end is an expression with the atom `oo`.

    `variable` is that of the inequality, if it was written as one.
    """

    low: Expression
    high: Expression
    low_closed: bool
    high_closed: bool
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Union:
    """A union of intervals and sets."""

    parts: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Named:
    """`name = value`; the other side may omit the name."""

    name: tuple[str, ...]
    value: "Value"
    difference: Expression | None = None


@dataclass(frozen=True, slots=True)
class Equation:
    """`left = right` between expressions, as left - right, which is defined up to a factor.

    `total` is the right side if the left one is a sum of letters (`m+n=25`): the number alone may be the answer.
    """

    difference: Expression
    total: Expression | None = None


Value = Quantity | Word | Option | Group | Interval | Union | Named | Equation
