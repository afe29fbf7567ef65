"""Replies of models as bytes of the journal, and what they cost.

A policy's reply is JSON: the seed, the tokens of the prompt, and a list for each completion. A reward model's reply is
its cost and its scores as they lie in memory (little-endian float64), so that every score comes back to the bit.
"""

import json
import struct
from collections.abc import Sequence
from typing import Final

from ..types import Completion, Ended, Usage

_WRITTEN: Final[dict[Ended, str]] = {"end": "end", "stop": "stop string", "length": "length", "abort": "abort"}
"""How the journal writes why a completion ended."""
# Earlier versions wrote "stop" for both ways to finish. None of their jobs sent a stop string, so it was the own end.
_READ: Final[dict[str, Ended]] = {text: ended for ended, text in _WRITTEN.items()} | {"stop": "end"}

_COST: Final = struct.Struct("<III")
"""Reward calls, tokens asked and tokens read."""

# `json.dumps` with separators makes an encoder for every call.
_as_json: Final = json.JSONEncoder(separators=(",", ":")).encode


def completions_payload(seed: int, reply: Sequence[Completion]) -> bytes:
    """A policy's reply as bytes; `seed` is that of the request."""
    items = [[c.text, c.n_tokens, _WRITTEN[c.ended], c.logprob, c.draw, c.reused] for c in reply]
    first = next((c for c in reply if not c.reused), reply[0] if reply else Completion("", 0, "end"))
    return _as_json([seed, first.prompt_tokens, first.cached_tokens, items]).encode()


def completions_of(payload: bytes) -> tuple[int, tuple[Completion, ...]]:
    """The seed and the reply in a policy's payload."""
    seed, prompt, cached, items = json.loads(payload)
    return seed, tuple(
        Completion(text, n, _READ[ended], logprob, prompt, cached, tuple(draw) if draw else None, reused)
        for text, n, ended, logprob, draw, reused in items
    )


def scores_payload(scores: Sequence[float], usage: Usage) -> bytes:
    """A reward model's scores and their cost as bytes."""
    cost = _COST.pack(usage.reward_calls, usage.reward_tokens, usage.reward_tokens_read)
    return cost + struct.pack(f"<{len(scores)}d", *scores)


def scores_of(payload: bytes) -> tuple[tuple[float, ...], Usage]:
    """The scores and their cost in a reward model's payload."""
    calls, asked, read = _COST.unpack_from(payload)
    scores = struct.unpack_from(f"<{(len(payload) - _COST.size) // 8}d", payload, _COST.size)
    return scores, Usage(reward_calls=calls, reward_tokens=asked, reward_tokens_read=read)


def usage_of(reply: Sequence[Completion]) -> Usage:
    """What a policy's reply cost; samples that another job had paid for cost nothing here."""
    paid = [item for item in reply if not item.reused]
    cut = [item.n_tokens for item in paid if item.ended == "length"]
    return Usage(
        requests=1 if paid or not reply else 0,
        completions=len(paid),
        prompt_tokens=paid[0].prompt_tokens if paid else 0,
        cached_tokens=paid[0].cached_tokens if paid else None,
        completion_tokens=sum(item.n_tokens for item in paid),
        truncated=len(cut),
        cut_tokens=sum(cut),
        reused=len(reply) - len(paid),
    )
