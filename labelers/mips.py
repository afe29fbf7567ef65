"""MiPS: the share of correct completions of every prefix, by the reasoner itself (arXiv 2402.02658).

MiPS samples as Math-Shepherd does and differs in the use of the counts. The proportion of correct completions is the
label of a step. The paper trains on it and lets the reasoner complete its own steps, which underestimates early steps.

Decisions and deviations:

1. The hard label of a step is good if more than `threshold` of its completions are correct, by default half of them.
   The proportion is stored beside it, so that any other threshold is a query.
2. All sampled solutions are labelled, correct and wrong ones; repeated ones once.
3. The last step is graded directly, as in Math-Shepherd.
4. Truncated or ungradable rollouts count neither way; a step with nothing else has no label.
"""

import json
from dataclasses import dataclass

from .math_shepherd import MathShepherd, MathShepherdConfig


@dataclass(frozen=True, slots=True)
class MiPSConfig(MathShepherdConfig):
    """`solutions` sampled a question, `k` completions a step; a step with a share above `threshold` is good."""

    k: int = 8
    solutions: int = 8
    threshold: float = 0.5

    def __post_init__(self) -> None:
        MathShepherdConfig.__post_init__(self)
        if not 0 <= self.threshold < 1:
            raise ValueError("threshold lies in [0, 1)")


class MiPS(MathShepherd):
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "mips"
    config_type = MiPSConfig
    config: MiPSConfig

    @property
    def metadata(self) -> str:
        """The threshold, which a later regrade needs to derive the same hard labels."""
        return json.dumps({"threshold": self.config.threshold})

    @property
    def threshold(self) -> float:
        """A step is good if more than this share of its rollouts is correct."""
        return self.config.threshold
