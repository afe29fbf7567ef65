"""The one rule that derives step labels from the graded rollouts of a question.

Labelers apply it while they draw (`labelers/rollouts.py`), a regrade applies it to stored rollouts
(`derivation/stored_evidence.py`). A hard label follows the definition of Math-Shepherd (arXiv 2312.08935, section 3.3)
and OmegaPRM (arXiv 2406.06592, section 3.1): a step is good if the gold answer can be reached from the prefix that it
ends. The rollouts of a question prove this in three ways:

1. Rollouts drawn from a prefix measure it. Its value is the share of correct ones among the graded ones.
2. A correct rollout certifies every prefix on its path and every prefix above it. The certificate outweighs a measured
   zero, which is then noise of the sampling.
3. A rollout that ends at a prefix gives it the verdict of its answer. Such a prefix is terminal.

A rollout is also a sample from every prefix that it passes through, because what follows a prefix does not depend on
where the sampling began. Labels of methods that stop sampling early rest on these passing counts
(`Provenance.STOPPED`), all others on the counts drawn from the prefix itself.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .labels import Counts, hard_label, soft_label
from .types import Label, Provenance, StepLabel, Verdict


@dataclass(frozen=True, slots=True)
class PrefixFacts:
    """What the rollouts prove about one prefix.

    `terminal` is the verdict of the solution that ends here, if one does; `certified` holds if a correct rollout
    passes through.
    """

    counts: Counts
    terminal: Verdict | None = None
    certified: bool = False


class PrefixEvidence:
    """The facts about every prefix of one question, gathered rollout by rollout; prefixes are node ids.

    `drawn` counts the verdicts of rollouts that begin at a prefix, `passing` of those that begin at it or pass through
    it. `parent_of` returns the node above a node, or None at the root and where the node above is unknown.
    """

    def __init__(self, parent_of: Callable[[str], str | None]) -> None:
        self.drawn: dict[str, Counter[Verdict]] = defaultdict(Counter)
        self.passing: dict[str, Counter[Verdict]] = defaultdict(Counter)
        self.terminals: dict[str, Verdict] = {}
        self.certified: set[str] = set()
        self._parent_of = parent_of

    def add(self, node: str, path: Sequence[str], verdict: Verdict) -> None:
        """Count a rollout that begins at `node`; `path` holds the nodes that its own steps end at."""
        self.drawn[node][verdict] += 1
        for prefix in (node, *path):
            self.passing[prefix][verdict] += 1
        end = path[-1] if path else node
        if path and verdict is not Verdict.UNKNOWN:
            self.terminals.setdefault(end, verdict)
        if verdict is Verdict.CORRECT:
            self.certify(end)

    def certify(self, end: str) -> None:
        """Certify a prefix and every prefix above it."""
        node: str | None = end
        while node is not None and node not in self.certified:
            self.certified.add(node)
            node = self._parent_of(node)

    def facts(self, node: str, *, passing: bool = False) -> PrefixFacts:
        """The facts about a prefix, with the counts of the rollouts drawn from it or, if asked, passing through it."""
        # A plain look-up in a defaultdict would make an entry for every prefix asked about.
        verdicts = (self.passing if passing else self.drawn).get(node, _NOTHING)
        correct = verdicts[Verdict.CORRECT]
        counts = Counts(correct + verdicts[Verdict.INCORRECT], correct, verdicts[Verdict.UNKNOWN])
        return PrefixFacts(counts, self.terminals.get(node), node in self.certified)


_NOTHING: Counter[Verdict] = Counter()


def step_label(node: str, facts: PrefixFacts, label: Label | None, *, stopped: bool = False) -> StepLabel:
    """The label of the step that ends a prefix, with its value, its counts and its provenance.

    `stopped` marks counts of rollouts that were drawn until the label was sure, which biases their share.
    """
    value, provenance = soft_label(facts.counts), Provenance.INFERRED
    if facts.counts.n_rollouts:
        provenance = Provenance.STOPPED if stopped else Provenance.MEASURED
    elif facts.terminal is not None:
        value = float(facts.terminal is Verdict.CORRECT)
    # A measured zero on the path of a correct rollout is noise of the sampling: the certificate stands.
    if label == 1 and not facts.counts.n_correct and facts.certified:
        provenance = Provenance.CERTIFIED
    return StepLabel(label, value, facts.counts.n_correct, facts.counts.n_rollouts, provenance, node)


def independent_label(facts: PrefixFacts, *, is_last: bool, threshold: float | None = None) -> Label | None:
    """The label of a step by its own prefix alone, whatever the steps before it are.

    Without a threshold (hard estimation, Math-Shepherd) a step is good if any rollout from it is correct. With one
    (MiPS, arXiv 2402.02658) it is good if the share of correct rollouts is above the threshold. The verdict of a
    solution that ends at the step decides about its last step, and about a step without graded rollouts.
    """
    by_answer: Label | None = None if facts.terminal is None else 1 if facts.terminal is Verdict.CORRECT else -1
    if threshold is None:
        # A complete solution may be an inner prefix of another one: then a certificate from beyond it counts too.
        is_certified = facts.terminal is not None and not is_last and facts.certified
        if by_answer == 1 or facts.counts.n_correct or is_certified:
            return 1
        return -1 if by_answer == -1 or facts.counts.n_rollouts else None
    if by_answer is not None and (is_last or not facts.counts.n_rollouts):
        return by_answer
    if not facts.counts.n_rollouts:
        return None
    return 1 if hard_label(facts.counts, threshold) == 1 else -1


def certain_labels(certified: Sequence[bool]) -> list[Label | None]:
    """Good as long as every step is certified from the first on; later steps have no label."""
    good = next((place for place, is_certified in enumerate(certified) if not is_certified), len(certified))
    return [1 if place < good else None for place in range(len(certified))]


def located_labels(n_steps: int, error: int) -> list[Label | None]:
    """Good before a located first error and bad at it; later steps have no label."""
    return [1 if place < error else -1 if place == error else None for place in range(n_steps)]


def labels_to_first_error(path: Sequence[PrefixFacts]) -> list[Label | None]:
    """Good while certified, then bad at the next step if it was seen to fail; later steps have no label."""
    labels = certain_labels([facts.certified for facts in path])
    place = next((place for place, label in enumerate(labels) if label is None), None)
    if place is not None and (path[place].counts.n_rollouts or path[place].terminal is Verdict.INCORRECT):
        return located_labels(len(path), place)
    return labels
