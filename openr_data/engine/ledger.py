"""A policy with a memory and an account: every reply is journaled, counted, and asked for once.

`JournaledPolicy` stands between an algorithm and a backend. A reply that is in the journal is given back without a
call; two requests with the same content share one call; samples that earlier jobs have paid for come first where reuse
is wanted. What is paid is counted by job (the journal's own total, so it outlives every crash) and by question.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import BudgetReached
from ..types import Completion, Prefix, Sampling, Usage
from .admission import Admission
from .journal import Journal, question_key, request_key, stem_key, usage_of
from .protocols import Backend
from .reuse import Rollouts, beyond

WINDOW: Final = 10.0
"""Seconds over which the speed "now" is taken."""


@dataclass(slots=True, eq=False)
class Account:
    """What one question has asked for. `age` is its place in the job: lower ones go first."""

    age: int = 0
    key: bytes = question_key("")
    usage: Usage = field(default_factory=Usage)
    counted: set[bytes] = field(default_factory=set)
    seconds: float = 0.0
    taken: dict[bytes, int] = field(default_factory=dict)


_ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


class JournaledPolicy:
    """The `Policy` an algorithm is given in a job. `limit` says why nothing more may be asked, or nothing."""

    def __init__(
        self,
        policy: Backend,
        journal: Journal,
        rollouts: Rollouts | None = None,
        limit: Callable[[], str] | None = None,
    ) -> None:
        self._policy, self._journal, self._rollouts, self._limit = policy, journal, rollouts, limit
        self._name = policy.name
        self._waiting: dict[bytes, asyncio.Future[tuple[Completion, ...]]] = {}
        self._recent: deque[tuple[float, int]] = deque()
        self._nobody = Account()
        self.admission = Admission(policy.room, lambda: policy.places)
        self.in_flight = 0
        self.hits = 0
        self.cancelled = 0
        self.fresh_tokens = 0
        self.stopped_by = ""

    @property
    def name(self) -> str:
        return self._name

    @property
    def separator(self) -> str:
        return self._policy.separator

    @property
    def paid(self) -> Usage:
        """All that the job has paid for so far, in this process and before."""
        return self._journal.paid

    @property
    def retries(self) -> int:
        """Requests that were sent again in this process."""
        return self._policy.retries

    @property
    def gpus(self) -> int:
        """GPUs that the policy keeps busy in this process."""
        return self._policy.gpus

    def stop(self, reason: str) -> None:
        """Ask for nothing more: what is under way is waited for, and what would come next meets `BudgetReached`."""
        self.stopped_by = self.stopped_by or reason

    def steps_of(self, text: str) -> tuple[str, ...]:
        return self._policy.steps_of(text)

    @contextmanager
    def account(self, question: str, age: int) -> Iterator[Account]:
        """Count what is asked inside, also in tasks that are started there, for this question."""
        opened = Account(age, question_key(question))
        token = _ACCOUNT.set(opened)
        began = time.monotonic()
        try:
            yield opened
        finally:
            opened.seconds = time.monotonic() - began
            _ACCOUNT.reset(token)

    def forget(self, question: str) -> None:
        """A question is finished: its replies stay in the file, their places need no memory any more."""
        self._journal.forget(question_key(question))

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """The reply from the journal, from a call already under way, or from the policy.

        Raises `BudgetReached` where the job may ask for nothing more.
        """
        account = _ACCOUNT.get() or self._nobody
        stem = stem_key(self._name, prefix, sampling)
        key = request_key(stem, n, sampling.seed)
        while True:
            known = self._journal.get(key)
            if known is not None:
                self.hits += 1
                usage = usage_of(known)
                if usage.reused and key not in account.counted:
                    account.taken[stem] = account.taken.get(stem, 0) + usage.reused
                self._count(account, key, usage)
                return known
            waiting = self._waiting.get(key)
            if waiting is None:
                break
            try:
                return await asyncio.shield(waiting)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not waiting.cancelled() or (task is not None and task.cancelling()):
                    raise
                # Whoever had asked was cancelled, we were not: ask ourselves.
        future: asyncio.Future[tuple[Completion, ...]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            reply = await self._ask(account, stem, prefix, n, sampling)
            self._count(account, key, self._journal.put(key, stem, account.key, sampling.seed, reply))
            future.set_result(reply)
            return reply
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # Nobody else may be waiting: then this error is told once, by whoever asked.
            future.exception()
            raise
        finally:
            del self._waiting[key]

    async def _ask(
        self, account: Account, stem: bytes, prefix: Prefix, n: int, sampling: Sampling
    ) -> tuple[Completion, ...]:
        if self._rollouts is None:
            return await self._ask_policy(account, prefix, n, sampling)
        taken = account.taken.get(stem, 0)
        before = self._rollouts.take(account.key, stem, taken, n)
        if not before:
            return await self._ask_policy(account, prefix, n, sampling)
        # Before anybody else asks for the same prefix: no sample is given twice.
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
        self._check_limit()
        characters = len(prefix.question) + sum(map(len, prefix.steps)) + 2 * len(prefix.steps)
        tokens = self.admission.weigh(characters, n, sampling.max_tokens)
        await self.admission.enter(account.age, tokens)
        self.in_flight += n
        try:
            # Others were answered while this one waited.
            self._check_limit()
            fresh = tuple(await self._policy.sample(prefix, n, sampling))
        except asyncio.CancelledError:
            self.cancelled += 1
            account.usage.cancelled += 1
            raise
        finally:
            self.in_flight -= n
            self.admission.leave(tokens)
        sampled = sum(item.n_tokens for item in fresh)
        self.fresh_tokens += sampled
        self._recent.append((time.monotonic(), sampled))
        if fresh:
            self.admission.learn(characters, fresh[0].prompt_tokens, sampled, n)
        return fresh

    def _check_limit(self) -> None:
        if self._limit is not None and not self.stopped_by:
            self.stopped_by = self._limit()
        if self.stopped_by:
            raise BudgetReached(self.stopped_by)

    @staticmethod
    def _count(account: Account, key: bytes, usage: Usage) -> None:
        if key in account.counted:
            return
        account.counted.add(key)
        account.usage.add(usage)

    def speed_now(self) -> float:
        """Completion tokens a second over the last ten seconds."""
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - WINDOW:
            self._recent.popleft()
        return sum(tokens for _, tokens in self._recent) / WINDOW if self._recent else 0.0
