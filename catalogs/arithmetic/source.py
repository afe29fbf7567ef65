"""The arithmetic world as a question source, with its oracle behind the `judge` of the source."""

import json
from collections.abc import Iterator, Sequence

from openr_data.errors import InputError
from openr_data.ids import question_id
from openr_data.types import Label, Question

from .oracle import judge
from .problems import Problem, Split, plan_from_json, plan_to_json, problems


def to_question(problem: Problem, split: Split) -> Question:
    """A problem as a question; its plan travels in the metadata, for the oracle."""
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
    """Generated questions (endless, distinct, levels 1 to 5 in turn) and the truth about their steps."""

    def read(self, split: str = "test", seed: int = 0) -> Iterator[Question]:
        """The stream of questions with this split and seed. Raises `InputError` for another split."""
        if split not in ("train", "test"):
            raise InputError(f"The arithmetic world has the splits train and test, not {split!r}.")
        chosen: Split = "train" if split == "train" else "test"
        for problem in problems(chosen, seed):
            yield to_question(problem, chosen)

    def judge(self, question: Question, steps: Sequence[str]) -> list[Label | None]:
        """The true label of every step; None after the first wrong one. See `oracle.judge`."""
        plan = plan_from_json(json.loads(question.metadata)["plan"])
        return [item.label for item in judge(question.question, plan, steps)]
