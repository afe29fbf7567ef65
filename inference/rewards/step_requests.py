"""Step scores from an engine that answers requests: vLLM, in this process or served.

A causal model is asked for one token after each step that has no score yet, a classifier for its numbers at each token
from the first new step on. The engine's prefix cache holds what was read before, so that a new step costs itself and
the rest of a block. vLLM returns no numbers of a classifier for tokens that come from the cache: where such numbers are
needed, the request goes past the cache.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from openr_data.errors import PolicyError
from openr_data.prm_format import Encoded
from openr_data.types import StepScores

from ..serving.event_loop import all_of
from .memory import ScoreMemory, step_keys
from .reader import RewardReader

CLOSE: Final = 0.01
"""How far from 1 the probabilities of the classes may add up: a head in half precision is off by less."""


class Engine(Protocol):
    """Answers requests; each answer ends with the number of tokens that were read for it.

    `pair` returns the log-probabilities of two tokens as the next one after `ids`, up to one constant for both. `rows`
    returns a place, at most `first`, and the probabilities of the classes, `[tokens, classes]`, at each token from it
    on, or at each step tag of all `ids`. Requests with the same `near` share much of their ids.
    """

    async def pair(self, ids: Sequence[int], good: int, bad: int, near: str) -> tuple[float, float, int]: ...

    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]: ...


class StepRequests:
    """Scores and their memory; for one event loop. Without `reuse` nothing is remembered."""

    def __init__(self, reader: RewardReader, engine: Engine, *, reuse: bool) -> None:
        self._reader, self._engine, self._reuse = reader, engine, reuse
        self._memory = ScoreMemory()
        self.tokens_asked = self.tokens_read = 0

    async def score(self, question: str, encoded: Encoded) -> StepScores:
        """P(correct) of every step. Raises what the engine does, and `PolicyError` for answers that cannot be read."""
        read = 0
        self.tokens_asked += len(encoded.ids)
        keys = step_keys(encoded)
        scores = {key: self._memory.get(key) for key in keys} if self._reuse else dict.fromkeys(keys)
        new = [(key, at) for key, at in zip(keys, encoded.read, strict=True) if scores[key] is None]
        if new:
            ask = self._pairs if self._reader.form.head == "lm_pair" else self._rows
            fresh, read = await ask(question, encoded, [at for _, at in new])
            for (key, _), score in zip(new, fresh, strict=True):
                scores[key] = score
                if self._reuse:
                    self._memory.put(key, score)
            self._memory.trim()
        return StepScores(tuple(value for key in keys if (value := scores[key]) is not None), len(encoded.ids), read)

    async def _pairs(self, question: str, encoded: Encoded, places: Sequence[int]) -> tuple[list[float], int]:
        encoder = self._reader.encoder

        async def one(at: int) -> tuple[float, int]:
            good, bad, read = await self._engine.pair(encoded.ids[: at + 1], encoder.good, encoder.bad, question)
            self.tokens_read += read
            if not (math.isfinite(good) and math.isfinite(bad)):
                raise PolicyError(
                    f"{self._reader.name} answers with log-probabilities that are not finite ({good}, {bad}). "
                    "Load it in float32."
                )
            return _sigmoid(good - bad), read

        # The shortest goes first: the longer ones find it in the cache.
        answers = await all_of([one(at) for at in places])
        return [score for score, _ in answers], sum(read for _, read in answers)

    async def _rows(self, question: str, encoded: Encoded, places: Sequence[int]) -> tuple[list[float], int]:
        ids = encoded.ids[: encoded.read[-1] + 1]
        start, answer, read = await self._engine.rows(ids, places[0], question)
        self.tokens_read += read
        rows = np.asarray(answer, dtype=np.float64)
        name, form, steps = self._reader.name, self._reader.form, encoded.read
        is_by_token = len(rows) == len(ids) - start
        if rows.ndim != 2 or not (is_by_token or (len(rows) == len(steps) and not start)):
            raise PolicyError(
                f"{name} answers with rows of the shape {list(rows.shape)} for {len(ids) - start} tokens and "
                f"{len(steps)} steps; there has to be a row for each token or for each step. Serve it for the pooling "
                "task token_classify."
            )
        classes = rows.shape[1]
        if (classes != 1) if form.head == "scalar" else (classes < 2 or form.good_class >= classes):
            raise PolicyError(f"{name} gives {classes} numbers a token, and its PRM format reads {_wanted(form)}.")
        chosen = rows[[at - start if is_by_token else steps.index(at) for at in places]]
        _check_probabilities(chosen, name)
        if form.head == "scalar":
            return [float(value) for value in chosen[:, 0]], read
        return [float(value) for value in chosen[:, form.good_class] / chosen.sum(axis=1)], read


def _wanted(form: Any) -> str:
    return "one" if form.head == "scalar" else f"class {form.good_class} of at least 2"


def _check_probabilities(rows: NDArray[np.float64], name: str) -> None:
    """Raise for rows that are not probabilities: logits in their place would give wrong scores without an error."""
    is_sound = bool(np.isfinite(rows).all()) and rows.min() >= 0 and rows.max() <= 1 + CLOSE
    if is_sound and rows.shape[1] > 1:
        is_sound = bool((np.abs(rows.sum(axis=1) - 1) <= CLOSE).all())
    if not is_sound:
        raise PolicyError(
            f"{name} gives numbers that are not probabilities, for example {np.round(rows[0], 4).tolist()}. Use a vLLM "
            "with `use_activation` (0.32 has it), or the backend transformers."
        )


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
