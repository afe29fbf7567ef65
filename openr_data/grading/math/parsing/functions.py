"""Numbers and functions that expressions are made of, computed exactly or refused."""

from fractions import Fraction
from math import comb, factorial
from typing import Final

from . import exact
from .exact import Expression, TooHard, number

LARGEST_FACTORIAL: Final = 200
LARGEST_BINOMIAL: Final = 1_000
MOST_DIGITS: Final = 5_000


class NotUnderstood(Exception):
    """The tokens are not a notation that this parser reads."""


def is_number(token: str) -> bool:
    """Whether a token is a number; its point may come first."""
    return token[0] in "0123456789" or (token[0] == "." and len(token) > 1)


def is_digits(token: str) -> bool:
    """Whether a token is a number that begins with a digit; the empty token is not."""
    return bool(token) and token[0] in "0123456789"


def rational(token: str) -> Fraction:
    """The value of a number token. Raises `TooHard` for one with too many digits."""
    if len(token) < 20 and token.isdigit():
        return Fraction(int(token))
    mantissa, _, exponent = token.lower().partition("e")
    if len(mantissa) > MOST_DIGITS or (exponent and len(exponent.lstrip("+-")) > 4):
        raise TooHard("a number with too many digits")
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


def mixed(whole: Expression, top: int, bottom: int) -> Expression:
    """whole + top/bottom, if that is a mixed number."""
    value = whole.rational
    if value is None or value.denominator != 1 or not 0 < top < bottom:
        raise NotUnderstood("numbers in a row that are no mixed number")
    return exact.add(whole, number(Fraction(top, bottom)))


def factorial_of(value: Expression) -> Expression:
    """value!, for whole numbers up to `LARGEST_FACTORIAL`."""
    plain = value.rational
    if plain is None or plain.denominator != 1 or plain < 0:
        raise NotUnderstood("a factorial of no whole number")
    if plain > LARGEST_FACTORIAL:
        raise TooHard("a factorial that is too large")
    return number(factorial(int(plain)))


def binomial(top: Fraction | None, bottom: Fraction | None) -> Expression:
    """The binomial coefficient, for whole numbers up to `LARGEST_BINOMIAL`."""
    if top is None or bottom is None or top.denominator != 1 or bottom.denominator != 1:
        raise NotUnderstood("a binomial of expressions")
    if not 0 <= bottom <= top <= LARGEST_BINOMIAL:
        raise TooHard("a binomial that is too large")
    return number(comb(int(top), int(bottom)))


def in_base(digits: str, base: int) -> Expression:
    """The number with these digits in this base."""
    try:
        return number(int(digits, base))
    except ValueError as error:
        raise NotUnderstood("digits that the base does not have") from error


def function_of(name: str, base: Expression | None, inner: Expression) -> Expression:
    """A function of an argument: exact for logarithms with a rational value, opaque for all others."""
    if name == "lg":
        name, base = "log", number(10)
    if name in ("log", "ln") and inner.rational == 1:
        return number(0)
    ground = base.rational if base is not None else (Fraction(10) if name == "log" else None)
    value = inner.rational
    if name == "log" and ground and value and ground > 1 and value > 0 and ground.denominator == 1:
        small = value if value >= 1 else 1 / value
        count = 0
        while small.denominator == 1 and small % ground == 0:
            small, count = small / ground, count + 1
        if small == 1:
            return number(count if value >= 1 else -count)
    if name == "ln" or (name == "log" and base is not None and base.key() == exact.atom("e").key()):
        return exact.opaque("ln", inner)
    if name == "exp":
        return exact.power(exact.atom("e"), inner)
    return exact.opaque(name if base is None else f"{name}_{base.key()}", inner)
