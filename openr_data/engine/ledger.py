"""A policy with a memory and an account: every reply is journaled, counted, and asked for once.

`JournaledPolicy` stands between an algorithm and a backend. A reply that is in the journal is given back
without a call; two requests with the same content share one call. Usage counts a reply once for the job
whether it is fresh or read back, so a resumed job ends with the totals of an unbroken one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from ..types import Completion, Prefix, Sampling, Usage
from .journal import Journal, request_key
from .protocols import Policy

WINDOW = 10.0
"""Seconds over which the speed "now" is taken."""


class JournaledPolicy:
    """The `Policy` an algorithm is given in a job."""

    def __init__(self, policy: Policy, journal: Journal) -> None:
        self._policy, self._journal = policy, journal
        self._waiting: dict[str, asyncio.Future[tuple[Completion, ...]]] = {}
        self._counted: set[str] = set()
        self._recent: deque[tuple[float, int]] = deque()
        self.usage = Usage()
        self.in_flight = 0

    @property
    def name(self) -> str:
        return self._policy.name

    def steps_of(self, text: str) -> tuple[str, ...]:
        return self._policy.steps_of(text)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """The reply from the journal, from a call already under way, or from the policy."""
        key = request_key(self.name, prefix, n, sampling)
        known = self._journal.get(key)
        if known is not None:
            self._count(key, known, fresh=False)
            return known
        waiting = self._waiting.get(key)
        if waiting is not None:
            return await asyncio.shield(waiting)
        future: asyncio.Future[tuple[Completion, ...]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        self.in_flight += n
        try:
            reply = tuple(await self._policy.sample(prefix, n, sampling))
            self._journal.put(key, reply)
            self._count(key, reply, fresh=True)
            future.set_result(reply)
            return reply
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()
            raise
        finally:
            self.in_flight -= n
            del self._waiting[key]

    def _count(self, key: str, reply: Sequence[Completion], fresh: bool) -> None:
        tokens = sum(item.n_tokens for item in reply)
        if fresh:
            self._recent.append((time.monotonic(), tokens))
            self.usage.fresh_requests += 1
            self.usage.fresh_completions += len(reply)
            self.usage.fresh_completion_tokens += tokens
        if key in self._counted:
            return
        self._counted.add(key)
        self.usage.requests += 1
        self.usage.completions += len(reply)
        self.usage.completion_tokens += tokens
        self.usage.prompt_tokens += reply[0].prompt_tokens if reply else 0
        self.usage.truncated += sum(item.finish_reason == "length" for item in reply)

    def speed_now(self) -> float:
        """Completion tokens a second over the last ten seconds, fresh ones alone."""
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        if not self._recent:
            return 0.0
        return sum(tokens for _, tokens in self._recent) / WINDOW
