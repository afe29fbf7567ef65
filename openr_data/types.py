"""The values everything exchanges: frozen, slotted, without behaviour beyond their own consistency."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

FinishReason = Literal["stop", "length", "abort"]
"""Why a completion ended: its own end or a stop string; the token limit; cancelled."""

Label = Literal[1, 0, -1]
"""+1 good, 0 neutral, -1 bad; a missing label is None."""


class Verdict(StrEnum):
    """What a grader says of an answer. Unknown (truncated, unparsable) is never "wrong"."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on an answer; an unknown one says why.

    `is_final` False: the grader was cut off (a time limit, memory), and another try may end otherwise.
    """

    verdict: Verdict
    reason: str = ""
    is_final: bool = True


class Provenance(IntEnum):
    """Where one step label comes from; stored as int8.

    `STOPPED`: measured by rollouts that were drawn until the label was sure. The hard label is as good as a measured
    one, the share of correct rollouts is not: drawing ends at a success more often than at a failure.
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
    """A question with its gold answer. `metadata` is JSON text; `answer` may be empty (no gold)."""

    question_id: str
    question: str
    answer: str
    source: str
    split: str = ""
    level: str = ""
    subject: str = ""
    metadata: str = "{}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A question and the steps written so far: what a policy continues.

    `open`: the last step is not finished, so that no separator stands behind it.
    """

    question: str
    steps: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `seed` fixes all n samples of the request.

    `stop` are strings that end a completion and are left out of its text, beside the model's own end.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100 or not 0 < self.top_p <= 1 or self.max_tokens < 1 or self.seed < 0:
            raise ValueError("temperature lies in [0, 100), top_p in (0, 1], max_tokens is at least 1, seed at least 0")


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation of a prefix.

    `n_tokens` counts the sampled tokens (the end token too), `prompt_tokens` those of the shared prompt and
    `cached_tokens` the ones of them that the engine had read before, or None where it does not tell; `logprob` is the
    sum over the sampled tokens under the distribution sampled from, or None. `draw` is the seed and the index of the
    request it was drawn by, where that is not the one it answers; `reused`: another job has paid for it.
    """

    text: str
    n_tokens: int
    finish_reason: FinishReason
    logprob: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    draw: tuple[int, int] | None = None
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """A graded completion from one node (its prefix) to the end.

    `extraction` is the rule that found the answer (`grading/extract.py`), `reason` why a verdict is unknown.
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
    """One measured or certified prefix. MC value = `n_correct / n_rollouts`, unknown ones left out.

    `n_rollouts` counts graded rollouts, `n_unknown` those without a verdict; `step` is the last step of
    the prefix; `verdict` is set on terminal nodes (complete solutions) alone.
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


@dataclass(frozen=True, slots=True)
class Solution:
    """A process: the steps of one full solution of a question, and the verdict of its final answer.

    `generator` wrote it, where that was not the policy of the job; `metadata` is JSON text.
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
        return next((i for i, step in enumerate(self.labels) if step.label == -1), None)


@dataclass(frozen=True, slots=True)
class Record:
    """A question, one process of it and one label set: what the formats of the field exchange.

    `label`, and where they are known `value`, `n_correct`, `n_rollouts`, `provenance`, are parallel to `steps`; an
    empty tuple says that nothing is known. The two metadata are JSON text: what a source says beyond the columns, of
    the process and of its labels.
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
        known = (0, n)
        if (
            len(self.value) not in known
            or len(self.n_correct) not in known
            or len(self.n_rollouts) not in known
            or len(self.provenance) not in known
        ):
            raise ValueError(f"{n} steps and another number of values, counts or provenances")

    @property
    def first_error(self) -> int | None:
        """0-based index of the first step labelled bad, or None."""
        return next((i for i, label in enumerate(self.label) if label == -1), None)


class Outcome(StrEnum):
    """What became of a question in a labeling job."""

    LABELLED = "labelled"
    NO_CORRECT = "no correct rollout"
    NO_WRONG = "no wrong rollout"
    NO_GRADED = "no graded rollout"
    NO_GOLD = "no gold answer"
    NO_SOLUTION = "no solution with steps"
    UNDECIDED = "no first error located for sure"


@dataclass(frozen=True, slots=True)
class Labeling:
    """Everything a labeler learned about one question.

    `calls` counts the completions it asked for and `tokens` what they hold, `probes` the prefixes it
    measured, `repeated_probes` those it measured a second time, `located` the distinct first errors.
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution that a search ended with, as the policy wrote it. `scores` are those of its steps, where it has some.

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
class SearchResult:
    """What a search found, in its own order; no gold answer had a part in it.

    `calls` counts the completions it asked for, `tokens` what they hold: those of paths that it gave up too.
    """

    candidates: tuple[Candidate, ...]
    calls: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The worst case of one question: requests, completions and completion tokens."""

    requests: int
    completions: int
    completion_tokens: int

    def __add__(self, other: "Budget") -> "Budget":
        return Budget(
            self.requests + other.requests,
            self.completions + other.completions,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(slots=True)
class Usage:
    """What was paid for, added up as replies arrive; replies read back from a journal are not paid for again.

    `prompt_tokens` counts a prompt once a request, `cached_tokens` the part of them that the engine says it had read
    before (None: it says nothing). `completion_tokens` are all sampled ones, `cut_tokens` those of the `truncated`
    completions, which ended at their limit. `reused` completions were paid for by another job; `cancelled` counts
    requests, whose tokens nobody tells.
    """

    requests: int = 0
    completions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    truncated: int = 0
    cut_tokens: int = 0
    reused: int = 0
    cancelled: int = 0

    def add(self, more: "Usage") -> None:
        """Add the numbers of another account to this one."""
        self.requests += more.requests
        self.completions += more.completions
        self.prompt_tokens += more.prompt_tokens
        if more.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + more.cached_tokens
        self.completion_tokens += more.completion_tokens
        self.truncated += more.truncated
        self.cut_tokens += more.cut_tokens
        self.reused += more.reused
        self.cancelled += more.cancelled
