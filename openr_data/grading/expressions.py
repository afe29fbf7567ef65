r"""Read an expression: the part of the grammar below an item, computed on the way by `exact.py`.

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
from .units import simple_unit

DEEPEST: Final = 40
"""Nesting of brackets and commands."""

SEPARATORS: Final = frozenset({",", ";", '"and', '"or'})
RELATIONS: Final = frozenset({"=", "<", ">", "\\le", "\\ge", "\\approx", "\\in", "\\ne", "\\equiv"})
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

    def sum_(self) -> tuple[Expression, Expression | None]:
        """A sum, and its other value where a sign is `\\pm`."""
        self.deeper()
        self.spaces()
        other: Expression | None = None
        value: Expression | None = None
        while True:
            token = self.peek()
            if token in ("+", "-", "\\pm", "\\mp"):
                self.take()
                sign = token
            elif value is None:
                sign = "+"
            else:
                break
            while self.peek() in ("+", "-"):
                sign = {"+": sign, "-": {"+": "-", "-": "+"}.get(sign, sign)}[self.take()]
            term = self.product()
            if sign in ("\\pm", "\\mp"):
                if other is not None:
                    raise NotUnderstood("two signs that may be either")
                plus, minus = term, exact.negate(term)
                other = exact.add(value or number(0), minus if sign == "\\pm" else plus)
                value = exact.add(value or number(0), plus if sign == "\\pm" else minus)
                continue
            term = term if sign == "+" else exact.negate(term)
            value = term if value is None else exact.add(value, term)
            other = None if other is None else exact.add(other, term)
        self.depth -= 1
        return value, other

    def one_sum(self) -> Expression:
        value, other = self.sum_()
        if other is not None:
            raise NotUnderstood("a sign that may be either inside an expression")
        return value

    def product(self) -> Expression:
        value, plain = self.power()
        while True:
            token = self.peek()
            if token == "*":
                self.take()
                factor, plain = self.power()
                value = exact.multiply(value, factor)
            elif token == "/":
                if self.peek(1).startswith('"'):
                    break
                self.take()
                factor, plain = self.power()
                value = exact.divide(value, factor)
            elif token == " ":
                # A number, a space, a fraction: a mixed number.
                if not (plain and is_digits(self.peek(1)) and self.peek(2) == "/" and is_digits(self.peek(3))):
                    break
                top, bottom = self.peek(1), self.peek(3)
                self.at += 4
                value = mixed(value, int(top), int(bottom))
                plain = False
            elif token == "\\frac" and plain and value.rational is not None and value.rational.denominator == 1:
                fraction, _ = self.power()
                part = fraction.rational
                value = (
                    exact.multiply(value, fraction) if part is None or not 0 < part < 1 else exact.add(value, fraction)
                )
                plain = False
            elif not token or token in _NO_FACTOR or token.startswith('"') or (token == "|" and self.in_bars):
                break
            elif is_digits(token):
                raise NotUnderstood("two numbers in a row")
            else:
                factor, plain = self.power()
                value = exact.multiply(value, factor)
        return value

    def power(self) -> tuple[Expression, bool]:
        """An atom with its postfixes; and whether it is a plain number, which a fraction may follow."""
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
            # TeX raises one digit, whoever writes 2^10 means ten.
            self.take()
            return number(rational(token))
        return self.atom()

    def braces(self) -> Expression:
        self.deeper()
        self.take("{")
        value = self.one_sum()
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
        value = self.one_sum()
        self.spaces()
        self.take(closing)
        self.depth -= 1
        return value

    def absolute(self) -> Expression:
        if self.in_bars:
            raise NotUnderstood("bars inside bars")
        self.in_bars = True
        value = self.one_sum()
        self.in_bars = False
        self.take("|")
        plain = value.rational
        return exact.opaque("abs", value) if plain is None else number(abs(plain))

    def root(self) -> Expression:
        self.deeper()
        order = Fraction(2)
        if self.peek() == "[":
            self.take()
            found = self.one_sum().rational
            self.take("]")
            if found is None or found.denominator != 1 or found < 2:
                raise NotUnderstood("a root whose order is no number")
            order = found
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
            inner, _ = self.power()
            while self.peek() and len(self.peek()) == 1 and self.peek().isalpha():
                inner = exact.multiply(inner, self.power()[0])
        if self.degrees() and self.peek() == "^":
            self.unit()
            name += "°"
        value = function_of(name, base, inner)
        return value if exponent is None else exact.power(value, exponent)

    def unit(self) -> str:
        """The unit behind a quantity, in its simple form."""
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
            elif token.startswith('"') and token not in SEPARATORS:
                words.append(token[1:])
                self.at += 1
            elif words and token == "^" and self.peek(1) in ("2", "3"):
                words += ["^", self.peek(1)]
                self.at += 2
            elif words and token == "^" and self.peek(1) == "{" and self.peek(2) in ("2", "3") and self.peek(3) == "}":
                words += ["^", self.peek(2)]
                self.at += 4
            elif words and token == "/" and self.peek(1).startswith('"'):
                words.append("/")
                self.at += 1
            elif words and token == ".":
                self.at += 1
            else:
                return simple_unit(tuple(words)) if words else ""
