"""The work of a labeling job."""

from collections.abc import Mapping, Sequence

from ..engine.protocols import Grader, Labeler, Policy, RewardModel
from ..types import Labeling, Question, Solution
from .config import LABEL


class LabelWork:
    """Labels one question at a time. `given` are the solutions to label, by question id; without them it samples."""

    kind = LABEL

    def __init__(self, labeler: Labeler, given: Mapping[str, Sequence[Solution]] | None = None) -> None:
        self.labeler, self.given = labeler, given or {}

    @property
    def method(self) -> str:
        """The name of the labeler."""
        return self.labeler.method

    async def result(self, question: Question, policy: Policy, reward: RewardModel | None, grader: Grader) -> Labeling:
        """The labels of a question, and the evidence for them."""
        return await self.labeler.label(question, policy, grader, self.given.get(question.question_id, ()))
