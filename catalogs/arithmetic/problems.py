"""Generates the word problems of the arithmetic world, with every step of their solutions known.

A problem is a *plan* (operations over given numbers and earlier results), a question that narrates the plan, and one
worked solution. Some sentences are *traps*: they are easily misread as another operation, and every misreading of a
problem leads to another answer. Everything is drawn from a `random.Random` with the seed (world, split, seed, level,
index), so the same name always gives the same problem, on any machine.

Train and test cannot overlap: the split of a problem is a hash of its numeric expression, so a problem and a version of
it with other names always fall on the same side.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from .stories import SETTINGS, Setting

Operator = Literal["+", "-", "*", "/"]
Split = Literal["train", "test"]

TEST_SHARE = 10
"""Percent of all numeric expressions that belong to the test split."""

SMALLEST_SHARE = 5


@dataclass(frozen=True, slots=True)
class Operand:
    """A given number, or the result of an earlier operation (`ref` is its index in the plan)."""

    value: int
    ref: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One calculation of the plan; `result` is its true value."""

    left: Operand
    operator: Operator
    right: Operand
    result: int

    def equation(self) -> str:
        """Return the calculation as a solution writes it, for example `3*6=18`."""
        return f"{self.left.value}{self.operator}{self.right.value}={self.result}"


@dataclass(frozen=True, slots=True)
class Misreading:
    """The wrong reading of a trap: another operator, and another right side if `right` is given."""

    operator: Operator
    right: int | None = None


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A word problem, the plan that solves it, and the words of one worked solution.

    `worked` has one line per operation, with `{equation}` to be filled in, and the closing line with `{answer}`;
    `misreadings` has one entry per operation, None if its sentence is not a trap.
    """

    text: str
    plan: tuple[Operation, ...]
    worked: tuple[str, ...]
    misreadings: tuple[Misreading | None, ...]
    level: int
    setting: str

    @property
    def answer(self) -> int:
        """The value of the last operation."""
        return self.plan[-1].result

    @property
    def solution(self) -> tuple[str, ...]:
        """The worked solution: one step per operation and one with the boxed answer."""
        return self.write(self.plan)

    @property
    def traps(self) -> dict[int, Misreading]:
        """The operations narrated as traps, each with its misreading."""
        return {index: misreading for index, misreading in enumerate(self.misreadings) if misreading is not None}

    def write(self, plan: Sequence[Operation]) -> tuple[str, ...]:
        """Write the worked solution with the calculations of this plan, which may be a misread one."""
        *lines, closing = self.worked
        steps = (line.format(equation=operation.equation()) for line, operation in zip(lines, plan, strict=True))
        return (*steps, closing.format(answer=plan[-1].result))

    def misread(self, misreadings: Mapping[int, Misreading]) -> tuple[Operation, ...]:
        """Return the plan of a solver that misreads these operations and otherwise calculates correctly.

        Raises `DoesNotFit` if that leads to a negative number or a division with a remainder.
        """
        done: list[Operation] = []
        for index, operation in enumerate(self.plan):
            left, right = (
                side if side.ref is None else Operand(done[side.ref].result, side.ref)
                for side in (operation.left, operation.right)
            )
            operator, taken = operation.operator, misreadings.get(index)
            if taken is not None:
                operator = taken.operator
                right = right if taken.right is None else Operand(taken.right)
            done.append(Operation(left, operator, right, _calculate(left.value, operator, right.value)))
        return tuple(done)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """The limits of a level: number of operations, largest intermediate value, ranges of the given numbers.

    `traps` is the share of the events that are narrated as traps.
    """

    operations: tuple[int, int]
    largest: int
    amount: tuple[int, int]
    size: tuple[int, int]
    traps: float


LEVELS: dict[int, Difficulty] = {
    1: Difficulty(operations=(1, 2), largest=80, amount=(4, 30), size=(2, 8), traps=0.3),
    2: Difficulty(operations=(2, 3), largest=150, amount=(5, 50), size=(3, 9), traps=0.28),
    3: Difficulty(operations=(3, 4), largest=250, amount=(8, 80), size=(3, 10), traps=0.3),
    4: Difficulty(operations=(4, 6), largest=400, amount=(10, 120), size=(4, 12), traps=0.3),
    5: Difficulty(operations=(6, 7), largest=600, amount=(10, 200), size=(4, 12), traps=0.33),
}


class DoesNotFit(Exception):
    """The draw exceeds a limit of the level (a value too large, a division with a remainder): draw again."""


def _calculate(left: int, operator: Operator, right: int) -> int:
    """Return the result; raises `DoesNotFit` unless it is a positive whole number."""
    if operator == "/" and (right == 0 or left % right):
        raise DoesNotFit
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else 0}[operator]
    if result <= 0:
        raise DoesNotFit
    return result


class _Draft:
    """A problem under construction: sentences, plan and worked steps grow together."""

    def __init__(self, rng: random.Random, level: int, setting: Setting) -> None:
        self.rng, self.bounds, self.setting = rng, LEVELS[level], setting
        self.sentences: list[str] = []
        self.plan: list[Operation] = []
        self.misreadings: list[Misreading | None] = []
        self.worked: list[str] = []
        self.words = setting.cast(rng)
        self.total = Operand(0)

    def narrate(self, key: str, **numbers: int | str) -> bool:
        """Add one sentence of the story; return whether it is a trap."""
        trap = key in self.setting.traps and self.rng.random() < self.bounds.traps
        sentence = self.rng.choice((self.setting.traps if trap else self.setting.sentences)[key])
        self.sentences.append(sentence.format(**self.words, **numbers))
        return trap

    def compute(
        self, key: str, left: Operand, operator: Operator, right: Operand, misreading: Misreading | None = None
    ) -> Operand:
        """Add one operation to the plan and its worked step; return the result as an operand."""
        result = _calculate(left.value, operator, right.value)
        if result > self.bounds.largest:
            raise DoesNotFit
        self.plan.append(Operation(left, operator, right, result))
        self.misreadings.append(misreading)
        self.worked.append(self.rng.choice(self.setting.worked[key]).format(**self.words, equation="{equation}"))
        return Operand(result, len(self.plan) - 1)

    def amount(self) -> int:
        return self.rng.randint(*self.bounds.amount)

    def size(self) -> int:
        return self.rng.randint(*self.bounds.size)

    def event(self, kind: str) -> None:
        """Narrate one event and compute it. Kinds are the keys of `EVENT_COST`."""
        count, size, amount = self.rng.randint(2, 9), self.size(), self.amount()
        match kind:
            case "gain":
                trap = Misreading("-") if self.narrate("gain", a=amount) else None
                self.total = self.compute("gain", self.total, "+", Operand(amount), trap)
            case "lose":
                trap = Misreading("+") if self.narrate("lose", a=amount) else None
                self.total = self.compute("lose", self.total, "-", Operand(amount), trap)
            case "gain_groups":
                trap = Misreading("+") if self.narrate(kind, b=count, c=size) else None
                group = self.compute("gain_groups_product", Operand(count), "*", Operand(size), trap)
                self.total = self.compute("gain", self.total, "+", group)
            case "lose_groups":
                trap = Misreading("+") if self.narrate(kind, b=count, c=size) else None
                group = self.compute("lose_groups_product", Operand(count), "*", Operand(size))
                self.total = self.compute("lose", self.total, "-", group, trap)
            case "half":
                trap = Misreading("-", 2) if self.narrate("half") else None
                self.total = self.compute("half", self.total, "/", Operand(2), trap)
            case "times":
                factor = self.rng.choice((2, 2, 3))
                trap = Misreading("*", 3) if self.narrate("double" if factor == 2 else "triple") else None
                self.total = self.compute("times", self.total, "*", Operand(factor), trap)
            case "share":
                self.narrate("share", n=count)
                self.total = self.compute("share", self.total, "/", Operand(count))
                # A share of one or two could be guessed, and would not depend on the steps before it.
                if self.total.value < SMALLEST_SHARE:
                    raise DoesNotFit
            case "together" | "difference":
                factor = self.rng.choice((2, 3, 4) if kind == "together" else (3, 4, 5))
                is_trap = self.narrate(kind, f="twice" if factor == 2 else f"{factor} times", n=factor)
                trap = Misreading("+") if is_trap else None
                other = self.compute("other", Operand(factor), "*", self.total, trap)
                if kind == "together":
                    self.total = self.compute("together", self.total, "+", other)
                else:
                    self.total = self.compute("difference", other, "-", self.total)
            case _:
                raise ValueError(f"no event {kind!r}")

    def start(self, product: bool) -> None:
        """Narrate the initial amount: a given number, or groups of equal size."""
        if product:
            count, size = self.rng.randint(2, 9), self.size()
            self.narrate("start_product", b=count, c=size)
            self.total = self.compute("start_product", Operand(count), "*", Operand(size))
        else:
            amount = self.rng.randint(self.bounds.amount[0], self.bounds.largest // 2)
            self.narrate("start", a=amount)
            self.total = Operand(amount)


EVENT_COST = {
    "gain": 1,
    "lose": 1,
    "gain_groups": 2,
    "lose_groups": 2,
    "half": 1,
    "times": 1,
}
ENDING_COST = {"ask": 0, "share": 1, "together": 2, "difference": 2}


def _draw(rng: random.Random, level: int) -> WordProblem:
    name = rng.choice(sorted(SETTINGS))
    draft = _Draft(rng, level, SETTINGS[name])
    left = rng.randint(*draft.bounds.operations)
    endings = [kind for kind, cost in ENDING_COST.items() if cost <= left]
    ending = rng.choice(endings)
    left -= ENDING_COST[ending]
    product = left >= 1 and rng.random() < 0.35
    draft.start(product)
    left -= product
    previous = ""
    while left:
        kinds = [
            kind
            for kind, cost in EVENT_COST.items()
            if cost <= left and {kind, previous} != {"half", "times"} and kind != previous
        ]
        previous = rng.choice(kinds)
        draft.event(previous)
        left -= EVENT_COST[previous]
    if ending == "ask":
        draft.narrate("ask")
    else:
        draft.event(ending)
    closing = rng.choice(("The answer is", "So the answer is"))
    worked = (*draft.worked, f"{closing} \\boxed{{{{{{answer}}}}}}.")
    problem = WordProblem(" ".join(draft.sentences), tuple(draft.plan), worked, tuple(draft.misreadings), level, name)
    if problem.answer in {plan[-1].result for plan in _misreadings(problem)}:
        raise DoesNotFit
    return problem


def _misreadings(problem: WordProblem) -> Iterator[tuple[Operation, ...]]:
    """Yield the plan of every way to misread a problem. Raises `DoesNotFit` if one cannot be calculated."""
    for count in range(1, len(problem.traps) + 1):
        for traps in combinations(problem.traps.items(), count):
            yield problem.misread(dict(traps))


def expression(plan: tuple[Operation, ...]) -> str:
    """Return the whole calculation as one expression, for example `((14+(3*6))/2)`, independent of names."""
    written: list[str] = []
    for operation in plan:
        left, right = (
            str(side.value) if side.ref is None else written[side.ref] for side in (operation.left, operation.right)
        )
        written.append(f"({left}{operation.operator}{right})")
    return written[-1]


def split_of(plan: tuple[Operation, ...]) -> Split:
    """Return the split of a plan, which is a hash of its expression."""
    digest = hashlib.blake2b(expression(plan).encode(), digest_size=4).digest()
    return "test" if int.from_bytes(digest, "big") % 100 < TEST_SHARE else "train"


def make_problem(split: Split, level: int, seed: int, index: int) -> WordProblem:
    """Make the problem with this name. Raises `KeyError` for a level that does not exist."""
    rng = random.Random(f"arithmetic/{split}/{level}/{seed}/{index}")
    while True:
        try:
            problem = _draw(rng, level)
        except DoesNotFit:
            continue
        if split_of(problem.plan) == split:
            return problem


def problems(split: Split, seed: int, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Iterator[WordProblem]:
    """Yield an endless stream of distinct problems, cycling through the levels."""
    seen: set[str] = set()
    index = 0
    while True:
        problem = make_problem(split, levels[index % len(levels)], seed, index)
        index += 1
        if problem.text not in seen:
            seen.add(problem.text)
            yield problem


def plan_to_json(plan: tuple[Operation, ...]) -> list[list[Any]]:
    """Encode the plan as lists, one per operation: `[left, left_ref, operator, right, right_ref, result]`."""
    return [[p.left.value, p.left.ref, p.operator, p.right.value, p.right.ref, p.result] for p in plan]


def plan_from_json(rows: list[list[Any]]) -> tuple[Operation, ...]:
    """Decode what `plan_to_json` returns."""
    return tuple(Operation(Operand(a, a_ref), op, Operand(b, b_ref), result) for a, a_ref, op, b, b_ref, result in rows)
