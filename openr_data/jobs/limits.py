"""How much a job may spend or is to find: at a limit it stops asking, and can be resumed."""

from dataclasses import dataclass, fields

from ..errors import UsageError
from ..types import Usage


@dataclass(frozen=True, slots=True)
class Limits:
    """None means no limit. Tokens and cost are those of the whole job, hours those of one run.

    `max_tokens` counts the policy's prompts and completions, `max_reward_tokens` the solutions a reward model is asked
    to score, in full each time: with prompts, too, what a cache saves is counted. A limit stops new requests; those
    under way are waited for and kept, so a job ends a little beyond it.
    """

    max_tokens: int | None = None
    max_reward_tokens: int | None = None
    max_cost: float | None = None
    max_hours: float | None = None
    target_first_errors: int | None = None

    def check(self, price_known: bool) -> None:
        """Raise `UsageError` for a limit that cannot be kept."""
        if self.max_cost is not None and not price_known:
            raise UsageError(
                "--max-cost needs the price of this model: write it into prices.toml of the store, or name a file with "
                "--prices (see the catalog's prices.toml for how)."
            )

    def reached(self, paid: Usage, cost: float | None, hours: float, located: int) -> str:
        """Which limit is reached, in words, or an empty string."""
        tokens = paid.prompt_tokens + paid.completion_tokens
        if self.max_tokens is not None and tokens >= self.max_tokens:
            return f"{tokens:,} tokens are paid for (--max-tokens {self.max_tokens})"
        if self.max_reward_tokens is not None and paid.reward_tokens >= self.max_reward_tokens:
            return (
                f"{paid.reward_tokens:,} tokens of the reward model are paid for "
                f"(--max-reward-tokens {self.max_reward_tokens})"
            )
        if self.max_cost is not None and cost is not None and cost >= self.max_cost:
            return f"{cost:,.2f} are spent (--max-cost {self.max_cost:g})"
        if self.max_hours is not None and hours >= self.max_hours:
            return f"{hours:.2f} hours have passed (--max-hours {self.max_hours:g})"
        if self.target_first_errors is not None and located >= self.target_first_errors:
            return f"{located:,} first errors are located (--target-first-errors {self.target_first_errors})"
        return ""

    def __bool__(self) -> bool:
        return any(getattr(self, item.name) is not None for item in fields(self))
