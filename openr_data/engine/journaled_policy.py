"""A policy with a memory and an account: every reply is journaled, counted, and asked for once.

`JournaledPolicy` stands between an algorithm and a backend. A reply in the journal is returned without a call; two
requests with the same content share one call; where reuse is wanted, samples that earlier jobs have paid for come
first. What is paid is counted by job and by question (`accounts.py`).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from ..types import Completion, Prefix, Sampling, Usage
from .accounts import Account, Accounts
from .admission import Admission
from .journal import Journal
from .protocols import Backend
from .replies import usage_of
from .request_keys import request_key, stem_key
from .reuse import Rollouts, beyond
from .shared_calls import SharedCalls

WINDOW: Final = 10.0
"""Seconds over which the speed "now" is taken."""


class JournaledPolicy:
    """The `Policy` of an algorithm in a job. `limit` returns why nothing more may be asked, or an empty string.

    `accounts` are those of the job: its `JournaledReward` is opened over them.
    """

    def __init__(
        self,
        policy: Backend,
        journal: Journal,
        rollouts: Rollouts | None = None,
        limit: Callable[[], str] | None = None,
    ) -> None:
        self._policy, self._journal, self._rollouts = policy, journal, rollouts
        self._name = policy.name
        self._calls: SharedCalls[tuple[Completion, ...]] = SharedCalls()
        self._recent: deque[tuple[float, int]] = deque()
        self.accounts = Accounts(journal, limit)
        self.admission = Admission(policy.room, lambda: policy.places)
        self.in_flight = 0
        self.fresh_tokens = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def separator(self) -> str:
        return self._policy.separator

    @property
    def paid(self) -> Usage:
        """All that the job has paid for so far, in this process and before."""
        return self.accounts.paid

    @property
    def hits(self) -> int:
        """Requests that the journal has answered in this process."""
        return self.accounts.hits

    @property
    def cancelled(self) -> int:
        """Calls that were given up under way in this process."""
        return self.accounts.cancelled

    @property
    def stopped_by(self) -> str:
        """Why nothing more is asked, or an empty string."""
        return self.accounts.stopped_by

    @property
    def retries(self) -> int:
        """Requests that were sent again in this process."""
        return self._policy.retries

    @property
    def gpus(self) -> int:
        """GPUs that the policy keeps busy in this process."""
        return self._policy.gpus

    def stop(self, reason: str) -> None:
        """Ask for nothing more: calls under way are waited for, and the next ones raise `BudgetReached`."""
        self.accounts.stop(reason)

    def steps_of(self, text: str) -> tuple[str, ...]:
        return self._policy.steps_of(text)

    def account(self, question: str, age: int) -> AbstractContextManager[Account]:
        """Count what is asked inside, also in tasks that are started there, for this question."""
        return self.accounts.open(question, age)

    def forget(self, question: str) -> None:
        """Free the memory of a finished question: its replies stay in the file."""
        self.accounts.forget(question)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """The reply from the journal, from a call already under way, or from the policy.

        Raises `BudgetReached` where the job may ask for nothing more.
        """
        account = self.accounts.current
        stem = stem_key(self._name, prefix, sampling)
        key = request_key(stem, n, sampling.seed)

        def remembered() -> tuple[Completion, ...] | None:
            reply = self._journal.get(key)
            if reply is not None:
                self.accounts.hits += 1
                usage = usage_of(reply)
                if usage.reused and key not in account.counted:
                    account.taken[stem] = account.taken.get(stem, 0) + usage.reused
                account.count(key, usage)
            return reply

        async def ask() -> tuple[Completion, ...]:
            reply = await self._ask(account, stem, prefix, n, sampling)
            account.count(key, self._journal.put(key, stem, account.key, sampling.seed, reply))
            return reply

        return await self._calls.reply(key, remembered, ask)

    async def _ask(
        self, account: Account, stem: bytes, prefix: Prefix, n: int, sampling: Sampling
    ) -> tuple[Completion, ...]:
        if self._rollouts is None:
            return await self._ask_policy(account, prefix, n, sampling)
        taken = account.taken.get(stem, 0)
        before = self._rollouts.take(account.key, stem, taken, n)
        if not before:
            return await self._ask_policy(account, prefix, n, sampling)
        # Counted before another task asks for the same prefix: no sample is given twice.
        account.taken[stem] = taken + len(before)
        if len(before) == n:
            return before
        sampling = beyond(sampling, len(before))
        try:
            fresh = await self._ask_policy(account, prefix, n - len(before), sampling)
        except BaseException:
            account.taken[stem] -= len(before)
            raise
        return before + tuple(replace(item, draw=(sampling.seed, i)) for i, item in enumerate(fresh))

    async def _ask_policy(self, account: Account, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        self.accounts.check_limit()
        characters = len(prefix.question) + sum(map(len, prefix.steps)) + 2 * len(prefix.steps)
        tokens = self.admission.weigh(characters, n, sampling.max_tokens)
        await self.admission.enter(account.age, tokens)
        self.in_flight += n
        try:
            # The limit is checked again here: other requests were answered while this one waited.
            fresh = tuple(await self.accounts.call(account, lambda: self._policy.sample(prefix, n, sampling)))
        finally:
            self.in_flight -= n
            self.admission.leave(tokens)
        sampled = sum(item.n_tokens for item in fresh)
        self.fresh_tokens += sampled
        self._recent.append((time.monotonic(), sampled))
        if fresh:
            self.admission.learn(characters, fresh[0].prompt_tokens, sampled, n)
        return fresh

    def speed_now(self) -> float:
        """Completion tokens a second over the last ten seconds."""
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        return sum(tokens for _, tokens in self._recent) / WINDOW if self._recent else 0.0
