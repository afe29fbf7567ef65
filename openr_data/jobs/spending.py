"""What one question of a job has cost, as a row of `jobs`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..engine.accounts import Account
from ..engine.prices import Price


def spending_row(
    job: str, question: str, summary: Mapping[str, Any], account: Account, price: Price | None
) -> dict[str, Any]:
    """A row of `jobs` that says what one question has cost. It has no time of its own: told twice it is one row.

    Its cost is that of its tokens; hours of GPUs are shared by all that are under way.
    """
    totals = {"question_id": question, "seconds": round(account.seconds, 3), **summary, **asdict(account.usage)}
    if price is not None:
        totals |= {"cost": price.cost(account.usage, 0.0), "currency": price.currency}
    return {
        "job_id": job,
        "kind": "label",
        "event": f"question:{question}",
        "config": "",
        "versions": "",
        "totals": json.dumps(totals),
        "at": "",
    }
