"""Token ids in and out of a `transformers` model in this process, for training; its weights are replaced in place."""

from collections.abc import Sequence
from typing import Any, ClassVar

from openr_data.types import Sampling, TokenCompletion, Weights

from ..serving.weights import check_version, check_weights, copy_weights, read_weights
from .transformers_model import TransformersModel


class TransformersTokens:
    """A `TokenPolicy` over a local or Hub model; close it after use. Raises `InputError` as `TransformersPolicy`."""

    live_options: ClassVar[tuple[str, ...]] = ("device", "max_rows")

    def __init__(self, model: str, *, device: str = "auto", max_rows: int = 256) -> None:
        self._own = TransformersModel(model, device, max_rows)

    @property
    def name(self) -> str:
        return self._own.name

    @property
    def version(self) -> int:
        return self._own.version

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._own.tokenizer

    @property
    def requests_under_way(self) -> int:
        """Requests that are worked on or waiting."""
        return self._own.requests_under_way

    async def sample_tokens(self, ids: Sequence[int], n: int, sampling: Sampling) -> Sequence[TokenCompletion]:
        """n samples after these tokens. Raises `PolicyError` for a bad prompt, `PolicyLost` once closed."""
        samples = await self._own.ask(tuple(ids), n, sampling, as_tokens=True)
        return tuple(TokenCompletion(item.ids, item.logprobs, item.ended, item.version) for item in samples)

    def load_weights(self, weights: Weights, version: int) -> None:
        """Wait for the samples under way, then copy the weights. Raises `InputError` for weights that do not fit."""
        check_version(version, self.version)
        tensors = read_weights(weights)
        check_weights(self._own.model, tensors)
        self._own.change(lambda model: copy_weights(model, tensors), version)

    def close(self) -> None:
        """Stop the thread; requests under way fail with `PolicyLost`."""
        self._own.close()
