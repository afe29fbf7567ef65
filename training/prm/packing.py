"""Encodes examples to disk and packs them into rows without padding.

Examples are tokenised once and written to an Arrow file that is mapped into memory, so a training set may be larger
than memory. A row of a batch holds several questions, each as a trie of its solutions (`openr_data/token_trie.py`) or
solution by solution. `position_ids` restart at each, and only positions with a target have labels.

The loss is linear in the target, so steps that several solutions share count with the sum of their weights and the
mean of their targets. A trie therefore gives the same gradient as its separate solutions, for fewer tokens.

A reason is a branch: the solution up to its step, the verdict, the reason. The solution itself continues without it, as
it does when it is scored. Each token of a reason is a target; together they are one item of the loss, like a labelled
prefix, and weigh as much as `reason_weight` verdicts.
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
"""The label of a position without a target, as in `transformers`."""
WRITTEN: Final = 2
"""A target of at least this is a token to write: its id plus this number. Other targets lie in [0, 1]."""

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
"""The number of packs that stay open for further tries."""


def items(target: Any, end: int | None) -> Any:
    """Mark the targets that are items of the loss: labelled prefixes, and the last token (`end`) of each reason."""
    prefixes = (target >= 0) & (target < WRITTEN)
    return prefixes if end is None else prefixes | (target == WRITTEN + end)


@dataclass(frozen=True, slots=True)
class Row:
    """An encoded solution or reason; `target` (None: masked) and `weight` are parallel to `read`."""

    ids: tuple[int, ...]
    read: tuple[int, ...]
    target: tuple[float | None, ...]
    weight: tuple[float, ...]


@dataclass(slots=True)
class Fit:
    """Counts of what was encoded and what did not fit.

    `tokens` counts the tokens to read, `solution_tokens` those of separate solutions (up to their last label) and
    reasons. `cut_solutions` lost `cut_steps` whole steps at their end; `dropped` solutions have no labelled step left.
    `reasons` excludes those that did not fit (`dropped_reasons`) and all but one for the same verdict on the same
    beginning (`repeated_reasons`).
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
    """Encode an example with as many whole steps as fit into `longest` tokens (0: no limit).

    Returns None if the question leaves no room for a step, or if no step that fits has a label.
    """
    steps = len(example.steps)
    encoded = encoder.encode(example.question, example.steps)
    n_fitting = steps if not longest else sum(at < longest for at in encoded.read)
    if n_fitting and longest < len(encoded.ids) and longest:
        encoded = encoder.encode(example.question, example.steps[:n_fitting])
        # A label or the end of a tag may follow the last position that is read.
        if len(encoded.ids) > longest:
            n_fitting -= 1
            encoded = encoder.encode(example.question, example.steps[:n_fitting]) if n_fitting else encoded
    if not any(target is not None for target in example.target[:n_fitting]):
        seen.dropped += 1
        if len(seen.dropped_for) < 3:
            seen.dropped_for.append(example.question_id)
        return None
    seen.solutions += 1
    seen.solution_tokens += len(encoded.ids)
    seen.cut_solutions += n_fitting < steps
    seen.cut_steps += steps - n_fitting
    return Row(encoded.ids, encoded.read, example.target[:n_fitting], example.weight[:n_fitting])


def reason_rows(
    example: Example, row: Row, encoder: PrmEncoder, longest: int, reason_weight: float, seen: Fit
) -> Iterator[tuple[int, Row]]:
    """Yield the reasons of an encoded example, each with the length of its shared part: all up to its verdict."""
    encoded = Encoded(row.ids, row.read)
    for place, reason in enumerate(example.reasons[: len(row.read)]):
        target = row.target[place]
        if not reason or target is None:
            continue
        beginning = encoder.verdict(encoded, place, target > 0.5)
        *words, end = encoder.reason(reason)
        ids = (*beginning, *words)
        if longest and len(ids) > longest:
            seen.dropped_reasons += 1
            continue
        written = tuple(float(WRITTEN + token) for token in (*words, end))
        weight = reason_weight * row.weight[place] / len(written)
        yield len(beginning), Row(ids, tuple(range(len(beginning) - 1, len(ids))), written, (weight,) * len(written))


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
    """Encode examples (in the order of their questions) into an Arrow file, with a few thousand in memory at a time.

    Steps after the last label of a solution have no target and are left out.
    """
    seen = Fit()
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        lines: list[dict[str, Any]] = []
        for name, group in groupby(examples, key=lambda example: example.question_id):
            source = ""
            rows: list[Row] = []
            reasons: dict[tuple[int, ...], Row] = {}
            for example in group:
                source = example.source
                if (row := fit(_up_to_last_label(example), encoder, longest, seen)) is None:
                    continue
                rows.append(row)
                for begun, reason in reason_rows(example, row, encoder, longest, reason_weight, seen):
                    # Two reasons for the same verdict would need two next tokens at one position.
                    if reasons.setdefault(reason.ids[:begun], reason) is not reason:
                        seen.repeated_reasons += 1
            seen.reasons += len(reasons)
            seen.solution_tokens += sum(len(reason.ids) for reason in reasons.values())
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
    """Split a question's solutions into tries of at most `room` tokens; a longer solution gets its own."""
    parts: list[list[Row]] = []
    size = 0
    # In this order neighbours share the longest beginnings.
    for row in sorted(rows, key=lambda row: row.ids):
        added = len(row.ids) - (shared_length(parts[-1][-1].ids, row.ids) if parts else 0)
        if not parts or size + added > room:
            parts.append([])
            size, added = 0, len(row.ids)
        parts[-1].append(row)
        size += added
    return parts


def _line(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the columns of a trie; a shared prefix has the sum of the weights and the mean of the targets.

    Reasons never share a position that they write, because `write_encoded` has one reason per verdict.
    """
    trie = merge([row.ids for row in rows])
    sums: dict[int, tuple[float, float]] = {}
    for row, path in zip(rows, trie.paths, strict=True):
        for at, target, weight in zip(row.read, row.target, row.weight, strict=True):
            if target is not None:
                total, mass = sums.get(int(path[at]), (0.0, 0.0))
                sums[int(path[at])] = total + weight * target, mass + weight
    read = sorted(sums)
    return {
        "ids": trie.ids,
        "position": trie.position,
        "end": trie.end,
        "read": read,
        "target": [total / mass for total, mass in (sums[at] for at in read)],
        "weight": [sums[at][1] for at in read],
    }


class EncodedExamples:
    """The tries of an Arrow file, loaded into memory only when they are read. Raises `InputError` for another file."""

    def __init__(self, path: Path) -> None:
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path} does not hold encoded examples. Remove it and train again.") from error
        if table.schema != _SCHEMA:
            raise InputError(f"{path} does not hold encoded examples. Remove it and train again.")
        self._table = table
        # Combining the batches into one column would copy the data out of the file.
        batches = table.to_batches()
        lists = [name for name in _SCHEMA.names if pa.types.is_list(_SCHEMA.field(name).type)]
        self._values = [{name: batch.column(name).values.to_numpy() for name in lists} for batch in batches]
        self._offsets = [{name: batch.column(name).offsets.to_numpy() for name in lists} for batch in batches]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def sources(self) -> list[str]:
        """The source of each trie's question."""
        sources: list[str] = self._table["source"].to_pylist()
        return sources

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each trie."""
        return np.concatenate([np.zeros(0, dtype=np.int32), *(np.diff(part["ids"]) for part in self._offsets)])

    @property
    def tokens(self) -> int:
        """The number of tokens of all tries."""
        return sum(len(part["ids"]) for part in self._values)

    @property
    def longest(self) -> int:
        """The number of tokens of the longest solution."""
        return max((int(part["position"].max()) + 1 for part in self._values if len(part["position"])), default=0)

    def of_tokens(self, name: str, place: int) -> np.ndarray:
        """Return a column of one trie with one entry per token."""
        return self._of(name, place)

    def of_reads(self, name: str, place: int) -> np.ndarray:
        """Return a column of one trie with one entry per labelled prefix."""
        return self._of(name, place)

    def _of(self, name: str, place: int) -> np.ndarray:
        at = int(np.searchsorted(self._starts, place, side="right")) - 1
        offsets, row = self._offsets[at][name], place - self._starts[at]
        column: np.ndarray = self._values[at][name][offsets[row] : offsets[row + 1]]
        return column

    def mean_weight(self, end: int | None = None) -> float:
        """Return the mean weight of the items of the loss: labelled prefixes and reasons, whose last token is `end`."""
        count = sum(int(items(part["target"], end).sum()) for part in self._values)
        return sum(float(part["weight"].sum(dtype=np.float64)) for part in self._values) / count if count else 1.0


def plan_packs(lengths: Sequence[int] | np.ndarray, room: int, seed: int) -> list[list[int]]:
    """Choose the tries that share a row of at most `room` tokens; a longer trie gets a row of its own.

    Uses first fit over the open packs, in an order drawn from the seed.
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
    """A dataset with one item per row: the indices of its tries."""

    def __init__(self, packs: Sequence[list[int]]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, place: int) -> list[int]:
        return self._packs[place]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._packs)


class Collator:
    """Turns packs of tries into the arguments of a forward pass.

    `input_ids` and `position_ids` are `[1, T]`. `labels` are `[2, T]`: the target (from `WRITTEN` on, a token to write)
    and the weight of each read position, `IGNORED` elsewhere. `attention_mask` is `[1, 1, T, T]` for tries with
    branches; without branches it is left out, because the restarting positions imply it. `logits_to_keep` (causal
    models only) holds the positions with a label.
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
