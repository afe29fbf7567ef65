"""What a policy is asked and what it answers."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "abort"]
"""Why a completion ended: its own end or a stop string; the token limit; cancelled."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A question and the steps written so far: what a policy continues.

    `open`: the last step is not finished, so that no separator stands behind it.
    """

    question: str
    steps: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `seed` fixes all n samples of the request.

    `stop` are strings that end a completion and are left out of its text, beside the model's own end.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100 or not 0 < self.top_p <= 1 or self.max_tokens < 1 or self.seed < 0:
            raise ValueError("temperature lies in [0, 100), top_p in (0, 1], max_tokens is at least 1, seed at least 0")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation of a prefix.

    `n_tokens` counts the sampled tokens (the end token too), `prompt_tokens` those of the shared prompt and
    `cached_tokens` the ones of them that the engine had read before, or None where it does not tell; `logprob` is the
    sum over the sampled tokens under the distribution sampled from, or None. `draw` is the seed and the index of the
    request it was drawn by, where that is not the one it answers; `reused`: another job has paid for it.
    """

    text: str
    n_tokens: int
    finish_reason: FinishReason
    logprob: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    draw: tuple[int, int] | None = None
    reused: bool = False
