"""A stand-in for a vLLM server of a reward model: real HTTP, any function as the model, and its flaws on demand.

`pair` gives the log-probabilities of the labels behind some ids, `rows` the logits of the classes at each of them. What
it had in its cache it tells as vLLM does, in whole blocks, where `tells_cached`. Without labels it writes what `write` has.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .completions_server import CompletionsServer

BLOCK = 16
Pair = Callable[[Sequence[int]], tuple[float, float]]
Write = Callable[[Sequence[int], int, int], tuple[str, bool]]
Rows = Callable[[Sequence[int]], Sequence[Sequence[float]]]


class ScoringServer(CompletionsServer):
    """`flaw` is what is wrong with its answers; `change` is done to each before it is sent."""

    def __init__(self, pair: Pair, rows: Rows, write: Write = lambda *_: ("", True), **options: Any) -> None:
        self.pair, self.rows, self.write = pair, rows, write
        self.flaw = ""
        self.change: Callable[[dict[str, Any]], Any] = lambda reply: reply
        self.tells_cached = True
        self._cached: set[tuple[int, ...]] = set()
        super().__init__(**{"owner": "vllm", **options})

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = self._complete(body) if "prompt" in body else self._pool(body)
        self.change(reply)
        return reply

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        if "allowed_token_ids" not in body:
            (end,) = body["stop_token_ids"]
            text, is_whole = self.write(body["prompt"], end, body["max_tokens"])
            return {"choices": [{"index": 0, "text": text, "finish_reason": "stop" if is_whole else "length"}]}
        ids, (good, bad) = body["prompt"], body["allowed_token_ids"]
        told = dict(zip((f"token_id:{good}", f"token_id:{bad}"), self.pair(ids), strict=True))
        sampled = max(told, key=lambda name: told[name])
        if self.flaw == "ignores the labels":
            sampled, told = "token_id:99999", {"token_id:99999": -0.1, "token_id:99998": -2.0}
        elif self.flaw == "writes tokens":
            sampled, told = "good", {"good": -0.1, "bad": -2.0}
        elif self.flaw == "tells one label":
            told = {sampled: told[sampled], "token_id:99999": -0.1}
        elif self.flaw == "masks a label":
            told = {name: value if name == sampled else -9999.0 for name, value in told.items()}
        logprobs = {"tokens": [sampled], "token_logprobs": [told[sampled]], "top_logprobs": [told]}
        if self.flaw == "tells nothing":
            logprobs = None  # type: ignore[assignment]
        usage: dict[str, Any] = {"prompt_tokens": len(ids), "completion_tokens": 1}
        if self.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": self._read(tuple(ids))}
        return {
            "choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": logprobs}],
            "usage": usage,
        }

    def _pool(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = body["input"]
        rows = [softmax(row) for row in self.rows(ids)]
        return {"data": [{"index": 0, "object": "pooling", "data": rows}], "usage": {"prompt_tokens": len(ids)}}

    def _read(self, ids: tuple[int, ...]) -> int:
        """How many of the ids it had in its cache, where all are now."""
        with self.lock:
            ends = range(BLOCK, len(ids) + 1, BLOCK)
            known = max((end for end in ends if ids[:end] in self._cached and end < len(ids)), default=0)
            self._cached |= {ids[:end] for end in ends}
        return known


@contextmanager
def scoring(pair: Pair, rows: Rows, **options: Any) -> Iterator[ScoringServer]:
    server = ScoringServer(pair, rows, **options)
    try:
        yield server
    finally:
        server.close()


def softmax(values: Sequence[float]) -> list[float]:
    """Of one number its sigmoid, as vLLM does."""
    if len(values) == 1:
        return [1 / (1 + math.exp(-values[0]))]
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]
