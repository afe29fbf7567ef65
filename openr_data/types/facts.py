"""Questions, solutions, labels and verdicts: the values of the fact tables."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

from ..labels import first_error

Label = Literal[1, 0, -1]
"""+1 good, 0 neutral, -1 bad; a missing label is None."""


class Verdict(StrEnum):
    """What a grader says of an answer. Unknown (truncated, unparsable) is never "wrong"."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on an answer, with a reason if it is unknown.

    `is_final` is False if the grader reached a limit (time, memory), so that another try may end otherwise.
    """

    verdict: Verdict
    reason: str = ""
    is_final: bool = True


class Provenance(IntEnum):
    """The source of one step label; stored as int8.

    A `STOPPED` label was measured by rollouts that were drawn until the label was sure. The hard label is as good as a
    measured one. The share of correct rollouts is biased, because drawing ends at a success more often than at a
    failure.
    """

    MEASURED = 0
    CERTIFIED = 1
    INFERRED = 2
    JUDGED = 3
    HUMAN = 4
    IMPORTED = 5
    STOPPED = 6


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answer. `metadata` is JSON text; `answer` is empty if there is no gold answer."""

    question_id: str
    question: str
    answer: str
    source: str
    split: str = ""
    level: str = ""
    subject: str = ""
    metadata: str = "{}"

    @property
    def has_gold(self) -> bool:
        """Whether it has a gold answer."""
        return bool(self.answer.strip())


@dataclass(frozen=True, slots=True)
class Solution:
    """A process: the steps of one full solution of a question, and the verdict of its final answer.

    `generator` names its author unless that is the policy of the job; `metadata` is JSON text.
    """

    solution_id: str
    question_id: str
    steps: tuple[str, ...]
    final_answer: str | None
    outcome: Verdict
    n_tokens: int | None = None
    generator: str = ""
    metadata: str = "{}"


@dataclass(frozen=True, slots=True)
class StepLabel:
    """The label of one step. Counts are kept beside the value; `label` None means "not judged"."""

    label: Label | None
    value: float | None
    n_correct: int
    n_rollouts: int
    provenance: Provenance
    node_id: str


@dataclass(frozen=True, slots=True)
class LabelSet:
    """One method's labels of one solution: `len(labels)` equals the number of its steps. `metadata` is JSON text."""

    solution_id: str
    labels: tuple[StepLabel, ...]
    metadata: str = "{}"

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step labelled bad, or None."""
        return first_error([step.label for step in self.labels])


@dataclass(frozen=True, slots=True)
class Record:
    """A question, one process of it and one label set: what the formats of the field exchange.

    `label` is parallel to `steps`. So are `value`, `n_correct`, `n_rollouts` and `provenance`, or they are empty if
    unknown. The two metadata are JSON text: what a source holds beyond the columns about the process and its labels.
    """

    question: Question
    steps: tuple[str, ...]
    label: tuple[int | None, ...]
    method: str
    value: tuple[float | None, ...] = ()
    n_correct: tuple[int, ...] = ()
    n_rollouts: tuple[int, ...] = ()
    provenance: tuple[int, ...] = ()
    generator: str = ""
    completer: str = ""
    final_answer: str | None = None
    outcome: bool | None = None
    metadata: str = "{}"
    label_metadata: str = "{}"

    def __post_init__(self) -> None:
        n = len(self.steps)
        if not n or len(self.label) != n:
            raise ValueError(f"{n} steps and {len(self.label)} labels")
        lengths = (0, n)
        if (
            len(self.value) not in lengths
            or len(self.n_correct) not in lengths
            or len(self.n_rollouts) not in lengths
            or len(self.provenance) not in lengths
        ):
            raise ValueError(f"{n} steps and another number of values, counts or provenances")

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step labelled bad, or None."""
        return first_error(self.label)
