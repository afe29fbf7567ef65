"""A generative reward model's judgement of a solution: the score of each step, and a reason.

A score is read as without reasons. The model then writes its reason after the verdict of that score, greedily. Later
steps are read without the reason, as in training (`openr_data/prm_format.py`), so that no score depends on it.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from openr_data.reasons import ReasonedStep

from ..serving.event_loop import all_of
from .reader import RewardReader, no_reasons

CUT: Final = " …"
"""The end of a reason that was cut at its limit."""


class Writer(Protocol):
    """A backend. `write` continues ids greedily up to `end` or for `most` tokens; the flag: it came to `end`."""

    @property
    def threshold(self) -> float: ...

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]: ...

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]: ...


async def explained(
    writer: Writer, reader: RewardReader, question: str, steps: Sequence[str], max_tokens: int
) -> tuple[ReasonedStep, ...]:
    """Score, verdict and reason of each step; a reason is empty if the context has no room for it.

    Raises what `score` and `write` raise, and `InputError` for a model that does not write reasons.
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
