"""What labeling measures: rollouts, nodes and the labels derived from them."""

from dataclasses import dataclass
from enum import StrEnum

from .facts import LabelSet, Solution, Verdict
from .sampling import FinishReason
from .search import SearchNode


@dataclass(frozen=True, slots=True)
class Rollout:
    """A graded completion from one node (its prefix) to the end.

    `extraction` is the rule by which the grader found the answer, `reason` why a verdict is unknown.
    """

    rollout_id: str
    question_id: str
    node_id: str
    text: str
    answer: str | None
    extraction: str
    verdict: Verdict
    reason: str
    grader: str
    finish_reason: FinishReason
    n_tokens: int
    logprob: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Node:
    """One measured or certified prefix, with the MC value `n_correct / n_rollouts`.

    `n_rollouts` counts graded rollouts, `n_unknown` those without a verdict; `step` is the last step of the prefix.
    Only terminal nodes (complete solutions) have a `verdict`.
    """

    node_id: str
    parent_id: str | None
    question_id: str
    depth: int
    step: str
    n_rollouts: int
    n_correct: int
    n_unknown: int
    certified: bool
    terminal: bool
    verdict: Verdict | None
    visits: int


class Outcome(StrEnum):
    """What became of a question: LABELLED in a labeling job, ANSWERED in a search job, or why neither."""

    LABELLED = "labelled"
    ANSWERED = "answered"
    NO_CORRECT = "no correct rollout"
    NO_WRONG = "no wrong rollout"
    NO_GRADED = "no graded rollout"
    NO_GOLD = "no gold answer"
    NO_SOLUTION = "no solution with steps"
    UNDECIDED = "no first error located for sure"


@dataclass(frozen=True, slots=True)
class Labeling:
    """Everything a labeler or a search learned about one question.

    `rollouts` and the counts of `nodes` are independent samples from their prefix; a guided search has neither, and
    its tree is in `search_nodes`.

    `calls` counts the completions that were sampled and `tokens` their tokens, `probes` the measured prefixes,
    `repeated_probes` those measured a second time, `located` the distinct first errors.
    """

    question_id: str
    outcome: Outcome
    solutions: tuple[Solution, ...] = ()
    labels: tuple[LabelSet, ...] = ()
    nodes: tuple[Node, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    calls: int = 0
    probes: int = 0
    repeated_probes: int = 0
    located: int = 0
    tokens: int = 0
    search_nodes: tuple[SearchNode, ...] = ()
