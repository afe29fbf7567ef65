"""The tree of one question: its prefixes as nodes, with what was measured, drawn and written at each of them.

`QuestionTree` is built from rows of the tables `nodes`, `rollouts`, `solutions` and, where a store has them,
`search_nodes`; `read_trees` yields the trees of a snapshot question by question. Building and walking a tree take
time linear in its size and no recursion, so that a solution of 10,000 steps is as good as any.

A node refers to the node above by id and to those below by reference: a tree holds no cycle and is freed at once.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .engine.rollout_steps import StepCuts
from .ids import child_id, root_id
from .labels import Counts
from .schema import TABLES
from .store import View

Row = Mapping[str, Any]

ROWS_AT_ONCE: Final = 10_000
"""Rows of a table that are read in one batch."""
TREE_TABLES: Final = tuple(name for name in ("nodes", "rollouts", "solutions", "search_nodes") if name in TABLES)
"""The tables a tree is made of."""


@dataclass(frozen=True, slots=True)
class TreeRollout:
    """A stored rollout with its place: the node it was drawn from, and the nodes that its own steps end at.

    `path` is empty for a rollout that was stored without its text.
    """

    row: Row
    start: str
    path: tuple[str, ...]


@dataclass(slots=True, eq=False)
class TreeNode:
    """A prefix: the node above, the step that leads from there to here, and everything stored about it.

    `rows` and `search_rows` hold its rows of `nodes` (one a job) and `search_nodes`, `drawn` the rollouts that begin
    here, `through` those that begin here or pass through, `solutions` the rows of solutions that end here. The root
    has depth 0, no parent and no step.
    """

    node_id: str
    parent_id: str | None
    step: str
    depth: int
    children: dict[str, "TreeNode"] = field(default_factory=dict, repr=False)
    rows: list[Row] = field(default_factory=list, repr=False)
    search_rows: list[Row] = field(default_factory=list, repr=False)
    drawn: list[TreeRollout] = field(default_factory=list, repr=False)
    through: list[TreeRollout] = field(default_factory=list, repr=False)
    solutions: list[Row] = field(default_factory=list, repr=False)

    @property
    def counts(self) -> Counts:
        """The rollouts that all jobs measured from here, added up."""
        sums = [sum(row.get(name) or 0 for row in self.rows) for name in Counts.__slots__]
        return Counts(*sums)

    @property
    def certified(self) -> bool:
        """Whether some job saw a correct rollout pass through here."""
        return any(row.get("certified") for row in self.rows)


class QuestionTree:
    """All known prefixes of one question. `nodes` holds every node by its id, in the order they were added.

    A node whose parent no row describes is detached: it stays outside of the tree until its parent is added.
    """

    def __init__(self, question_id: str) -> None:
        self.question_id = question_id
        self.root = TreeNode(root_id(question_id), None, "", 0)
        self.nodes: dict[str, TreeNode] = {self.root.node_id: self.root}
        self.rollouts: dict[tuple[str, str], TreeRollout] = {}
        """By rollout id and job id."""
        self._detached: dict[str, TreeNode] = {}
        self._waiting: dict[str, list[TreeNode]] = {}

    @classmethod
    def from_rows(
        cls, question_id: str, rows: Mapping[str, Iterable[Row]], cuts: StepCuts | None = None
    ) -> "QuestionTree":
        """The tree of these rows of one question, by table; `cuts` knows how jobs cut rollouts into steps."""
        tree = cls(question_id)
        nodes, rollouts = list(rows.get("nodes", ())), list(rows.get("rollouts", ()))
        tree.add_nodes(nodes)
        tree.add_rollouts(rollouts, (cuts or StepCuts()).steps_of(question_id, nodes, rollouts))
        tree.add_solutions(rows.get("solutions", ()))
        tree.add_search_nodes(rows.get("search_nodes", ()))
        return tree

    def child(self, parent: TreeNode, step: str, node_id: str = "") -> TreeNode:
        """The node that this step leads to, made where it is new; its id is hashed unless given."""
        node = parent.children.get(step)
        if node is None:
            name = node_id or child_id(parent.node_id, step)
            node = self._detached.get(name) or TreeNode(name, parent.node_id, step, parent.depth + 1)
            node.step = step
            self._attach(parent, node)
        return node

    def add_path(self, start: TreeNode, steps: Iterable[str]) -> list[TreeNode]:
        """The nodes that these steps end at, one after the other, made where they are new."""
        path: list[TreeNode] = []
        for step in steps:
            path.append(self.child(path[-1] if path else start, step))
        return path

    def add_nodes(self, rows: Iterable[Row]) -> None:
        """Add rows of `nodes`, in any order; several of one node belong to several jobs."""
        rows = list(rows)
        self._place(rows)
        for row in rows:
            self.nodes[row["node_id"]].rows.append(row)

    def add_search_nodes(self, rows: Iterable[Row]) -> None:
        """Add rows of `search_nodes`, in any order."""
        rows = list(rows)
        self._place(rows)
        for row in rows:
            self.nodes[row["node_id"]].search_rows.append(row)

    def add_rollouts(self, rows: Iterable[Row], steps_of: Callable[[Row], Sequence[str]]) -> None:
        """Add rows of `rollouts`, each to every node it passes through; `steps_of` cuts one into its own steps."""
        for row in rows:
            start = self.nodes.get(row["node_id"])
            if start is None:
                start = self._add_detached(TreeNode(row["node_id"], None, "", 0))
            path = self.add_path(start, steps_of(row))
            rollout = TreeRollout(row, start.node_id, tuple([node.node_id for node in path]))
            self.rollouts[row["rollout_id"], row["job_id"]] = rollout
            start.drawn.append(rollout)
            for node in (start, *path):
                node.through.append(rollout)

    def add_solutions(self, rows: Iterable[Row]) -> None:
        """Add rows of `solutions`, each to the node it ends at."""
        for row in rows:
            path = self.add_path(self.root, row["steps"])
            (path[-1] if path else self.root).solutions.append(row)

    def above(self, node: TreeNode) -> Iterator[TreeNode]:
        """A node and the nodes above it, up to the root or as far as they are known."""
        place: TreeNode | None = node
        while place is not None:
            yield place
            place = None if place.parent_id is None else self.nodes.get(place.parent_id)

    def path(self, node: TreeNode) -> list[TreeNode]:
        """The nodes from the first step to this one; the root is left out."""
        return [place for place in self.above(node) if place.parent_id is not None][::-1]

    def steps(self, node: TreeNode) -> tuple[str, ...]:
        """The steps that lead to a node."""
        return tuple([place.step for place in self.path(node)])

    def parent_of(self, node_id: str) -> str | None:
        """The id of the node above; None at the root and for an unknown node."""
        node = self.nodes.get(node_id)
        return None if node is None else node.parent_id

    def outline(self, start: TreeNode | None = None) -> Iterator[TreeNode]:
        """The nodes in outline order, from the root or another node on: each before those below it.

        Children come in the order they were added.
        """
        waiting = [start or self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children.values()))

    def leaves(self) -> list[TreeNode]:
        """The nodes without children, the root left out, in the order they were added."""
        return [node for node in self.nodes.values() if not node.children and node is not self.root]

    def detached(self) -> list[TreeNode]:
        """The nodes that no known path leads to from the root."""
        return [node for top in self._detached.values() for node in self.outline(top)]

    def _place(self, rows: Sequence[Row]) -> None:
        """Make the nodes of these rows, each below its parent, whatever the order of the rows."""
        by_id = {row["node_id"]: row for row in rows}
        for start in by_id:
            chain: list[Row] = []
            name = start
            while name not in self.nodes and name in by_id:
                chain.append(by_id[name])
                name = by_id[name]["parent_id"]
                if name is None:
                    # A root under whatever id: there is one root.
                    self.nodes[chain.pop()["node_id"]] = self.root
                    break
            for row in reversed(chain):
                parent = self.root if row["parent_id"] is None else self.nodes.get(row["parent_id"])
                if parent is not None:
                    self.nodes[row["node_id"]] = self.child(parent, row["step"], row["node_id"])
                else:
                    node = TreeNode(row["node_id"], row["parent_id"], row["step"], row.get("depth") or 0)
                    self._waiting.setdefault(row["parent_id"], []).append(self._add_detached(node))

    def _add_detached(self, node: TreeNode) -> TreeNode:
        self.nodes[node.node_id] = self._detached[node.node_id] = node
        return node

    def _attach(self, parent: TreeNode, node: TreeNode) -> None:
        """Put a node below its parent, and below it the detached nodes that waited for it."""
        ready = [(parent, node)]
        while ready:
            above, below = ready.pop()
            self._detached.pop(below.node_id, None)
            above.children[below.step] = below
            below.parent_id, moved = above.node_id, above.depth + 1 - below.depth
            if moved:
                for place in self.outline(below):
                    place.depth += moved
            self.nodes.setdefault(below.node_id, below)
            ready += [(below, waiting) for waiting in self._waiting.pop(below.node_id, ())]


def read_trees(view: View) -> Iterator[QuestionTree]:
    """The trees of all questions of a snapshot that have nodes, rollouts or solutions, in the order of question ids.

    The rows of one question are in memory at a time.
    """
    cuts = StepCuts.of(view)
    for question, rows in rows_by_question(view, TREE_TABLES):
        yield QuestionTree.from_rows(question, rows, cuts)


def rows_by_question(view: View, tables: Sequence[str]) -> Iterator[tuple[str, dict[str, list[dict[str, Any]]]]]:
    """Every question that has a row in one of these tables, with its rows by table."""
    streams = {table: _questions(view, table) for table in tables}
    heads = {table: next(stream, None) for table, stream in streams.items()}
    while waiting := [head[0] for head in heads.values() if head is not None]:
        question = min(waiting)
        rows: dict[str, list[dict[str, Any]]] = {}
        for table, head in heads.items():
            rows[table] = []
            if head is not None and head[0] == question:
                rows[table] = head[1]
                heads[table] = next(streams[table], None)
        yield question, rows


def _questions(view: View, table: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every question of a table with its rows."""
    connection = view.connect()
    reader = connection.sql(f'select * from "{table}" order by question_id').to_arrow_reader(ROWS_AT_ONCE)
    rows = (row for batch in reader for row in batch.to_pylist())
    for question, of_question in itertools.groupby(rows, key=lambda row: str(row["question_id"])):
        yield question, list(of_question)
