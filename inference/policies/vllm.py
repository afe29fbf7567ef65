"""A policy over vLLM in this process, on the GPUs of the machine (or, in the build for CPUs, on its cores)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from openr_data.models import encode
from openr_data.steps import split_steps
from openr_data.types import Completion, Prefix, Sampling

from .vllm_model import VLLMModel


class VLLMEngine:
    """A `Policy` over a local or Hub model; close it after use.

    `max_sequences` bounds the samples decoded together, `gpu_memory` is the share of each GPU's memory to use (where
    they are None vLLM chooses), `tensor_parallel` the GPUs to lay the model over. Raises `InputError` for a model that
    cannot be found or started.
    """

    live_options: ClassVar[tuple[str, ...]] = ("max_sequences", "gpu_memory", "tensor_parallel")

    def __init__(
        self,
        model: str,
        *,
        max_sequences: int | None = None,
        gpu_memory: float | None = None,
        tensor_parallel: int = 1,
    ) -> None:
        self._model = VLLMModel(
            model, max_sequences=max_sequences, gpu_memory=gpu_memory, tensor_parallel=tensor_parallel
        )
        self.entry, self._own = self._model.entry, self._model.own
        self._encode = lru_cache(maxsize=1_024)(self._encode_now)
        settings = self._own.engine.vllm_config
        self._places = int(settings.scheduler_config.max_num_seqs)
        cache = settings.cache_config
        self._room = cache.num_gpu_blocks * cache.block_size if cache.num_gpu_blocks else None

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def separator(self) -> str:
        return self.entry.separator

    @property
    def room(self) -> int | None:
        """Tokens that the cache of the engine holds."""
        return self._room

    @property
    def places(self) -> int | None:
        """Samples that it decodes together."""
        return self._places

    @property
    def gpus(self) -> int:
        return self._own.gpus

    @property
    def retries(self) -> int:
        return 0

    @property
    def requests_under_way(self) -> int:
        """Requests that the engine works on or has waiting."""
        return self._own.requests_under_way

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self.entry.separator)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n samples of one prefix. Raises `PolicyError` for a request that is refused, `PolicyLost` without engine."""
        if n == 0:
            return ()
        return await self._own.call(lambda: self._ask(prefix, n, sampling))

    def close(self) -> None:
        """Shut the engine down; requests under way fail with `PolicyLost`."""
        self._own.close()

    def _encode_now(self, prefix: Prefix) -> tuple[int, ...]:
        return tuple(encode(prefix, self.entry, self._model.tokenizer))

    async def _ask(self, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        ids = self._encode(prefix)
        reply = await self._model.ask(ids, n, sampling)
        completions = tuple(
            Completion(
                text=sample.text,
                n_tokens=len(sample.token_ids),
                ended=self._model.ended(sample),
                logprob=sample.cumulative_logprob,
                prompt_tokens=len(ids),
                cached_tokens=reply.num_cached_tokens,
            )
            for sample in reply.outputs
        )
        return completions if sampling.temperature else completions * n
