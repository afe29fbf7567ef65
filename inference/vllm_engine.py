"""A policy over vLLM in this process, on the GPUs of the machine (or, in the build for CPUs, on its cores).

The engine batches, caches prefixes and keeps its model in processes of its own. This file hands it token ids, made as
every backend makes them, and takes whole completions back: one request for the n samples of a prefix, one message
between the threads for each. It runs on a loop of its own, so that it outlives that of any one caller; cancelling a
request frees its place in the engine.

Samples are seeded one by one. In float32 a sample so depends on its prefix and its seed but for draws so close that the
order of a sum decides; in half precision its neighbours in the batch can move a token, as on any server.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from functools import lru_cache
from multiprocessing import resource_tracker
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final

# Read when vLLM is imported. It logs to the standard output otherwise, which belongs to the tables of a command.
for _name, _value in {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    # By now the store has threads, whose locks a fork would copy.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # GiB for the cache of a model on the CPU; vLLM would take most of the machine's memory.
    "VLLM_CPU_KVCACHE_SPACE": "2",
}.items():
    os.environ.setdefault(_name, _value)

from transformers import AutoConfig, AutoTokenizer  # noqa: E402
from vllm import SamplingParams  # noqa: E402
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.inputs import tokens_input  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine.async_llm import AsyncLLM  # noqa: E402

from openr_data.errors import InputError, PolicyError, PolicyLost  # noqa: E402
from openr_data.ids import derive_seed  # noqa: E402
from openr_data.models import ModelEntry, check_template, encode, model_entry, prompt_hash, stop_strings  # noqa: E402
from openr_data.steps import split_steps  # noqa: E402
from openr_data.types import Completion, FinishReason, Prefix, Sampling  # noqa: E402

from .local_model import revision  # noqa: E402
from .own_loop import OwnLoop, end  # noqa: E402

SEEDS: Final = 2**62
"""Seeds of requests lie below this: vLLM adds the index of a sample, and keeps the sum in 63 bits."""

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}


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
        self._name = f"{model}@{revision(SimpleNamespace(config=config), self.entry)}.{prompt_hash(self.entry)}"
        self._gpus = tensor_parallel if current_platform.is_cuda_alike() else 0
        self._encode = lru_cache(maxsize=1_024)(self._encode_now)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._asked = 0
        self._died = False
        self._watched: list[int] = []
        self._own = OwnLoop("vllm-engine")
        options = _options(self.entry, getattr(config, "_commit_hash", None))
        options |= {"max_num_seqs": max_sequences, "tensor_parallel_size": tensor_parallel}
        if gpu_memory is not None:
            options["gpu_memory_utilization"] = gpu_memory
        try:
            self._engine: AsyncLLM = self._own.wait(self._start(options))
        except Exception as error:
            self._own.close()
            raise InputError(
                f"vLLM cannot start {self.entry.path!r}: {_reason(error)} Where memory is short, give it another share "
                "(--gpu-memory 0.8), fewer samples at once (--max-sequences 64) or more GPUs (--tensor-parallel 2)."
            ) from error
        found = self._engine.vllm_config
        self._positions = int(found.model_config.max_model_len)
        self._places = int(found.scheduler_config.max_num_seqs)
        cache = found.cache_config
        self._room = cache.num_gpu_blocks * cache.block_size if cache.num_gpu_blocks else None

    @property
    def name(self) -> str:
        return self._name

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
        return self._gpus

    @property
    def retries(self) -> int:
        return 0

    @property
    def requests_under_way(self) -> int:
        """Requests that the engine works on or has waiting."""
        return len(self._under_way)

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self.entry.separator)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n samples of one prefix. Raises `PolicyError` for a request that is refused, `PolicyLost` without engine."""
        if n == 0:
            return ()
        return await self._own.call(lambda: self._sample(prefix, n, sampling), self._gone)

    def close(self) -> None:
        """Shut the engine down; requests under way fail with `PolicyLost`."""
        self._own.close(self._finish)

    def _gone(self) -> PolicyLost:
        if self._own.closed:
            return PolicyLost(f"The policy {self._name} is closed.")
        return PolicyLost(
            f"The vLLM engine of {self._name} has died; its last words stand above. Where memory was short, give it "
            "another share (--gpu-memory 0.8) or fewer samples at once (--max-sequences 64)."
        )

    async def _start(self, options: dict[str, Any]) -> AsyncLLM:
        # An interrupt from the keyboard goes to every process, and vLLM's would end at once; but what is begun then
        # still has to be finished. They inherit the mask of this thread, which the tracker unblocks when it starts.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # The defaults of vLLM for a batch, not those of a server.
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**options), usage_context=UsageContext.LLM_CLASS)
        # vLLM leaves requests waiting for ever that reach an engine on its way out.
        self._watched = engine.engine_core.resources.engine_manager.sentinels()
        for sentinel in self._watched:
            self._own.loop.add_reader(sentinel, self._lose)
        return engine

    def _lose(self) -> None:
        """A process of the engine has ended: fail what is under way."""
        self._died = True
        self._unwatch()
        for task in self._under_way:
            task.cancel()

    def _unwatch(self) -> None:
        for sentinel in self._watched:
            self._own.loop.remove_reader(sentinel)
        self._watched = []

    async def _finish(self) -> None:
        self._unwatch()
        await end(self._under_way)
        self._engine.shutdown()
        # Its connections are closed when nothing holds it any more.
        del self._engine
        await end(asyncio.all_tasks() - {asyncio.current_task()})

    def _encode_now(self, prefix: Prefix) -> tuple[int, ...]:
        return tuple(encode(prefix, self.entry, self._tokenizer))

    async def _sample(self, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        if self._died:
            raise self._gone()
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await self._ask(prefix, n, sampling)
        except asyncio.CancelledError:
            if self._own.closed or self._died:
                raise self._gone() from None
            raise
        finally:
            self._under_way.discard(task)

    async def _ask(self, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        """One request of the engine."""
        ids = self._encode(prefix)
        if len(ids) >= self._positions:
            raise PolicyError(
                f"A prompt of {len(ids)} tokens does not fit the {self._positions} positions of {self._name}."
            )
        # vLLM tells the model's own distribution, not one that temperature or top_p have changed.
        is_own = sampling.temperature in (0, 1) and sampling.top_p == 1
        self._asked += 1
        try:
            request = SamplingParams(
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
            outputs = self._engine.generate(tokens_input(list(ids)), request, str(self._asked))
            (reply,) = [output async for output in outputs]
        except Exception as error:
            if self._died or self._engine.errored:
                raise self._gone() from error
            raise PolicyError(f"vLLM refuses a request: {_reason(error.__cause__ or error)}") from error
        if any(item.finish_reason == "abort" for item in reply.outputs):
            # Not by us, who would not be here: the engine was told to end.
            raise self._gone()
        completions = tuple(
            Completion(
                text=item.text,
                n_tokens=len(item.token_ids),
                finish_reason=_FINISH.get(item.finish_reason or "", "abort"),
                logprob=item.cumulative_logprob,
                prompt_tokens=len(ids),
                cached_tokens=reply.num_cached_tokens,
            )
            for item in reply.outputs
        )
        return completions if sampling.temperature else completions * n


def _load(entry: ModelEntry) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a model. Raises `InputError`."""
    try:
        found = {"pretrained_model_name_or_path": _path(entry), "revision": entry.revision or "main"}
        config, tokenizer = AutoConfig.from_pretrained(**found), AutoTokenizer.from_pretrained(**found)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {entry.path!r}: {_reason(error)} "
            "Name a folder with a model, a Hub repository, or see: openr-data catalog ls"
        ) from error
    check_template(entry, tokenizer)
    return config, tokenizer


def _options(entry: ModelEntry, commit: str | None) -> dict[str, Any]:
    """How the engine is set up for a model, whatever the machine."""
    options: dict[str, Any] = {
        "model": _path(entry),
        # The very commit that the name says.
        "revision": commit,
        "tokenizer_revision": commit,
        "dtype": entry.dtype,
        # As long as the memory allows, where it is too short for the model's own length.
        "max_model_len": -1,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if current_platform.is_cpu():
        # Compiling takes longer than most jobs; and a prompt read in chunks crashes seeded samples on the CPU.
        options |= {"enforce_eager": True, "enable_chunked_prefill": False}
    return options


def _path(entry: ModelEntry) -> str:
    return str(Path(entry.path).expanduser()) if entry.path.startswith("~") else entry.path


def _reason(error: BaseException) -> str:
    """What an error says, in one line that ends as a sentence."""
    told = getattr(error, "errors", None)
    if callable(told):
        # Settings are checked by pydantic, whose first line only counts what is wrong.
        found = dict.fromkeys(": ".join((*map(str, item["loc"]), item["msg"])) for item in told())
        text = "; ".join(found)
    else:
        text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if line.endswith(".") else f"{line}."
