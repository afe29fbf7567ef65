"""A policy over vLLM in this process, on the GPUs of the machine (or, in the build for CPUs, on its cores).

The engine (`inference/serving/vllm_process.py`) gets token ids, made as every backend makes them, and returns whole
completions: one request for the n samples of a prefix, and one message between the threads for each request.

Samples are seeded one by one. In float32 a sample so depends on its prefix and its seed but for draws so close that the
order of a sum decides; in half precision its neighbours in the batch can move a token, as on any server.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from transformers import AutoConfig, AutoTokenizer

from openr_data.errors import InputError, PolicyError
from openr_data.ids import derive_seed
from openr_data.models import ModelEntry, check_template, encode, model_entry, prompt_hash, stop_strings
from openr_data.steps import split_steps
from openr_data.types import Completion, Ended, Prefix, Sampling

from ..serving.model_files import first_line, place, revision
from ..serving.vllm_process import OwnVLLM, RequestOutputKind, SamplingParams, tokens_input
from .ending import ended_by

SEEDS: Final = 2**62
"""Seeds of requests lie below this: vLLM adds the index of a sample, and keeps the sum in 63 bits."""


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
        self.entry = model_entry(model)
        config, self._tokenizer = _load(self.entry)
        self._name = f"{model}@{revision(config, self.entry)}.{prompt_hash(self.entry)}"
        self._encode = lru_cache(maxsize=1_024)(self._encode_now)
        self._own = OwnVLLM(
            "policy",
            self._name,
            self.entry,
            config,
            max_sequences=max_sequences,
            gpu_memory=gpu_memory,
            tensor_parallel=tensor_parallel,
        )
        settings = self._own.engine.vllm_config
        self._places = int(settings.scheduler_config.max_num_seqs)
        cache = settings.cache_config
        self._room = cache.num_gpu_blocks * cache.block_size if cache.num_gpu_blocks else None

    @property
    def name(self) -> str:
        return self._name

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
        return tuple(encode(prefix, self.entry, self._tokenizer))

    async def _ask(self, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        """One request of the engine."""
        ids = self._encode(prefix)
        if len(ids) >= self._own.positions:
            raise PolicyError(
                f"A prompt of {len(ids)} tokens does not fit the {self._own.positions} positions of {self._name}."
            )
        # vLLM reports the model's own distribution, not one that temperature or top_p have changed.
        is_own = sampling.temperature in (0, 1) and sampling.top_p == 1

        def request() -> SamplingParams:
            return SamplingParams(
                # Greedy samples are all the same, and vLLM refuses to draw several.
                n=n if sampling.temperature else 1,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                # Sample i has the seed plus i: seeds that are near each other would share samples.
                seed=derive_seed(sampling.seed) % SEEDS,
                stop=list(stop_strings(self.entry, sampling.stop)),
                logprobs=0 if is_own else None,
                # A sixth less work for each token than with an object for each.
                flat_logprobs=True,
                skip_special_tokens=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        reply = await self._own.ask(lambda engine, number: engine.generate(tokens_input(list(ids)), request(), number))
        if any(item.finish_reason == "abort" for item in reply.outputs):
            # The engine ended: a request that this process cancels never gets here.
            raise self._own.gone()
        completions = tuple(
            Completion(
                text=item.text,
                n_tokens=len(item.token_ids),
                ended=self._ended(item),
                logprob=item.cumulative_logprob,
                prompt_tokens=len(ids),
                cached_tokens=reply.num_cached_tokens,
            )
            for item in reply.outputs
        )
        return completions if sampling.temperature else completions * n

    def _ended(self, output: Any) -> Ended:
        """vLLM reports the stop string that ended a sample, and nothing or a token id at the model's own end."""
        if output.finish_reason == "stop":
            stop = output.stop_reason
            return ended_by(stop, self.entry.stop) if isinstance(stop, str) else "end"
        return "length" if output.finish_reason == "length" else "abort"


def _load(entry: ModelEntry) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a model. Raises `InputError`."""
    path, wanted = place(entry)
    try:
        config = AutoConfig.from_pretrained(path, revision=wanted)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=wanted)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {entry.path!r}: {first_line(error)} "
            "Name a folder with a model, a Hub repository, or see: openr-data catalog ls"
        ) from error
    check_template(entry, tokenizer)
    return config, tokenizer
