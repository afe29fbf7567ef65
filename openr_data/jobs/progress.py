"""Where a job stands: counted as questions finish, told to whoever watches."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..engine.ledger import JournaledPolicy
from ..types import Labeling, Outcome


@dataclass(slots=True)
class Status:
    """The numbers of a job. `done` are questions with an outcome, `failed` those with an error.

    `calls` are completions asked for by finished questions, `located` distinct first errors.
    """

    job_id: str
    total: int
    done: int = 0
    failed: int = 0
    labelled: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    located: int = 0
    calls: int = 0
    probes: int = 0
    repeated_probes: int = 0
    tokens: int = 0
    resumed: int = 0
    in_flight: int = 0
    journal_hits: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    tokens_per_second_now: float = 0.0
    tokens_per_second: float = 0.0
    seconds: float = 0.0

    def count(self, summary: Mapping[str, Any], resumed: bool = False) -> None:
        """Add a finished question."""
        self.done += 1
        self.resumed += resumed
        outcome = summary["outcome"]
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.labelled += outcome == Outcome.LABELLED
        for name in ("located", "calls", "probes", "repeated_probes", "tokens", "truncated"):
            setattr(self, name, getattr(self, name) + summary[name])

    def watch(self, policy: JournaledPolicy, started: float) -> None:
        """Take in what the policy has done since `started` (`time.monotonic()`)."""
        usage = policy.usage
        self.seconds = time.monotonic() - started
        self.in_flight = policy.in_flight
        self.journal_hits = usage.requests - usage.fresh_requests
        self.completion_tokens = usage.completion_tokens
        self.tokens_per_second = usage.fresh_completion_tokens / max(self.seconds, 1e-9)
        self.tokens_per_second_now = policy.speed_now()

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left at the pace of this run, or None before the first question is done."""
        fresh = self.done - self.resumed
        left = self.total - self.done - self.failed
        return self.seconds / fresh * left if fresh else None

    @property
    def calls_per_located(self) -> float | None:
        """Completions per distinct first error, or None before the first one."""
        return self.calls / self.located if self.located else None

    def as_dict(self) -> dict[str, Any]:
        """All numbers, the derived ones too."""
        return {
            **asdict(self),
            "eta_seconds": self.eta_seconds,
            "calls_per_located": self.calls_per_located,
        }


def summary_of(labeling: Labeling) -> dict[str, Any]:
    """What is counted of a finished question."""
    return {
        "outcome": labeling.outcome.value,
        "located": labeling.located,
        "calls": labeling.calls,
        "probes": labeling.probes,
        "repeated_probes": labeling.repeated_probes,
        "tokens": labeling.tokens,
        "truncated": sum(rollout.finish_reason == "length" for rollout in labeling.rollouts),
    }
