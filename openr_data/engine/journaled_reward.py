"""A reward model with a memory and an account: every score is journaled, counted, and computed once in a job.

`JournaledReward` stands between a search and a backend, beside `JournaledPolicy` and over the same `Accounts`: one
journal, one account for each question, the same limits. Scores in the journal are returned to the bit, so a search
that resumes takes the decisions it took before, also where a backend's scores move with what it scores together.

The score of a step depends on the question and the steps up to it, so the first score of a prefix is the one that
stays: a longer solution returns it again, and a shorter one is answered without a call.
"""

import math
from collections.abc import Sequence

from ..errors import PolicyError
from ..types import Usage
from .accounts import Account, Accounts
from .protocols import RewardBackend
from .request_keys import score_keys
from .shared_calls import SharedCalls


class JournaledReward:
    """The `RewardModel` of a search in a job; `accounts` are those of the job's `JournaledPolicy`.

    `in_flight` counts the calls under way.
    """

    def __init__(self, reward: RewardBackend, accounts: Accounts) -> None:
        self._reward, self._accounts = reward, accounts
        self._name, self._threshold = reward.name, reward.threshold
        self._calls: SharedCalls[tuple[float, ...]] = SharedCalls()
        self.in_flight = 0

    @property
    def name(self) -> str:
        """Model, revision and format."""
        return self._name

    @property
    def threshold(self) -> float:
        """Below it a step counts as wrong."""
        return self._threshold

    async def score(self, question: str, steps: Sequence[str]) -> tuple[float, ...]:
        """The scores from the journal, from a call already under way, or from the reward model.

        Raises `BudgetReached` where the job may ask for nothing more, and `PolicyError` for scores that are not one
        number between 0 and 1 for each step.
        """
        steps = tuple(steps)
        account = self._accounts.current
        first = account.step_scores
        stem, *keys = score_keys(self._name, question, steps)
        key = keys[-1] if keys else stem

        def remembered() -> tuple[float, ...] | None:
            record = self._accounts.journal.get_scores(key)
            if record is None:
                return None
            scores, usage = record
            self._accounts.hits += 1
            account.count(key, usage)
            return scores

        async def ask() -> tuple[float, ...]:
            if keys and all(prefix in first for prefix in keys):
                scores, usage = tuple(first[prefix] for prefix in keys), Usage()
            else:
                fresh, usage = await self._call(account, question, steps)
                scores = tuple(first.setdefault(prefix, value) for prefix, value in zip(keys, fresh, strict=True))
            # Also where no call was needed: a resumed search may ask in another order, and finds the same scores.
            self._accounts.journal.put_scores(key, stem, account.key, scores, usage)
            account.count(key, usage)
            return scores

        scores = await self._calls.reply(key, remembered, ask)
        for prefix, value in zip(keys, scores, strict=True):
            first.setdefault(prefix, value)
        return scores

    async def _call(self, account: Account, question: str, steps: tuple[str, ...]) -> tuple[tuple[float, ...], Usage]:
        self.in_flight += 1
        try:
            reply = await self._accounts.call(account, lambda: self._reward.score_steps(question, steps))
        finally:
            self.in_flight -= 1
        scores = reply.scores
        if len(scores) != len(steps) or not all(math.isfinite(value) and 0 <= value <= 1 for value in scores):
            raise PolicyError(
                f"{self._name} answers {len(steps)} steps with {len(scores)} scores, {list(scores[:4])} at the "
                "beginning. Expected one number between 0 and 1 for each step."
            )
        return scores, Usage(reward_calls=1, reward_tokens=reply.tokens_asked, reward_tokens_read=reply.tokens_read)
