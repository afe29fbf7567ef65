"""Keys and values that a model has computed for the beginnings of solutions, bounded by tokens, oldest first."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import DynamicCache

States = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of a piece of a sequence, `[heads, tokens, size]`, a layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Keys and values from the end of the beginning `parent` (empty: from the first token) up to one read position."""

    parent: str
    states: States
    tokens: int


class StateMemory:
    """The states of beginnings by the key of their last read position (`memory.step_keys`); for one thread.

    A beginning is a chain of pieces, so that solutions with a common beginning hold it once.
    """

    def __init__(self, most: int) -> None:
        self._pieces: OrderedDict[str, Piece] = OrderedDict()
        self._held, self._most = 0, most

    def has(self, key: str) -> bool:
        """Whether all pieces of a beginning are there."""
        while key:
            piece = self._pieces.get(key)
            if piece is None:
                return False
            key = piece.parent
        return True

    def put(self, key: str, parent: str, states: States, places: torch.Tensor) -> None:
        """Remember the states at some places of a sequence as the piece that follows `parent`."""
        if key in self._pieces:
            self._pieces.move_to_end(key)
            return
        piece = Piece(parent, [(k[:, places].clone(), v[:, places].clone()) for k, v in states], len(places))
        self._pieces[key] = piece
        self._held += piece.tokens

    def cache(self, keys: Sequence[str], past: int) -> DynamicCache:
        """The states of several beginnings as rows, `[rows, heads, past, size]` a layer; the rest is zeros.

        `past` is at least the length of the longest one; an empty key is a row without a beginning.
        """
        rows = [self._states(key) for key in keys]
        shape = next(row[0][0] for row in rows if row)
        cache = DynamicCache()
        for layer in range(max(map(len, rows))):
            both = []
            for part in (0, 1):
                filled = shape.new_zeros((len(rows), shape.shape[0], past, shape.shape[2]))
                for row, states in enumerate(rows):
                    if states:
                        filled[row, :, : states[layer][part].shape[1]] = states[layer][part]
                both.append(filled)
            cache.update(both[0], both[1], layer)
        return cache

    def _states(self, key: str) -> States:
        pieces: list[Piece] = []
        while key:
            piece = self._pieces[key]
            self._pieces.move_to_end(key)
            pieces.append(piece)
            key = piece.parent
        pieces.reverse()
        layers = range(len(pieces[0].states)) if pieces else range(0)
        return [(_joined(pieces, layer, 0), _joined(pieces, layer, 1)) for layer in layers]

    def trim(self) -> None:
        """Forget the oldest pieces beyond the bound; not between `has` and `cache` of a batch."""
        while self._held > self._most and self._pieces:
            _, oldest = self._pieces.popitem(last=False)
            self._held -= oldest.tokens


def _joined(pieces: Sequence[Piece], layer: int, part: int) -> torch.Tensor:
    return torch.cat([piece.states[layer][part] for piece in pieces], dim=1)
