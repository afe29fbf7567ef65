"""Encoded examples on disk, and their packing into rows without padding.

Examples are tokenised once and written to an Arrow file that is mapped into memory, so a training set may be larger
than memory. A pack puts several solutions into one row: `position_ids` restart at each, which tells `transformers` to
keep them from attending to each other; labels stand where a step is read and nowhere else.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from openr_data.errors import InputError
from openr_data.prm_format import PrmEncoder

from .examples import Example

IGNORED: Final = -100
"""The label of a position that is not read: what `transformers.Trainer` does not count."""

_SCHEMA: Final = pa.schema(
    {
        "question_id": pa.string(),
        "source": pa.string(),
        "ids": pa.list_(pa.int32()),
        "read": pa.list_(pa.int32()),
        "target": pa.list_(pa.float32()),
        "weight": pa.list_(pa.float32()),
    }
)
_OPEN: Final = 64
"""Packs that an example may still go into."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """What did not fit: solutions cut behind a whole step, the steps cut, and solutions of which nothing was left."""

    solutions: int = 0
    steps: int = 0
    dropped: int = 0


def fit(example: Example, encoder: PrmEncoder, longest: int) -> tuple[dict[str, Any] | None, int]:
    """The encoded example with as many whole steps as fit into `longest` tokens, and how many steps do not.

    None where the question leaves no room for a step, or none of the steps that fit has a label.
    """
    encoded = encoder.encode(example.question, example.steps)
    kept = len(example.steps)
    if longest and len(encoded.ids) > longest:
        kept = sum(position < longest for position in encoded.read)
        # What stands behind the last read position (a tag's end, a label) has to fit too.
        while kept and len(encoder.encode(example.question, example.steps[:kept]).ids) > longest:
            kept -= 1
        if kept:
            encoded = encoder.encode(example.question, example.steps[:kept])
    cut = len(example.steps) - kept
    if not any(item is not None for item in example.target[:kept]):
        return None, cut
    return {
        "question_id": example.question_id,
        "source": example.source,
        "ids": encoded.ids,
        "read": encoded.read,
        "target": [float("nan") if item is None else item for item in example.target[:kept]],
        "weight": example.weight[:kept],
    }, cut


def write_encoded(examples: Iterable[Example], encoder: PrmEncoder, longest: int, path: Path) -> Truncation:
    """Encode examples into an Arrow file; a few thousand are in memory at a time."""
    cuts = Truncation()
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for example in examples:
            row, cut = fit(example, encoder, longest)
            cuts = replace(
                cuts,
                solutions=cuts.solutions + bool(cut and row),
                steps=cuts.steps + cut,
                dropped=cuts.dropped + (row is None),
            )
            if row is not None:
                rows.append(row)
            if len(rows) >= 4_096:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
    return cuts


class EncodedExamples:
    """The examples of an Arrow file, in memory only as far as they are looked at."""

    def __init__(self, path: Path) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if table.schema != _SCHEMA:
            raise InputError(f"{path} holds no encoded examples. Remove it and train again.")
        columns = {name: table[name].combine_chunks() for name in ("ids", "read", "target", "weight")}
        self._values = {name: column.values.to_numpy() for name, column in columns.items()}
        self._tokens = columns["ids"].offsets.to_numpy()
        self._steps = columns["read"].offsets.to_numpy()
        self.sources: list[str] = table["source"].to_pylist()
        self.question_ids: list[str] = table["question_id"].to_pylist()

    def __len__(self) -> int:
        return len(self._tokens) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        found: np.ndarray = np.diff(self._tokens)
        return found

    @property
    def tokens(self) -> int:
        """Tokens of all."""
        return int(self._tokens[-1])

    def ids(self, place: int) -> np.ndarray:
        """The token ids of an example."""
        found: np.ndarray = self._values["ids"][self._tokens[place] : self._tokens[place + 1]]
        return found

    def steps(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read positions, targets (nan: masked) and weights of the steps of an example."""
        here = slice(self._steps[place], self._steps[place + 1])
        return self._values["read"][here], self._values["target"][here], self._values["weight"][here]

    def mean_weight(self) -> float:
        """The mean weight of a step with a target."""
        judged = ~np.isnan(self._values["target"])
        return float(self._values["weight"][judged].mean()) if judged.any() else 1.0


def plan_packs(lengths: Sequence[int] | np.ndarray, room: int, seed: int) -> list[list[int]]:
    """Which examples share a row of at most `room` tokens; an example longer than that has one of its own.

    First fit over the packs that are still open, in an order drawn from the seed.
    """
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)
    packs: list[list[int]] = []
    open_packs: list[tuple[int, list[int]]] = []
    for place in order:
        length = int(lengths[place])
        at = next((i for i, (free, _) in enumerate(open_packs) if free >= length), None)
        if at is None:
            pack = [place]
            packs.append(pack)
            open_packs.append((room - length, pack))
            if len(open_packs) > _OPEN:
                fullest = min(range(len(open_packs)), key=lambda i: open_packs[i][0])
                open_packs.pop(fullest)
            continue
        free, pack = open_packs[at]
        pack.append(place)
        open_packs[at] = (free - length, pack)
    return packs


class Packs(torch.utils.data.Dataset[list[int]]):
    """A dataset whose items are the places of the examples that share a row."""

    def __init__(self, packs: Sequence[list[int]]) -> None:
        self._packs = packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, place: int) -> list[int]:
        return self._packs[place]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._packs)


class Collator:
    """Packs of examples as the arguments of a forward pass.

    `input_ids` and `position_ids` are `[1, tokens]`; `labels` are `[2, tokens]`: the target of a step where it is
    read and its weight, `IGNORED` elsewhere; `logits_to_keep` (causal models alone) are the positions with a label.
    """

    def __init__(self, examples: EncodedExamples, *, keep: bool, weight: float = 1.0) -> None:
        self._examples, self._keep, self._weight = examples, keep, weight

    def __call__(self, packs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        places = [place for pack in packs for place in pack]
        ids = [self._examples.ids(place) for place in places]
        total = sum(map(len, ids))
        labels = np.full((2, total), float(IGNORED), dtype=np.float32)
        start = 0
        for place, tokens in zip(places, ids, strict=True):
            read, target, weight = self._examples.steps(place)
            judged = ~np.isnan(target)
            labels[0, start + read[judged]] = target[judged]
            labels[1, start + read[judged]] = weight[judged] / self._weight
            start += len(tokens)
        batch = {
            "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
            "position_ids": torch.from_numpy(np.concatenate([np.arange(len(item)) for item in ids]))[None],
            "labels": torch.from_numpy(labels),
        }
        if self._keep:
            batch["logits_to_keep"] = torch.from_numpy(np.flatnonzero(labels[0] != IGNORED))
        return batch
