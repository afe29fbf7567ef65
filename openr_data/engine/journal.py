"""The append-only record of a policy's replies: what makes a job resumable and nothing asked twice.

Replies are keyed by the content of their request. A reply goes to the operating system before it is used,
so `kill -9` loses at most the replies in flight; an fsync a second bounds what a power cut can take. A
damaged line is asked again, never believed.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from ..checked_lines import CheckedLines
from ..ids import content_hash
from ..types import Completion, Prefix, Sampling

FSYNC_EVERY = 1.0
"""Seconds between two fsyncs of the journal."""


def request_key(policy: str, prefix: Prefix, n: int, sampling: Sampling) -> str:
    """The content of a request as one id: model, prefix, n, and everything that shapes the samples."""
    shape = [sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed, n]
    return content_hash("request", policy, prefix.question, *prefix.steps, "", *sampling.stop, json.dumps(shape))


class Journal:
    """Replies by request key, in memory and in one file. Raises `StoreError` when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._lines = CheckedLines(path)
        self._replies: dict[str, tuple[Completion, ...]] = {
            key: tuple(Completion(*fields) for fields in reply) for key, reply in self._lines.read()
        }
        self._synced = time.monotonic()

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def damaged(self) -> int:
        """Lines that did not check when the journal was opened."""
        return self._lines.damaged

    def get(self, key: str) -> tuple[Completion, ...] | None:
        """The reply of an earlier request with this key, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: Sequence[Completion]) -> None:
        """Remember a reply: after this call a crash of the process does not lose it."""
        fields = [[c.text, c.n_tokens, c.finish_reason, c.logprob, c.prompt_tokens] for c in reply]
        self._lines.append([key, fields])
        self._replies[key] = tuple(reply)
        if time.monotonic() - self._synced > FSYNC_EVERY:
            self._lines.sync()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Flush and close; a closed journal is not used again."""
        self._lines.close()
