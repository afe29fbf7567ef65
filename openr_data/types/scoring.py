"""What a reward model answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepScores:
    """The scores of a solution's steps, and what this call cost.

    `tokens_asked` are the tokens of the solution as the model reads it, `tokens_read` the part of them that was read
    for this call: what an earlier call left in memory, or another one under way reads, is not in it.
    """

    scores: tuple[float, ...]
    tokens_asked: int
    tokens_read: int
