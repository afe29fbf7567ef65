r"""Exact arithmetic for answers: rational functions over Q with radicals, \(\pi\), `e`, `i` and variables.

An `Expression` is a fraction of two polynomials. A monomial is a product of atoms: variables (`x`), the constants
`pi`, `e` and `i` (with i² = -1), primes with an exponent strictly between 0 and 1 (`√12` is 2·3^(1/2)), and *opaque*
atoms (`@sin(x)`), whose value is not known. Products of such prime roots are linearly independent over Q
(Besicovitch 1940), and pi is transcendental, so a polynomial without opaque atoms is zero only if it has no
terms: `decide` is right both ways. No float is used.

Everything is bounded (terms, digits, exponents): a larger result raises `TooHard` before it is computed.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Final

MOST_TERMS: Final = 200
MOST_BITS: Final = 20_000
"""Bits of a numerator or denominator; 6,000 digits."""
HIGHEST_POWER: Final = 64
"""Exponent of something that is not a plain number."""
LARGEST_FACTORED: Final = 10**12
LAST_DIVISOR: Final = 1_000

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = Mapping[Monomial, Fraction]

_ONE: Final = Fraction(1)
UNIT: Final[Monomial] = ()
ONE: Final[Polynomial] = {UNIT: _ONE}


MOST_WORK: Final = 30_000
"""Products of two terms in the reading or comparing of one answer: some tens of milliseconds."""


class _Work(threading.local):
    left = MOST_WORK


_work: Final = _Work()


class TooHard(Exception):
    """The arithmetic would exceed its bounds, or is of another kind."""


class Undefined(TooHard):
    """A division by zero."""


def begin() -> None:
    """Reset the work allowed to `MOST_WORK`: called where the reading or comparing of an answer begins."""
    _work.left = MOST_WORK


def _spend(amount: int) -> None:
    _work.left -= amount
    if _work.left < 0:
        raise TooHard("more arithmetic than an answer takes")


@dataclass(frozen=True, slots=True)
class Expression:
    """`num / den`, two polynomials; `den` is never zero."""

    num: Polynomial
    den: Polynomial = field(default_factory=lambda: ONE)

    @property
    def rational(self) -> Fraction | None:
        """The value if it is a plain rational number, else None."""
        if self.den is not ONE and self.den != ONE:
            return None
        if not self.num:
            return Fraction(0)
        return self.num.get(UNIT) if len(self.num) == 1 else None

    @property
    def atoms(self) -> frozenset[str]:
        """The names of all atoms."""
        return frozenset(name for part in (self.num, self.den) for monomial in part for name, _ in monomial)

    def key(self) -> str:
        """A text that equal forms share: it names the argument of an opaque function."""
        return f"{_written(self.num)}/{_written(self.den)}"


def number(value: int | Fraction) -> Expression:
    """A rational number."""
    if not value:
        return Expression({})
    return Expression({UNIT: value if isinstance(value, Fraction) else Fraction(value)})


def atom(name: str) -> Expression:
    """A variable, a constant (`pi`, `e`, `i`) or an opaque atom (its name begins with `@`)."""
    return Expression({((name, _ONE),): _ONE})


def decide(left: Expression, right: Expression) -> bool | None:
    """Whether two expressions are equal; None if this arithmetic cannot decide it."""
    difference = subtract(left, right).num
    if not difference:
        return True
    names = {name for monomial in difference for name, _ in monomial}
    # It is not proved that e and pi are independent.
    if any(name.startswith("@") for name in names) or {"e", "pi"} <= names:
        return None
    return False


def add(left: Expression, right: Expression) -> Expression:
    """left + right."""
    if left.den == right.den:
        return _made(_sum(left.num, right.num), left.den)
    return _made(_sum(_product(left.num, right.den), _product(right.num, left.den)), _product(left.den, right.den))


def negate(value: Expression) -> Expression:
    """-value."""
    return Expression({monomial: -factor for monomial, factor in value.num.items()}, value.den)


def subtract(left: Expression, right: Expression) -> Expression:
    """left - right."""
    return add(left, negate(right))


def multiply(left: Expression, right: Expression) -> Expression:
    """left · right."""
    return _made(_product(left.num, right.num), _product(left.den, right.den))


def divide(left: Expression, right: Expression) -> Expression:
    """left / right. Raises `Undefined` for a division by zero."""
    return multiply(left, invert(right))


def invert(value: Expression) -> Expression:
    """1 / value. Raises `Undefined` for zero."""
    if not value.num:
        raise Undefined("a division by zero")
    return _made(value.den, value.num)


def power(base: Expression, exponent: Expression) -> Expression:
    """base ^ exponent. Raises `TooHard` unless the exponent is a rational number that the base allows."""
    value = exponent.rational
    if value is None:
        if base.rational == 1:
            return base
        return atom(f"@({base.key()})^({exponent.key()})")
    if value.denominator == 1:
        return _integer_power(base, int(value))
    plain = base.rational
    if plain is not None:
        return _root_of_number(plain, value)
    terms = list(base.num.items())
    if len(terms) == 1 and base.den == ONE:
        ((monomial, factor),) = terms
        # sqrt(x) is an atom with a fractional exponent; sqrt(x^2) is |x|, which is not.
        if all(exponent == 1 and name[0] not in "@i" for name, exponent in monomial) and factor > 0:
            root = Expression({tuple((name, value) for name, _ in monomial): Fraction(1)})
            return multiply(_root_of_number(factor, value), root if value > 0 else _inverse_of(root))
        if all(name.startswith("#") for name, _ in monomial) and factor > 0:
            product = _root_of_number(factor, value)
            for name, exponent_ in monomial:
                product = multiply(product, _root_of_number(Fraction(int(name[1:])), exponent_ * value))
            return product
    return atom(f"@({base.key()})^({value})")


def opaque(function: str, *arguments: Expression) -> Expression:
    """A function with no known rule except that equal arguments give equal values."""
    return atom(f"@{function}({';'.join(item.key() for item in arguments)})")


def _inverse_of(value: Expression) -> Expression:
    ((monomial, factor),) = value.num.items()
    return Expression({UNIT: 1 / factor}, {tuple((name, -exponent) for name, exponent in monomial): Fraction(1)})


def _integer_power(base: Expression, exponent: int) -> Expression:
    plain = base.rational
    if plain is not None:
        if not plain:
            if exponent < 0:
                raise Undefined("a division by zero")
            return number(1) if not exponent else base
        bits = max(plain.numerator.bit_length(), plain.denominator.bit_length())
        if plain not in (1, -1) and abs(exponent) * bits > MOST_BITS:
            raise TooHard("a power that is too large")
        return number(plain**exponent) if plain not in (1, -1) else number(plain ** (exponent % 2))
    if abs(exponent) > HIGHEST_POWER:
        raise TooHard("a power that is too large")
    if exponent < 0:
        base, exponent = invert(base), -exponent
    product = number(1)
    for _ in range(exponent):
        product = multiply(product, base)
    return product


def _root_of_number(value: Fraction, exponent: Fraction) -> Expression:
    """value ^ exponent for a rational value; the real root for an odd one of a negative number."""
    if exponent.denominator > HIGHEST_POWER or abs(exponent) > HIGHEST_POWER:
        raise TooHard("a root of too high an order")
    if not value:
        if exponent <= 0:
            raise Undefined("a division by zero")
        return number(0)
    if value < 0:
        if exponent.denominator == 2:
            return multiply(_integer_power(atom("i"), exponent.numerator), _root_of_number(-value, exponent))
        if exponent.denominator % 2:
            sign = -1 if exponent.numerator % 2 else 1
            return multiply(number(sign), _root_of_number(-value, exponent))
        raise TooHard("an even root of a negative number")
    exact = _exact_root(value, exponent.denominator)
    if exact is not None:
        return _integer_power(number(exact), exponent.numerator)
    factors = _factors(value.numerator)
    for prime, count in _factors(value.denominator).items():
        factors[prime] = factors.get(prime, 0) - count
    factor, monomial = Fraction(1), []
    for prime in sorted(factors):
        raised = factors[prime] * exponent
        whole = raised.numerator // raised.denominator
        if abs(whole) * prime.bit_length() > MOST_BITS:
            raise TooHard("a power that is too large")
        factor *= Fraction(prime) ** whole
        if raised != whole:
            monomial.append((f"#{prime}", raised - whole))
    return Expression({tuple(sorted(monomial)): factor})


def _exact_root(value: Fraction, order: int) -> Fraction | None:
    roots: list[int] = []
    for part in (value.numerator, value.denominator):
        root = isqrt(part) if order == 2 else _integer_root(part, order)
        if root**order != part:
            return None
        roots.append(root)
    return Fraction(roots[0], roots[1])


def _integer_root(value: int, order: int) -> int:
    low, high = 0, 1 << (value.bit_length() // order + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**order <= value else (low, middle - 1)
    return low


def _factors(value: int) -> dict[int, int]:
    """Prime factors with their exponents. Raises `TooHard` if trial division would take long."""
    factors: dict[int, int] = {}
    divisor = 2
    if value > LARGEST_FACTORED:
        raise TooHard("a root of too large a number")
    while divisor * divisor <= value and divisor <= LAST_DIVISOR:
        while value % divisor == 0:
            factors[divisor] = factors.get(divisor, 0) + 1
            value //= divisor
        divisor += 1 if divisor == 2 else 2
    if value > 1:
        root = isqrt(value)
        if value >= LAST_DIVISOR**2 and root * root != value:
            raise TooHard("a root of a number with large factors")
        if root * root == value and value >= LAST_DIVISOR**2:
            factors[root] = factors.get(root, 0) + 2
        else:
            factors[value] = factors.get(value, 0) + 1
    return factors


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    terms = dict(left)
    for monomial, factor in right.items():
        total = terms.get(monomial, 0) + factor
        if total:
            terms[monomial] = total
        else:
            terms.pop(monomial, None)
    return _bounded(terms)


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    if left == ONE:
        return right
    if right == ONE:
        return left
    if len(left) * len(right) > 4 * MOST_TERMS:
        raise TooHard("an expression with too many terms")
    _spend(len(left) * len(right))
    terms: dict[Monomial, Fraction] = {}
    for first, factor in left.items():
        for second, other in right.items():
            monomial, extra = _joined(first, second)
            total = terms.get(monomial, 0) + factor * other * extra
            if total:
                terms[monomial] = total
            else:
                terms.pop(monomial, None)
    return _bounded(terms)


def _joined(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, and the number that it yields (√2·√2 = 2, i·i = -1)."""
    if not left or not right:
        return left or right, _ONE
    exponents = dict(left)
    for name, exponent in right:
        exponents[name] = exponents.get(name, Fraction(0)) + exponent
    factor = _ONE
    for name, exponent in list(exponents.items()):
        if name[0] == "#" and exponent >= 1:
            whole = exponent.numerator // exponent.denominator
            factor *= int(name[1:]) ** whole
            exponents[name] = exponent - whole
        elif name == "i" and exponent >= 2:
            factor *= -1 if int(exponent) // 2 % 2 else 1
            exponents[name] = Fraction(int(exponent) % 2)
        elif exponent > HIGHEST_POWER:
            raise TooHard("a power that is too large")
    return tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent)), factor


def _bounded(terms: Polynomial) -> Polynomial:
    if len(terms) > MOST_TERMS:
        raise TooHard("an expression with too many terms")
    for factor in terms.values():
        bits = factor.numerator.bit_length() + factor.denominator.bit_length()
        if bits > 512:
            _spend(bits >> 9)
        if factor.numerator.bit_length() > MOST_BITS or factor.denominator.bit_length() > MOST_BITS:
            raise TooHard("a number with too many digits")
    return terms


def _made(num: Polynomial, den: Polynomial) -> Expression:
    """num / den, with the numbers and roots of a monomial denominator moved into the numerator."""
    if len(den) == 1 and den != ONE:
        ((monomial, factor),) = den.items()
        inverse = _ONE / factor
        turned: Polynomial = {UNIT: inverse}
        left: list[tuple[str, Fraction]] = []
        for name, exponent in monomial:
            if name[0] == "#":
                prime = Fraction(1, int(name[1:]))
                turned = _product(turned, {((name, 1 - exponent),): prime})
            elif name == "i":
                turned = _product(turned, {(("i", Fraction(1)),): Fraction(-1)})
            else:
                left.append((name, exponent))
        if turned != ONE:
            num = _product(num, turned)
        den = {tuple(left): _ONE} if left else ONE
    return Expression(num, den) if num else Expression({})


def _written(part: Polynomial) -> str:
    terms = sorted(part.items())
    return "+".join(
        f"{factor}{''.join(f'*{name}^{exponent}' for name, exponent in monomial)}" for monomial, factor in terms
    )
