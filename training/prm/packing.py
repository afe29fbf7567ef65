"""Encoded examples on disk, and their packing into rows without padding.

Examples are tokenised once and written to an Arrow file that is mapped into memory, so a training set may be larger
than memory. A row of a batch holds several questions, each as a trie of its solutions (`openr_data/token_trie.py`) or
solution by solution; `position_ids` restart at each, and labels stand where something is learned and nowhere else.

The loss is linear in the target, so steps that several solutions share count with the sum of their weights and the
mean of their targets: a trie gives the gradient of its solutions by themselves, for fewer tokens.

A reason is a branch: the solution up to its step, the verdict, the reason. The solution itself goes on without it, as
it does when it is scored. At each of its tokens the next one is learned. All of them together are one item, as a
labelled prefix is, and weigh as much as `reason_weight` verdicts.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from openr_data.errors import InputError
from openr_data.prm_format import Encoded, PrmEncoder
from openr_data.token_trie import merge, sees, shared_length

from .examples import Example

IGNORED: Final = -100
"""The label of a position at which nothing is learned, as `transformers` has it."""
WRITTEN: Final = 2
"""A target from here on is a token to write there: its id and this. Others lie in [0, 1]."""

_SCHEMA: Final = pa.schema(
    {
        "question_id": pa.string(),
        "source": pa.string(),
        "ids": pa.list_(pa.int32()),
        "position": pa.list_(pa.int32()),
        "end": pa.list_(pa.int32()),
        "read": pa.list_(pa.int32()),
        "target": pa.list_(pa.float32()),
        "weight": pa.list_(pa.float32()),
    }
)
_OPEN: Final = 64
"""Packs that a trie may still go into."""


def items(target: Any, end: int | None) -> Any:
    """Which of some targets are items of the loss: labelled prefixes, and of a reason its last token, the `end`."""
    found = (target >= 0) & (target < WRITTEN)
    return found if end is None else found | (target == WRITTEN + end)


@dataclass(frozen=True, slots=True)
class Row:
    """An encoded solution or reason: `target` (None: masked) and `weight` are parallel to `read`."""

    ids: tuple[int, ...]
    read: tuple[int, ...]
    target: tuple[float | None, ...]
    weight: tuple[float, ...]


@dataclass(slots=True)
class Fit:
    """What was encoded and what did not fit.

    `tokens` are those to read, `solution_tokens` what solutions up to their last label and reasons have by themselves.
    `cut_solutions` lost `cut_steps` whole steps at their end, `dropped` solutions have nothing left that is labelled.
    Of `reasons` those that did not fit (`dropped_reasons`) and all but one for the same verdict on the same beginning
    (`repeated_reasons`) are left out.
    """

    solutions: int = 0
    tokens: int = 0
    solution_tokens: int = 0
    cut_solutions: int = 0
    cut_steps: int = 0
    dropped: int = 0
    dropped_for: list[str] = field(default_factory=list)
    reasons: int = 0
    dropped_reasons: int = 0
    repeated_reasons: int = 0


def fit(example: Example, encoder: PrmEncoder, longest: int, seen: Fit) -> Row | None:
    """The encoded example with as many whole steps as fit into `longest` tokens (0: all of them).

    None where the question leaves no room for a step, or none of the steps that fit has a label.
    """
    steps = len(example.steps)
    encoded = encoder.encode(example.question, example.steps)
    kept = steps if not longest else sum(at < longest for at in encoded.read)
    if kept and longest < len(encoded.ids) and longest:
        encoded = encoder.encode(example.question, example.steps[:kept])
        # A label or the end of a tag may stand behind the last position that is read.
        if len(encoded.ids) > longest:
            kept -= 1
            encoded = encoder.encode(example.question, example.steps[:kept]) if kept else encoded
    if not any(item is not None for item in example.target[:kept]):
        seen.dropped += 1
        if len(seen.dropped_for) < 3:
            seen.dropped_for.append(example.question_id)
        return None
    seen.solutions += 1
    seen.solution_tokens += len(encoded.ids)
    seen.cut_solutions += kept < steps
    seen.cut_steps += steps - kept
    return Row(encoded.ids, encoded.read, example.target[:kept], example.weight[:kept])


def reason_rows(
    example: Example, row: Row, encoder: PrmEncoder, longest: int, reason_weight: float, seen: Fit
) -> Iterator[tuple[int, Row]]:
    """The reasons of an encoded example, each with the length of what it shares with others: all up to its verdict."""
    encoded = Encoded(row.ids, row.read)
    for place, reason in enumerate(example.reasons[: len(row.read)]):
        target = row.target[place]
        if not reason or target is None:
            continue
        begun = encoder.verdict(encoded, place, target > 0.5)
        *said, end = encoder.reason(reason)
        ids = (*begun, *said)
        if longest and len(ids) > longest:
            seen.dropped_reasons += 1
            continue
        written = tuple(float(WRITTEN + token) for token in (*said, end))
        weight = reason_weight * row.weight[place] / len(written)
        yield len(begun), Row(ids, tuple(range(len(begun) - 1, len(ids))), written, (weight,) * len(written))


def write_encoded(
    examples: Iterable[Example],
    encoder: PrmEncoder,
    path: Path,
    *,
    longest: int,
    room: int,
    share: bool,
    reason_weight: float = 1.0,
) -> Fit:
    """Encode examples (in the order of their questions) into an Arrow file; a few thousand are in memory at a time.

    What stands behind the last label of a solution teaches nothing and is left out.
    """
    seen = Fit()
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        lines: list[dict[str, Any]] = []
        for name, group in groupby(examples, key=lambda item: item.question_id):
            source = ""
            rows: list[Row] = []
            reasons: dict[tuple[int, ...], Row] = {}
            for example in group:
                source = example.source
                if (row := fit(_up_to_last_label(example), encoder, longest, seen)) is None:
                    continue
                rows.append(row)
                for begun, reason in reason_rows(example, row, encoder, longest, reason_weight, seen):
                    # Behind the same verdict two reasons would need two next tokens at one place.
                    if reasons.setdefault(reason.ids[:begun], reason) is not reason:
                        seen.repeated_reasons += 1
            seen.reasons += len(reasons)
            seen.solution_tokens += sum(len(item.ids) for item in reasons.values())
            rows += reasons.values()
            for part in _parts(rows, room) if share else [[row] for row in rows]:
                line = _line(part)
                seen.tokens += len(line["ids"])
                lines.append({"question_id": name, "source": source, **line})
            if len(lines) >= 4_096:
                writer.write_table(pa.Table.from_pylist(lines, _SCHEMA))
                lines = []
        if lines:
            writer.write_table(pa.Table.from_pylist(lines, _SCHEMA))
    return seen


def _up_to_last_label(example: Example) -> Example:
    labelled = [at for at, target in enumerate(example.target) if target is not None]
    if not labelled:
        return example
    last = labelled[-1] + 1
    return replace(example, steps=example.steps[:last], target=example.target[:last], weight=example.weight[:last])


def _parts(rows: Sequence[Row], room: int) -> list[list[Row]]:
    """Solutions of a question whose tries have at most `room` tokens; one that is longer stands alone."""
    parts: list[list[Row]] = []
    size = 0
    # Neighbours in this order share the most.
    for row in sorted(rows, key=lambda row: row.ids):
        added = len(row.ids) - (shared_length(parts[-1][-1].ids, row.ids) if parts else 0)
        if not parts or size + added > room:
            parts.append([])
            size, added = 0, len(row.ids)
        parts[-1].append(row)
        size += added
    return parts


def _line(rows: Sequence[Row]) -> dict[str, Any]:
    """The columns of a trie; what solutions share has the sum of their weights and the mean of their targets.

    Reasons share no position that they write at: `write_encoded` has one for each verdict.
    """
    trie = merge([row.ids for row in rows])
    found: dict[int, tuple[float, float]] = {}
    for row, path in zip(rows, trie.paths, strict=True):
        for at, target, weight in zip(row.read, row.target, row.weight, strict=True):
            if target is not None:
                total, mass = found.get(int(path[at]), (0.0, 0.0))
                found[int(path[at])] = total + weight * target, mass + weight
    read = sorted(found)
    return {
        "ids": trie.ids,
        "position": trie.position,
        "end": trie.end,
        "read": read,
        "target": [total / mass for total, mass in (found[at] for at in read)],
        "weight": [found[at][1] for at in read],
    }


class EncodedExamples:
    """The tries of an Arrow file, in memory only as far as they are looked at. Raises `InputError` for another file."""

    def __init__(self, path: Path) -> None:
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path} holds no encoded examples. Remove it and train again.") from error
        if table.schema != _SCHEMA:
            raise InputError(f"{path} holds no encoded examples. Remove it and train again.")
        self._table = table
        # Batch by batch: columns put together would be copied out of the file.
        batches = table.to_batches()
        lists = [name for name in _SCHEMA.names if pa.types.is_list(_SCHEMA.field(name).type)]
        self._values = [{name: batch.column(name).values.to_numpy() for name in lists} for batch in batches]
        self._offsets = [{name: batch.column(name).offsets.to_numpy() for name in lists} for batch in batches]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def sources(self) -> list[str]:
        """Where the question of each trie comes from."""
        found: list[str] = self._table["source"].to_pylist()
        return found

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each trie."""
        return np.concatenate([np.zeros(0, dtype=np.int32), *(np.diff(part["ids"]) for part in self._offsets)])

    @property
    def tokens(self) -> int:
        """Tokens of all."""
        return sum(len(part["ids"]) for part in self._values)

    @property
    def longest(self) -> int:
        """Tokens of the longest solution."""
        return max((int(part["position"].max()) + 1 for part in self._values if len(part["position"])), default=0)

    def of_tokens(self, name: str, place: int) -> np.ndarray:
        """A column with one entry a token, of one trie."""
        return self._of(name, place)

    def of_reads(self, name: str, place: int) -> np.ndarray:
        """A column with one entry a labelled prefix, of one trie."""
        return self._of(name, place)

    def _of(self, name: str, place: int) -> np.ndarray:
        at = int(np.searchsorted(self._starts, place, side="right")) - 1
        offsets, row = self._offsets[at][name], place - self._starts[at]
        found: np.ndarray = self._values[at][name][offsets[row] : offsets[row + 1]]
        return found

    def mean_weight(self, end: int | None = None) -> float:
        """The mean weight of what is learned: labelled prefixes and reasons, whose last token is `end`."""
        count = sum(int(items(part["target"], end).sum()) for part in self._values)
        return sum(float(part["weight"].sum(dtype=np.float64)) for part in self._values) / count if count else 1.0


def plan_packs(lengths: Sequence[int] | np.ndarray, room: int, seed: int) -> list[list[int]]:
    """Which tries share a row of at most `room` tokens; one longer than that has a row of its own.

    First fit over the packs that are still open, in an order drawn from the seed.
    """
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    packs: list[list[int]] = []
    open_packs: list[tuple[int, list[int]]] = []
    for place in order:
        length = int(lengths[place])
        at = next((i for i, (free, _) in enumerate(open_packs) if free >= length), None)
        if at is not None:
            free, pack = open_packs[at]
            pack.append(place)
            open_packs[at] = (free - length, pack)
            continue
        pack = [place]
        packs.append(pack)
        open_packs.append((room - length, pack))
        if len(open_packs) > _OPEN:
            fullest = min(range(len(open_packs)), key=lambda i: open_packs[i][0])
            open_packs.pop(fullest)
    return packs


class Packs(torch.utils.data.Dataset[list[int]]):
    """A dataset whose items are the places of the tries that share a row."""

    def __init__(self, packs: Sequence[list[int]]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, place: int) -> list[int]:
        return self._packs[place]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._packs)


class Collator:
    """Packs of tries as the arguments of a forward pass.

    `input_ids` and `position_ids` are `[1, T]`; `labels` are `[2, T]`: the target of a prefix where it is read (from
    `WRITTEN` on: the token to write there) and its weight, `IGNORED` elsewhere; `attention_mask` is `[1, 1, T, T]` for
    tries with branches, else left out: then the restarting positions say it. `logits_to_keep` (causal models alone) are
    the positions with a label.
    """

    def __init__(self, examples: EncodedExamples, *, keep: bool, branches: bool, weight: float = 1.0) -> None:
        self._examples, self._keep, self._branches, self._weight = examples, keep, branches, weight

    def __call__(self, packs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        data = self._examples
        places = [place for pack in packs for place in pack]
        ids = [data.of_tokens("ids", place) for place in places]
        starts = np.cumsum([0, *map(len, ids)])
        labels = np.full((2, starts[-1]), float(IGNORED), dtype=np.float32)
        for place, start in zip(places, starts, strict=False):
            read = start + data.of_reads("read", place)
            labels[0, read] = data.of_reads("target", place)
            labels[1, read] = data.of_reads("weight", place) / self._weight
        positions = np.concatenate([data.of_tokens("position", place) for place in places])
        batch = {
            "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
            "position_ids": torch.from_numpy(positions.astype(np.int64))[None],
            "labels": torch.from_numpy(labels),
        }
        if self._branches:
            end = [start + data.of_tokens("end", place) for place, start in zip(places, starts, strict=False)]
            batch["attention_mask"] = torch.from_numpy(sees(np.concatenate(end)))[None, None]
        if self._keep:
            batch["logits_to_keep"] = torch.from_numpy(np.flatnonzero(labels[0] != IGNORED))
        return batch
