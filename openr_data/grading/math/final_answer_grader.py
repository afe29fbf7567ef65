"""What graders of final answers share: the gold answer is a text, and a solution marks its answer as such.

A grader of its own rule inherits from this and writes `name`, `grade` and, where equal text is not enough, `same`.
"""

from collections.abc import Sequence

from ...types import FinishReason, Question
from ..grader import Extraction
from ..groups import Groups
from .cluster import cluster_by_text
from .extract import extract_finished


class FinalAnswerGrader:
    """Extracts final answers from solutions, and groups those that are written the same."""

    def can_grade(self, question: Question) -> bool:
        """Whether the question has a gold answer."""
        return question.has_gold

    def extract(self, text: str, finish_reason: FinishReason, steps: Sequence[str]) -> Extraction:
        """The final answer of a finished solution (`extract.py`)."""
        return extract_finished(text, finish_reason, steps)

    async def same(self, answers: Sequence[str]) -> Groups:
        """Answers that are written the same, apart from spacing and double names of LaTeX commands."""
        return cluster_by_text(answers)

    def close(self) -> None:
        """Nothing is held."""
