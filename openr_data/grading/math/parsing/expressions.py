r"""Read an expression, the part of the grammar below an item, and compute it with `exact.py` while reading.

sum       = [sign] product (("+" | "-" | "\pm") product)*
product   = power (("*" | "/" | nothing) power)*
power     = atom ["!"] ["^" exponent]
atom      = number | letter | \frac | \sqrt | brackets | bars | a function of an argument
"""

from fractions import Fraction
from typing import Final

from . import exact
from .exact import Expression, TooHard, number
from .functions import NotUnderstood, binomial, factorial_of, function_of, is_digits, is_number, mixed, rational
from .tokens import Tokens
from .units import NO_UNITS, SCALES, UNIT_LETTERS, simple_unit

DEEPEST: Final = 40
"""Nesting of brackets and commands."""

SEPARATORS: Final = frozenset({",", ";", '"and', '"or'})
RELATIONS: Final = frozenset({"=", "<", ">", "\\le", "\\ge", "\\approx", "\\in", "\\ne"})
GREEK: Final = frozenset(
    f"\\{name}"
    for name in "alpha beta gamma delta epsilon varepsilon theta lambda mu nu rho sigma tau phi varphi omega psi "
    "chi eta kappa xi zeta Delta Omega Gamma Theta Lambda Sigma Phi ell hbar".split()
)
_CONSTANTS: Final = {"\\pi": "pi", "\\infty": "oo"}
_FUNCTIONS: Final = frozenset(
    f"\\{name}"
    for name in "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max min".split()
)
_CLOSING: Final = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "|": "|", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_NO_FACTOR: Final = frozenset(
    {"+", "-", "*", "/", ")", "]", "}", "\\}", ",", ";", ":", "&", "\\\\", "\\end", "^", "_", "!", "%", "'", " ", ".",
     "?", "\\pm", "\\mp", "\\cup", "\\cap", "\\rfloor", "\\rceil", "\\setminus", "\\to", "°", "\\ldots", *RELATIONS}
)  # fmt: skip


APPLIED: Final = frozenset("fghFGHP")
"""Letters that are functions when a bracket follows."""
_GO_WITH: Final = GREEK | {"\\pi", "\\sqrt", "\\frac"}
_INVERTED: Final = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


def _combined(done: Expression | None, divides: bool, factor: Expression) -> Expression:
    if done is None:
        return factor
    return exact.divide(done, factor) if divides else exact.multiply(done, factor)


class ExpressionReader:
    """A cursor over tokens, and the methods that read expressions from it."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.in_bars = False

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise NotUnderstood(f"expected {expected or 'more'}, found {token or 'the end'}")
        self.at += 1
        return token

    def spaces(self) -> None:
        while self.peek() == " ":
            self.at += 1

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise TooHard("nested too deeply")

    def sum_(self) -> Expression:
        """A sum of products; several signs in a row make one."""
        self.deeper()
        self.spaces()
        value: Expression | None = None
        while value is None or self.peek() in ("+", "-"):
            negative = False
            while self.peek() in ("+", "-"):
                negative ^= self.take() == "-"
            term = self.product()
            term = exact.negate(term) if negative else term
            value = term if value is None else exact.add(value, term)
        self.depth -= 1
        return value

    def product(self) -> Expression:
        """Factors and divisors from left to right; a whole number and the fraction after it are a mixed number."""
        done: Expression | None = None
        divides = False
        last, plain = self.power()
        while True:
            token = self.peek()
            if token in ("*", "/") and not (token == "/" and self.peek(1).startswith('"')):
                self.take()
            elif token == " ":
                # A number, a space, a fraction.
                if not (plain and is_digits(self.peek(1)) and self.peek(2) == "/" and is_digits(self.peek(3))):
                    break
                top, bottom = self.peek(1), self.peek(3)
                self.at += 4
                last, plain = mixed(last, int(top), int(bottom)), False
                continue
            elif token == "\\frac" and plain and last.rational is not None and last.rational.denominator == 1:
                fraction, _ = self.power()
                part = fraction.rational
                proper = part is not None and 0 < part < 1
                last, plain = exact.add(last, fraction) if proper else exact.multiply(last, fraction), False
                continue
            elif not token or token in _NO_FACTOR or token.startswith('"') or (token == "|" and self.in_bars):
                break
            elif is_digits(token):
                raise NotUnderstood("two numbers in a row")
            done = _combined(done, divides, last)
            divides = token == "/"
            last, plain = self.power()
        return _combined(done, divides, last)

    def power(self) -> tuple[Expression, bool]:
        """An atom with its postfixes, and whether it is a plain number, after which a fraction may stand."""
        start = self.at
        value = self.atom()
        plain = is_digits(self.tokens[start]) and self.at == start + 1
        while True:
            if self.peek() == "!":
                self.take()
                value, plain = factorial_of(value), False
            elif self.peek() == "^" and not self.degrees():
                self.take()
                value, plain = exact.power(value, self.exponent()), False
            elif self.peek() == "'":
                raise NotUnderstood("a prime")
            else:
                return value, plain

    def degrees(self) -> bool:
        return self.peek(1) == "\\circ" or (self.peek(1) == "{" and self.peek(2) == "\\circ")

    def exponent(self) -> Expression:
        if self.peek() == "{":
            return self.braces()
        if self.peek() == "-":
            self.take()
            return exact.negate(self.atom())
        token = self.peek()
        if is_digits(token) and len(token) > 1:
            # TeX raises one digit; an author of 2^10 means ten.
            self.take()
            return number(rational(token))
        return self.atom()

    def braces(self) -> Expression:
        self.deeper()
        self.take("{")
        value = self.sum_()
        self.spaces()
        self.take("}")
        self.depth -= 1
        return value

    def argument(self) -> Expression:
        r"""What `\frac` and `\sqrt` take: braces, or one digit, or one atom."""
        self.spaces()
        token = self.peek()
        if token == "{":
            return self.braces()
        if token.isdigit() and len(token) > 1:
            # \frac12: the digits are one token here and two arguments in TeX.
            self.tokens = (*self.tokens[: self.at], token[0], token[1:], *self.tokens[self.at + 1 :])
        return self.atom()

    def atom(self) -> Expression:
        self.spaces()
        token = self.take()
        if is_number(token):
            return number(rational(token))
        if token in APPLIED and self.peek() == "(":
            # f(2x) is a function value, not a product.
            return exact.opaque(token, self.bracketed(")"))
        if len(token) == 1 and token.isalpha():
            return self.variable(token)
        if token in GREEK:
            return self.variable(token[1:])
        if token in _CONSTANTS:
            return exact.atom(_CONSTANTS[token])
        if token == "\\frac":
            self.deeper()
            top = self.argument()
            bottom = self.argument()
            self.depth -= 1
            return exact.divide(top, bottom)
        if token == "\\sqrt":
            return self.root()
        if token in ("(", "[", "{"):
            self.at -= 1
            return self.bracketed(_CLOSING[token])
        if token == "|":
            return self.absolute()
        if token in ("\\lfloor", "\\lceil"):
            self.at -= 1
            value = self.bracketed(_CLOSING[token]).rational
            if value is None:
                raise NotUnderstood("a rounded expression")
            return number(value.__floor__() if token == "\\lfloor" else value.__ceil__())
        if token == "\\binom":
            return binomial(self.argument().rational, self.argument().rational)
        if token in _FUNCTIONS:
            return self.function(token)
        raise NotUnderstood(f"{token} in an expression")

    def bracketed(self, closing: str) -> Expression:
        self.deeper()
        self.take()
        value = self.sum_()
        self.spaces()
        self.take(closing)
        self.depth -= 1
        return value

    def absolute(self) -> Expression:
        if self.in_bars:
            raise NotUnderstood("bars inside bars")
        self.in_bars = True
        value = self.sum_()
        self.in_bars = False
        self.take("|")
        plain = value.rational
        return exact.opaque("abs", value) if plain is None else number(abs(plain))

    def root(self) -> Expression:
        self.deeper()
        order = Fraction(2)
        if self.peek() == "[":
            self.take()
            degree = self.sum_().rational
            self.take("]")
            if degree is None or degree.denominator != 1 or degree < 2:
                raise NotUnderstood("a root whose order is no number")
            order = degree
        inner = self.argument()
        self.depth -= 1
        return exact.power(inner, number(1 / order))

    def variable(self, name: str) -> Expression:
        if self.peek() == "_":
            if self.peek(1) == "{":
                end = self.tokens.index("}", self.at) if "}" in self.tokens[self.at :] else -1
                if end < 0:
                    raise NotUnderstood("a subscript that is not closed")
                name += "_" + "".join(self.tokens[self.at + 2 : end])
                self.at = end + 1
            else:
                self.take()
                name += "_" + self.take()
        return exact.atom(name)

    def function(self, token: str) -> Expression:
        name = token[1:]
        base: Expression | None = None
        exponent: Expression | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.argument()
            else:
                exponent = self.exponent()
        self.spaces()
        if self.peek() == "(":
            inner = self.bracketed(")")
        elif self.peek() == "{":
            inner = self.braces()
        else:
            # sin 2x, sin 2\\pi x: up to the next sign, function or number.
            inner, _ = self.power()
            while (len(self.peek()) == 1 and self.peek().isalpha()) or self.peek() in _GO_WITH:
                inner = exact.multiply(inner, self.power()[0])
        if self.degrees() and self.peek() == "^":
            self.unit()
            name += "°"
        if exponent is not None and exponent.rational == -1 and name in _INVERTED:
            # sin^{-1} is the inverse function, not the reciprocal.
            return function_of(f"arc{name}", base, inner)
        value = function_of(name, base, inner)
        return value if exponent is None else exact.power(value, exponent)

    def unit(self) -> str:
        """The unit after a quantity, in its simple form."""
        words: list[str] = []
        while True:
            token = self.peek()
            if token == " ":
                self.at += 1
            elif token in ("%", "°"):
                words.append(token)
                self.at += 1
            elif token == "^" and self.peek(1) == "\\circ":
                words.append("°")
                self.at += 2
                if self.peek() in ("C", "F") and self.peek(1) not in ("^", "("):
                    words.append(self.take())
            elif token == "^" and self.peek(1) == "{" and self.peek(2) == "\\circ" and self.peek(3) == "}":
                words.append("°")
                self.at += 4
                if self.peek() in ("C", "F") and self.peek(1) not in ("^", "("):
                    words.append(self.take())
            elif token.startswith('"') and token not in SEPARATORS:
                if token[1:] in NO_UNITS or token[1:] in SCALES:
                    raise NotUnderstood(f"{token[1:]} behind a number")
                words.append(token[1:])
                self.at += 1
            elif words and token == "^" and self.peek(1) in ("2", "3"):
                words += ["^", self.peek(1)]
                self.at += 2
            elif words and token == "^" and self.peek(1) == "{" and self.peek(2) in ("2", "3") and self.peek(3) == "}":
                words += ["^", self.peek(2)]
                self.at += 4
            elif words and token == "/" and (self.peek(1).startswith('"') or self.peek(1) in UNIT_LETTERS):
                words += ["/", self.peek(1).strip('"')]
                self.at += 2
            elif words and token == ".":
                self.at += 1
            else:
                return simple_unit(tuple(words)) if words else ""
