"""Budgets and what was paid for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """The worst case of one question: requests, completions and completion tokens."""

    requests: int
    completions: int
    completion_tokens: int

    def __add__(self, other: "Budget") -> "Budget":
        return Budget(
            self.requests + other.requests,
            self.completions + other.completions,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(slots=True)
class Usage:
    """What was paid for, added up as replies arrive; replies read back from a journal are not paid for again.

    `prompt_tokens` counts a prompt once a request, `cached_tokens` the part of them that the engine had read before
    (None: it does not report that). `completion_tokens` are all sampled ones, `cut_tokens` those of the `truncated`
    completions, which ended at their limit. `reused` completions were paid for by another job; `cancelled` counts
    requests that were given up, whose tokens are not known.

    `reward_calls` are calls of the reward model, `reward_tokens` those of all solutions it was asked to score,
    `reward_tokens_read` what it had to read for them: a solution that begins like an earlier one is read from there on.
    """

    requests: int = 0
    completions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    truncated: int = 0
    cut_tokens: int = 0
    reused: int = 0
    cancelled: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    reward_tokens_read: int = 0

    def add(self, more: "Usage") -> None:
        """Add the numbers of another account to this one."""
        self.requests += more.requests
        self.completions += more.completions
        self.prompt_tokens += more.prompt_tokens
        if more.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + more.cached_tokens
        self.completion_tokens += more.completion_tokens
        self.truncated += more.truncated
        self.cut_tokens += more.cut_tokens
        self.reused += more.reused
        self.cancelled += more.cancelled
        self.reward_calls += more.reward_calls
        self.reward_tokens += more.reward_tokens
        self.reward_tokens_read += more.reward_tokens_read
