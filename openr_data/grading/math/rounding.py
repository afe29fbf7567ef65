"""Decide whether a decimal is a rounded number: a reason to doubt a "no", or, from ten digits on, to drop it."""

from decimal import Decimal, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from typing import Final

from .parsing.exact import Expression, Polynomial

_PRECISION: Final = 60
_CONSTANTS: Final = {
    "pi": Decimal("3.14159265358979323846264338327950288419716939937510582097494459"),
    "e": Decimal("2.71828182845904523536028747135266249775724709369995957496696763"),
}


FLOAT_DIGITS: Final = 15
_FLOAT_ERROR: Final = Decimal("1e-14")


def is_float_of(written: str, value: Expression) -> bool:
    """Whether a decimal is how a program prints this value: 15 digits or more, right to one part in 10^14."""
    if len(written.lstrip("-0.").replace(".", "")) < FLOAT_DIGITS:
        return False
    exact = _decimal(value)
    return exact is not None and abs(Decimal(written) - exact) <= abs(exact) * _FLOAT_ERROR


def is_rounding(written: str, value: Expression) -> int:
    """The number of significant digits of `written` if it is `value` rounded or cut to its decimals, else 0."""
    _, point, decimals = written.partition(".")
    if not point or not decimals:
        return 0
    exact = _decimal(value)
    if exact is None:
        return 0
    unit = Decimal(1).scaleb(-len(decimals))
    # Rounded (a tie in either direction) or cut off.
    if exact * Decimal(written) < 0 or not -unit / 2 <= abs(exact) - abs(Decimal(written)) < unit:
        return 0
    return len(written.lstrip("-0.").replace(".", ""))


def _decimal(value: Expression) -> Decimal | None:
    """The value to `_PRECISION` digits; None if it has variables, i, or functions."""
    with localcontext() as context:
        context.prec = _PRECISION
        try:
            top, bottom = _evaluated(value.num), _evaluated(value.den)
            return top / bottom if top is not None and bottom else None
        except (InvalidOperation, Overflow, ZeroDivisionError):
            return None


def _evaluated(part: Polynomial) -> Decimal | None:
    total = Decimal(0)
    for monomial, factor in part.items():
        term = _quotient(factor)
        for name, exponent in monomial:
            if name[0] == "#":
                base = Decimal(int(name[1:]))
            elif name in _CONSTANTS:
                base = _CONSTANTS[name]
            else:
                return None
            term *= base ** _quotient(exponent)
        total += term
    return total


def _quotient(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
