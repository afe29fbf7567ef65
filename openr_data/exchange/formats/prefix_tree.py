"""Converts the tree of prefixes in a MATH-APS row, entries with a text and an MC value, to records and back.

An entry has the index of its parent entry (-1: the question itself), its new text as the file has it, its `mc_value`
and, if that does not determine it, a label. Entries with the same steps are one prefix, because real rows contain
repetitions; an entry of only white space is the same prefix as its parent. Each leaf becomes one record with stripped
steps. The first record of a row stores the row's layout (white space, order, values); the texts are the records' steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...ids import content_hash
from ...types import Provenance, Question, Record
from .format import BadRow, Row, Tally, encode, hard


@dataclass(frozen=True, slots=True)
class PrefixEntry:
    """One prefix of a row; `label` is None if it is unknown or follows from the value."""

    parent: int
    text: str
    value: float | None
    label: int | None = None


@dataclass(slots=True)
class PrefixTree:
    """Prefixes by number (0: the question), with the parent, last step, value and label of each."""

    parent: list[int] = field(default_factory=lambda: [-1])
    step: list[str] = field(default_factory=lambda: [""])
    value: list[float | None] = field(default_factory=lambda: [None])
    label: list[int | None] = field(default_factory=lambda: [None])
    _number: dict[tuple[int, str], int] = field(default_factory=dict)

    def child(self, parent: int, step: str) -> int:
        """Return the number of the prefix extended by this step, adding it if it is new."""
        number = self._number.setdefault((parent, step), len(self.step))
        if number == len(self.step):
            self.parent.append(parent)
            self.step.append(step)
            self.value.append(None)
            self.label.append(None)
        return number

    def path(self, number: int) -> list[int]:
        """Return the prefixes from the first step to this one."""
        prefixes = []
        while number > 0:
            prefixes.append(number)
            number = self.parent[number]
        return prefixes[::-1]

    def leaves(self) -> list[int]:
        """Return the prefixes without continuation, in the order they were added."""
        inner = set(self.parent)
        return [number for number in range(1, len(self.step)) if number not in inner]


def entry_value(entry: Row) -> float | None:
    """Return the `mc_value` of an entry. Raises `BadRow` unless it is null or a number from 0 to 1."""
    value = entry.get("mc_value")
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= 1):
        raise BadRow("an `mc_value` that is not a number from 0 to 1")
    return value


def entry_label(entry: Row) -> int | None:
    """Return the `label` of an entry, present only if its value does not determine it. Raises `BadRow`."""
    if "label" not in entry:
        return None
    label = entry["label"]
    if type(label) is not int or not -1 <= label <= 1:
        raise BadRow("a `label` of an entry that is not 1, 0 or -1")
    return label


def records_of(
    entries: Sequence[PrefixEntry], question: Question, name: str, rest: dict[str, Any], threshold: float, tally: Tally
) -> Iterator[Question | Record]:
    """Yield one record per leaf, or only the question, counted as repaired, if no entry holds a step."""
    tree = PrefixTree()
    numbers = _numbers(tree, entries)
    seen = set[int]()
    differ = False
    for number, entry in zip(numbers, entries, strict=True):
        value = None if entry.value is None else float(entry.value)
        if number not in seen:
            seen.add(number)
            tree.value[number], tree.label[number] = value, entry.label
        else:
            differ = differ or (tree.value[number], tree.label[number]) != (value, entry.label)
    if differ:
        tally.repair("one prefix with several values: the first is used")
    paths = [tree.path(leaf) for leaf in tree.leaves()]
    if not paths:
        tally.repair("a row without steps: only the question is read")
        yield question
        return
    layout = _layout(entries, numbers, paths)
    text = encode(layout)
    texts = [tree.step[number] for path in paths for number in path]
    key = content_hash(name, question.question_id, text, *texts)[:16]
    for leaf, path in enumerate(paths):
        metadata: dict[str, Any] = {name: {"key": key, "leaf": leaf}}
        if not leaf:
            metadata = {name: {**metadata[name], "leaves": len(paths), "layout": layout, **rest}}
            if tree.value[0] is not None:
                metadata["root_value"] = tree.value[0]
        values = tuple([tree.value[number] for number in path])
        given = [tree.label[number] for number in path]
        yield Record(
            question=question,
            steps=tuple([tree.step[number] for number in path]),
            label=tuple([hard(label, value, threshold) for label, value in zip(given, values, strict=True)]),
            method="omegaprm",
            value=values,
            provenance=(int(Provenance.IMPORTED),) * len(path),
            label_metadata=encode(metadata),
        )


def _numbers(tree: PrefixTree, entries: Sequence[PrefixEntry]) -> list[int]:
    """Return the prefix of each entry; an entry may precede its parent."""
    numbers = [-1] * len(entries)
    for start in range(len(entries)):
        chain, at = [], start
        while at >= 0 and numbers[at] < 0:
            chain.append(at)
            at = entries[at].parent
        number = numbers[at] if at >= 0 else 0
        for at in reversed(chain):
            step = entries[at].text.strip()
            number = numbers[at] = tree.child(number, step) if step else number
    return numbers


def _layout(entries: Sequence[PrefixEntry], numbers: Sequence[int], paths: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Describe entries as parallel lists: parent, leaf and depth of the step (-1: none), white space, value, label."""
    places: dict[int, tuple[int, int]] = {}
    for leaf, path in enumerate(paths):
        for depth, number in enumerate(path):
            places.setdefault(number, (leaf, depth))
    pads: dict[tuple[str, str], int] = {}
    layout: dict[str, Any] = {"parent": [], "leaf": [], "depth": [], "pad": [], "value": []}
    for number, entry in zip(numbers, entries, strict=True):
        step = entry.text.strip()
        leaf, depth = places[number] if step else (-1, -1)
        start = len(entry.text) - len(entry.text.lstrip()) if step else len(entry.text)
        pad = (entry.text[:start], entry.text[start + len(step) :])
        for name, cell in (("parent", entry.parent), ("leaf", leaf), ("depth", depth), ("value", entry.value)):
            layout[name].append(cell)
        layout["pad"].append(pads.setdefault(pad, len(pads)))
    layout["pads"] = list(pads)
    if any(entry.label is not None for entry in entries):
        layout["label"] = [entry.label for entry in entries]
    return layout


def as_read(layout: Mapping[str, Any], records: Sequence[Record]) -> list[PrefixEntry]:
    """Rebuild the entries of a row from its layout and its records."""
    entries = []
    labels = layout.get("label") or [None] * len(layout["parent"])
    columns = (layout[name] for name in ("parent", "leaf", "depth", "pad", "value"))
    for parent, leaf, depth, pad, value, label in zip(*columns, labels, strict=True):
        before, after = layout["pads"][pad]
        step = records[leaf].steps[depth] if leaf >= 0 else ""
        entries.append(PrefixEntry(parent, before + step + after, value, label))
    return entries
