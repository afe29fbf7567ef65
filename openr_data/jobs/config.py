"""What a job is made of: the configuration whose hash is the job's id."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from ..config import identity, later, without_later
from ..errors import UnknownName, UsageError
from ..ids import config_id
from ..registry import Kind, load
from ..types import Sampling

LABEL: Literal["label"] = "label"
SEARCH: Literal["search"] = "search"
"""The kinds of jobs that a runner runs and `jobs resume` resumes."""


@dataclass(frozen=True, slots=True)
class JobConfig:
    """The part that labeling and search jobs share. `options` are those of the method.

    `source` is a catalog source ("arithmetic") or `NAME@ref` of the store; `split`, `source_seed` and `limit` choose
    its questions, `order` is the order in which `limit` takes them, and `questions` is the hash of the chosen ones: a
    job is pinned to them, whatever is added to the dataset later. With `reuse` it begins with samples of other jobs.
    """

    source: str
    method: str
    policy: str
    into: str = ""
    questions: str = ""
    backend: str = "transformers"
    grader: str = "math"
    split: str = ""
    source_seed: int = 0
    limit: int = 0
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    rollout_text: bool = True
    reuse: bool = later(False, since="2026-11-25")
    order: Literal["", "uncertain"] = later("", since="2026-11-25")
    options: dict[str, Any] = field(default_factory=dict)

    kind: ClassVar[Literal["label", "search"]]
    registered_as: ClassVar[Kind]

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError("limit is at least 0")
        # The bounds are those of the sampling, checked before anything runs.
        self.sampling()

    def sampling(self) -> Sampling:
        """How the policy is sampled."""
        return Sampling(self.temperature, self.top_p, self.max_tokens, seed=self.seed)

    def job_id(self) -> str:
        """12 hex digits over the configuration."""
        plain = identity(self)
        try:
            options_type = load(self.registered_as, self.method).config_type
        except UnknownName:
            # The package of this method is not installed: its later fields are not known.
            return config_id(plain)
        return config_id({**plain, "options": without_later(options_type, plain["options"])})

    def changed(self, **values: Any) -> Self:
        """The same with other values."""
        return replace(self, **values)


@dataclass(frozen=True, slots=True)
class LabelConfig(JobConfig):
    """A labeling job. With `given_solutions` it labels the solutions of the dataset instead of sampling its own."""

    given_solutions: bool = later(False, since="2026-11-25")

    kind: ClassVar[Literal["label", "search"]] = LABEL
    registered_as: ClassVar[Kind] = "labeler"


@dataclass(frozen=True, slots=True)
class SearchConfig(JobConfig):
    """A search job. `reward` is the reward model that guides the search, empty if the search uses none.

    `reward_revision` is the full name of the opened model: model, revision and format. `reward_format` names a format
    other than the model's own, `reward_backend` what runs the model.
    """

    reward: str = later("", since="2026-12-01")
    reward_revision: str = later("", since="2026-12-01")
    reward_format: str = later("", since="2026-12-01")
    reward_backend: str = later("transformers", since="2026-12-01")

    kind: ClassVar[Literal["label", "search"]] = SEARCH
    registered_as: ClassVar[Kind] = "search"

    def __post_init__(self) -> None:
        # Without arguments `super` does not find the class that `slots` makes anew.
        JobConfig.__post_init__(self)
        if not self.reward and (self.reward_revision or self.reward_format or self.reward_backend != "transformers"):
            raise ValueError("reward_revision, reward_format and reward_backend need a reward model: set reward")

    def job_id(self) -> str:
        """12 hex digits over the configuration. Raises `UsageError` before the reward model is pinned."""
        if self.reward and not self.reward_revision:
            raise UsageError(
                f"The id of this search depends on the revision of {self.reward}: open the reward model first."
            )
        return JobConfig.job_id(self)


CONFIGS: dict[str, type[JobConfig]] = {LABEL: LabelConfig, SEARCH: SearchConfig}
"""The configuration of each kind."""
