"""A causal language model of `transformers` and the thread that samples from it, for text and for tokens alike.

Requests of many questions meet in one batch that is refilled all the time, oldest first. One thread owns the model;
callers only wait. The model changes between samples alone: a change waits for the rows under way, and requests that
arrive meanwhile wait for it. Measured against the ways of the library in `benchmarks/transformers_backend.py`, which is
why this loop exists.

The model must run torch's scaled-dot-product attention with a plain full cache (Llama, Qwen, Mistral, GPT-2 …).
Sliding windows, position biases (ALiBi) and recurrent layers are refused: use the vllm backend for those.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch

from openr_data.errors import InputError, PolicyLost
from openr_data.models import model_entry, prompt_hash, stop_strings
from openr_data.types import Sampling

from ..serving.local_model import end_tokens, load
from ..serving.model_files import positions, revision
from .row_batch import RowBatch, Sample, SampleRequest
from .token_prompt import check_prompt


@dataclass(slots=True, eq=False)
class _Change:
    """Work on the model while it has no rows; afterwards its weights are those of `version`."""

    work: Callable[[Any], None]
    version: int
    done: Future[None] = field(default_factory=Future)


class TransformersModel:
    """A local or Hub model at work; close it after use.

    `max_rows` bounds the sequences decoded together. Raises `InputError` for a model that cannot be found or has an
    unsupported cache.
    """

    def __init__(self, model: str, device: str, max_rows: int) -> None:
        self.entry = model_entry(model)
        self.model, self.tokenizer = load(self.entry, device)
        if max_rows < 1:
            raise InputError(f"A batch needs at least one row, not {max_rows}.")
        self.name = f"{model}@{revision(self.model.config, self.entry)}.{prompt_hash(self.entry)}"
        self.max_rows = max_rows
        self._batch = RowBatch(self.model, self.tokenizer, end_tokens(self.model, self.tokenizer), max_rows)
        self._incoming: queue.SimpleQueue[SampleRequest | _Change | None] = queue.SimpleQueue()
        self._open: list[SampleRequest] = []
        self._changes: list[_Change] = []
        self._lock = threading.Lock()
        self._failure: PolicyLost | None = None
        self._thread = threading.Thread(target=self._serve, name="transformers-policy", daemon=True)
        self._thread.start()

    @property
    def gpus(self) -> int:
        """GPUs that the model keeps busy."""
        return int(self.model.device.type == "cuda")

    @property
    def version(self) -> int:
        """The version of the weights that samples are drawn with now."""
        return self._batch.version

    @property
    def requests_under_way(self) -> int:
        """Requests that are worked on or waiting."""
        return len(self._open)

    async def ask(
        self, ids: tuple[int, ...], n: int, sampling: Sampling, *, as_tokens: bool = False
    ) -> tuple[Sample, ...]:
        """n samples after these tokens. Raises `PolicyError` for a bad prompt, `PolicyLost` without model."""
        if n == 0:
            return ()
        words = self.model.get_input_embeddings().num_embeddings
        check_prompt(ids, self.name, positions(self.model.config), words)
        loop = asyncio.get_running_loop()
        stop = stop_strings(self.entry, sampling.stop)
        request = SampleRequest(ids, n, sampling, stop, self.entry.stop, as_tokens, loop.create_future(), loop)
        self._hand_over(request)
        return await request.future

    def change(self, work: Callable[[Any], None], version: int) -> None:
        """Run `work` on the model once its rows have ended, and wait for it. Raises what it raises, or `PolicyLost`."""
        change = _Change(work, version)
        self._hand_over(change)
        change.done.result()

    def close(self) -> None:
        """Stop the thread; requests under way fail with `PolicyLost`."""
        self._incoming.put(None)
        self._thread.join()

    def _hand_over(self, message: SampleRequest | _Change) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._incoming.put(message)

    def _serve(self) -> None:
        batch = self._batch
        try:
            while self._collect(wait=not batch.rows):
                while self._changes and not batch.rows:
                    self._apply(self._changes.pop(0))
                if not self._changes:
                    self._admit(batch)
                batch.step()
                for request in batch.finished:
                    _deliver(request, tuple(request.finished[index] for index in range(request.n)))
                batch.finished.clear()
            error = PolicyLost(f"The policy {self.name} is closed.")
        except torch.OutOfMemoryError:
            error = PolicyLost(f"{self.name} ran out of GPU memory with {self.max_rows} rows. Use fewer: --max-rows 32")
        except Exception as cause:
            error = PolicyLost(f"{self.name} failed: {type(cause).__name__}: {cause}.")
            error.__cause__ = cause
        with self._lock:
            self._failure = error
        while not self._incoming.empty():
            self._sort(self._incoming.get())
        for change in self._changes:
            change.done.set_exception(error)
        for request in self._open:
            if not request.delivered:
                _deliver(request, error)

    def _apply(self, change: _Change) -> None:
        try:
            change.work(self.model)
        except Exception as error:
            change.done.set_exception(error)
        else:
            self._batch.version = change.version
            change.done.set_result(None)

    def _sort(self, message: SampleRequest | _Change | None) -> bool:
        """Put a message where it waits; False for the one that ends the thread."""
        if isinstance(message, SampleRequest):
            self._open.append(message)
        elif message is not None:
            self._changes.append(message)
        return message is not None

    def _collect(self, wait: bool) -> bool:
        """Take in new messages; False when the model was closed."""
        self._open = [item for item in self._open if not item.delivered and not item.future.cancelled()]
        wait = wait and not self._open and not self._changes
        while True:
            try:
                message = self._incoming.get(block=wait)
            except queue.Empty:
                return True
            if not self._sort(message):
                return False
            wait = False

    def _admit(self, batch: RowBatch) -> None:
        """Fill free slots with the oldest requests, once there are enough free ones to be worth it."""
        waiting = [item for item in self._open if item.admitted < item.n and not item.future.cancelled()]
        free = self.max_rows - len(batch.rows)
        if not waiting or free < max(1, self.max_rows // 8):
            return
        chosen: list[tuple[SampleRequest, int]] = []
        for request in waiting:
            count = min(request.n - request.admitted, free)
            chosen.append((request, count))
            free -= count
            if not free:
                break
        batch.admit(chosen)


def _deliver(request: SampleRequest, result: tuple[Sample, ...] | PolicyLost) -> None:
    request.delivered = True

    def set_result() -> None:
        if request.future.done():
            return
        if isinstance(result, PolicyLost):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)

    # The loop may be gone when a policy is closed late: then nothing waits.
    with contextlib.suppress(RuntimeError):
        request.loop.call_soon_threadsafe(set_result)
