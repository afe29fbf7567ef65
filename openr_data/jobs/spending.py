"""The cost of one question of a job, as a row of `jobs`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..engine.accounts import Account
from ..engine.prices import Price
from .config import LABEL


def spending_row(
    job: str, question: str, summary: Mapping[str, Any], account: Account, price: Price | None, kind: str = LABEL
) -> dict[str, Any]:
    """A row of `jobs` with the cost of one question. The row holds no time, so that writing it twice makes one row.

    The cost is that of its tokens; GPU-hours are shared by all questions under way.
    """
    totals = {"question_id": question, "seconds": round(account.seconds, 3), **summary, **asdict(account.usage)}
    if price is not None:
        totals |= {"cost": price.cost(account.usage, 0.0), "currency": price.currency}
    return {
        "job_id": job,
        "kind": kind,
        "event": f"question:{question}",
        "config": "",
        "versions": "",
        "totals": json.dumps(totals),
        "at": "",
    }
