"""The order of requests: no more at once than the backend can hold, those of the oldest question first.

A request holds its prompt and its samples, in tokens; both are estimated from earlier replies (a mean that forgets),
since the length of a completion is known only afterwards. A backend may bound the tokens it can hold (`room`) and the
requests it takes (`places`, which may change while it runs); nothing beyond that is sent. Requests that wait go out by
the age of their question, so that old questions end before new ones begin, and the backend still has them in its cache.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

OVERCOMMIT: Final = 1.5
"""Tokens that are sent for each token that can be held: on average half of a completion is still to come."""
FORGETS: Final = 0.02
"""The weight of a new reply in the means."""
FIRST_GUESS: Final = 256
"""The highest estimate of a completion's tokens before the first reply."""


class Admission:
    """Use it from one event loop. `on_room` is called when there may be room for a new question."""

    def __init__(self, room: int | None, places: Callable[[], int | None]) -> None:
        self._room = None if room is None else int(room * OVERCOMMIT)
        self._places = places
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._asked = 0
        self._mean_completion: float | None = None
        self._tokens_per_character = 0.4
        self.tokens = 0
        self.requests = 0
        self.on_room: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether another request would go out at once."""
        return not self._waiting and self._fits(0)

    def weigh(self, characters: int, n: int, max_tokens: int) -> int:
        """The estimated tokens of n samples after a prompt of that many characters."""
        completion = min(max_tokens, self._mean_completion or FIRST_GUESS)
        return int(characters * self._tokens_per_character + n * completion) + 1

    def learn(self, characters: int, prompt_tokens: int, completion_tokens: int, n: int) -> None:
        """Update the estimates with the tokens of a reply."""
        if n:
            mean = completion_tokens / n
            before = self._mean_completion
            self._mean_completion = mean if before is None else before + FORGETS * (mean - before)
        if characters and prompt_tokens:
            self._tokens_per_character += FORGETS * (prompt_tokens / characters - self._tokens_per_character)

    async def enter(self, age: int, tokens: int) -> None:
        """Wait until a request of that many tokens may go out; `age` is the number of its question, low ones first."""
        if not self._waiting and self._fits(tokens):
            self._take(tokens)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (age, self._asked, tokens, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn had come already: the next request takes it.
                self.leave(tokens)
            else:
                # A large request that is given up may have held up smaller ones.
                self.wake()
            raise

    def leave(self, tokens: int) -> None:
        """Free the room of a request of that many tokens."""
        self.tokens -= tokens
        self.requests -= 1
        self.wake()

    def wake(self) -> None:
        """Send the requests that fit now; `places` is read again, since a backend may take more than before."""
        while self._waiting:
            _, _, tokens, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(tokens):
                    return
                self._take(tokens)
                turn.set_result(None)
            heapq.heappop(self._waiting)
        if self.on_room is not None and self._fits(0):
            self.on_room()

    def _take(self, tokens: int) -> None:
        self.tokens += tokens
        self.requests += 1

    def _fits(self, tokens: int) -> bool:
        if not self.requests:
            # A request that is alone is sent, however much it holds.
            return True
        places = self._places()
        return (places is None or self.requests < places) and (
            self._room is None or self.tokens + max(tokens, 1) <= self._room
        )
