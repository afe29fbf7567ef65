"""Offers the arithmetic world as a question source, with the oracle as its `judge`."""

import json
from collections.abc import Iterator, Sequence

from openr_data.errors import InputError
from openr_data.ids import question_id
from openr_data.types import Label, Question

from .oracle import judge
from .problems import Split, WordProblem, plan_from_json, plan_to_json, problems


def to_question(problem: WordProblem, split: Split) -> Question:
    """Convert a problem to a question; the metadata holds its plan for the oracle."""
    answer = str(problem.answer)
    return Question(
        question_id=question_id(problem.text, answer),
        question=problem.text,
        answer=answer,
        source="arithmetic",
        split=split,
        level=str(problem.level),
        subject=problem.setting,
        metadata=json.dumps({"plan": plan_to_json(problem.plan)}, separators=(",", ":")),
    )


class ArithmeticSource:
    """Generates questions (endless, distinct, levels 1 to 5 in turn) and judges their steps."""

    def read(self, split: str = "test", seed: int = 0) -> Iterator[Question]:
        """Stream the questions of this split and seed. Raises `InputError` for another split."""
        if split not in ("train", "test"):
            raise InputError(f"The arithmetic world has the splits train and test, not {split!r}.")
        chosen: Split = "train" if split == "train" else "test"
        for problem in problems(chosen, seed):
            yield to_question(problem, chosen)

    def judge(self, question: Question, steps: Sequence[str]) -> list[Label | None]:
        """Return the true label of every step; None after the first wrong one. See `oracle.judge`."""
        plan = plan_from_json(json.loads(question.metadata)["plan"])
        return [judgement.label for judgement in judge(question.question, plan, steps)]
