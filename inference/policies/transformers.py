"""A policy over any causal language model of `transformers`, in this process, on CPU or GPU.

Requests of many questions meet in one continuously refilled batch. A prompt is read once for its n samples;
rows that end make room at once for the next requests, oldest first; prompts that are read together are
sorted by length. One thread owns the model; `sample` only waits.

In float32 and float64 a sample depends on its prefix and its seed alone: close calls of the draw are
settled by reading the row by itself, so neither its neighbours nor a restart move a token. In half
precision the neighbours can. Measured against the library's own ways in
`benchmarks/transformers_backend.py`, which is why this loop exists.

The model must run torch's scaled-dot-product attention with a plain full cache (Llama, Qwen, Mistral, GPT-2 …).
Sliding windows, position biases (ALiBi) and recurrent layers are refused: use the vllm backend for those.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from openr_data.errors import InputError, PolicyError, PolicyLost
from openr_data.models import encode, model_entry, prompt_hash, stop_strings
from openr_data.steps import split_steps
from openr_data.types import Completion, Ended, Prefix, Sampling

from ..serving.local_model import cache_argument, end_tokens, load
from ..serving.model_files import positions, revision
from .ending import cut_at_stop
from .sampling import draw, log_distribution, sample_seeds, uniforms
from .slot_cache import SlotCache

PREFILL_TOKENS = 8_192
"""Prompt tokens read in one forward pass, padding included."""

MARGIN = 5e-5
"""Probability within which a draw is a close call; batches move float32 sums by less (about 1e-6)."""

LOGPROB_MARGIN = 1e-4
"""Distance to the border of rounding within which the log-probability of a completion is a close call."""


@dataclass(slots=True, eq=False)
class _Request:
    """One call of `sample` on its way through the batch."""

    ids: tuple[int, ...]
    n: int
    sampling: Sampling
    stop: tuple[str, ...]
    own_stop: tuple[str, ...]
    future: asyncio.Future[tuple[Completion, ...]]
    loop: asyncio.AbstractEventLoop
    admitted: int = 0
    delivered: bool = False
    finished: dict[int, Completion] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Row:
    """One sample under way: which request it belongs to, and which of its n it is."""

    request: _Request
    index: int


class TransformersPolicy:
    """A `Policy` over a local or Hub model; close it after use.

    `max_rows` bounds the sequences decoded together; lower it where memory is short. Raises `InputError`
    for a model that cannot be found or has an unsupported cache.
    """

    live_options: ClassVar[tuple[str, ...]] = ("device", "max_rows")

    def __init__(self, model: str, *, device: str = "auto", max_rows: int = 256) -> None:
        self.entry = model_entry(model)
        self._model, self._tokenizer = load(self.entry, device)
        if max_rows < 1:
            raise InputError(f"A batch needs at least one row, not {max_rows}.")
        self._name = f"{model}@{revision(self._model.config, self.entry)}.{prompt_hash(self.entry)}"
        self._max_rows = max_rows
        self._ends = torch.tensor(end_tokens(self._model, self._tokenizer))
        self._encode = lru_cache(maxsize=1_024)(self._encode_now)
        self._incoming: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._open: list[_Request] = []
        self._lock = threading.Lock()
        self._failure: PolicyLost | None = None
        self._thread = threading.Thread(target=self._serve, name="transformers-policy", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._name

    @property
    def separator(self) -> str:
        return self.entry.separator

    @property
    def room(self) -> int | None:
        return None

    @property
    def places(self) -> int | None:
        return self._max_rows

    @property
    def gpus(self) -> int:
        return int(self._model.device.type == "cuda")

    @property
    def retries(self) -> int:
        return 0

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self.entry.separator)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n samples of one prefix. Raises `PolicyError` when the model fails or was closed."""
        loop = asyncio.get_running_loop()
        request = _Request(
            self._encode(prefix),
            n,
            sampling,
            stop_strings(self.entry, sampling.stop),
            self.entry.stop,
            loop.create_future(),
            loop,
        )
        if n == 0:
            return ()
        room = positions(self._model.config)
        if room is not None and len(request.ids) >= room:
            raise PolicyError(
                f"A prompt of {len(request.ids)} tokens does not fit the {room} positions of {self._name}."
            )
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._incoming.put(request)
        return await request.future

    def close(self) -> None:
        """Stop the thread; requests under way fail with `PolicyLost`."""
        self._incoming.put(None)
        self._thread.join()

    def _encode_now(self, prefix: Prefix) -> tuple[int, ...]:
        return tuple(encode(prefix, self.entry, self._tokenizer))

    def _serve(self) -> None:
        try:
            batch = _Batch(self._model, self._tokenizer, self._ends, self._max_rows)
            while self._collect(wait=not batch.rows):
                self._admit(batch)
                batch.step()
            error = PolicyLost(f"The policy {self._name} is closed.")
        except torch.OutOfMemoryError:
            error = PolicyLost(
                f"{self._name} ran out of GPU memory with {self._max_rows} rows. Use fewer: --max-rows 32"
            )
        except Exception as cause:
            error = PolicyLost(f"{self._name} failed: {type(cause).__name__}: {cause}.")
            error.__cause__ = cause
        with self._lock:
            self._failure = error
        while not self._incoming.empty():
            request = self._incoming.get()
            self._open += [request] if request else []
        for request in self._open:
            if not request.delivered:
                _deliver(request, error)

    def _collect(self, wait: bool) -> bool:
        """Take in new requests; False when the policy was closed."""
        self._open = [item for item in self._open if not item.delivered and not item.future.cancelled()]
        wait = wait and not self._open
        while True:
            try:
                request = self._incoming.get(block=wait)
            except queue.Empty:
                return True
            if request is None:
                return False
            self._open.append(request)
            wait = False

    def _admit(self, batch: "_Batch") -> None:
        """Fill free slots with the oldest requests, once there are enough free ones to be worth it."""
        waiting = [item for item in self._open if item.admitted < item.n and not item.future.cancelled()]
        free = self._max_rows - len(batch.rows)
        if not waiting or free < max(1, self._max_rows // 8):
            return
        chosen: list[tuple[_Request, int]] = []
        for request in waiting:
            count = min(request.n - request.admitted, free)
            chosen.append((request, count))
            free -= count
            if not free:
                break
        batch.admit(chosen)


class _Batch:
    """The rows under way and their numbers, one array entry a row; owned by the model's thread."""

    def __init__(self, model: Any, tokenizer: Any, ends: torch.Tensor, slots: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.device = model.device
        self.exact = model.dtype in (torch.float32, torch.float64)
        layers = model.config.get_text_config().num_hidden_layers
        self.cache = SlotCache(layers, slots, self.device)
        self.cache_argument = cache_argument(model)
        self.rows: list[_Row] = []
        self.ends = ends.numpy()
        self.seeds = np.zeros(slots, dtype=np.uint64)
        self.counts = np.zeros(slots, dtype=np.int64)
        self.limits = np.zeros(slots, dtype=np.int64)
        self.temperature = np.zeros(slots)
        self.top_p = np.zeros(slots)
        self.logprob = np.zeros(slots)
        self.stops = np.zeros(slots, dtype=bool)
        self.last = np.zeros(slots, dtype=np.int64)
        self.written = np.zeros((slots, 256), dtype=np.int64)
        self.positions = torch.arange(0, device=self.device)

    @torch.inference_mode()
    def admit(self, chosen: list[tuple[_Request, int]]) -> None:
        """Read the prompts (all but their last token, which the first step feeds) and open their rows."""
        chosen = sorted(chosen, key=lambda item: len(item[0].ids))
        while chosen:
            size = 1
            while size < len(chosen) and (size + 1) * len(chosen[size][0].ids) <= PREFILL_TOKENS:
                size += 1
            group, chosen = chosen[:size], chosen[size:]
            longest = len(group[-1][0].ids) - 1
            states: Any = None
            if longest:
                ids = torch.zeros((len(group), longest), dtype=torch.long)
                for row, (request, _) in enumerate(group):
                    ids[row, : len(request.ids) - 1] = torch.tensor(request.ids[:-1])
                # Padding stands on the right, where causal attention never looks.
                states = DynamicCache()
                held = {cache_argument(self.model.base_model): states}
                self.model.base_model(input_ids=ids.to(self.device), use_cache=True, **held)
            for row, (request, count) in enumerate(group):
                self._open(request, count, states, row)

    def _open(self, request: _Request, count: int, states: Any, row: int) -> None:
        length = len(request.ids) - 1
        layers = [
            (layer.keys[row : row + 1, :, :length], layer.values[row : row + 1, :, :length])
            for layer in (states.layers if length else ())
        ]
        start = len(self.rows)
        if length:
            self.cache.admit(layers, length, count)
        else:
            self.cache.occupancy.lengths[start : start + count] = 0
            self.cache.occupancy.rows += count
        here = slice(start, start + count)
        sampling = request.sampling
        self.seeds[here] = sample_seeds(sampling.seed, request.n)[request.admitted :][:count]
        self.counts[here], self.logprob[here] = 0, 0.0
        room = positions(self.model.config)
        self.limits[here] = min(sampling.max_tokens, (room or 1 << 40) - len(request.ids))
        self.temperature[here], self.top_p[here] = sampling.temperature, sampling.top_p
        self.stops[here] = bool(request.stop)
        self.last[here] = request.ids[-1]
        self.rows += [_Row(request, request.admitted + i) for i in range(count)]
        request.admitted += count

    @torch.inference_mode()
    def step(self) -> None:
        """Sample one token for every row; hand over the rows that end."""
        rows = len(self.rows)
        if not rows:
            return
        now = self.cache.occupancy
        at = now.lengths[:rows]
        now.width = int(at.max()) + 1
        if now.width > self.positions.shape[0]:
            self.positions = torch.arange(2 * now.width, device=self.device)
        mask = (self.positions[: now.width] <= at[:, None])[:, None, None, :]
        logits = self.model(
            input_ids=torch.from_numpy(self.last[:rows, None]).to(self.device),
            position_ids=at[:, None],
            attention_mask=mask,
            use_cache=True,
            **{self.cache_argument: self.cache},
        ).logits[:, -1]
        now.lengths[:rows] += 1
        chance = uniforms(self.seeds[:rows], self.counts[:rows].astype(np.uint64))
        numbers = torch.from_numpy(np.stack([self.temperature[:rows], self.top_p[:rows], chance]))
        sampled, logprobs, margins = draw(_wide(logits), *numbers.to(self.device))
        tokens, chosen = sampled.cpu().numpy(), logprobs.double().cpu().numpy()
        if self.exact:
            for row in map(int, np.flatnonzero(margins.cpu().numpy() < MARGIN)):
                token, logprob, _ = draw(self._alone(row)[-1:], *numbers[:, row : row + 1].to(self.device))
                tokens[row], chosen[row] = int(token), float(logprob)
        if int(self.counts[:rows].max()) >= self.written.shape[1]:
            self.written = np.pad(self.written, ((0, 0), (0, self.written.shape[1])))
        self.written[np.arange(rows), self.counts[:rows]] = tokens
        self.counts[:rows] += 1
        self.logprob[:rows] += chosen
        self.last[:rows] = tokens
        ended = np.isin(tokens, self.ends)
        over = ended | (self.counts[:rows] >= self.limits[:rows])
        stopped: dict[int, tuple[str, Ended]] = {}
        for row in map(int, np.flatnonzero(self.stops[:rows] & ~ended)):
            request = self.rows[row].request
            cut = cut_at_stop(self._text(row), request.stop, request.own_stop)
            if cut is not None:
                stopped[row], over[row] = cut, True
        for row in range(rows):
            if self.rows[row].request.future.cancelled():
                over[row] = True
        for row in map(int, np.flatnonzero(over)[::-1]):
            text, reason = stopped.get(row) or (None, "end" if ended[row] else "length")
            self._close(row, reason, text)

    def _alone(self, row: int) -> torch.Tensor:
        """The logits `[positions, vocabulary]` of one row, read by itself: the same in every batch."""
        ids = [*self.rows[row].request.ids, *self.written[row, : self.counts[row]].tolist()]
        logits = self.model(input_ids=torch.tensor([ids], device=self.device), use_cache=False).logits
        return _wide(logits[0])

    def _logprob(self, row: int) -> float:
        """The log-probability of what a row has written, to two decimals."""
        total = float(self.logprob[row])
        if not self.exact or abs(total * 100 % 1 - 0.5) > 100 * LOGPROB_MARGIN:
            return round(total, 2)
        count = int(self.counts[row])
        start = len(self.rows[row].request.ids) - 1
        numbers = torch.tensor([[self.temperature[row]], [self.top_p[row]]], device=self.device)
        written = torch.from_numpy(self.written[row, :count]).to(self.device)
        scores = log_distribution(self._alone(row)[start : start + count], *numbers.expand(2, count))
        return round(float(scores.gather(1, written[:, None]).double().sum()), 2)

    def _text(self, row: int) -> str:
        """The text written by a row so far, end tokens left out."""
        written = self.written[row, : self.counts[row]].tolist()
        if written and written[-1] in self.ends:
            written = written[:-1]
        # Decoded behind the end of the prompt: some tokenizers drop a leading space otherwise.
        tail = list(self.rows[row].request.ids[-4:])
        before = self.tokenizer.decode(tail)
        text: str = self.tokenizer.decode(tail + written)
        return text[len(before) :] if text.startswith(before) else self.tokenizer.decode(written)

    def _close(self, row: int, ended: Ended, text: str | None) -> None:
        request = self.rows[row].request
        if not request.future.cancelled():
            request.finished[self.rows[row].index] = Completion(
                text=self._text(row) if text is None else text,
                n_tokens=int(self.counts[row]),
                ended=ended,
                logprob=self._logprob(row),
                prompt_tokens=len(request.ids),
            )
            if len(request.finished) == request.n:
                _deliver(request, tuple(request.finished[i] for i in range(request.n)))
        self.cache.release(row)
        last = len(self.rows) - 1
        for numbers in (
            self.seeds,
            self.counts,
            self.limits,
            self.temperature,
            self.top_p,
            self.logprob,
            self.stops,
            self.last,
            self.written,
        ):
            numbers[row] = numbers[last]
        self.rows[row] = self.rows[last]
        self.rows.pop()


def _wide(logits: torch.Tensor) -> torch.Tensor:
    """Half-precision logits as float32: a cumulative sum in bfloat16 is not a distribution."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _deliver(request: _Request, result: tuple[Completion, ...] | PolicyLost) -> None:
    request.delivered = True

    def set_result() -> None:
        if request.future.done():
            return
        if isinstance(result, PolicyLost):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)

    # The loop may be gone when a policy is closed late: then nobody waits.
    with contextlib.suppress(RuntimeError):
        request.loop.call_soon_threadsafe(set_result)
