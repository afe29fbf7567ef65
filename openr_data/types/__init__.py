"""The values everything exchanges: frozen, slotted, without behaviour beyond their own consistency."""

from .evidence import Labeling, Node, Outcome, Rollout
from .facts import Grade, Label, LabelSet, Provenance, Question, Record, Solution, StepLabel, Verdict
from .sampling import Completion, Ended, FinishReason, Prefix, SampledStep, Sampling
from .scoring import StepScores
from .search import Candidate, NodeState, SearchNode, SearchResult
from .spending import Budget, Usage
from .tokens import TokenCompletion, Weights

__all__ = [
    "Budget",
    "Candidate",
    "Completion",
    "Ended",
    "FinishReason",
    "Grade",
    "Label",
    "LabelSet",
    "Labeling",
    "Node",
    "NodeState",
    "Outcome",
    "Prefix",
    "Provenance",
    "Question",
    "Record",
    "Rollout",
    "SampledStep",
    "Sampling",
    "SearchNode",
    "SearchResult",
    "Solution",
    "StepLabel",
    "StepScores",
    "TokenCompletion",
    "Usage",
    "Verdict",
    "Weights",
]
