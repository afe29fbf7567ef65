"""The oracle of the arithmetic world: it finds the first wrong step of *any* text.

It judges a step by its statements, not by its wording:

1. Every equation `expression = value` must be true arithmetic *and* a calculation of the plan: the tree of the
   expression matches an operation, in which a number stands for the given number or result with its value (so a step
   may be skipped, or several be written as one), `+` and `*` commute, and the stated value is the true result. A chain
   `a = b = c` is judged pair by pair. True arithmetic on other numbers is wrong even if its value is right by luck.
   Equations consist of numbers and operators only; dollar signs are ignored.
2. A boxed answer must be the answer, as the grader reads numbers.
3. Any other number must be one of the question or a true result of the plan.
4. An equation without a right-hand side, or one that does not parse, is wrong. So is a step of more than
   `LONGEST_STEP` characters, or a number of more than 30 digits, because nothing in this world is that long.

A correct step that states nothing new (a repetition, a sentence without numbers) is neutral. Steps after the first
wrong one are not judged: a step that builds on a mistake is neither right nor wrong.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

from openr_data.grading import exact_number
from openr_data.types import Label

from .problems import Operation, Operator


class Reason(StrEnum):
    """The reason for the label of a step."""

    ADVANCES = "states a result of the plan for the first time"
    ANSWERS = "states the answer"
    REPEATS = "states nothing new"
    WORDS = "states no number"
    ARITHMETIC = "the two sides of an equation differ"
    OPERANDS = "the calculation is not one of the plan"
    NUMBER = "a number that the problem does not have"
    ANSWER = "not the answer"
    MALFORMED = "an equation that does not parse"
    AFTER = "comes after the first wrong step"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The label of one step and its reason. `label` is None after the first wrong step."""

    label: Label | None
    reason: Reason


Expression = Fraction | tuple[Operator, "Expression", "Expression"]

LONGEST_STEP = 2_000
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ENDLESS = re.compile(r"\d{31}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?:\{((?:[^{}]|\{[^{}]*\})*)\}|(-?\d+(?:\.\d+)?))")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})  # noqa: RUF001
_ATOM = r"-?\(*\s*-?\d+(?:\.\d+)?(?:\s*\))*"
_EXPRESSION = rf"{_ATOM}(?:\s*[-+*/]\s*{_ATOM})*"
_EQUATION = re.compile(rf"{_EXPRESSION}\s*=(?:\s*{_EXPRESSION})?(?:\s*=\s*{_EXPRESSION})*")


def judge(question: str, plan: Sequence[Operation], steps: Sequence[str]) -> list[Judgement]:
    """Return one judgement per step. `question` gives the numbers that a step may mention freely."""
    allowed = {Fraction(number) for number in _NUMBER.findall(_clean(question))}
    allowed |= {Fraction(side.value) for operation in plan for side in (operation.left, operation.right)}
    allowed |= {Fraction(operation.result) for operation in plan}
    stated: set[str] = set()
    judgements: list[Judgement] = []
    for step in steps:
        if judgements and judgements[-1].label in (-1, None):
            judgements.append(Judgement(None, Reason.AFTER))
            continue
        judgements.append(_judge_step(step, plan, allowed, stated))
    return judgements


def first_error(judgements: Sequence[Judgement]) -> int | None:
    """Return the 0-based index of the first wrong step, or None."""
    return next((i for i, judgement in enumerate(judgements) if judgement.label == -1), None)


def _clean(text: str) -> str:
    text = text.translate(_SIGNS).replace("\\$", "").replace("$", "")
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=\d)", " * ", text)
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)


def _judge_step(step: str, plan: Sequence[Operation], allowed: set[Fraction], stated: set[str]) -> Judgement:
    if len(step) > LONGEST_STEP or _ENDLESS.search(step):
        return Judgement(-1, Reason.MALFORMED)
    text = _clean(step)
    new = answered = mentioned = False
    for braced, bare in _BOXED.findall(text):
        if exact_number(braced or bare) != plan[-1].result:
            return Judgement(-1, Reason.ANSWER)
        answered = mentioned = True
        new |= _first(stated, "answer")
    text = _BOXED.sub(" ", text)
    for equation in _EQUATION.findall(text):
        sides = [side.strip() for side in equation.split("=")]
        for left, right_side in pairwise(sides):
            wrong, operations = _judge_equation(left, right_side, plan)
            if wrong is not None:
                return Judgement(-1, wrong)
            mentioned = True
            # A plan may hold the same calculation twice: each writing states the next one.
            new |= any(_first(stated, f"operation {index}") for index in operations)
    rest = _EQUATION.sub(" ", text)
    if "=" in rest:
        return Judgement(-1, Reason.MALFORMED)
    for number in _NUMBER.findall(rest):
        if Fraction(number) not in allowed:
            return Judgement(-1, Reason.NUMBER)
        mentioned = True
    if answered and new:
        return Judgement(1, Reason.ANSWERS)
    if new:
        return Judgement(1, Reason.ADVANCES)
    return Judgement(0, Reason.REPEATS if mentioned else Reason.WORDS)


def _first(stated: set[str], fact: str) -> bool:
    new = fact not in stated
    stated.add(fact)
    return new


def _judge_equation(left: str, right: str, plan: Sequence[Operation]) -> tuple[Reason | None, list[int]]:
    """Return the reason why the equation is wrong (or None) and the indices of the operations it can state."""
    try:
        tree, value = _parse(left), _parse(right)
        true_value, stated_value = _value(tree), _value(value)
    except (ValueError, ZeroDivisionError, RecursionError):
        return Reason.MALFORMED, []
    if true_value != stated_value:
        return Reason.ARITHMETIC, []
    if isinstance(tree, Fraction):
        # `18 = 18`, or `18 = 3 * 6` written backwards: the calculation may stand on either side.
        if isinstance(value, Fraction):
            is_result = any(operation.result == value for operation in plan)
            return (None if is_result else Reason.OPERANDS), []
        tree = value
    operations = [index for index in range(len(plan)) if _matches(tree, index, plan)]
    return (None if operations else Reason.OPERANDS), operations


def _matches(tree: Expression, index: int, plan: Sequence[Operation]) -> bool:
    """Report whether the expression is the operation `index`, with sub-expressions written out or as values."""
    operation = plan[index]
    if isinstance(tree, Fraction) or tree[0] != operation.operator:
        return False

    def side(part: Expression, value: int, ref: int | None) -> bool:
        if isinstance(part, Fraction):
            return part == value
        return ref is not None and _matches(part, ref, plan)

    orders = [(tree[1], tree[2])]
    if operation.operator in "+*":
        orders.append((tree[2], tree[1]))
    return any(
        side(first, operation.left.value, operation.left.ref)
        and side(second, operation.right.value, operation.right.ref)
        for first, second in orders
    )


def _value(tree: Expression) -> Fraction:
    if isinstance(tree, Fraction):
        return tree
    left, right = _value(tree[1]), _value(tree[2])
    match tree[0]:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right


def _tokens(text: str) -> Iterator[str]:
    position = 0
    for match in re.finditer(r"\s*(\d+(?:\.\d+)?|[-+*/()])", text):
        if match.start() != position:
            break
        position = match.end()
        yield match.group(1)
    if text[position:].strip():
        raise ValueError(f"not an expression: {text!r}")


def _parse(text: str) -> Expression:
    """Parse `+ - * /`, parentheses and a sign, left to right with the usual precedence."""
    tokens = list(_tokens(text))
    position = 0

    def take() -> str:
        nonlocal position
        if position >= len(tokens):
            raise ValueError("an expression ends too early")
        position += 1
        return tokens[position - 1]

    def atom() -> Expression:
        token = take()
        if token == "(":
            inner = total()
            if take() != ")":
                raise ValueError("a parenthesis is not closed")
            return inner
        if token == "-":
            inner = atom()
            return -inner if isinstance(inner, Fraction) else ("-", Fraction(0), inner)
        return Fraction(token)

    def product() -> Expression:
        tree = atom()
        while position < len(tokens) and tokens[position] in "*/":
            operator: Operator = "*" if take() == "*" else "/"
            tree = (operator, tree, atom())
        return tree

    def total() -> Expression:
        tree = product()
        while position < len(tokens) and tokens[position] in "+-":
            operator: Operator = "+" if take() == "+" else "-"
            tree = (operator, tree, product())
        return tree

    tree = total()
    if position != len(tokens):
        raise ValueError("text after the expression")
    return tree
