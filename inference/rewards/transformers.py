"""Step scores of a process reward model of `transformers`, in this process, on CPU or GPU.

Requests that arrive together are scored together. What they share is read once (`openr_data/token_trie.py`), and what
was read before is not read again: the scores of a beginning are remembered, and so are its keys and values. A search
that scores a path step by step pays for the new step alone. One thread owns the model; `score` only waits.

The memory of keys and values is bounded by `cache_tokens`, oldest first; scores are kept longer. In float32 a score
does not depend on what it was scored with, up to rounding (about 1e-6).
"""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from openr_data.errors import PolicyError, PolicyLost
from openr_data.models import model_entry
from openr_data.prm_format import Encoded
from openr_data.reasons import MOST, ReasonedStep
from openr_data.token_trie import TokenTrie, merge, sees
from openr_data.types import StepScores

from ..serving.local_model import cache_argument
from ..serving.model_files import positions, revision
from .greedy import batches_of, continue_greedily
from .memory import ScoreMemory, key_of, step_keys
from .reader import check, load_files
from .reasons import explained
from .state_memory import StateMemory, States
from .weights import load_weights

BATCH_TOKENS: Final = 16_384
"""Tokens of a forward pass, padding and what is remembered included."""


@dataclass(slots=True, eq=False)
class _Request:
    """One call of `score` on its way through the model."""

    encoded: Encoded
    keys: tuple[str, ...]
    future: asyncio.Future[StepScores]
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True, eq=False)
class _Writing:
    """One call of `write`."""

    ids: Sequence[int]
    end: int
    most: int
    future: asyncio.Future[tuple[str, bool]]
    loop: asyncio.AbstractEventLoop


@dataclass(slots=True)
class _Group:
    """Requests that go on from the same remembered beginning (`start` tokens, its pieces), as a trie of the rest."""

    beginning: str
    start: int
    requests: list[_Request] = field(default_factory=list)

    def trie(self) -> TokenTrie:
        """What is still to be read."""
        return merge([request.encoded.ids[self.start :] for request in self.requests])


class TransformersReward:
    """A `RewardModel` over a local or Hub model; close it after use.

    Raises `InputError` for a folder without a model, a model whose format is not known, and one that has another head
    than its format reads.
    """

    live_options: ClassVar[tuple[str, ...]] = ("device", "format", "cache_tokens")
    check = staticmethod(check)

    def __init__(
        self, model: str, *, device: str = "auto", format: str = "", cache_tokens: int = 262_144, reuse: bool = True
    ) -> None:
        entry = model_entry(model)
        files = load_files(model, entry, format)
        self.form = files.form
        self._reader = files.reader(model, revision(files.config, entry), positions(files.config))
        self._model = load_weights(model, entry, files.form, device)
        self._memory = ScoreMemory()
        self._states = StateMemory(cache_tokens if reuse else 0)
        self._reuse = reuse
        self.tokens_asked = self.tokens_read = 0
        self._incoming: queue.SimpleQueue[_Request | _Writing | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._failure: PolicyLost | None = None
        self._thread = threading.Thread(target=self._serve, name="transformers-reward", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Model, revision and format."""
        return self._reader.name

    @property
    def threshold(self) -> float:
        """Below it a step counts as wrong."""
        return self.form.threshold

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        """P(correct) of every step, `len(scores) == len(steps)`.

        Raises `InputError` for a solution that is empty or longer than the context, `PolicyLost` when the model
        failed or was closed.
        """
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        """What `score` returns, with the tokens of this call. Raises what `score` raises.

        Tokens that several requests of a forward pass share count as read for the first of them.
        """
        loop = asyncio.get_running_loop()
        encoded = self._reader.encode(question, steps)
        reply: StepScores = await self._hand(_Request(encoded, step_keys(encoded), loop.create_future(), loop))
        return reply

    async def explain(self, question: str, steps: Sequence[str], *, max_tokens: int = MOST) -> tuple[ReasonedStep, ...]:
        """Score, verdict and reason of each step; see `reasons.py`. Raises what `score` raises."""
        return await explained(self, self._reader, question, steps, max_tokens)

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes after `ids`, greedily, and whether it came to its `end`."""
        loop = asyncio.get_running_loop()
        written: tuple[str, bool] = await self._hand(_Writing(ids, end, most, loop.create_future(), loop))
        return written

    async def _hand(self, request: _Request | _Writing) -> Any:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._incoming.put(request)
        return await request.future

    def close(self) -> None:
        """Stop the thread; requests under way fail with `PolicyLost`."""
        self._incoming.put(None)
        self._thread.join()

    def _serve(self) -> None:
        taken: list[_Request | _Writing] = []
        waiting: list[_Writing] = []
        try:
            # Scores go first: a search waits for them, and reasons take long.
            while self._collect(taken, wait=not waiting):
                for group in self._batches([item for item in taken if isinstance(item, _Request)]):
                    self._score(group)
                self._memory.trim()
                self._states.trim()
                waiting += [item for item in taken if isinstance(item, _Writing)]
                taken.clear()
                waiting = self._write([item for item in waiting if not item.future.cancelled()])
            error = PolicyLost(f"The reward model {self.name} is closed.")
        except torch.OutOfMemoryError:
            error = PolicyLost(
                f"{self.name} ran out of GPU memory. Remember less (cache_tokens=0), write shorter reasons "
                "(--max-tokens), or take --device cpu."
            )
        except Exception as cause:
            error = PolicyLost(f"{self.name} failed: {type(cause).__name__}: {cause}.")
            error.__cause__ = cause
        with self._lock:
            self._failure = error
        left = [*taken, *waiting]
        while not self._incoming.empty():
            request = self._incoming.get()
            left += [request] if request else []
        for request in left:
            _deliver(request, error)

    def _collect(self, taken: list[_Request | _Writing], *, wait: bool) -> bool:
        """Take what has been asked meanwhile, or `wait` for the first; False when the model was closed."""
        taken.clear()
        while wait or not self._incoming.empty():
            request = self._incoming.get()
            if request is None:
                return False
            wait = False
            if not request.future.cancelled():
                taken.append(request)
        return True

    def _batches(self, requests: list[_Request]) -> list[list[_Group]]:
        """Groups of requests that are read together; what the memory answers is delivered at once."""
        groups: dict[str, _Group] = {}
        for request in requests:
            encoded = request.encoded
            self.tokens_asked += len(encoded.ids)
            keys = request.keys
            scores = [self._memory.get(key) for key in keys] if self._reuse else [None] * len(keys)
            if None not in scores:
                remembered = tuple(value for value in scores if value is not None)
                _deliver(request, StepScores(remembered, len(encoded.ids), 0))
                continue
            # The longest beginning whose scores and states are all remembered.
            ends = (i for i in reversed(range(len(keys))) if scores[i] is not None and self._states.has(keys[i]))
            place = next(ends, None)
            while place is not None and None in scores[: place + 1]:
                place = place - 1 if place else None
            start = 0 if place is None else encoded.read[place] + 1
            # Solutions without a remembered beginning are read together if their first tokens, the question, are equal.
            key = keys[place] if place is not None else f"new {key_of(encoded.ids[: max(1, encoded.read[0] // 2)])}"
            groups.setdefault(key, _Group(keys[place] if place is not None else "", start)).requests.append(request)
        return _by_size([part for group in groups.values() for part in _in_parts(group)])

    def _write(self, waiting: list[_Writing]) -> list[_Writing]:
        """Write what fits into one batch and deliver it; return the others."""
        if not waiting:
            return []
        # One model has one end.
        places = next(batches_of([len(item.ids) for item in waiting], [item.most for item in waiting]))
        chosen = [waiting[at] for at in places]
        texts = continue_greedily(self._model, [item.ids for item in chosen], chosen[0].end, chosen[0].most)
        for item, (ids, is_whole) in zip(chosen, texts, strict=True):
            _deliver(item, (self._reader.encoder.words(ids), is_whole))
        return [item for at, item in enumerate(waiting) if at not in set(places)]

    @torch.inference_mode()
    def _score(self, groups: list[_Group]) -> None:
        """One forward pass: a row a group, its remembered beginning before the trie of what is new."""
        tries = [group.trie() for group in groups]
        past = max(group.start for group in groups)
        longest = max(len(trie.ids) for trie in tries)
        device = self._model.device
        ids = np.zeros((len(groups), longest), dtype=np.int64)
        place = np.zeros((len(groups), longest), dtype=np.int64)
        seen = np.zeros((len(groups), 1, longest, past + longest), dtype=bool)
        for row, (group, trie) in enumerate(zip(groups, tries, strict=True)):
            size = len(trie.ids)
            ids[row, :size], place[row, :size] = trie.ids, group.start + trie.position
            seen[row, 0, :size, : group.start] = True
            seen[row, 0, :size, past : past + size] = sees(trie.end)
            # A row of padding has to attend to something; its output is not used.
            seen[row, 0, size:, past] = True
            self.tokens_read += size
        cache = self._states.cache([group.beginning for group in groups], past) if past else DynamicCache()
        options: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(device),
            "position_ids": torch.from_numpy(place).to(device),
            "attention_mask": torch.from_numpy(seen).to(device),
            "use_cache": True,
            cache_argument(self._model.base_model): cache,
        }
        hidden = self._model.base_model(**options).last_hidden_state
        layers: list[Any] = list(cache.layers)
        for row, (group, trie) in enumerate(zip(groups, tries, strict=True)):
            states = [(layer.keys[row], layer.values[row]) for layer in layers]
            self._finish(group, trie, hidden[row], states, past)

    def _finish(self, group: _Group, trie: TokenTrie, hidden: torch.Tensor, states: States, past: int) -> None:
        """Read the scores of a group, remember them and what they were read from, and deliver them."""
        reads = [[at - group.start for at in item.encoded.read if at >= group.start] for item in group.requests]
        places = sorted({int(path[at]) for path, read in zip(trie.paths, reads, strict=True) for at in read})
        values = self._values(hidden[places]) if places else []
        score_at = dict(zip(places, values, strict=True))
        unread = np.ones(len(trie.ids), dtype=bool)
        for request, path, read in zip(group.requests, trie.paths, reads, strict=True):
            begun = len(request.keys) - len(read)
            parent, last = group.beginning, 0
            scores: list[float] = []
            for key in request.keys[:begun]:
                remembered = self._memory.get(key)
                assert remembered is not None
                scores.append(remembered)
            for key, at in zip(request.keys[begun:], read, strict=True):
                scores.append(score_at[int(path[at])])
                if self._reuse:
                    self._memory.put(key, scores[-1])
                    places_of_step = torch.from_numpy(past + path[last : at + 1]).to(self._model.device)
                    self._states.put(key, parent, states, places_of_step)
                parent, last = key, at + 1
            new = int(unread[path].sum())
            unread[path] = False
            _deliver(request, StepScores(tuple(scores), len(request.encoded.ids), new))

    def _values(self, hidden: torch.Tensor) -> list[float]:
        """P(correct) from the last hidden states `[R, size]`."""
        form, encoder = self.form, self._reader.encoder
        if form.head == "lm_pair":
            logits = self._model.get_output_embeddings()(hidden).float()
            z = logits[:, encoder.good] - logits[:, encoder.bad]
        else:
            logits = self._model.score(hidden).float()
            others = torch.cat([logits[:, : form.good_class], logits[:, form.good_class + 1 :]], dim=-1)
            z = logits[:, 0] if form.head == "scalar" else logits[:, form.good_class] - others.logsumexp(dim=-1)
        scores: list[float] = torch.sigmoid(z).tolist()
        if not np.isfinite(scores).all():
            raise PolicyError(f"{self.name} gives scores that are not finite numbers. Load it in float32.")
        return scores


def _in_parts(group: _Group) -> list[_Group]:
    """A group, split where one forward pass would be too long."""
    parts: list[_Group] = []
    size = 0
    for request in sorted(group.requests, key=lambda item: item.encoded.ids):
        new = len(request.encoded.ids) - group.start
        if not parts or size + new > BATCH_TOKENS // 4:
            parts.append(_Group(group.beginning, group.start))
            size = 0
        parts[-1].requests.append(request)
        size += new
    return parts


def _by_size(groups: list[_Group]) -> list[list[_Group]]:
    """Groups of about the same length, so that little is padding."""
    sized = sorted(groups, key=lambda group: (group.start, sum(len(item.encoded.ids) for item in group.requests)))
    batches: list[list[_Group]] = []
    widest = 0
    for group in sized:
        new = sum(len(item.encoded.ids) - group.start for item in group.requests)
        widest = max(widest, group.start + new)
        if not batches or (len(batches[-1]) + 1) * widest > BATCH_TOKENS:
            batches.append([])
            widest = group.start + new
        batches[-1].append(group)
    return batches


def _deliver(request: _Request | _Writing, outcome: Any) -> None:
    def settle() -> None:
        if request.future.done():
            return
        if isinstance(outcome, PolicyLost):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

    if not request.loop.is_closed():
        request.loop.call_soon_threadsafe(settle)
