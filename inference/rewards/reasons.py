"""What a generative reward model says of a solution: the score of each step, and why.

A score is read as ever. Behind the verdict that it comes to the model writes its reason, greedily; the steps that
follow are read without it, as in training (`openr_data/prm_format.py`), so that no score depends on what is written.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from openr_data.reasons import ReasonedStep

from ..serving.event_loop import all_of
from .reader import RewardReader, no_reasons

CUT: Final = " …"
"""What stands at the end of a reason that came to its limit."""


class Writer(Protocol):
    """A backend. `write` continues ids greedily up to `end`, or to `most` tokens, and says whether that was the end."""

    @property
    def threshold(self) -> float: ...

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]: ...

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]: ...


async def explained(
    writer: Writer, reader: RewardReader, question: str, steps: Sequence[str], max_tokens: int
) -> tuple[ReasonedStep, ...]:
    """Score, verdict and reason of each step; a reason is empty where the context has no room for it.

    Raises what `score` and `write` raise, and `InputError` for a model that writes no reasons.
    """
    end = reader.encoder.end
    if not reader.writes or end is None:
        raise no_reasons(reader.name)
    scores = await writer.score(question, steps)
    encoded = reader.encode(question, steps)

    async def one(step: int, score: float) -> ReasonedStep:
        is_good = score >= writer.threshold
        ids = reader.encoder.verdict(encoded, step, is_good)
        most = max_tokens if reader.room is None else min(max_tokens, reader.room - len(ids))
        if most < 1:
            return ReasonedStep(score, is_good, "")
        text, is_whole = await writer.write(ids, end, most, question)
        return ReasonedStep(score, is_good, (text.strip() + ("" if is_whole else CUT)).strip())

    return tuple(await all_of([one(step, score) for step, score in enumerate(scores)]))
