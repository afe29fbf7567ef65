"""Step scores of a process reward model of vLLM in this process, on the GPUs of the machine (or on its cores).

A causal model (head lm_pair) is asked for the log-probabilities of its two labels behind each new step, by their ids:
vLLM tells log-probabilities from before any masking, whose best two seldom are the labels. Token classifiers (heads
classes and scalar) are run for pooling. What is asked for and remembered: `step_requests.py`.

Scores do not depend on what they were scored with, up to the rounding of the model's own precision.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from openr_data.errors import PolicyError
from openr_data.models import ModelEntry, model_entry
from openr_data.reasons import MOST, ReasonedStep
from openr_data.types import StepScores

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
from .reader import RewardReader, check, load_files
from .reasons import explained
from .step_requests import StepRequests

BATCH_TOKENS: Final = 16_384
"""Tokens that a CPU reads in one pass, where prompts are not read in chunks."""
BLOCK: Final = 32
"""Tokens of a block of the cache on a CPU; vLLM's own 128 would read most steps again with each later one."""


class VLLMReward:
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
        # What is wrong with the tokenizer is told before the engine starts.
        name = files.reader(model, commit, None).name
        is_pair = files.form.head == "lm_pair"
        more: dict[str, Any] = {"enable_prefix_caching": reuse, "dtype": _precision(entry, files.config)}
        if not is_pair:
            # By token, whatever the model's own way: by step vLLM knows one tag only, and caches nothing.
            more |= {"runner": "pooling", "pooler_config": PoolerConfig(tok_pooling_type="ALL")}
        if is_cpu():
            batch = max(BATCH_TOKENS, positions(files.config) or 0)
            more |= {"max_num_batched_tokens": batch, "block_size": BLOCK}
        self._own = OwnVLLM(
            "reward model",
            name,
            entry,
            files.config,
            max_sequences=max_sequences,
            gpu_memory=gpu_memory,
            tensor_parallel=tensor_parallel,
            **more,
        )
        # Where a token has to be answered there has to be room for it.
        self._reader: RewardReader = files.reader(model, commit, self._own.positions - is_pair)
        self._steps = StepRequests(self._reader, self, reuse=reuse)

    @property
    def name(self) -> str:
        """Model, revision and format."""
        return self._reader.name

    @property
    def threshold(self) -> float:
        """Below it a step counts as wrong."""
        return self._reader.form.threshold

    @property
    def tokens_asked(self) -> int:
        """Tokens of all solutions that were scored."""
        return self._steps.tokens_asked

    @property
    def tokens_read(self) -> int:
        """Tokens that the engine read for them."""
        return self._steps.tokens_read

    @property
    def requests_under_way(self) -> int:
        """Solutions that the engine works on or has waiting."""
        return self._own.requests_under_way

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        """P(correct) of every step, `len(scores) == len(steps)`.

        Raises `InputError` for a solution that is empty or longer than the context, `PolicyLost` when the engine died
        or was closed.
        """
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        """What `score` returns, with the tokens of this call. Raises what `score` raises."""
        encoded = self._reader.encode(question, steps)
        return await self._own.call(lambda: self._steps.score(question, encoded))

    async def explain(self, question: str, steps: Sequence[str], *, max_tokens: int = MOST) -> tuple[ReasonedStep, ...]:
        """Score, verdict and reason of each step; see `reasons.py`. Raises what `score` raises."""
        return await explained(self, self._reader, question, steps, max_tokens)

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes behind `ids`, greedily, and whether it came to its `end`."""

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

    def close(self) -> None:
        """Shut the engine down; solutions under way fail with `PolicyLost`."""
        self._own.close()

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
            # Not by us, who would not be here: the engine was told to end.
            raise self._own.gone()
        told = output.logprobs[0] if output.logprobs else {}
        if good not in told or bad not in told:
            raise PolicyError(f"vLLM tells the log-probabilities of {sorted(told)}, not of the labels {[good, bad]}.")
        return told[good].logprob, told[bad].logprob, len(ids) - (reply.num_cached_tokens or 0)

    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]:
        """The probabilities of the classes at each token that did not come from the cache."""
        cached, rows, read = await self._rows(ids, skip=False)
        if cached > first:
            # It knows more of this solution than we do: what it says of that is gone.
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
    """That of the weights, where the entry leaves it open: vLLM would halve float32, and move every score."""
    own = str(getattr(config, "dtype", None) or "auto").removeprefix("torch.")
    return own if entry.dtype == "auto" else entry.dtype
