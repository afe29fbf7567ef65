"""The teacher of the shipped policy: it calculates without errors, falls into most traps, and misreads occasionally.

A policy that is wrong because it cannot calculate yet is a poor subject for process supervision: the next slip can undo
a slip of one digit, so a wrong step still reaches the answer. Real models fail by misreading. The policy therefore
learns from a corpus like theirs: a sentence that is easily misread is misread more often than not, any other sentence
occasionally, and everything after it is calculated correctly with the wrong number. Greedy decoding repeats the
mistakes of the traps; sampling finds the right reading in the remaining cases.
"""

import random

from .problems import DoesNotFit, Misreading, Operator, WordProblem

TRAPPED = 0.6
"""Share of the traps that the teacher falls into."""

CARELESS = 0.05
"""Share of all other operations that the teacher misreads."""

_TAKEN_FOR: dict[Operator, Operator] = {"+": "-", "-": "+", "*": "+", "/": "-"}


def teach(problem: WordProblem, rng: random.Random) -> tuple[str, ...]:
    """Return the steps that the teacher writes for a problem."""
    fallen = {index: misreading for index, misreading in problem.traps.items() if rng.random() < TRAPPED}
    careless = {
        index: _slip(problem, index, rng)
        for index in range(len(problem.plan))
        if index not in problem.traps and rng.random() < CARELESS
    }
    try:
        return problem.write(problem.misread({**fallen, **careless}))
    except DoesNotFit:
        # A careless misreading may be impossible to calculate, and is then dropped; a trap is always possible.
        return problem.write(problem.misread(fallen))


def _slip(problem: WordProblem, index: int, rng: random.Random) -> Misreading:
    """Return a wrong operator, or another number of the problem in place of the right one."""
    operation = problem.plan[index]
    if operation.right.ref is None and rng.random() < 0.5:
        given = {side.value for each in problem.plan for side in (each.left, each.right) if side.ref is None}
        others = sorted(given - {operation.right.value})
        if others:
            return Misreading(operation.operator, rng.choice(others))
    return Misreading(_TAKEN_FOR[operation.operator])
