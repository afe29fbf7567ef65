"""A second domain, for the tests of the seam: programs in Python that are right when they pass the question's tests.

The gold answer of a question holds its unit tests, one expression a line; an answer is the last fenced block of a
solution. Programs run in the worker processes of `grading/workers.py`, whose command is this module.
"""

import ast
import asyncio
import re
from collections.abc import Sequence
from typing import Any

from openr_data.grading import Extraction, Groups
from openr_data.grading.fork_server import WorkerCommand
from openr_data.grading.forked_worker import main
from openr_data.grading.grader import NOTHING
from openr_data.grading.groups import grouped
from openr_data.grading.workers import WorkerLimits, Workers
from openr_data.types import FinishReason, Grade, Question, Verdict

_FENCED = re.compile(r"```python\n(.*?)\n```", re.DOTALL)


class CodeGrader:
    """Runs programs against unit tests; programs that differ only in layout and comments are the same."""

    name = "code/1"

    def __init__(self, seconds: float = 20) -> None:
        self._workers = Workers(WorkerCommand.module(__name__, "code grader"), WorkerLimits(seconds=seconds, workers=1))

    def can_grade(self, question: Question) -> bool:
        return question.has_gold

    def extract(self, text: str, finish_reason: FinishReason, steps: Sequence[str]) -> Extraction:
        programs = _FENCED.findall(text) if finish_reason == "stop" else []
        return Extraction(programs[-1], "fenced", is_delimited=True) if programs else NOTHING

    async def grade(self, answer: str, gold: str) -> Grade:
        if not gold.strip():
            return Grade(Verdict.UNKNOWN, "no unit tests")
        return await asyncio.wrap_future(self._workers.submit(answer, gold))

    async def same(self, answers: Sequence[str]) -> Groups:
        return grouped(_program(answer) for answer in answers)

    def close(self) -> None:
        self._workers.close()


def _program(text: str) -> str:
    try:
        return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def judge(answer: str, gold: str) -> Grade:
    """Run a program, then every test in its namespace."""
    names: dict[str, Any] = {}
    try:
        exec(answer, names)
        passed = all(eval(test, names) for test in gold.splitlines() if test.strip())
    except MemoryError:
        raise
    except BaseException:
        # SystemExit too: a program that ends instead of passing its tests has failed them.
        return Grade(Verdict.INCORRECT)
    return Grade(Verdict.CORRECT if passed else Verdict.INCORRECT)


if __name__ == "__main__":
    main(judge)
