r"""Read the tokens of an answer as a value, by recursive descent over the notations of final answers.

    answer    = [name "="] list                     x = 5 · f(x) = 2x+1 · 2+3 = 5
              | expression relation expression …    x > 3 · 1 \le x < 2 (read as intervals)
    list      = item (("," | ";" | "and" | "or") item)*
    item      = words | option | sum [unit] | union | ratio

`expressions.py` reads a sum and everything below it, `relations.py` the two sides of `=`. Any other notation raises
`NotUnderstood`; a value that would be too large raises `TooHard`. Neither is a judgement about the answer.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Final

from . import exact
from .amounts import clock_of, compound_of
from .exact import TooHard, number
from .expressions import RELATIONS, SEPARATORS, ExpressionReader
from .functions import NotUnderstood, in_base, is_digits
from .intervals import INFINITY, from_relations, intersection, of_absolute, union
from .relations import assignment, equal, is_name
from .tokens import Tokens
from .units import NAMES, NO_UNITS, SCALES, simple_unit
from .values import Group, Interval, Named, Option, Quantity, Union, Value, Word
from .words import ARTICLES, COUNTS, FILLERS, NUMERAL_WORDS

MATRICES: Final = frozenset({'"pmatrix', '"bmatrix', '"matrix', '"array', '"smallmatrix', '"cases', '"Bmatrix'})


def parse(tokens: Tokens) -> Value:
    """The value of an answer. Raises `NotUnderstood` and `TooHard`."""
    if not tokens:
        raise NotUnderstood("nothing")
    if tokens.count("\\pm") + tokens.count("\\mp"):
        return _both_signs(tokens)
    try:
        return _Parser(tokens).answer()
    except RecursionError as error:
        raise TooHard("nested too deeply") from error


_REALS: Final = frozenset({"all real numbers", "all reals", "all real number", "real numbers", "all numbers"})
GOES_ON: Final = frozenset({"^", "_", "+", "-", "*", "/", "\\cup", "\\cap", "\\setminus", "(", "!", "'", *SEPARATORS})
"""Tokens after a bracketed letter that show it is not an option."""


class _Parser(ExpressionReader):
    """The methods that read answers, lists, units, brackets and matrices."""

    def answer(self) -> Value:
        while self.peek() in ("=", "\\approx", ":") or (
            self.peek().startswith('"') and self.peek()[1:] in FILLERS and self.at + 1 < len(self.tokens)
        ):
            self.at += 1
        if self.at == len(self.tokens):
            raise NotUnderstood("nothing")
        option = self.option()
        if option is not None:
            return option
        word = self.words()
        if word is not None:
            return word
        places = self.relations()
        if places:
            return self.related(places)
        value = self.list_()
        self.spaces()
        if self.at < len(self.tokens):
            raise NotUnderstood(f"more behind the answer: {self.peek()}")
        return value

    def relations(self) -> list[int]:
        """Where relations stand outside all brackets."""
        places: list[int] = []
        depth = 0
        for place, token in enumerate(self.tokens[self.at :], self.at):
            if token in ("(", "[", "\\{", "{", "\\lfloor", "\\lceil", "\\begin"):
                depth += 1
            elif token in (")", "]", "\\}", "}", "\\rfloor", "\\rceil", "\\end"):
                depth -= 1
            elif token in RELATIONS and depth == 0:
                places.append(place)
        return places

    def related(self, places: list[int]) -> Value:
        """`x = 5`, `x > 3`, `1 < x \\le 2`, `x \\in [0,1]`, `y = 2x + 1`, `x = 1, y = 2`, `x < 1 or x > 2`."""
        rows = self.split_top(self.tokens[self.at :], frozenset({";"}))
        if len(rows) > 1 and all(row.count("=") > 1 for row in rows):
            # p=5,q=2;p=7,q=2: two solutions of two values.
            return Group("list", tuple(assignment(parse(row)) for row in rows))
        pieces = self.split_top(self.tokens[self.at :], SEPARATORS)
        if len(pieces) > 1 and sum(any(token in RELATIONS for token in piece) for piece in pieces) > 1:
            return self.several(pieces)
        cuts = [self.at - 1, *places, len(self.tokens)]
        sides = [self.tokens[first + 1 : last] for first, last in pairwise(cuts)]
        signs = [self.tokens[place] for place in places]
        if not all(sides):
            raise NotUnderstood("a relation without a side")
        if all(sign in ("=", "\\approx") for sign in signs):
            return equal(sides, signs, parse)
        if signs == ["\\in"]:
            return Named(sides[0], parse(sides[1]))
        if all(sign in ("<", ">", "\\le", "\\ge") for sign in signs) and len(signs) <= 2:
            # f(x) < 1 states the same as y < 1.
            named = [("x",) if is_name(side) and len(side) > 1 and side[0] != "|" else side for side in sides]
            bars = [side[0] == side[-1] == "|" and len(side) == 3 for side in named]
            inner = [side[1:2] if barred else side for side, barred in zip(named, bars, strict=True)]
            interval = from_relations([parse(side) for side in inner], signs)
            return of_absolute(interval) if any(bars) else interval
        raise NotUnderstood("a relation that is not read")

    def several(self, pieces: list[Tokens]) -> Value:
        """Several relations: equations make a list, inequalities a union ("or") or an intersection ("and")."""
        values = [parse(piece) for piece in pieces]
        if all(isinstance(value, (Interval, Union)) for value in values):
            return union(values) if '"or' in self.tokens else intersection(values)
        return Group("list", tuple(values))

    @staticmethod
    def split_top(tokens: Tokens, at: frozenset[str]) -> list[Tokens]:
        """The tokens cut at these ones, outside all brackets."""
        pieces: list[Tokens] = []
        depth, start = 0, 0
        for place, token in enumerate(tokens):
            if token in ("(", "[", "\\{", "{", "\\begin"):
                depth += 1
            elif token in (")", "]", "\\}", "}", "\\end"):
                depth -= 1
            elif depth == 0 and token in at:
                pieces.append(tokens[start:place])
                start = place + 1
        pieces.append(tokens[start:])
        return [piece for piece in pieces if piece]

    def option(self) -> Option | None:
        """`(B)`, `option B`, or a bare capital from A to J, unless an expression continues after it."""
        tokens = self.tokens[self.at :]
        if tokens[0] in ('"option', '"choice') and len(tokens) > 1:
            tokens = tokens[1:]
        option: Option | None = None
        if tokens[0] == "(" and len(tokens) >= 3 and tokens[2] == ")" and _is_option(tokens[1]):
            option = Option(tokens[1], tokens[3:])
        elif _is_option(tokens[0]) and (len(tokens) == 1 or tokens[1] in (")", ".", ":")):
            option = Option(tokens[0], tokens[2:])
        if option is None or not option.rest:
            return option
        goes_on = option.rest[0] in GOES_ON or any(token in RELATIONS or token == ":" for token in option.rest)
        return None if goes_on or any(_is_option(token) for token in option.rest) else option

    def words(self) -> Value | None:
        """An answer that consists of words, or None."""
        tokens = [token for token in self.tokens[self.at :] if token not in (" ", ".", "'")]
        if not tokens or not any(token.startswith('"') for token in tokens):
            return None
        # "October 30" is words, "5 apples" a quantity.
        dated = tokens[0].startswith('"') and tokens[0][1:] not in NAMES
        if not all(
            token.startswith('"') or (len(token) == 1 and token.isalpha()) or (dated and token.isdigit())
            for token in tokens
        ):
            return None
        if any(token in ('"and', '"or') for token in tokens):
            return None
        words = [token.strip('"').lower() for token in tokens]
        telling = [word for word in words if word not in ARTICLES] or words
        if " ".join(telling) in _REALS:
            return Interval(exact.negate(INFINITY), INFINITY, False, False)
        if len(telling) == 1 and telling[0] in COUNTS:
            return Quantity(number(COUNTS[telling[0]]))
        if (
            len(telling) > 1
            and telling[0] in COUNTS
            and not (NUMERAL_WORDS | NO_UNITS | SCALES.keys()) & set(telling[1:])
        ):
            return Quantity(number(COUNTS[telling[0]]), simple_unit(tuple(telling[1:])))
        return Word(" ".join(telling))

    def list_(self) -> Value:
        """All items that follow; a single one is returned as itself."""
        items = [self.item()]
        while True:
            self.spaces()
            if self.peek() not in SEPARATORS:
                break
            joins = self.peek() == '"and'
            while self.peek() in SEPARATORS:
                self.at += 1
            if not self.peek():
                break
            items.append(self.item())
            whole = compound_of(items[-2], items[-1]) if joins else None
            if whole is not None:
                # 3 hours and 30 minutes.
                items[-2:] = [whole]
        return items[0] if len(items) == 1 else Group("list", tuple(items))

    def item(self) -> Value:
        """One member of a list: words, a union of sets, a ratio, or a quantity with its unit."""
        self.spaces()
        if self.peek().startswith('"'):
            words: list[str] = []
            while self.peek().startswith('"') and self.peek() not in SEPARATORS:
                words.append(self.take()[1:])
            telling = [word for word in words if word not in ARTICLES] or words
            if len(telling) == 1 and telling[0] in COUNTS:
                return Quantity(number(COUNTS[telling[0]]))
            if self.peek() in ("", ")", "]", "\\}", *SEPARATORS):
                return Word(" ".join(telling))
            if all(word in NAMES for word in telling):
                # Money in words before the number: "dollars 5".
                value = self.item()
                if isinstance(value, Quantity) and not value.unit:
                    return Quantity(value.value, simple_unit(tuple(telling)))
            raise NotUnderstood("words before an expression")
        value = self.summand()
        if isinstance(value, Quantity) and value.unit and is_digits(self.peek()):
            value = self.compound(value)
        parts = [value]
        while self.peek() == "\\cup":
            self.take()
            parts.append(self.summand())
        if len(parts) > 1:
            return union(parts)
        if self.peek() == ":" and isinstance(value, Quantity):
            ratio: list[Value] = [value]
            while self.peek() == ":":
                self.take()
                ratio.append(self.summand())
            return clock_of(ratio) or Group("ratio", tuple(ratio))
        if self.peek() == "\\setminus":
            raise NotUnderstood("a difference of sets")
        return value

    def compound(self, first: Quantity) -> Quantity:
        """`1 hour 30 minutes` in the smaller unit."""
        whole = compound_of(first, self.summand())
        if whole is None:
            raise NotUnderstood("two quantities in a row")
        return whole

    def summand(self) -> Value:
        """A set, a bracket, a matrix, or a sum with its unit."""
        self.spaces()
        token = self.peek()
        if token == "\\mathbb":
            return self.numbers()
        if token == "\\emptyset" or (token == "\\{" and self.peek(1) == "\\}"):
            self.at += 1 if token == "\\emptyset" else 2
            return Word("empty set")
        if token == "\\begin":
            return self.matrix()
        if token in ("(", "[", "\\{") or (token == "]" and self.at == 0):
            value_in_brackets = self.bracket(token)
            if value_in_brackets is not None:
                return value_in_brackets
        start = self.at
        value = self.sum_()
        written = self.tokens[start : self.at]
        decimal = (
            "".join(written) if len(written) <= 2 and "." in written[-1] and written[0][0] in "-0123456789" else ""
        )
        if self.peek()[1:] in SCALES and self.peek()[0] == '"':
            value = exact.multiply(value, number(SCALES[self.take()[1:]]))
            decimal = ""
        unit, base, digits = self.unit(), 10, ""
        if self.peek() == "_" and value.rational is not None and self.tokens[self.at - 1].isdigit():
            base, digits = self.base()
            value = in_base(digits, base)
        return Quantity(value, unit, base, digits, decimal)

    def numbers(self) -> Value:
        """`\\mathbb{R}` as an interval; other sets of numbers are not read."""
        self.take()
        name = self.tokens[self.at : self.at + 3]
        if name != ("{", "R", "}"):
            raise NotUnderstood("a set of numbers")
        self.at += 3
        return Interval(exact.negate(INFINITY), INFINITY, False, False)

    def base(self) -> tuple[int, str]:
        digits = self.tokens[self.at - 1]
        self.take("_")
        braced = self.peek() == "{"
        if braced:
            self.take()
        token = self.take().strip('"')
        if braced:
            self.take("}")
        base = int(token) if token.isdigit() else int(COUNTS.get(token, Fraction(0)))
        if not 2 <= base <= 36 or self.at - (4 if braced else 2) - 1 < 0:
            raise NotUnderstood("a subscript that is no base")
        return base, digits

    def bracket(self, opening: str) -> Value | None:
        """A tuple, an interval or a set; None, with no token consumed, if the bracket is part of an expression."""
        start = self.at
        self.deeper()
        self.take()
        if opening == "\\{" and self.peek(1) in ("|", ":") and self.peek().isalpha() and self.tokens[-1] == "\\}":
            # {x | x > 3}: the set that the inequality names.
            inside = self.tokens[self.at + 2 : -1]
            self.at = len(self.tokens)
            self.depth -= 1
            return parse(inside)
        try:
            inner = self.list_()
            self.spaces()
            closing = self.take()
        except NotUnderstood:
            if opening != "(":
                raise
            self.at = start
            self.depth -= 1
            return None
        self.depth -= 1
        items = inner.items if isinstance(inner, Group) and inner.kind == "list" else (inner,)
        if opening == "\\{":
            if closing != "\\}":
                raise NotUnderstood("a set that is not closed")
            return Group("set", items)
        if closing not in (")", "]", "["):
            raise NotUnderstood("a bracket that is not closed")
        if len(items) == 1:
            if isinstance(items[0], (Group, Interval, Union)):
                # Brackets around a matrix or a tuple.
                return items[0]
            if opening == "[" and self.peek() in ("", ")", *SEPARATORS) and closing == "]":
                return Group("bracket", items)
            self.at = start
            return None
        if len(items) == 2 and (opening, closing) not in (("(", ")"), ("[", "]")):
            low, high = items
            if isinstance(low, Quantity) and isinstance(high, Quantity):
                return Interval(low.value, high.value, opening == "[", closing == "]")
        if opening == "(" and closing == ")":
            return Group("tuple", items)
        if opening == "[" and closing == "]":
            return Group("bracket", items)
        raise NotUnderstood("brackets that do not match")

    def matrix(self) -> Value:
        self.deeper()
        self.take("\\begin")
        self.take("{")
        if self.take() not in MATRICES:
            raise NotUnderstood("an environment that is no matrix")
        self.take("}")
        if self.peek() == "{":
            # The columns of an array.
            while self.take() != "}":
                continue
        rows: list[Value] = []
        row: list[Value] = []
        while True:
            self.spaces()
            token = self.peek()
            if token == "\\end":
                break
            if token == "\\\\":
                self.take()
                rows.append(Group("row", tuple(row)))
                row = []
            elif token == "&":
                self.take()
            else:
                row.append(self.item())
        if row:
            rows.append(Group("row", tuple(row)))
        self.take("\\end")
        self.take("{")
        self.take()
        self.take("}")
        self.depth -= 1
        return Group("matrix", tuple(rows))


def _both_signs(tokens: Tokens) -> Value:
    """The two values of `1\\pm2`: all upper signs, and all lower ones."""
    upper, lower = ({"\\pm": first, "\\mp": second} for first, second in (("+", "-"), ("-", "+")))
    values = tuple(parse(tuple(signs.get(token, token) for token in tokens)) for signs in (upper, lower))
    if all(isinstance(value, Named) for value in values):
        name = values[0].name if isinstance(values[0], Named) else ()
        inner = tuple(value.value for value in values if isinstance(value, Named))
        return Named(name, Group("plus-minus", inner))
    return Group("plus-minus", values)


def _is_option(token: str) -> bool:
    return len(token) == 1 and token in "ABCDEFGHIJ"
