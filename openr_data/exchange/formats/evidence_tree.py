"""Builds the entries of MATH-APS rows from a question's records and nodes: as they were read, or as one new tree.

A measured node has its MC value; a node that is only certified is good and has no value; a step without a node has the
value of its record, if any. The entry states the label of a prefix if its value does not determine it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ...types import Record
from .format import Group, Row, Tally, decode, hard, plain_value
from .prefix_tree import PrefixEntry, PrefixTree, as_read
from .remainder import processes, remainder


def entries_of(
    group: Group, name: str, joint: str, threshold: float, tally: Tally, between: str | None = None
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
        tree = PrefixTree()
        _add_nodes(tree, group.nodes, tally)
        _add_records(tree, others, tally)
        if not group.nodes and (counts := sum(1 for record in others for n in record.n_rollouts if n)):
            tally.lose("rollout counts of steps", counts)
        if len(tree.step) > 1 or tree.value[0] is not None:
            yield {}, _new_entries(tree, joint, joint if between is None else between, threshold, tally)
        elif group.nodes:
            tally.lose("questions without a process")
    elif group.nodes:
        tally.lose("nodes of questions whose rows are written as they were read", len(group.nodes))


def _add_nodes(tree: PrefixTree, nodes: Sequence[Row], tally: Tally) -> None:
    """Add nodes, summing the counts of several jobs; a certified node that was not measured is good, without value."""
    by_id = {node["node_id"]: node for node in nodes}
    numbers: dict[str, int] = {}
    for start in by_id:
        chain, at = [], start
        while at not in numbers and at in by_id:
            chain.append(at)
            at = by_id[at]["parent_id"]
            if at is None:
                numbers[chain.pop()] = 0
                break
        if chain and by_id[chain[-1]]["parent_id"] not in numbers:
            tally.lose("nodes whose parent is missing")
            continue
        for at in reversed(chain):
            numbers[at] = tree.child(numbers[by_id[at]["parent_id"]], by_id[at]["step"])
    counts: dict[int, list[int]] = {}
    for node in nodes:
        number = numbers.get(node["node_id"])
        if number is None:
            continue
        count = counts.setdefault(number, [0, 0])
        count[0] += node.get("n_correct") or 0
        count[1] += node.get("n_rollouts") or 0
        if node.get("certified") and number:
            tree.label[number] = 1
    for number, (correct, total) in counts.items():
        if total:
            tree.value[number] = correct / total
            tally.lose("rollout counts of prefixes")


def _add_records(tree: PrefixTree, records: Sequence[Record], tally: Tally) -> None:
    labelled, valued = set[int](), set[int]()
    for record in records:
        root = decode(record.label_metadata).get("root_value")
        if tree.value[0] is None and isinstance(root, float):
            tree.value[0] = root
        if any(step != step.strip() or not step for step in record.steps):
            tally.lose("white space around steps: readers strip it")
        number = 0
        for i, (step, label) in enumerate(zip(record.steps, record.label, strict=True)):
            number = tree.child(number, step)
            value = record.value[i] if record.value else None
            if value is not None and tree.value[number] is None:
                valued.add(number)
                tree.value[number] = plain_value(value)
            elif value is not None and number in valued and tree.value[number] != plain_value(value):
                tally.lose("values of a step that differ from those of another record")
            if label is None:
                continue
            if number in labelled and tree.label[number] != label:
                tally.lose("labels of a step that differ from those of another record")
            elif number not in labelled:
                labelled.add(number)
                tree.label[number] = label


def _new_entries(tree: PrefixTree, joint: str, between: str, threshold: float, tally: Tally) -> list[PrefixEntry]:
    """List the tree from the root, each prefix before its continuations."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for number in range(len(tree.step) - 1, 0, -1):
        children[tree.parent[number]].append(number)
    entries = [PrefixEntry(-1, "", tree.value[0])]
    places = {0: 0}
    open_ones = children[0]
    while open_ones:
        number = open_ones.pop()
        value, label = tree.value[number], tree.label[number]
        if value is None:
            tally.lose("prefixes without an MC value (`mc_value` is null)")
        is_implied = label is None or label == hard(None, value, threshold)
        places[number] = len(entries)
        before = between if tree.parent[number] else joint
        parent, text = places[tree.parent[number]], before + tree.step[number]
        entries.append(PrefixEntry(parent, text, value, None if is_implied else label))
        open_ones += children[number]
    return entries
