"""What a policy is asked and what it answers."""

from dataclasses import dataclass
from typing import Final, Literal

Ended = Literal["end", "stop", "length", "abort"]
"""Why a completion ended: its own end, a stop string of the request, the token limit, or a cancelled request.

The end token of the model and the stop strings of its entry (`models.toml`) are its own end: the solution is complete.
"""

FinishReason = Literal["stop", "length", "abort"]
"""How a row of `rollouts` ended: a finished text, one cut by the token limit, or one that was cancelled."""

_FINISH: Final[dict[Ended, FinishReason]] = {"end": "stop", "stop": "stop", "length": "length", "abort": "abort"}


@dataclass(frozen=True, slots=True)
class Prefix:
    """A question and the steps written so far: what a policy continues.

    `open`: the last step is not finished, so no separator follows it.
    """

    question: str
    steps: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `seed` fixes all n samples of the request.

    `stop` are strings that end a completion, in addition to the model's own end; its text does not hold them.
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

    `n_tokens` counts the sampled tokens, the end token included. `prompt_tokens` are those of the shared prompt and
    `cached_tokens` the ones of them that the engine had read before, or None where it does not report them. `logprob`
    is the sum over the sampled tokens under the distribution they were sampled from, or None. `draw` is the seed and
    the index of the request that drew the sample, where another request than the answered one did. A `reused` sample
    was paid for by another job.
    """

    text: str
    n_tokens: int
    ended: Ended
    logprob: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    draw: tuple[int, int] | None = None
    reused: bool = False

    @property
    def finish_reason(self) -> FinishReason:
        """The value of the column `finish_reason` of `rollouts`, which does not part the two ways to finish."""
        return _FINISH[self.ended]


@dataclass(frozen=True, slots=True)
class SampledStep:
    """One step sampled from a prefix, without the separator that ended it.

    `ended` is "stop" where the separator follows and the solution goes on, "end" where the solution ended with this
    step, "length" or "abort" where the step was cut. `text` is blank only where the solution ended or was cut before
    another step began; such a step is not part of the solution. `n_tokens` counts the tokens of the step and of its
    separator, `logprob` is their sum or None, `calls` counts the completions it took. `draw` is the seed and the index
    of the request that drew the last of them.
    """

    text: str
    ended: Ended
    n_tokens: int
    logprob: float | None
    draw: tuple[int, int]
    calls: int = 1
