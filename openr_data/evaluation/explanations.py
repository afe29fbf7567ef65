"""What a generative reward model thinks of labelled steps: a verdict and a reason for each step."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..engine.protocols import ReasoningReward
from ..engine.reward import open_reward
from ..errors import InputError, UsageError
from ..reasons import MOST, ReasonedStep
from ..registry import load

Explanation = Sequence[ReasonedStep] | InputError
"""The verdicts and reasons on one solution, or why there are none (it is empty or too long)."""


@dataclass(frozen=True, slots=True)
class RewardChoice:
    """A reward model and what runs it: `backend`, the model's `format` ("": as the model says), and live options."""

    model: str
    backend: str = "transformers"
    format: str = ""
    live: Mapping[str, object] = field(default_factory=dict)


def explain(records: pa.Table, reward: RewardChoice, *, max_tokens: int = MOST) -> list[Explanation]:
    """Explain the steps of each record (rows with `solution_id`, `question`, `steps`), in the same order.

    A solution that several methods have labelled is explained once. Raises `UsageError` for a backend that writes no
    reasons, `InputError` if no solution can be explained, and what the backend raises for a model it cannot open.
    """
    return asyncio.run(explain_async(records, reward, max_tokens=max_tokens))


async def explain_async(records: pa.Table, reward: RewardChoice, *, max_tokens: int = MOST) -> list[Explanation]:
    """`explain` inside a running event loop."""
    kind = load("reward", reward.backend)
    if hasattr(kind, "check"):
        # Before the weights are loaded.
        kind.check(reward.model, reward.format, writes=True)
    with closing(open_reward(reward.backend, reward.model, reward.format, reward.live, "explain")) as opened:
        if not isinstance(opened, ReasoningReward):
            raise UsageError(f"The backend {reward.backend!r} writes no reasons. Take transformers, vllm or openai.")
        rows: list[Mapping[str, Any]] = records.to_pylist()
        explanations = await _explained(opened, rows, max_tokens)
    first = explanations[0] if explanations else None
    if isinstance(first, InputError) and all(isinstance(each, InputError) for each in explanations):
        # The model explains nothing: a served model that writes no reasons, for example.
        raise first
    return explanations


async def _explained(reward: ReasoningReward, rows: Sequence[Mapping[str, Any]], max_tokens: int) -> list[Explanation]:
    async def one(row: Mapping[str, Any]) -> Explanation:
        try:
            return await reward.explain(row["question"], row["steps"], max_tokens=max_tokens)
        except InputError as error:
            # This solution is empty or too long; the others are not.
            return error

    solutions = {row["solution_id"]: row for row in rows}
    answers = await asyncio.gather(*map(one, solutions.values()))
    explanations = dict(zip(solutions, answers, strict=True))
    return [explanations[row["solution_id"]] for row in rows]
