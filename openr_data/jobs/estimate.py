"""Estimate the cost of a job: at most, from the worst case of its method; typically, from a similar job before."""

from dataclasses import dataclass, replace
from typing import Any

from ..engine.prices import Price
from ..errors import InputError
from ..models import model_entry
from ..store import Store
from ..types import Usage
from .config import JobConfig
from .job import Job
from .plan import Plan

_SAME = ("method", "policy", "max_tokens", "temperature", "top_p", "reuse")
"""Fields that two jobs must share, beside their options, for one to be typical of the other."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a job asks for. `cost` is None if no price is known."""

    requests: int
    completions: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """`typical` comes from `questions` finished questions of the job `measured`, the speed from the job `timed`."""

    at_most: Case
    typical: Case | None = None
    measured: str = ""
    questions: int = 0
    tokens_per_second: float = 0.0
    timed: str = ""

    @property
    def seconds(self) -> float | None:
        """Seconds of the typical case at the last measured speed, or None."""
        if self.typical is None or not self.tokens_per_second:
            return None
        return self.typical.completion_tokens / self.tokens_per_second


def estimate(store: Store | None, plan: Plan, price: Price | None) -> CostEstimate:
    """Estimate a job from the worst case of its method and the jobs of the store."""
    at_most = _at_most(plan, price)
    jobs = [(job, _config(job), _numbers(job)) for job in (Job.all(store) if store else [])]
    config = plan.config
    # The job itself comes first, then finished jobs, then newer ones.
    order = sorted(jobs, key=lambda item: (item[0].job_id != config.job_id(), item[0].result() is None))
    like = next((item for item in order if item[1] and _is_like(item[1], config) and item[2].get("done")), None)
    timed = next((item for item in jobs if item[1] and _is_as_fast(item[1], config) and _speed(item[2])), None)
    estimated = CostEstimate(at_most)
    if like is not None:
        share = len(plan.questions) / like[2]["done"]
        if like[0].result() is None and like[2].get("completion_tokens"):
            # A stopped job has also paid for questions that it has not finished.
            share *= min(1.0, like[2]["tokens"] / like[2]["completion_tokens"])
        usage = {name: round(like[2].get(name, 0) * share) for name in ("requests", "completions")}
        tokens = {name: round(like[2].get(name, 0) * share) for name in ("prompt_tokens", "completion_tokens")}
        cached = round((like[2].get("cached_tokens") or 0) * share)
        hours = (like[2].get("gpu_hours") or 0.0) * share
        paid = Usage(**usage, **tokens, cached_tokens=cached)
        cost = price.cost(paid, hours) if price else None
        estimated = CostEstimate(at_most, Case(**usage, **tokens, cost=cost), like[0].job_id, like[2]["done"])
    if timed is not None:
        estimated = replace(estimated, tokens_per_second=_speed(timed[2]), timed=timed[0].job_id)
    return estimated


def donors(store: Store, config: JobConfig, policy: str) -> list[str]:
    """The ids of the jobs, oldest first, whose rollouts a job with this policy and revision may reuse."""
    names = []
    for job in reversed(Job.all(store)):
        try:
            run = job.described().get("run", {})
        except InputError:
            continue
        if job.job_id != config.job_id() and run.get("policy_revision") == policy:
            names.append(job.job_id)
    return names


def _at_most(plan: Plan, price: Price | None) -> Case:
    budget = plan.budget()
    entry = model_entry(plan.config.policy)
    # A text has at most as many tokens as bytes; a template adds some words of its own.
    longest = (
        max((len(item.question.encode()) for item in plan.questions), default=0)
        + max(
            (sum(len(step.encode()) + 32 for step in item.steps) for items in plan.given.values() for item in items),
            default=0,
        )
        + len(entry.system.encode())
        + 2048
    )
    prompts = budget.requests * (longest + plan.config.max_tokens)
    # GPU-hours have no worst case: the speed of the GPUs is not known.
    usage = Usage(prompt_tokens=prompts, completion_tokens=budget.completion_tokens)
    cost = price.cost(usage, 0.0) if price and not price.gpu_hour else None
    return Case(budget.requests, budget.completions, prompts, budget.completion_tokens, cost)


def _config(job: Job) -> JobConfig | None:
    try:
        return job.config()
    except InputError:
        return None


def _numbers(job: Job) -> dict[str, Any]:
    return job.result() or job.last_event()


def _is_like(one: JobConfig, other: JobConfig) -> bool:
    return one.options == other.options and all(getattr(one, name) == getattr(other, name) for name in _SAME)


def _is_as_fast(one: JobConfig, other: JobConfig) -> bool:
    return (one.policy, one.backend) == (other.policy, other.backend)


def _speed(numbers: dict[str, Any]) -> float:
    """Completion tokens a second over all runs of a job; 0 if it is not known."""
    seconds = numbers.get("seconds_total") or 0.0
    return numbers.get("completion_tokens", 0) / seconds if seconds > 0 else 0.0
