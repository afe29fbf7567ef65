"""Who may ask now: never more at once than the backend can hold, the oldest question first.

What a request will hold is its prompt and its samples, in tokens; both are learned from the replies (a mean that
forgets), since how long a completion gets is known only afterwards. Where the backend tells how many tokens it can hold
(`room`) or how many requests it takes (`places`, which may change while it runs) nothing beyond that is sent: what
waits here goes out by the age of its question, so that old questions end before new ones begin, and what a backend
has cached of them is still there when they come back.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

OVERCOMMIT: Final = 1.5
"""What is sent, of what can be held: on average half of a completion is still to come."""
FORGETS: Final = 0.02
"""The weight of a new reply in the means."""
FIRST_GUESS: Final = 256
"""Tokens of a completion before any is known, at most."""


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
        """Whether a request more would go out at once."""
        return not self._waiting and self._fits(0)

    def weigh(self, characters: int, n: int, max_tokens: int) -> int:
        """The tokens that n samples behind a prompt of so many characters will hold, as far as is known."""
        completion = min(max_tokens, self._mean_completion or FIRST_GUESS)
        return int(characters * self._tokens_per_character + n * completion) + 1

    def learn(self, characters: int, prompt_tokens: int, completion_tokens: int, n: int) -> None:
        """Take in what a reply has held."""
        if n:
            mean = completion_tokens / n
            known = self._mean_completion
            self._mean_completion = mean if known is None else known + FORGETS * (mean - known)
        if characters and prompt_tokens:
            self._tokens_per_character += FORGETS * (prompt_tokens / characters - self._tokens_per_character)

    async def enter(self, age: int, tokens: int) -> None:
        """Wait until a request of so many tokens may go out; `age` is the number of its question, low ones first."""
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
                # Its turn had come: it is the next one's.
                self.leave(tokens)
            else:
                # A large one that gives up may have held up smaller ones.
                self.wake()
            raise

    def leave(self, tokens: int) -> None:
        """A request of so many tokens has ended."""
        self.tokens -= tokens
        self.requests -= 1
        self.wake()

    def wake(self) -> None:
        """Let in whoever fits now; a backend that takes more than before is noticed here."""
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
            # Whatever is asked for alone is sent, however much it holds.
            return True
        places = self._places()
        return (places is None or self.requests < places) and (
            self._room is None or self.tokens + max(tokens, 1) <= self._room
        )
