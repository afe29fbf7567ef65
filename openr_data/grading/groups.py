"""Groups of equal answers, as indices into a list: by a key, and by joining groups that turn out to be equal."""

from collections.abc import Hashable, Iterable, Sequence

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


def joined(groups: Groups, pairs: Iterable[tuple[int, int]]) -> Groups:
    """The groups after every pair of them (by place in `groups`) is made one; equality is carried along chains."""
    parents = list(range(len(groups)))
    for first, second in pairs:
        left, right = _root(parents, first), _root(parents, second)
        parents[max(left, right)] = min(left, right)
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(_root(parents, place), []).extend(group)
    return [sorted(group) for group in members.values()]


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        place = parents[place]
    return place
