"""The output of `label --dry-run`: the job, and its cost at most and typically."""

from dataclasses import asdict
from typing import Any

from ..display.terminal import duration, money
from ..engine.prices import Price
from ..jobs.estimate import Case, CostEstimate
from ..jobs.plan import Plan
from .output import Output

_COUNTED = ("requests", "completions", "prompt_tokens", "completion_tokens")


def show_estimate(estimate: CostEstimate, plan: Plan, price: Price | None, out: Output) -> None:
    """Print an estimate: a table of facts for people, every number under its own name for machines."""
    config = plan.config
    facts: dict[str, Any] = {
        "job": config.job_id(),
        "method": config.method,
        "source": config.source,
        "into": config.into,
        "policy": config.policy,
        "backend": config.backend,
        "questions": len(plan.questions),
        "options": config.options,
    }
    if out.is_human:
        out.facts({**facts, **_for_people(estimate, config.policy, price)})
        return
    for kind, case in (("at_most", estimate.at_most), ("typical", estimate.typical)):
        numbers = asdict(case) if case else dict.fromkeys((*_COUNTED, "cost"))
        facts |= {f"{name}_{kind}": value for name, value in numbers.items()}
    facts |= {
        "currency": price.currency if price else None,
        "seconds_typical": estimate.seconds,
        "tokens_per_second": estimate.tokens_per_second or None,
        "typical_from": estimate.measured or None,
        "typical_from_questions": estimate.questions or None,
        "speed_from": estimate.timed or None,
    }
    out.facts(facts)


def _for_people(estimate: CostEstimate, policy: str, price: Price | None) -> dict[str, str]:
    lines = {name: _both(estimate, name) for name in _COUNTED}
    if price is None:
        lines["cost"] = f"no price of {policy} is known (catalog, or prices.toml of the store)"
    else:
        typical = f"about {money(estimate.typical.cost or 0.0, price.currency)}" if estimate.typical else ""
        most = estimate.at_most.cost
        at_most = f"at most {money(most, price.currency)}" if most is not None else ""
        amount = ", ".join(part for part in (typical, at_most) if part) or "known after a pilot"
        lines["cost"] = f"{amount} (prices of {price.as_of})"
    if estimate.seconds is not None:
        lines["time"] = (
            f"about {duration(estimate.seconds)} at {estimate.tokens_per_second:,.0f} tok/s (job {estimate.timed})"
        )
    else:
        lines["time"] = "not known: no job of this policy and backend has been measured in this store"
    lines["typical_from"] = (
        f"{estimate.questions:,} questions of the job {estimate.measured}"
        if estimate.typical
        else "nothing yet: --pilot 8 labels eight questions for real, as a part of the job"
    )
    return lines


def _both(estimate: CostEstimate, name: str) -> str:
    most: int = getattr(estimate.at_most, name)
    typical: Case | None = estimate.typical
    return (f"about {getattr(typical, name):,}, " if typical else "") + f"at most {most:,}"
