"""The numbers of a running job, counted as its questions finish."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ..engine.journaled_policy import JournaledPolicy
from ..engine.prices import Price
from ..types import Labeling, Outcome
from .config import LABEL

RECENT: Final = 64
"""Finished questions that the pace is computed from."""
_PAID: Final = (
    "requests completions prompt_tokens cached_tokens completion_tokens cut_tokens reused "
    "reward_calls reward_tokens reward_tokens_read"
).split()
"""Numbers of the journal's total."""
_CARRIED: Final = ("seconds_total", "gpu_hours", "retries", "cancelled")
"""Numbers of earlier runs of a job that are not in its journal."""

Summary = Mapping[str, Any]
"""The numbers of one finished question."""


@dataclass(slots=True)
class Status:
    """The numbers of a job. `done` counts questions with an outcome, `failed` those with an error.

    `labelled` counts the questions that a labeling job has labelled, `answered` those for which a search job has a
    solution. `calls` counts the completions that finished questions asked for, `located` distinct first errors.
    `requests` and the fields after it are totals over all runs of the job; `seconds` is this run alone. `cost` is None
    if no price is known.
    """

    job_id: str
    total: int
    kind: str = LABEL
    done: int = 0
    failed: int = 0
    labelled: int = 0
    answered: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    located: int = 0
    calls: int = 0
    probes: int = 0
    repeated_probes: int = 0
    tokens: int = 0
    resumed: int = 0
    in_flight: int = 0
    journal_hits: int = 0
    truncated: int = 0
    tokens_per_second_now: float = 0.0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    requests: int = 0
    completions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    cut_tokens: int = 0
    reused: int = 0
    cancelled: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    reward_tokens_read: int = 0
    retries: int = 0
    seconds_total: float = 0.0
    gpu_hours: float | None = None
    cost: float | None = None
    currency: str = ""
    max_cost: float | None = None
    stopped_by: str = ""
    earlier: dict[str, float] = field(default_factory=dict, repr=False)
    finishes: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT), repr=False)

    @property
    def succeeded(self) -> int:
        """Questions that were labelled or answered."""
        return self.labelled + self.answered

    def go_on(self, last: Mapping[str, Any]) -> None:
        """Begin with the numbers of the last event of an earlier run."""
        self.earlier = {name: last.get(name) or 0 for name in _CARRIED}

    def count(self, summary: Summary, resumed: bool = False) -> None:
        """Add a finished question."""
        self.done += 1
        self.resumed += resumed
        if not resumed:
            self.finishes.append(time.monotonic())
        outcome = summary["outcome"]
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.labelled += outcome == Outcome.LABELLED
        self.answered += outcome == Outcome.ANSWERED
        for name in ("located", "calls", "probes", "repeated_probes", "tokens", "truncated"):
            setattr(self, name, getattr(self, name) + summary[name])

    def watch(self, policy: JournaledPolicy, started: float, gpus: int = 0, price: Price | None = None) -> None:
        """Read the numbers of the policy since `started` (`time.monotonic()`); `gpus` counts the GPUs it keeps busy."""
        paid = policy.paid
        self.seconds = time.monotonic() - started
        self.in_flight = policy.in_flight
        self.journal_hits = policy.hits
        for name in _PAID:
            setattr(self, name, getattr(paid, name))
        self.tokens_per_second = policy.fresh_tokens / max(self.seconds, 1e-9)
        self.tokens_per_second_now = policy.speed_now()
        before = self.earlier
        self.cancelled = policy.cancelled + int(before.get("cancelled", 0))
        self.retries = policy.retries + int(before.get("retries", 0))
        self.seconds_total = self.seconds + before.get("seconds_total", 0.0)
        hours = gpus * self.seconds / 3600 + before.get("gpu_hours", 0.0)
        self.gpu_hours = hours if gpus or hours else None
        self.cost = price.cost(paid, hours) if price else None
        self.currency = price.currency if price else ""

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the pace of the last questions of this run, or None before the first one is done."""
        left = self.total - self.done - self.failed
        fresh = self.done - self.resumed
        if not fresh:
            return None
        if len(self.finishes) < RECENT or fresh == len(self.finishes):
            return self.seconds / fresh * left
        return (time.monotonic() - self.finishes[0]) / (len(self.finishes) - 1) * left

    @property
    def calls_per_located(self) -> float | None:
        """Completions per distinct first error, or None before the first one."""
        return self.calls / self.located if self.located else None

    def as_dict(self) -> dict[str, Any]:
        """All numbers, including the derived ones."""
        numbers = asdict(self)
        del numbers["earlier"], numbers["finishes"]
        return {**numbers, "eta_seconds": self.eta_seconds, "calls_per_located": self.calls_per_located}


def summary_of(labeling: Labeling) -> dict[str, Any]:
    """The numbers of a finished question."""
    return {
        "outcome": labeling.outcome.value,
        "located": labeling.located,
        "calls": labeling.calls,
        "probes": labeling.probes,
        "repeated_probes": labeling.repeated_probes,
        "tokens": labeling.tokens,
        "truncated": sum(rollout.finish_reason == "length" for rollout in labeling.rollouts),
    }
