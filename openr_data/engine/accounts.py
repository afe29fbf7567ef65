"""What a job asks for and pays for: by question, as a whole, and up to its limits.

The policy and the reward model of a job share one `Accounts`: one journal, one account for each question, one reason
to stop. What the job has paid for is the journal's own total, so it outlives every crash.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

from ..errors import BudgetReached
from ..types import Usage
from .journal import Journal
from .request_keys import question_key

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Account:
    """What one question has asked for. `age` is its place in the job: lower ones go first.

    `taken` counts the reused samples of each prefix, `step_scores` holds the first score of each prefix.
    """

    age: int = 0
    key: bytes = question_key("")
    usage: Usage = field(default_factory=Usage)
    counted: set[bytes] = field(default_factory=set)
    seconds: float = 0.0
    taken: dict[bytes, int] = field(default_factory=dict)
    step_scores: dict[bytes, float] = field(default_factory=dict)

    def count(self, key: bytes, usage: Usage) -> None:
        """Add the cost of a request; a request that is asked again or replayed counts once."""
        if key not in self.counted:
            self.counted.add(key)
            self.usage.add(usage)


_ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


class Accounts:
    """The accounts of one job over its journal. `limit` returns why nothing more may be asked, or an empty string.

    `hits` counts requests that the journal answered, `cancelled` those that were given up under way, both in this
    process.
    """

    def __init__(self, journal: Journal, limit: Callable[[], str] | None = None) -> None:
        self.journal = journal
        self._limit = limit
        self._unassigned = Account()
        self.hits = 0
        self.cancelled = 0
        self.stopped_by = ""

    @property
    def paid(self) -> Usage:
        """All that the job has paid for so far, in this process and before."""
        return self.journal.paid

    @property
    def current(self) -> Account:
        """The account of the question that is asking."""
        return _ACCOUNT.get() or self._unassigned

    @contextmanager
    def open(self, question: str, age: int) -> Iterator[Account]:
        """Count what is asked inside, also in tasks that are started there, for this question."""
        account = Account(age, question_key(question))
        token = _ACCOUNT.set(account)
        began = time.monotonic()
        try:
            yield account
        finally:
            account.seconds = time.monotonic() - began
            _ACCOUNT.reset(token)

    async def call(self, account: Account, ask: Callable[[], Awaitable[T]]) -> T:
        """The reply of a model, and a cancelled call counted. Raises `BudgetReached` where a limit is reached."""
        self.check_limit()
        try:
            return await ask()
        except asyncio.CancelledError:
            self.cancelled += 1
            account.usage.cancelled += 1
            raise

    def stop(self, reason: str) -> None:
        """Ask for nothing more: calls under way are waited for, and the next ones raise `BudgetReached`."""
        self.stopped_by = self.stopped_by or reason

    def check_limit(self) -> None:
        """Raise `BudgetReached` where the job may ask for nothing more."""
        if self._limit is not None and not self.stopped_by:
            self.stopped_by = self._limit()
        if self.stopped_by:
            raise BudgetReached(self.stopped_by)

    def forget(self, question: str) -> None:
        """Free the memory of a finished question: its replies stay in the file."""
        self.journal.forget(question_key(question))
