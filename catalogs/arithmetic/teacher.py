"""The teacher of the shipped policy: calculates without a slip, falls into most traps, and misreads now and then.

A policy that is wrong because it cannot calculate yet is a poor subject for process supervision: a slip of one
digit is undone by the next slip, so a wrong step still reaches the answer. Real models fail by misreading. The
policy therefore learns from a corpus like theirs, in which a sentence that is easily misread is misread more
often than not, any other sentence once in a while, and everything after it is calculated correctly on the wrong
number: greedy decoding repeats the mistakes of the traps, sampling finds the right reading in the remaining cases.
"""

import random

from .problems import DoesNotFit, Misreading, Operator, Problem

TRAPPED = 0.6
"""Share of the traps that the teacher falls into."""

CARELESS = 0.05
"""Share of all other operations that the teacher misreads."""

_TAKEN_FOR: dict[Operator, Operator] = {"+": "-", "-": "+", "*": "+", "/": "-"}


def teach(problem: Problem, rng: random.Random) -> tuple[str, ...]:
    """The steps that the teacher writes for a problem."""
    fallen = {index: item for index, item in problem.traps.items() if rng.random() < TRAPPED}
    careless = {
        index: _slip(problem, index, rng)
        for index in range(len(problem.plan))
        if index not in problem.traps and rng.random() < CARELESS
    }
    try:
        return problem.write(problem.misread({**fallen, **careless}))
    except DoesNotFit:
        # Carelessness that cannot be calculated is noticed; a trap always can be.
        return problem.write(problem.misread(fallen))


def _slip(problem: Problem, index: int, rng: random.Random) -> Misreading:
    """Another operator, or another number of the problem in the place of the right one."""
    operation = problem.plan[index]
    if operation.right.ref is None and rng.random() < 0.5:
        given = {side.value for item in problem.plan for side in (item.left, item.right) if side.ref is None}
        others = sorted(given - {operation.right.value})
        if others:
            return Misreading(operation.operator, rng.choice(others))
    return Misreading(_TAKEN_FOR[operation.operator])
