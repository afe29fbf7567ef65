"""Step scores of a process reward model of vLLM in this process, on the GPUs of the machine (or on its cores).

A causal model (head lm_pair) is asked for the log-probabilities of its two labels after each new step, by their ids:
vLLM reports log-probabilities from before any masking, whose best two are seldom the labels. Token classifiers (heads
classes and scalar) are run for pooling. What is asked for and remembered: `step_requests.py`.

Scores do not depend on what they were scored with, up to the rounding of the model's own precision.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from openr_data.errors import PolicyError
from openr_data.models import ModelEntry, model_entry

from ..serving.model_files import positions, revision
from ..serving.vllm_process import (
    OwnVLLM,
    PoolerConfig,
    PoolingParams,
    RequestOutputKind,
    SamplingParams,
    is_cpu,
    tokens_input,
)
from .reader import check, load_files
from .requested_reward import RequestedReward

BATCH_TOKENS: Final = 16_384
"""Tokens that a CPU reads in one pass, where prompts are not read in chunks."""
BLOCK: Final = 32
"""Tokens of a block of the cache on a CPU; vLLM's own 128 would read most steps again with each later one."""


class VLLMReward(RequestedReward[OwnVLLM]):
    """A `RewardModel` over a local or Hub model; close it after use.

    `max_sequences` bounds the requests worked on together, `gpu_memory` is the share of each GPU's memory to use (where
    they are None vLLM chooses), `tensor_parallel` the GPUs to lay the model over. `tokens_read` counts what was not in
    the cache of the engine. Raises `InputError` for a model that cannot be found or started, whose format is not known
    or that has another head than its format says.
    """

    live_options: ClassVar[tuple[str, ...]] = ("format", "max_sequences", "gpu_memory", "tensor_parallel")
    check = staticmethod(check)

    def __init__(
        self,
        model: str,
        *,
        max_sequences: int | None = None,
        gpu_memory: float | None = None,
        tensor_parallel: int = 1,
        format: str = "",
        reuse: bool = True,
    ) -> None:
        entry = model_entry(model)
        files = load_files(model, entry, format)
        commit = revision(files.config, entry)
        # A tokenizer that does not fit is an error before the engine starts.
        name = files.reader(model, commit, None).name
        is_pair = files.form.head == "lm_pair"
        more: dict[str, Any] = {"enable_prefix_caching": reuse, "dtype": _precision(entry, files.config)}
        if not is_pair:
            # By token, whatever the model's own way: by step, vLLM has one tag only and caches nothing.
            more |= {"runner": "pooling", "pooler_config": PoolerConfig(tok_pooling_type="ALL")}
        if is_cpu():
            batch = max(BATCH_TOKENS, positions(files.config) or 0)
            more |= {"max_num_batched_tokens": batch, "block_size": BLOCK}
        own = OwnVLLM(
            "reward model",
            name,
            entry,
            files.config,
            max_sequences=max_sequences,
            gpu_memory=gpu_memory,
            tensor_parallel=tensor_parallel,
            **more,
        )
        # The answered token needs room, too.
        super().__init__(files.reader(model, commit, own.positions - is_pair), own, reuse=reuse)

    @property
    def requests_under_way(self) -> int:
        """Solutions that the engine works on or has waiting."""
        return self._own.requests_under_way

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes after `ids`, greedily, and whether it came to its `end`."""

        def request() -> SamplingParams:
            return SamplingParams(
                max_tokens=most, temperature=0, stop_token_ids=[end], output_kind=RequestOutputKind.FINAL_ONLY
            )

        async def ask() -> tuple[str, bool]:
            reply = await self._own.ask(
                lambda engine, number: engine.generate(tokens_input(list(ids)), request(), number)
            )
            (output,) = reply.outputs
            if output.finish_reason == "abort":
                raise self._own.gone()
            return output.text, output.finish_reason == "stop"

        return await self._own.call(ask)

    async def pair(self, ids: Sequence[int], good: int, bad: int, near: str) -> tuple[float, float, int]:
        """The log-probabilities of two tokens, and how many tokens were read for them."""

        def request() -> SamplingParams:
            return SamplingParams(
                max_tokens=1,
                temperature=0,
                logprob_token_ids=[good, bad],
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        reply = await self._own.ask(lambda engine, number: engine.generate(tokens_input(list(ids)), request(), number))
        (output,) = reply.outputs
        if output.finish_reason == "abort":
            # This call was not given up, or it would have ended before: the engine was shut down.
            raise self._own.gone()
        logprobs = output.logprobs[0] if output.logprobs else {}
        if good not in logprobs or bad not in logprobs:
            raise PolicyError(
                f"vLLM returns the log-probabilities of {sorted(logprobs)}, expected those of the labels {[good, bad]}."
            )
        return logprobs[good].logprob, logprobs[bad].logprob, len(ids) - (reply.num_cached_tokens or 0)

    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]:
        """The probabilities of the classes at each token that did not come from the cache."""
        cached, rows, read = await self._rows(ids, skip=False)
        if cached > first:
            # Its cache has more of this solution than the memory of scores: those probabilities are gone.
            cached, rows, again = await self._rows(ids, skip=True)
            read += again
        return cached, rows, read

    async def _rows(self, ids: Sequence[int], *, skip: bool) -> tuple[int, Any, int]:
        def request() -> PoolingParams:
            return PoolingParams(task="token_classify", use_activation=True, skip_reading_prefix_cache=skip)

        reply = await self._own.ask(lambda engine, number: engine.encode(tokens_input(list(ids)), request(), number))
        if reply.error is not None:
            raise PolicyError(f"vLLM fails a request: {reply.error}.")
        cached = reply.num_cached_tokens or 0
        return cached, reply.outputs.data.float().numpy(), len(ids) - cached


def _precision(entry: ModelEntry, config: Any) -> str:
    """The precision of the weights, where the entry names none: vLLM would halve float32, and move every score."""
    own = str(getattr(config, "dtype", None) or "auto").removeprefix("torch.")
    return own if entry.dtype == "auto" else entry.dtype
