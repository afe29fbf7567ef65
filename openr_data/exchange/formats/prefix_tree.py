"""Converts the tree of prefixes in a MATH-APS row, entries with a text and an MC value, to records and back.

An entry has the index of its parent entry (-1: the question itself), its new text as the file has it, its `mc_value`
and, if that does not determine it, a label. Entries with the same steps are one prefix, because real rows contain
repetitions; an entry of only white space is the same prefix as its parent. Each leaf becomes one record with stripped
steps. The first record of a row stores the row's layout (white space, order, values); the texts are the records' steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ids import content_hash
from ...trees import QuestionTree, TreeNode
from ...types import Provenance, Question, Record
from .format import BadRow, Row, Tally, encode, hard


@dataclass(frozen=True, slots=True)
class PrefixEntry:
    """One prefix of a row; `label` is None if it is unknown or follows from the value."""

    parent: int
    text: str
    value: float | None
    label: int | None = None


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
    tree = QuestionTree(question.question_id)
    nodes = _nodes(tree, entries)
    given: dict[TreeNode, tuple[float | None, int | None]] = {}
    differ = False
    for node, entry in zip(nodes, entries, strict=True):
        pair = (None if entry.value is None else float(entry.value), entry.label)
        differ = given.setdefault(node, pair) != pair or differ
    if differ:
        tally.repair("one prefix with several values: the first is used")
    paths = [tree.path(leaf) for leaf in tree.leaves()]
    if not paths:
        tally.repair("a row without steps: only the question is read")
        yield question
        return
    layout = _layout(entries, nodes, paths)
    text = encode(layout)
    texts = [node.step for path in paths for node in path]
    key = content_hash(name, question.question_id, text, *texts)[:16]
    for leaf, path in enumerate(paths):
        metadata: dict[str, Any] = {name: {"key": key, "leaf": leaf}}
        if not leaf:
            metadata = {name: {**metadata[name], "leaves": len(paths), "layout": layout, **rest}}
            root_value, _ = given.get(tree.root, (None, None))
            if root_value is not None:
                metadata["root_value"] = root_value
        pairs = [given.get(node, (None, None)) for node in path]
        yield Record(
            question=question,
            steps=tuple([node.step for node in path]),
            label=tuple([hard(label, value, threshold) for value, label in pairs]),
            method="omegaprm",
            value=tuple([value for value, _ in pairs]),
            provenance=(int(Provenance.IMPORTED),) * len(path),
            label_metadata=encode(metadata),
        )


def _nodes(tree: QuestionTree, entries: Sequence[PrefixEntry]) -> list[TreeNode]:
    """Return the node of each entry; an entry may precede its parent."""
    nodes: list[TreeNode | None] = [None] * len(entries)
    for start in range(len(entries)):
        chain, at = [], start
        while at >= 0 and nodes[at] is None:
            chain.append(at)
            at = entries[at].parent
        node = (nodes[at] if at >= 0 else None) or tree.root
        for at in reversed(chain):
            step = entries[at].text.strip()
            node = nodes[at] = tree.child(node, step) if step else node
    return [node or tree.root for node in nodes]


def _layout(
    entries: Sequence[PrefixEntry], nodes: Sequence[TreeNode], paths: Sequence[Sequence[TreeNode]]
) -> dict[str, Any]:
    """Describe entries as parallel lists: parent, leaf and depth of the step (-1: none), white space, value, label."""
    places: dict[TreeNode, tuple[int, int]] = {}
    for leaf, path in enumerate(paths):
        for depth, node in enumerate(path):
            places.setdefault(node, (leaf, depth))
    pads: dict[tuple[str, str], int] = {}
    layout: dict[str, Any] = {"parent": [], "leaf": [], "depth": [], "pad": [], "value": []}
    for node, entry in zip(nodes, entries, strict=True):
        step = entry.text.strip()
        leaf, depth = places[node] if step else (-1, -1)
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
