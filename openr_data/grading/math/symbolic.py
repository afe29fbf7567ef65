r"""The symbolic path: Math-Verify and sympy, inside a worker process that may be killed at any moment.

`judge` trusts neither library alone. Math-Verify reads both answers and compares them in both directions; it calls
numbers equal that agree to six decimals, so an equal pair is compared again with sympy, to 50 digits and, if there are
variables, at several points. A pair that both call equal is correct, a pair that both call different is incorrect. If
only Math-Verify finds a difference, `simplify` or an agreement to 200 digits at every point proves them equal;
otherwise the pair stays unknown.

Timers and limits are set from outside, by `workers.py`.
"""

import logging
import re
from typing import Any, Final

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

DIGITS: Final = 50
MORE_DIGITS: Final = 200
POINTS: Final = ((7, 11), (-13, 5), (17, 19), (29, 31))
"""Rational points at which two expressions with variables are compared; each variable gets a different one."""

Finding = tuple[str, str]
"""A verdict and a reason, as they travel between processes."""

_ARGUMENT: Final = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc|ln|log))\s*([A-Za-z]|\d+|\\[a-z]+)(?=\s*(?:\\cdot|\\times|\*)(?![a-z]))"
)
_ANGLE_FUNCTION: Final = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)")
_DEGREES: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degree)")
_CONSTANTS: Final = {"e": sympy.E, "i": sympy.I}
"""Letters that Math-Verify leaves as symbols."""

_EXTRACTION: Final = (LatexExtractionConfig(), ExprExtractionConfig())


def warm_up() -> None:
    """Do a first comparison, so that no answer waits for its imports."""
    logging.disable(logging.CRITICAL)
    judge("\\frac{1}{2}+x", "\\frac{2}{4}+x")


def judge(answer: str, gold: str) -> Finding:
    """The verdict on two answers that the fast path could not decide. The caller handles any exception."""
    angles = bool(_ANGLE_FUNCTION.search(answer + gold))
    left, right = _read(answer, angles), _read(gold, angles)
    if left is None or right is None:
        return "unknown", f"the {'answer' if left is None else 'gold answer'} is no mathematics that can be read"
    forwards = bool(verify(right, left, timeout_seconds=None, raise_on_error=False))
    backwards = bool(verify(left, right, timeout_seconds=None, raise_on_error=False))
    numeric = _same_value(_value(left), _value(right), DIGITS)
    if forwards and backwards:
        if numeric is False:
            return "incorrect", ""
        return "correct", ""
    if forwards or backwards:
        return "unknown", "equal in one direction alone"
    if numeric:
        # Math-Verify gives up where it cannot transform one into the other.
        if _proved(_value(left), _value(right)) or _same_value(_value(left), _value(right), MORE_DIGITS):
            return "correct", ""
        return "unknown", f"equal to {DIGITS} digits, but not proved equal"
    if numeric is None and (_has_roots(_value(left)) or not _comparable(_value(left), _value(right))):
        return "unknown", "two things that are not compared"
    return "incorrect", ""


def _proved(left: Any, right: Any) -> bool:
    """Whether sympy can show that two expressions are the same."""
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return False
    return bool(sympy.simplify(_with_constants(left - right)) == 0)


def _with_constants(value: sympy.Expr) -> sympy.Expr:
    return value.subs({name: _CONSTANTS[name.name] for name in value.free_symbols if name.name in _CONSTANTS})


def _read(text: str, angles: bool) -> list[Any] | None:
    """The objects that Math-Verify reads in an answer; None if they are only strings."""
    text = text.strip().strip("$")
    text = text.replace("\\lg", "\\log_{10}")
    # Math-Verify would read sin x * 2 as the sine of the product.
    text = _ARGUMENT.sub(r"\1(\2)", text)
    if angles:
        # sin 30° is a number: Math-Verify would drop the sign of degrees.
        text = _DEGREES.sub(r"{(\1\\cdot\\frac{\\pi}{180})}", text)
    objects = parse(f"${text}$", extraction_config=_EXTRACTION, parsing_timeout=None, raise_on_error=False)
    return objects if any(not isinstance(item, str) for item in objects) else None


def _value(objects: list[Any]) -> Any:
    return next(item for item in objects if not isinstance(item, str))


def _has_roots(value: Any) -> bool:
    """Whether the sign of a variable matters: even roots of it are taken."""
    powers = value.atoms(sympy.Pow) if isinstance(value, sympy.Basic) else set()
    return any(item.free_symbols and not item.exp.is_Integer for item in powers)


def _comparable(left: Any, right: Any) -> bool:
    """Whether a "no" of Math-Verify can be trusted: both sides are expressions, or containers of one kind."""
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return True
    return type(left) is type(right)


def _same_value(left: Any, right: Any, digits: int) -> bool | None:
    """Whether two sympy objects have the same value to this many digits; None if that is unknown."""
    containers = (sympy.FiniteSet, sympy.Tuple, sympy.Interval)
    for kind in containers:
        if isinstance(left, kind) and isinstance(right, kind):
            return _same_parts(list(left.args), list(right.args), digits, ordered=kind is not sympy.FiniteSet)
    if isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase):
        if left.shape != right.shape:
            return False
        return _same_parts(list(left), list(right), digits, ordered=True)
    if isinstance(left, sympy.Equality) and isinstance(right, sympy.Equality):
        return None
    if isinstance(left, sympy.Equality) and isinstance(right, sympy.Expr):
        left = left.rhs
    elif isinstance(right, sympy.Equality) and isinstance(left, sympy.Expr):
        right = right.rhs
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    return _same_number(left, right, digits)


def _same_parts(left: list[Any], right: list[Any], digits: int, *, ordered: bool) -> bool | None:
    if len(left) != len(right):
        return False
    if not ordered:
        # Both sorted by value, so that equal sets have equal members at equal places.
        try:
            left = sorted(left, key=lambda item: complex(item).real)
            right = sorted(right, key=lambda item: complex(item).real)
        except (TypeError, ValueError):
            return None
    answers = [
        None if isinstance(first, (bool, sympy.logic.boolalg.BooleanAtom)) and first != second else
        True if first == second else _same_value(first, second, digits)
        for first, second in zip(left, right, strict=True)
    ]  # fmt: skip
    if False in answers:
        return False
    return None if None in answers else True


def _same_number(left: sympy.Expr, right: sympy.Expr, digits: int) -> bool | None:
    left, right = _with_constants(left), _with_constants(right)
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    unsure = False
    for numerator, denominator in POINTS if names else POINTS[:1]:
        place = {name: sympy.Rational(numerator + index, denominator) for index, name in enumerate(names)}
        first, second = left.subs(place), right.subs(place)
        difference = sympy.N(first - second, digits, maxn=2_000)
        size = max(abs(sympy.N(first, 15)), abs(sympy.N(second, 15)))
        if not (difference.is_number and difference.is_finite and size.is_number and size.is_finite):
            unsure = True
            continue
        if abs(difference) > size * sympy.Float(10) ** (10 - digits):
            if numerator < 0 and (_has_roots(left) or _has_roots(right)):
                # sqrt(x^3) and x*sqrt(x): equal where both are real.
                unsure = True
                continue
            return False
    return None if unsure else True
