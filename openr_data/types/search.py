"""What a search returns: its candidates, and the tree it looked at."""

from dataclasses import dataclass
from typing import Literal

from .facts import Verdict
from .sampling import FinishReason

NodeState = Literal["kept", "pruned", "ended", "cut"]
"""What became of a node: it was expanded or may be, the search dropped it, its path is complete, or a limit cut it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution that a search ended with, as the policy wrote it; `scores` are the step scores the search saw.

    `draw` is the seed and the index of the request that wrote its last piece; `n_tokens` counts its own tokens.
    """

    text: str
    steps: tuple[str, ...]
    finish_reason: FinishReason
    n_tokens: int
    logprob: float | None = None
    draw: tuple[int, int] = (0, 0)
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchNode:
    """One node of the tree of a search; its place is its index in `SearchResult.nodes`.

    `parent` is the place of its parent, an earlier one; the root alone has None, and `step` "". `path_score` is the
    search's own value of the path so far, `prior` the mean log-probability of the step's tokens, `visits` how often
    the node was drawn or visited, `value` its backed-up value. A node whose `state` is "ended" has a `finish_reason`
    and an `answer`; the `verdict` is added by the evaluator, as a search never sees the gold answer. `tokens_spent`
    counts the completion tokens of the question until the node was made.
    """

    parent: int | None
    step: str
    state: NodeState
    tokens_spent: int = 0
    path_score: float | None = None
    prior: float | None = None
    visits: int = 1
    value: float | None = None
    finish_reason: FinishReason | None = None
    answer: str | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The candidates of a search, in its own order, and the nodes of its tree; no gold answer had a part in them.

    `calls` counts the completions it asked for, `tokens` their tokens, those of paths that it gave up included. A
    search whose candidates are independent samples of the question may leave `nodes` empty.
    """

    candidates: tuple[Candidate, ...]
    calls: int
    tokens: int
    nodes: tuple[SearchNode, ...] = ()

    def __post_init__(self) -> None:
        for place, node in enumerate(self.nodes):
            if node.parent is None if place else node.parent is not None:
                raise ValueError("the first node of a search is its root, and no other node is one")
            if node.parent is not None and not 0 <= node.parent < place:
                raise ValueError(f"the parent of node {place} is {node.parent}, which is not an earlier node")
