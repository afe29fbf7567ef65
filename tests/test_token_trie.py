"""A trie of tokens: every sequence is a path of it, and a path sees itself alone, as under causal attention."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openr_data.token_trie import TokenTrie, merge, sees, shared_length

# Few different tokens, so that sequences share much, repeat and begin each other.
SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=7)
HARD = [[1, 2], [1], [], [1, 2], [1, 2, 0], [2], [1, 1], []]


def prefixes(sequences: list[list[int]]) -> set[tuple[int, ...]]:
    return {tuple(item[: n + 1]) for item in sequences for n in range(len(item))}


@given(SEQUENCES)
@example(HARD)
@example([])
@example([[]])
def test_every_sequence_is_its_path_in_the_order_in_which_it_was_given(sequences: list[list[int]]) -> None:
    trie = merge(sequences)
    assert len(trie.paths) == len(sequences)
    for path, sequence in zip(trie.paths, sequences, strict=True):
        assert trie.ids[path].tolist() == sequence
        assert trie.position[path].tolist() == list(range(len(sequence)))
        assert all(first < second for first, second in pairwise(path.tolist()))


@given(SEQUENCES)
@example(HARD)
def test_there_is_one_token_for_every_distinct_prefix(sequences: list[list[int]]) -> None:
    trie = merge(sequences)
    assert len(trie.ids) == len(trie.position) == len(trie.end) == len(prefixes(sequences))
    assert set(range(len(trie.ids))) == {int(at) for path in trie.paths for at in path}
    # The same prefix is the same token, another one is not.
    place: dict[tuple[int, ...], int] = {}
    for path, sequence in zip(trie.paths, sequences, strict=True):
        for n, at in enumerate(path.tolist()):
            assert place.setdefault(tuple(sequence[: n + 1]), at) == at
    assert len(set(place.values())) == len(place)


@given(SEQUENCES)
@example(HARD)
def test_a_path_sees_itself_causally_and_nothing_else(sequences: list[list[int]]) -> None:
    trie = merge(sequences)
    seen = sees(trie.end)
    assert seen.shape == (len(trie.ids), len(trie.ids))
    assert seen.dtype == np.bool_
    for path in trie.paths:
        for n, at in enumerate(path.tolist()):
            assert np.flatnonzero(seen[at]).tolist() == path[: n + 1].tolist()


@given(SEQUENCES, SEQUENCES)
@example(HARD, HARD)
def test_tries_behind_each_other_do_not_see_each_other(first: list[list[int]], second: list[list[int]]) -> None:
    a, b = merge(first), merge(second)
    size = len(a.ids)
    both = sees(np.concatenate([a.end, size + b.end]))
    assert (both[:size, :size] == sees(a.end)).all()
    assert (both[size:, size:] == sees(b.end)).all()
    assert not both[:size, size:].any()
    assert not both[size:, :size].any()


@given(SEQUENCES)
@example(HARD)
def test_the_end_of_a_token_is_the_end_of_its_subtree(sequences: list[list[int]]) -> None:
    trie = merge(sequences)
    below: dict[int, set[int]] = {at: set() for at in range(len(trie.ids))}
    for path in trie.paths:
        for n, at in enumerate(path.tolist()):
            below[at] |= set(path[n:].tolist())
    for at, found in below.items():
        assert found == set(range(at, int(trie.end[at])))


@given(SEQUENCES, st.randoms())
@example(HARD, None)
def test_the_order_of_the_sequences_does_not_change_the_trie(sequences: list[list[int]], rng: object) -> None:
    order = list(range(len(sequences)))[::-1]
    if rng is not None:
        rng.shuffle(order)  # type: ignore[attr-defined]
    straight, turned = merge(sequences), merge([sequences[i] for i in order])
    for name in ("ids", "position", "end"):
        assert (getattr(straight, name) == getattr(turned, name)).all()
    for i, path in zip(order, turned.paths, strict=True):
        assert (straight.paths[i] == path).all()


def test_one_sequence_alone_is_causal_attention() -> None:
    trie = merge([[5, 6, 5]])
    assert sees(trie.end).tolist() == np.tril(np.ones((3, 3), dtype=bool)).tolist()


def test_no_sequence_is_an_empty_trie() -> None:
    for sequences in ([], [[]], [[], []]):
        trie = merge(sequences)
        assert isinstance(trie, TokenTrie)
        assert len(trie.ids) == len(trie.position) == len(trie.end) == 0
        assert [path.tolist() for path in trie.paths] == sequences
        assert sees(trie.end).shape == (0, 0)


def test_a_trie_is_that_of_the_docstring() -> None:
    # 1 2 3, 1 2 4 and 1 5: five tokens in depth-first order.
    trie = merge([[1, 5], [1, 2, 4], [1, 2, 3]])
    assert trie.ids.tolist() == [1, 2, 3, 4, 5]
    assert trie.position.tolist() == [0, 1, 2, 2, 1]
    assert trie.end.tolist() == [5, 4, 3, 4, 5]
    assert [path.tolist() for path in trie.paths] == [[0, 4], [0, 1, 3], [0, 1, 2]]


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [([], [], 0), ([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 4, 3], 1), ([2], [1], 0)],
)
def test_what_two_sequences_share_is_their_common_beginning(first: list[int], second: list[int], length: int) -> None:
    assert shared_length(first, second) == shared_length(second, first) == length
    assert shared_length(np.array(first), tuple(second)) == length
