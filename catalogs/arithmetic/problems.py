"""The generator of the arithmetic world: word problems whose every step is known.

A problem is a *plan* (operations over given numbers and earlier results), a question that tells the
plan as a story, and one worked solution. Everything is drawn from a `random.Random` that is seeded by
(world, split, seed, level, index), so the same name always gives the same problem, on any machine.

Train and test cannot overlap: the split of a problem is a hash of its numeric expression, so neither a
problem nor a retelling of it with other names can stand on both sides.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
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
        """The calculation as a solution writes it, for example `3*6=18`."""
        return f"{self.left.value}{self.operator}{self.right.value}={self.result}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem, the plan that solves it, and one worked solution (last step: the boxed answer)."""

    text: str
    plan: tuple[Operation, ...]
    solution: tuple[str, ...]
    level: int
    setting: str

    @property
    def answer(self) -> int:
        """The value of the last operation."""
        return self.plan[-1].result


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a level allows: number of operations, largest value on the way, ranges of the givens."""

    operations: tuple[int, int]
    largest: int
    amount: tuple[int, int]
    size: tuple[int, int]


LEVELS: dict[int, Difficulty] = {
    1: Difficulty(operations=(1, 2), largest=80, amount=(4, 30), size=(2, 8)),
    2: Difficulty(operations=(2, 3), largest=200, amount=(8, 60), size=(3, 10)),
    3: Difficulty(operations=(3, 4), largest=400, amount=(10, 120), size=(3, 15)),
    4: Difficulty(operations=(4, 6), largest=900, amount=(20, 250), size=(5, 25)),
    5: Difficulty(operations=(6, 7), largest=2_000, amount=(40, 600), size=(6, 40)),
}


class DoesNotFit(Exception):
    """The draw broke a bound of the level (a value too large, a division with a rest): draw again."""


class _Draft:
    """A problem while it is being told: sentences, plan and worked steps grow together."""

    def __init__(self, rng: random.Random, level: int, setting: Setting) -> None:
        self.rng, self.bounds, self.setting = rng, LEVELS[level], setting
        self.sentences: list[str] = []
        self.plan: list[Operation] = []
        self.steps: list[str] = []
        self.words = setting.cast(rng)
        self.total = Operand(0)

    def tell(self, key: str, **numbers: int | str) -> None:
        """Add one sentence of the story."""
        sentence = self.rng.choice(self.setting.sentences[key])
        self.sentences.append(sentence.format(**self.words, **numbers))

    def compute(self, key: str, left: Operand, operator: Operator, right: Operand) -> Operand:
        """Add one operation to the plan and its worked step; return the result as an operand."""
        a, b = left.value, right.value
        if operator == "/" and (b == 0 or a % b):
            raise DoesNotFit
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[operator]
        if not 0 < result <= self.bounds.largest:
            raise DoesNotFit
        operation = Operation(left, operator, right, result)
        self.plan.append(operation)
        worked = self.rng.choice(self.setting.worked[key])
        self.steps.append(worked.format(**self.words, equation=operation.equation()))
        return Operand(result, len(self.plan) - 1)

    def amount(self) -> int:
        return self.rng.randint(*self.bounds.amount)

    def size(self) -> int:
        return self.rng.randint(*self.bounds.size)

    def event(self, kind: str) -> None:
        """Tell one event and work it out. Kinds are the keys of `EVENT_COST`."""
        count, size, amount = self.rng.randint(2, 9), self.size(), self.amount()
        match kind:
            case "gain":
                self.tell("gain", a=amount)
                self.total = self.compute("gain", self.total, "+", Operand(amount))
            case "lose":
                self.tell("lose", a=amount)
                self.total = self.compute("lose", self.total, "-", Operand(amount))
            case "gain_groups" | "lose_groups":
                self.tell(kind, b=count, c=size)
                group = self.compute(f"{kind}_product", Operand(count), "*", Operand(size))
                sign: Operator = "+" if kind == "gain_groups" else "-"
                self.total = self.compute(kind[:4], self.total, sign, group)
            case "half":
                self.tell("half")
                self.total = self.compute("half", self.total, "/", Operand(2))
            case "times":
                factor = self.rng.choice((2, 2, 3))
                self.tell("double" if factor == 2 else "triple")
                self.total = self.compute("times", self.total, "*", Operand(factor))
            case "share":
                self.tell("share", n=count)
                self.total = self.compute("share", self.total, "/", Operand(count))
                # A share of one or two can be guessed: it would say nothing of the steps before it.
                if self.total.value < SMALLEST_SHARE:
                    raise DoesNotFit
            case "together" | "difference":
                factor = self.rng.choice((2, 3, 4) if kind == "together" else (3, 4, 5))
                self.tell(kind, f="twice" if factor == 2 else f"{factor} times")
                other = self.compute("other", Operand(factor), "*", self.total)
                if kind == "together":
                    self.total = self.compute("together", self.total, "+", other)
                else:
                    self.total = self.compute("difference", other, "-", self.total)
            case _:
                raise ValueError(f"no event {kind!r}")

    def start(self, product: bool) -> None:
        """Tell what there is at the beginning: a given number, or groups of equal size."""
        if product:
            count, size = self.rng.randint(2, 9), self.size()
            self.tell("start_product", b=count, c=size)
            self.total = self.compute("start_product", Operand(count), "*", Operand(size))
        else:
            amount = self.rng.randint(self.bounds.amount[0], self.bounds.largest // 2)
            self.tell("start", a=amount)
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


def _draw(rng: random.Random, level: int) -> Problem:
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
        draft.tell("ask")
    else:
        draft.event(ending)
    closing = rng.choice(("The answer is", "So the answer is"))
    answer = draft.plan[-1].result
    solution = (*draft.steps, f"{closing} \\boxed{{{answer}}}.")
    return Problem(" ".join(draft.sentences), tuple(draft.plan), solution, level, name)


def expression(plan: tuple[Operation, ...]) -> str:
    """The whole calculation as one expression, for example `((14+(3*6))/2)`: names play no part."""
    written: list[str] = []
    for operation in plan:
        left, right = (
            str(side.value) if side.ref is None else written[side.ref] for side in (operation.left, operation.right)
        )
        written.append(f"({left}{operation.operator}{right})")
    return written[-1]


def split_of(plan: tuple[Operation, ...]) -> Split:
    """The split that a plan belongs to, by a hash of its expression."""
    digest = hashlib.blake2b(expression(plan).encode(), digest_size=4).digest()
    return "test" if int.from_bytes(digest, "big") % 100 < TEST_SHARE else "train"


def make_problem(split: Split, level: int, seed: int, index: int) -> Problem:
    """The problem with this name. Raises `KeyError` for a level that does not exist."""
    rng = random.Random(f"arithmetic/{split}/{level}/{seed}/{index}")
    while True:
        try:
            problem = _draw(rng, level)
        except DoesNotFit:
            continue
        if split_of(problem.plan) == split:
            return problem


def problems(split: Split, seed: int, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Iterator[Problem]:
    """An endless stream of distinct problems that goes round the levels."""
    seen: set[str] = set()
    index = 0
    while True:
        problem = make_problem(split, levels[index % len(levels)], seed, index)
        index += 1
        if problem.text not in seen:
            seen.add(problem.text)
            yield problem


def plan_to_json(plan: tuple[Operation, ...]) -> list[list[Any]]:
    """The plan as nested lists: `[left, left_ref, operator, right, right_ref, result]` an operation."""
    return [[p.left.value, p.left.ref, p.operator, p.right.value, p.right.ref, p.result] for p in plan]


def plan_from_json(rows: list[list[Any]]) -> tuple[Operation, ...]:
    """The inverse of `plan_to_json`."""
    return tuple(Operation(Operand(a, a_ref), op, Operand(b, b_ref), result) for a, a_ref, op, b, b_ref, result in rows)
