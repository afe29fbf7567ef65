"""Builds the entries of MATH-APS rows from a question's records and nodes: as they were read, or as one new tree.

A measured node has its MC value; a node that is only certified is good and has no value; a step without a node has the
value of its record, if any. The entry states the label of a prefix if its value does not determine it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...labels import soft_label
from ...trees import QuestionTree, TreeNode
from ...types import Record
from .format import QuestionGroup, Tally, decode, hard, plain_value
from .prefix_tree import PrefixEntry, as_read
from .remainder import processes, remainder


def entries_of(
    group: QuestionGroup, name: str, joint: str, threshold: float, tally: Tally, between: str | None = None
) -> Iterator[tuple[dict[str, Any], list[PrefixEntry]]]:
    """Return the rows of a question: those read in this layout unchanged, and one for all other records and the nodes.

    Each comes with what its reader stored. `joint` precedes each step of the new row; `between`, if given, replaces it
    for every step but the first.
    """
    rows: defaultdict[str, dict[int, tuple[Record, dict[str, Any]]]] = defaultdict(dict)
    others: list[Record] = []
    records = group.records if group.nodes else processes(group, tally)
    for record in records:
        rest = remainder(record.label_metadata, name)
        if rest:
            rows[rest["key"]].setdefault(rest["leaf"], (record, rest))
        else:
            others.append(record)
    for leaves in rows.values():
        rest = leaves[0][1] if 0 in leaves else {}
        if len(leaves) == rest.get("leaves"):
            yield rest, as_read(rest["layout"], [leaves[leaf][0] for leaf in range(len(leaves))])
        else:
            tally.lose("the layout of a row that has lost some of its records")
            others += [record for record, _ in leaves.values()]
    if others or not records:
        tree = QuestionTree(group.question.question_id)
        tree.add_nodes(group.nodes)
        paths = [tree.add_path(tree.root, record.steps) for record in others]
        values = _measured(tree, tally)
        for record, path in zip(others, paths, strict=True):
            _add_record(values, tree.root, path, record, tally)
        if not group.nodes and (counts := sum(1 for record in others for n in record.n_rollouts if n)):
            tally.lose("rollout counts of steps", counts)
        if tree.root.children or tree.root in values.value:
            yield {}, _new_entries(tree, values, joint, joint if between is None else between, threshold, tally)
        elif group.nodes:
            tally.lose("questions without a process")
    elif group.nodes:
        tally.lose("nodes of questions whose rows are written as they were read", len(group.nodes))


@dataclass(slots=True)
class _Values:
    """The known values and labels of the nodes of a tree; `valued` and `labelled` hold the nodes that records set."""

    value: dict[TreeNode, float] = field(default_factory=dict)
    label: dict[TreeNode, int] = field(default_factory=dict)
    valued: set[TreeNode] = field(default_factory=set)
    labelled: set[TreeNode] = field(default_factory=set)


def _measured(tree: QuestionTree, tally: Tally) -> _Values:
    """Read the values of the nodes, summing the counts of several jobs.

    A certified node that was not measured is good, without value.
    """
    values = _Values()
    if detached := sum(bool(node.rows) for node in tree.detached()):
        tally.lose("nodes whose parent is missing", detached)
    for node in tree.outline():
        if node.certified and node is not tree.root:
            values.label[node] = 1
        value = soft_label(node.counts)
        if value is not None:
            values.value[node] = value
            tally.lose("rollout counts of prefixes")
    return values


def _add_record(values: _Values, root: TreeNode, path: Sequence[TreeNode], record: Record, tally: Tally) -> None:
    """Take the values and labels of a record for the nodes on its path that have none."""
    root_value = decode(record.label_metadata).get("root_value")
    if isinstance(root_value, float):
        values.value.setdefault(root, root_value)
    if any(step != step.strip() or not step for step in record.steps):
        tally.lose("white space around steps: readers strip it")
    for i, (node, label) in enumerate(zip(path, record.label, strict=True)):
        value = record.value[i] if record.value else None
        if value is not None and node not in values.value:
            values.valued.add(node)
            values.value[node] = plain_value(value)
        elif value is not None and node in values.valued and values.value[node] != plain_value(value):
            tally.lose("values of a step that differ from those of another record")
        if label is None:
            continue
        if node in values.labelled and values.label[node] != label:
            tally.lose("labels of a step that differ from those of another record")
        elif node not in values.labelled:
            values.labelled.add(node)
            values.label[node] = label


def _new_entries(
    tree: QuestionTree, values: _Values, joint: str, between: str, threshold: float, tally: Tally
) -> list[PrefixEntry]:
    """List the tree from the root, each prefix before its continuations."""
    entries: list[PrefixEntry] = []
    places: dict[str | None, int] = {None: -1}
    for node in tree.outline():
        value, label = values.value.get(node), values.label.get(node)
        places[node.node_id] = len(entries)
        if node is tree.root:
            entries.append(PrefixEntry(-1, "", value))
            continue
        if value is None:
            tally.lose("prefixes without an MC value (`mc_value` is null)")
        is_implied = label is None or label == hard(None, value, threshold)
        before = joint if node.depth == 1 else between
        entries.append(PrefixEntry(places[node.parent_id], before + node.step, value, None if is_implied else label))
    return entries
