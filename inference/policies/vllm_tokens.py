"""Token ids in and out of vLLM in this process, for training; the weights of its engine are replaced in place."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoModelForCausalLM

from openr_data.errors import PolicyLost
from openr_data.types import Sampling, TokenCompletion, Weights

from ..serving.vllm_process import reason
from ..serving.vllm_worker import WORKER
from ..serving.weights import check_version, check_weights, read_weights, write_weights
from ..serving.weights_gate import WeightsGate
from .vllm_model import VLLMModel


class VLLMTokens:
    """A `TokenPolicy` over a local or Hub model; close it after use. Options and errors are those of `VLLMEngine`."""

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
            model,
            max_sequences=max_sequences,
            gpu_memory=gpu_memory,
            tensor_parallel=tensor_parallel,
            worker_extension_cls=WORKER,
        )
        self._own = self._model.own
        self._gate = WeightsGate()
        self._version = 0
        self._failure: PolicyLost | None = None
        # The names and shapes of its weights, without their memory.
        with torch.device("meta"):
            self._shapes: Any = AutoModelForCausalLM.from_config(self._model.config)  # type: ignore[no-untyped-call]

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def version(self) -> int:
        return self._version

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._model.tokenizer

    @property
    def requests_under_way(self) -> int:
        """Requests that the engine works on, or that wait for it or for new weights."""
        return self._own.requests_under_way

    async def sample_tokens(self, ids: Sequence[int], n: int, sampling: Sampling) -> Sequence[TokenCompletion]:
        """n samples after these tokens. Raises `PolicyError` for a bad prompt, `PolicyLost` without engine."""
        if n == 0:
            return ()
        return await self._own.call(lambda: self._ask(tuple(ids), n, sampling))

    def load_weights(self, weights: Weights, version: int) -> None:
        """Wait for the samples under way, then replace the weights. Raises `InputError` for weights that do not fit.

        Raises `PolicyLost` without engine, and once the engine has failed to read weights: it may hold parts of both.
        """
        check_version(version, self.version)
        tensors = read_weights(weights)
        check_weights(self._shapes, tensors)
        if isinstance(weights, Path):
            self._own.call_and_wait(lambda: self._replace(weights, version))
            return
        # The engine's processes read files: they share no memory with this one.
        with tempfile.TemporaryDirectory(prefix="openr-weights-") as folder:
            write_weights(tensors, Path(folder))
            self._own.call_and_wait(lambda: self._replace(Path(folder), version))

    def close(self) -> None:
        """Shut the engine down; requests under way fail with `PolicyLost`."""
        self._own.close()

    async def _ask(self, ids: tuple[int, ...], n: int, sampling: Sampling) -> tuple[TokenCompletion, ...]:
        async with self._gate.sample():
            if self._failure is not None:
                raise self._failure
            reply = await self._model.ask(ids, n, sampling, as_tokens=True)
            completions = tuple(
                TokenCompletion(
                    tuple(sample.token_ids),
                    tuple(sample.logprobs.logprobs),
                    self._model.ended(sample),
                    self._version,
                )
                for sample in reply.outputs
            )
        return completions if sampling.temperature else completions * n

    async def _replace(self, folder: Path, version: int) -> None:
        async with self._gate.change():
            if self._failure is not None:
                raise self._failure
            engine = self._own.engine
            try:
                await engine.collective_rpc("replace_weights", args=(str(folder.absolute()),))
                # What the engine has read of earlier prompts is a function of the old weights.
                await engine.reset_prefix_cache(reset_running_requests=True)
            except Exception as error:
                self._failure = PolicyLost(
                    f"vLLM cannot read the weights in {str(folder)!r}: {reason(error)} Open the policy anew."
                )
                raise self._failure from error
            self._version = version
