"""The samples that a `transformers` model decodes together: a batch whose rows come and go.

A prompt is read once for its n samples. A row that ends makes room at once, and the last row moves into its place.
Prompts that are read together are sorted by length.

In float32 and float64 a sample depends on its prompt and its seed alone: close calls of the draw are settled by reading
the row by itself, so neither its neighbours nor a restart move a token. In half precision the neighbours can.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import DynamicCache

from openr_data.types import Ended, Sampling

from ..serving.local_model import cache_argument
from ..serving.model_files import positions
from .ending import cut_at_stop
from .sampling import draw, log_distribution, sample_seeds, uniforms
from .slot_cache import SlotCache

PREFILL_TOKENS = 8_192
"""Prompt tokens read in one forward pass, padding included."""

MARGIN = 5e-5
"""Probability within which a draw is a close call; batches move float32 sums by less (about 1e-6)."""

LOGPROB_MARGIN = 1e-4
"""Distance to the border of rounding within which the log-probability of a completion is a close call."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row that has ended, sampled with the weights of `version`.

    A request for text gets `text` and `logprob`, the sum under the distribution sampled from, to two decimals. A
    request for tokens gets `ids` and `logprobs`, those of the model's own distribution.
    """

    ended: Ended
    n_tokens: int
    version: int
    text: str = ""
    logprob: float | None = None
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


@dataclass(slots=True, eq=False)
class SampleRequest:
    """n samples of one prompt on their way through the batch.

    `stop` are all stop strings, `own_stop` those of the model's entry; `as_tokens` asks for tokens instead of text.
    """

    ids: tuple[int, ...]
    n: int
    sampling: Sampling
    stop: tuple[str, ...]
    own_stop: tuple[str, ...]
    as_tokens: bool
    future: asyncio.Future[tuple[Sample, ...]]
    loop: asyncio.AbstractEventLoop
    admitted: int = 0
    delivered: bool = False
    finished: dict[int, Sample] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class BatchRow:
    """One sample under way: its request, and which of the n it is."""

    request: SampleRequest
    index: int


class RowBatch:
    """The rows under way and their numbers, one array entry a row; owned by the model's thread.

    `finished` collects the requests whose last row has ended. `version` is that of the model's weights.
    """

    def __init__(self, model: Any, tokenizer: Any, ends: list[int], slots: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.device = model.device
        self.exact = model.dtype in (torch.float32, torch.float64)
        layers = model.config.get_text_config().num_hidden_layers
        self.cache = SlotCache(layers, slots, self.device)
        self.cache_argument = cache_argument(model)
        self.rows: list[BatchRow] = []
        self.finished: list[SampleRequest] = []
        self.version = 0
        self.ends = np.array(ends)
        self.seeds = np.zeros(slots, dtype=np.uint64)
        self.counts = np.zeros(slots, dtype=np.int64)
        self.limits = np.zeros(slots, dtype=np.int64)
        self.temperature = np.zeros(slots)
        self.top_p = np.zeros(slots)
        self.logprob = np.zeros(slots)
        self.stops = np.zeros(slots, dtype=bool)
        self.as_tokens = np.zeros(slots, dtype=bool)
        self.last = np.zeros(slots, dtype=np.int64)
        self.written = np.zeros((slots, 256), dtype=np.int64)
        self.logprobs = np.zeros((slots, 256))
        self.positions = torch.arange(0, device=self.device)

    @torch.inference_mode()
    def admit(self, chosen: list[tuple[SampleRequest, int]]) -> None:
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

    def _open(self, request: SampleRequest, count: int, states: Any, row: int) -> None:
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
        self.stops[here], self.as_tokens[here] = bool(request.stop), request.as_tokens
        self.last[here] = request.ids[-1]
        self.rows += [BatchRow(request, request.admitted + i) for i in range(count)]
        request.admitted += count

    @torch.inference_mode()
    def step(self) -> None:
        """Sample one token for every row; close the rows that end."""
        rows = len(self.rows)
        if not rows:
            return
        logits = self._logits()
        chance = uniforms(self.seeds[:rows], self.counts[:rows].astype(np.uint64))
        numbers = torch.from_numpy(np.stack([self.temperature[:rows], self.top_p[:rows], chance]))
        sampled, logprobs, margins = draw(logits, *numbers.to(self.device))
        tokens, chosen = sampled.cpu().numpy(), logprobs.double().cpu().numpy()
        if self.exact:
            for row in map(int, np.flatnonzero(margins.cpu().numpy() < MARGIN)):
                token, logprob, _ = draw(self._alone(row)[-1:], *numbers[:, row : row + 1].to(self.device))
                tokens[row], chosen[row] = int(token), float(logprob)
        self._write(tokens, chosen, logits)
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

    def _logits(self) -> torch.Tensor:
        """Feed the last token of every row; the logits `[rows, vocabulary]` of the next one."""
        rows, now = len(self.rows), self.cache.occupancy
        at = now.lengths[:rows]
        now.width = int(at.max()) + 1
        if now.width > self.positions.shape[0]:
            self.positions = torch.arange(2 * now.width, device=self.device)
        mask = (self.positions[: now.width] <= at[:, None])[:, None, None, :]
        logits: torch.Tensor = self.model(
            input_ids=torch.from_numpy(self.last[:rows, None]).to(self.device),
            position_ids=at[:, None],
            attention_mask=mask,
            use_cache=True,
            **{self.cache_argument: self.cache},
        ).logits[:, -1]
        now.lengths[:rows] += 1
        return _wide(logits)

    def _write(self, tokens: npt.NDArray[np.int64], chosen: npt.NDArray[np.float64], logits: torch.Tensor) -> None:
        """Append a token to every row; `chosen` are the log-probabilities under the distributions sampled from."""
        rows = len(self.rows)
        if int(self.counts[:rows].max()) >= self.written.shape[1]:
            more = ((0, 0), (0, self.written.shape[1]))
            self.written, self.logprobs = np.pad(self.written, more), np.pad(self.logprobs, more)
        places = (np.arange(rows), self.counts[:rows])
        self.written[places], self.logprobs[places] = tokens, chosen
        is_own = np.isin(self.temperature[:rows], (0.0, 1.0)) & (self.top_p[:rows] == 1)
        changed = np.flatnonzero(self.as_tokens[:rows] & ~is_own)
        if len(changed):
            own = torch.log_softmax(logits[torch.from_numpy(changed).to(self.device)], dim=-1)
            index = torch.from_numpy(tokens[changed, None]).to(self.device)
            self.logprobs[changed, self.counts[changed]] = own.gather(1, index)[:, 0].double().cpu().numpy()
        self.counts[:rows] += 1
        self.logprob[:rows] += chosen
        self.last[:rows] = tokens

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
        """The text written by a row so far, without its end token."""
        written = self.written[row, : self.counts[row]].tolist()
        if written and written[-1] in self.ends:
            written = written[:-1]
        # Decoded after the end of the prompt: some tokenizers drop a leading space otherwise.
        tail = list(self.rows[row].request.ids[-4:])
        before = self.tokenizer.decode(tail)
        text: str = self.tokenizer.decode(tail + written)
        return text[len(before) :] if text.startswith(before) else self.tokenizer.decode(written)

    def _sample(self, row: int, ended: Ended, text: str | None) -> Sample:
        count = int(self.counts[row])
        if self.as_tokens[row]:
            ids, logprobs = self.written[row, :count].tolist(), self.logprobs[row, :count].tolist()
            return Sample(ended, count, self.version, ids=tuple(ids), logprobs=tuple(logprobs))
        return Sample(ended, count, self.version, self._text(row) if text is None else text, self._logprob(row))

    def _close(self, row: int, ended: Ended, text: str | None) -> None:
        request = self.rows[row].request
        if not request.future.cancelled():
            request.finished[self.rows[row].index] = self._sample(row, ended, text)
            if len(request.finished) == request.n:
                self.finished.append(request)
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
            self.as_tokens,
            self.last,
            self.written,
            self.logprobs,
        ):
            numbers[row] = numbers[last]
        self.rows[row] = self.rows[last]
        self.rows.pop()


def _wide(logits: torch.Tensor) -> torch.Tensor:
    """Half-precision logits as float32: a cumulative sum in bfloat16 is not a distribution."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
