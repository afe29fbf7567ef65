"""MiPS: the share of right completions of every prefix, by the reasoner itself (arXiv 2402.02658).

Sampled as Math-Shepherd does it; the difference is what is made of the counts. The value of a step, the proportion, is
the label; the paper trains on it and lets the reasoner complete its own steps, which under-estimates early ones.

Decisions and deviations:

1. Where a hard label is asked for, a step is good if more than `threshold` of its completions are right: half of them,
   unless told otherwise. The proportion stays beside it, and any other threshold is a query.
2. All sampled solutions are labelled, right and wrong ones; repeated ones once.
3. The last step is graded directly, as in Math-Shepherd.
4. Truncated or ungradable rollouts count neither way; a step with nothing else has no label.
"""

import json
from dataclasses import dataclass

from .math_shepherd import MathShepherd, MathShepherdConfig


@dataclass(frozen=True, slots=True)
class MiPSConfig(MathShepherdConfig):
    """`solutions` sampled a question, `k` completions a step; good is what is above `threshold`."""

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
        """What a later regrade has to know to make the same hard labels."""
        return json.dumps({"threshold": self.config.threshold})

    @property
    def threshold(self) -> float:
        """A step is good if more than this share of its rollouts is correct."""
        return self.config.threshold
