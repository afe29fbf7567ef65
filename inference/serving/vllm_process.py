"""A vLLM engine of this process, on a loop of its own: how it is set up, how its death is noticed, how it ends.

The engine batches, caches prefixes and keeps its model in processes of its own. It outlives the loop of any one caller;
cancelling a request frees its place in it. Its death is an error for waiting and for later requests.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from multiprocessing import resource_tracker
from typing import Any, Final, TypeVar

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

from vllm import PoolingParams, SamplingParams  # noqa: E402
from vllm.config import PoolerConfig  # noqa: E402
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.inputs import tokens_input  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine.async_llm import AsyncLLM  # noqa: E402

from openr_data.errors import InputError, PolicyError, PolicyLost  # noqa: E402
from openr_data.models import ModelEntry  # noqa: E402

from .event_loop import OwnLoop, end  # noqa: E402
from .model_files import first_line, place, sentence  # noqa: E402

# Imported from here, these find the settings above.
__all__ = [
    "OwnVLLM",
    "PoolerConfig",
    "PoolingParams",
    "RequestOutputKind",
    "SamplingParams",
    "is_cpu",
    "tokens_input",
]

T = TypeVar("T")

_LESS: Final = "give it another share (--gpu-memory 0.8)"


class OwnVLLM:
    """The engine, from its start until `close`. `what` ("policy", "reward model") and `name` are those of its owner.

    `max_sequences` bounds the requests that are worked on together, `gpu_memory` is the share of each GPU's memory to
    use (where they are None vLLM chooses), `tensor_parallel` the GPUs to lay the model over. Raises `InputError` for a
    model that cannot be started; `config` is the model's.
    """

    def __init__(
        self,
        what: str,
        name: str,
        entry: ModelEntry,
        config: Any,
        *,
        max_sequences: int | None,
        gpu_memory: float | None,
        tensor_parallel: int,
        **more: Any,
    ) -> None:
        self._what, self._name = what, name
        self._under_way: set[asyncio.Task[Any]] = set()
        self._asked = 0
        self._died = False
        self._watched: list[int] = []
        self._own = OwnLoop(f"vllm {what}")
        options = _options(entry, getattr(config, "_commit_hash", None)) | more
        options |= {"max_num_seqs": max_sequences, "tensor_parallel_size": tensor_parallel}
        if gpu_memory is not None:
            options["gpu_memory_utilization"] = gpu_memory
        try:
            self.engine: AsyncLLM = self._own.wait(self._start(options))
        except Exception as error:
            self._own.close()
            raise InputError(
                f"vLLM cannot start {entry.path!r}: {reason(error)} Where memory is short, {_LESS}, fewer requests at "
                "once (--max-sequences 64) or more GPUs (--tensor-parallel 2)."
            ) from error
        self.gpus = tensor_parallel if current_platform.is_cuda_alike() else 0

    @property
    def positions(self) -> int:
        """Tokens that a request may have, its answer included."""
        return int(self.engine.vllm_config.model_config.max_model_len)

    @property
    def requests_under_way(self) -> int:
        """Calls that are worked on or waiting."""
        return len(self._under_way)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the engine and block until it is done."""
        return self._own.wait(work)

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine beside the engine and await it from another loop. Raises `PolicyLost` without engine."""
        return await self._own.call(lambda: self._watch(work), self.gone)

    def call_and_wait(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """As `call`, for a caller without a loop: blocks until the coroutine is done."""
        return self._own.hand_over(lambda: self._watch(work), self.gone).result()

    async def ask(self, start: Callable[[AsyncLLM, str], AsyncGenerator[Any, None]]) -> Any:
        """The whole answer to one request that `start` hands to the engine under a number of its own.

        Raises `PolicyError` for a request that is refused, `PolicyLost` without engine.
        """
        self._asked += 1
        try:
            (reply,) = [output async for output in start(self.engine, str(self._asked))]
        except Exception as error:
            if self._died or self.engine.errored:
                raise self.gone() from error
            raise PolicyError(f"vLLM refuses a request: {reason(error.__cause__ or error)}") from error
        return reply

    def gone(self) -> PolicyLost:
        """The error of requests that the engine cannot answer any more."""
        if self._own.closed:
            return PolicyLost(f"The {self._what} {self._name} is closed.")
        return PolicyLost(
            f"The vLLM engine of {self._name} has died; its last words stand above. Where memory was short, {_LESS} or "
            "fewer requests at once (--max-sequences 64)."
        )

    def close(self) -> None:
        """Shut the engine down; calls under way fail with `PolicyLost`."""
        self._own.close(self._finish)

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

    async def _watch(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._died:
            raise self.gone()
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work()
        except asyncio.CancelledError:
            if self._own.closed or self._died:
                raise self.gone() from None
            raise
        finally:
            self._under_way.discard(task)

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
        self.engine.shutdown()
        # Its connections are closed when nothing holds it any more.
        del self.engine
        await end(asyncio.all_tasks() - {asyncio.current_task()})


def is_cpu() -> bool:
    """Whether the engine runs on the cores of this machine."""
    return bool(current_platform.is_cpu())


def reason(error: BaseException) -> str:
    """The message of a vLLM error, in one line that ends as a sentence."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return first_line(error)
    # Settings are checked by pydantic, whose first line only counts what is wrong.
    problems = dict.fromkeys(": ".join((*map(str, item["loc"]), item["msg"])) for item in errors())
    return sentence("; ".join(problems))


def _options(entry: ModelEntry, commit: str | None) -> dict[str, Any]:
    """How the engine is set up for a model, whatever the machine."""
    options: dict[str, Any] = {
        "model": place(entry)[0],
        # The commit that the name holds.
        "revision": commit,
        "tokenizer_revision": commit,
        "dtype": entry.dtype,
        # As long as the memory allows, where it is too short for the model's own length.
        "max_model_len": -1,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if is_cpu():
        # Compiling takes longer than most jobs; and a prompt read in chunks crashes seeded samples on the CPU.
        options |= {"enforce_eager": True, "enable_chunked_prefill": False}
    return options
