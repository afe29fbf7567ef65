"""Groups of equal answers, as indices into a list: by a key, and by joining groups that turn out to be equal."""

from collections.abc import Collection, Hashable, Iterable, Sequence

Groups = list[list[int]]
"""Indices into the answers; groups in the order of their first members, members in order."""


def grouped(keys: Iterable[Hashable]) -> Groups:
    """The places of equal keys, together."""
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def grouped_by_text(answers: Sequence[str]) -> Groups:
    """Answers that are written the same, apart from white space at their ends and line ends."""
    return grouped("\n".join(answer.strip().splitlines()) for answer in answers)


def joined(groups: Groups, equal: Iterable[tuple[int, int]], different: Collection[tuple[int, int]]) -> Groups:
    """The groups after each equal pair of them, by place in `groups`, is made one.

    Equality is carried along chains, in the order of `equal`, but never so far that a group holds two that are
    `different`: 5 cm is 5 and 5 is 5 m, and yet there is no group of all three.
    """
    chains = {place: {place} for place in range(len(groups))}
    apart = {frozenset(pair) for pair in different}
    for first, second in equal:
        left, right = chains[first], chains[second]
        if left is right or any(frozenset((one, other)) in apart for one in left for other in right):
            continue
        left |= right
        for place in right:
            chains[place] = left
    firsts = {min(chain): chain for chain in chains.values()}
    return [sorted(member for place in firsts[first] for member in groups[place]) for first in sorted(firsts)]
