"""Grades one answer by hand: a text, a gold answer and the name of a grader."""

import asyncio
from contextlib import closing
from dataclasses import dataclass

from ..types import Grade
from .graders import load_grader


@dataclass(frozen=True, slots=True)
class HandGrade:
    """The grade of `answer` against `gold`. `rule` found the answer in the text; it is empty if the text is the answer.

    `grader` is the grader's name with its version.
    """

    grade: Grade
    answer: str
    rule: str
    gold: str
    grader: str


def grade_text(text: str, gold: str, grader: str = "math") -> HandGrade:
    """Grade a text, or the answer that it marks (for example in a box). Raises `UnknownName` for a grader."""
    return asyncio.run(grade_text_async(text, gold, grader))


async def grade_text_async(text: str, gold: str, grader: str = "math") -> HandGrade:
    """`grade_text` inside a running event loop."""
    with closing(load_grader(grader)) as opened:
        extraction = opened.extract(text, "stop", ())
        # Without marks such as a box the text is an answer and does not contain one.
        answer = extraction.answer if extraction.is_delimited and extraction.answer else text
        grade = await opened.grade(answer, gold)
    return HandGrade(grade, answer, extraction.rule if extraction.is_delimited else "", gold, opened.name)
