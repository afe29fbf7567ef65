"""Merges sequences of tokens into a trie, so that a shared beginning is read once.

Solutions of one question share the question and often most of their steps. Written in depth-first order, a trie needs
two numbers a token beside its id: its position (its depth) and the end of its subtree. Token j sees token i
exactly when i <= j < end[i], so that a sequence sees itself and nothing else; one sequence alone is a trie without
branches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """T tokens in depth-first order: `ids`, `position` and `end` are `[T]`.

    `paths[i]` are the places of the tokens of sequence i, in the order in which the sequences were given.
    """

    ids: Ints
    position: Ints
    end: Ints
    paths: tuple[Ints, ...]


def merge(sequences: Sequence[Sequence[int]]) -> TokenTrie:
    """The trie of some sequences, of which one may equal another or be its beginning."""
    rows: list[Ints] = [np.asarray(item, dtype=np.int64) for item in sequences]
    order = sorted(range(len(rows)), key=lambda i: tuple(sequences[i]))
    most = sum(map(len, rows))
    ids, position, end = (np.zeros(most, dtype=np.int64) for _ in range(3))
    paths: list[Ints] = [np.zeros(0, dtype=np.int64)] * len(rows)
    size = 0
    before = path = np.zeros(0, dtype=np.int64)
    for place in order:
        row = rows[place]
        shared = shared_length(before, row)
        # The nodes that the path leaves here have no more children.
        end[path[shared:]] = size
        new = len(row) - shared
        here = slice(size, size + new)
        ids[here], position[here] = row[shared:], np.arange(shared, len(row))
        path = np.concatenate([path[:shared], np.arange(size, size + new)])
        size += new
        before, paths[place] = row, path
    end[path] = size
    return TokenTrie(ids[:size], position[:size], end[:size], tuple(paths))


def shared_length(first: Any, second: Any) -> int:
    """The length of the common beginning of two sequences."""
    a, b = np.asarray(first), np.asarray(second)
    least = min(len(a), len(b))
    differing = np.flatnonzero(a[:least] != b[:least])
    return int(differing[0]) if len(differing) else least


def sees(end: Ints) -> NDArray[np.bool_]:
    """Which token (row) sees which (column), `[T, T]`, for tries that follow each other."""
    place = np.arange(len(end))
    seen: NDArray[np.bool_] = (place[None, :] <= place[:, None]) & (end[None, :] > place[:, None])
    return seen
