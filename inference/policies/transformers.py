"""A policy over any causal language model of `transformers`, in this process, on CPU or GPU.

How its samples are drawn, and which models it takes: `transformers_model.py` and `row_batch.py`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from openr_data.models import encode
from openr_data.steps import split_steps
from openr_data.types import Completion, Prefix, Sampling

from .transformers_model import TransformersModel


class TransformersPolicy:
    """A `Policy` over a local or Hub model; close it after use.

    `max_rows` bounds the sequences decoded together; lower it where memory is short. Raises `InputError`
    for a model that cannot be found or has an unsupported cache.
    """

    live_options: ClassVar[tuple[str, ...]] = ("device", "max_rows")

    def __init__(self, model: str, *, device: str = "auto", max_rows: int = 256) -> None:
        self._own = TransformersModel(model, device, max_rows)
        self.entry, self._model = self._own.entry, self._own.model
        self._encode = lru_cache(maxsize=1_024)(self._encode_now)

    @property
    def name(self) -> str:
        return self._own.name

    @property
    def separator(self) -> str:
        return self.entry.separator

    @property
    def room(self) -> int | None:
        return None

    @property
    def places(self) -> int | None:
        return self._own.max_rows

    @property
    def gpus(self) -> int:
        return self._own.gpus

    @property
    def retries(self) -> int:
        return 0

    @property
    def requests_under_way(self) -> int:
        """Requests that the model works on or has waiting."""
        return self._own.requests_under_way

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._own.tokenizer

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self.entry.separator)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n samples of one prefix. Raises `PolicyError` when the model fails or was closed."""
        ids = self._encode(prefix)
        samples = await self._own.ask(ids, n, sampling)
        return tuple(
            Completion(item.text, item.n_tokens, item.ended, item.logprob, prompt_tokens=len(ids)) for item in samples
        )

    def close(self) -> None:
        """Stop the thread; requests under way fail with `PolicyLost`."""
        self._own.close()

    def _encode_now(self, prefix: Prefix) -> tuple[int, ...]:
        return tuple(encode(prefix, self.entry, self._own.tokenizer))
