"""What a search ends with."""

from dataclasses import dataclass

from .sampling import FinishReason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution that a search ended with, as the policy wrote it. `scores` are those of its steps, where it has some.

    `draw` is the seed and the index of the request that wrote its last piece; `n_tokens` counts its own tokens.
    """

    text: str
    steps: tuple[str, ...]
    finish_reason: FinishReason
    n_tokens: int
    logprob: float | None = None
    draw: tuple[int, int] = (0, 0)
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, in its own order; no gold answer had a part in it.

    `calls` counts the completions it asked for, `tokens` what they hold: those of paths that it gave up too.
    """

    candidates: tuple[Candidate, ...]
    calls: int
    tokens: int
