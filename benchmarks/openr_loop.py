"""Re-implements the search loop of OpenR's OmegaPRM (v2) on our engine, only to compare it with our own loop.

It is written from a description of `data/omegaPRM_v2` (openreasoner/openr at 54ae004), not from its code. Policy,
prompts, seeds and grader are ours, so that only the loop differs. Do not label data with it.

It reproduces these defects of OpenR on purpose (the numbers are those of our review of OpenR's labeling code):

    1   after a search, all wrong rollouts of the selected state go back to the queue, including the one just searched;
        the loop does not record searches, and a prefix that is reached again is a new state that is sampled again
    2   N(s) is counted when s is sampled, never when it is selected: N is always 1
    3   only the selected state's rollouts are scored again; every other priority keeps its value from queueing
    4   the halving runs over all pieces 0..len-1, so the complete wrong solution is itself probed; if a rollout happens
        to reach the right answer from it, the search ends without an error
    5   a probe with MC = 0 becomes a child too, and the pieces to its left become its sibling with overlapping text
    6   every whole correct rollout becomes one leaf with MC = 1, unmeasured, as often as it was drawn
    10  the screening rollouts are thrown away and the root is sampled again, with k (`resample_root`)

It does not reproduce: substring grading (7; uses ours), length in words (9; uses tokens), truncated rollouts as wrong
ones (16; they count neither way, and a probe with nothing else ends its search), empty pieces (8; a rollout without a
step is never queued). The description leaves two things open: rollouts that are queued again keep the order in which
they were drawn, and of equal priorities the one queued first wins.

The labels are one set for every search that ended at an error, including repeated searches of one rollout: good up to
the located step, bad there. Counts and values are those of the search's own probes, never pooled over repetitions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from openr_data.engine.protocols import Grader, Policy
from openr_data.labelers.rollouts import Drawn, Evidence, Steps
from openr_data.types import (
    Budget,
    Label,
    Labeling,
    LabelSet,
    Outcome,
    Provenance,
    Question,
    Sampling,
    Solution,
    StepLabel,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class OpenRLoopConfig:
    """`searches`, `screening` and `rollouts` are per question, `k` per probe.

    OpenR's own defaults are k = 16, 20 searches, 200 rollouts and 32 screening rollouts (its top_k = 30 belongs to the
    sampling). `rollouts` ends the loop between two searches once the tree holds that many, not counting the screening;
    0 sets no limit, so that loops with equal k and searches are comparable.
    """

    k: int = 16
    searches: int = 20
    screening: int = 32
    rollouts: int = 0
    resample_root: bool = True
    alpha: float = 0.5
    beta: float = 0.9
    length: int = 500
    c_puct: float = 0.125

    def __post_init__(self) -> None:
        if self.k < 1 or self.screening < 1 or self.searches < 0 or self.rollouts < 0 or self.length <= 0:
            raise ValueError("k, screening and length are at least 1, searches and rollouts at least 0")
        if not (0 < self.alpha <= 1 and 0 < self.beta <= 1):
            raise ValueError("alpha and beta lie in (0, 1]")


@dataclass(slots=True, eq=False)
class TreeNode:
    """One node of the loop's tree: one probe of a prefix, or a correct rollout as a leaf (value 1, N = 0).

    Two nodes may hold the same prefix; `rollouts` are only those of this probe.
    """

    steps: Steps
    parent: "TreeNode | None" = None
    children: list["TreeNode"] = field(default_factory=list)
    rollouts: list[Drawn] = field(default_factory=list)
    visits: int = 0
    value: float | None = None

    def count(self, verdict: Verdict) -> int:
        """Count the rollouts of this probe with this verdict."""
        return sum(drawn.row.verdict is verdict for drawn in self.rollouts)

    def add(self, pieces: Steps) -> "TreeNode":
        """Add a new child after these pieces; another child may have the same pieces."""
        child = TreeNode(self.steps + pieces, self)
        self.children.append(child)
        return child


@dataclass(frozen=True, slots=True, eq=False)
class Queued:
    """A wrong rollout of a state, with its priority at the time it was queued."""

    node: TreeNode
    drawn: Drawn
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class LoopSearch:
    """The result of one search: the last good node, and the bad one (None: no error was located)."""

    origin: TreeNode
    drawn: Drawn
    good: TreeNode
    bad: TreeNode | None


@dataclass(slots=True, eq=False)
class Tree:
    """The tree that the loop grew for one question. `nodes` are in creation order and include the leaves."""

    root: TreeNode
    nodes: list[TreeNode] = field(default_factory=list)
    queue: list[Queued] = field(default_factory=list)
    searches: list[LoopSearch] = field(default_factory=list)

    @property
    def rollouts(self) -> int:
        """The number of rollouts in the tree, without those of the screening."""
        return sum(len(node.rollouts) for node in self.nodes)


class OpenRLoop:
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "openr-loop"
    config_type = OpenRLoopConfig
    independent_steps = False

    def __init__(self, config: OpenRLoopConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """Return the worst case: every search halves a rollout whose steps are single tokens, until none is left."""
        config = self.config
        # Halving n pieces to none takes at most floor(log2 n) + 1 probes.
        deep = self.sampling.max_tokens.bit_length()
        probes = config.searches * deep
        first = config.k if config.resample_root else config.screening
        if config.rollouts:
            # The search that reaches the limit is finished, and no search starts after it.
            probes = min(probes, math.ceil(max(0, config.rollouts - first) / config.k) + deep)
        completions = probes * config.k + first + (config.screening if config.resample_root else 0)
        return Budget(1 + config.resample_root + probes, completions, completions * self.sampling.max_tokens)

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Label one question; `given` solutions are ignored, because the loop draws its own."""
        evidence = Evidence(question, policy, grader, self.sampling)
        if not grader.can_grade(question):
            return evidence.labeling(Outcome.NO_GOLD)
        tree = await self.grow(evidence)
        if isinstance(tree, Outcome):
            return evidence.labeling(tree)
        labelled = [_labels(evidence, search, search.bad) for search in tree.searches if search.bad is not None]
        errors = {evidence.node_id(search.bad.steps) for search in tree.searches if search.bad is not None}
        return evidence.labeling(Outcome.LABELLED, labelled, len(errors))

    async def grow(self, evidence: Evidence) -> Tree | Outcome:
        """Grow the tree of one question, or return why its screening left it out.

        A root whose value is 0 or 1 when it is sampled again leaves an empty tree (defect 10).
        """
        config = self.config
        screened = TreeNode(())
        await _draw(evidence, screened, config.screening)
        match screened.value:
            case None:
                return Outcome.NO_GRADED
            case 0:
                return Outcome.NO_CORRECT
            case 1:
                return Outcome.NO_WRONG
        tree = Tree(screened)
        if config.resample_root:
            tree.root = TreeNode(())
            await _draw(evidence, tree.root, config.k)
        self._enter(tree, tree.root)
        for _ in range(config.searches):
            if not tree.queue or 0 < config.rollouts <= tree.rollouts:
                break
            chosen = max(tree.queue, key=lambda queued: queued.score)
            tree.queue.remove(chosen)
            tree.searches.append(await self._search(evidence, tree, chosen))
            # Defects 1 and 3: all wrong rollouts of this state, including the chosen one, with new scores; no others.
            self._enqueue(tree, chosen.node)
        return tree

    def _enter(self, tree: Tree, node: TreeNode) -> None:
        """Add a sampled node to the tree, with its correct rollouts as leaves."""
        # Defect 2: this is the only place where visits are counted.
        node.visits += 1
        tree.nodes.append(node)
        for drawn in node.rollouts:
            if drawn.row.verdict is Verdict.CORRECT:
                # Defect 6: one leaf per rollout, even if the tree already has that solution.
                leaf = node.add(drawn.steps)
                leaf.value = 1.0
                tree.nodes.append(leaf)
        if 0 < (node.value or 0.0) < 1:
            self._enqueue(tree, node)

    def _enqueue(self, tree: Tree, node: TreeNode) -> None:
        """Queue the distinct wrong rollouts of a node with current priorities, replacing those it had queued."""
        wrong: dict[Steps, Drawn] = {}
        for drawn in node.rollouts:
            if drawn.row.verdict is Verdict.INCORRECT and drawn.steps:
                wrong.setdefault(drawn.steps, drawn)
        visits = sum(each.visits for each in tree.nodes)
        tree.queue = [queued for queued in tree.queue if queued.node is not node]
        tree.queue += [Queued(node, drawn, self._priority(node, drawn, visits)) for drawn in wrong.values()]

    def _priority(self, node: TreeNode, drawn: Drawn, visits: int) -> float:
        """Return Q + U (arXiv 2406.06592, eq. 2 and 3), where `visits` is the sum of N over the tree."""
        config, value = self.config, node.value or 0.0
        quality: float = config.alpha ** (1 - value) * config.beta ** (drawn.row.n_tokens / config.length)
        return quality + config.c_puct * math.sqrt(visits) / (1 + node.visits)

    async def _search(self, evidence: Evidence, tree: Tree, chosen: Queued) -> LoopSearch:
        """Halve pieces left..right of the rollout until none is left; every probe is sampled and becomes a node."""
        pieces, good = chosen.drawn.steps, chosen.node
        bad: TreeNode | None = None
        # Defect 4: the range includes the last piece, which completes the wrong solution.
        left, right = 0, len(pieces) - 1
        while left <= right:
            middle = (left + right) // 2
            # Defect 5: the probe becomes a child of the last good node regardless of its value.
            probe = good.add(pieces[left : middle + 1])
            await _draw(evidence, probe, self.config.k)
            self._enter(tree, probe)
            if probe.value is None:
                return LoopSearch(chosen.node, chosen.drawn, good, None)
            if probe.value:
                good, left = probe, middle + 1
            else:
                bad, right = probe, middle - 1
        # The probe with value zero is the error: pieces to its right were never tried, those to its left are good.
        return LoopSearch(chosen.node, chosen.drawn, good, bad)


async def _draw(evidence: Evidence, node: TreeNode, k: int) -> None:
    """Draw k new rollouts for a node, ignoring earlier ones of its prefix; the seed counts the earlier rollouts."""
    state = evidence.state(node.steps)
    node.rollouts = await evidence.measure(state, k)
    # This is N of every node with this prefix, because `Evidence` keeps one state for all of them.
    state.visits = 1
    correct = node.count(Verdict.CORRECT)
    graded = correct + node.count(Verdict.INCORRECT)
    node.value = correct / graded if graded else None


def _labels(evidence: Evidence, search: LoopSearch, bad: TreeNode) -> tuple[Solution, LabelSet]:
    """Label the steps good up to the located one and that one bad, with the measurements of this path of the tree."""
    steps = search.drawn.solution
    probes = {len(bad.steps): bad}
    node: TreeNode | None = search.good
    while node is not None:
        probes[len(node.steps)] = node
        node = node.parent
    labels: list[StepLabel] = []
    for depth in range(1, len(steps) + 1):
        label: Label | None = 1 if depth < len(bad.steps) else -1 if depth == len(bad.steps) else None
        probe = probes.get(depth)
        correct = probe.count(Verdict.CORRECT) if probe else 0
        labels.append(
            StepLabel(
                label=label,
                value=probe.value if probe else None,
                n_correct=correct,
                n_rollouts=correct + probe.count(Verdict.INCORRECT) if probe else 0,
                provenance=Provenance.MEASURED if probe else Provenance.INFERRED,
                node_id=evidence.node_id(steps[:depth]),
            )
        )
    solution = evidence.solution(steps, search.drawn)
    return solution, LabelSet(solution.solution_id, tuple(labels))
