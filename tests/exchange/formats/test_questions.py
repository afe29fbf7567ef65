"""Tests question files as other projects write them, and their mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from openr_data.exchange.formats.files import read_rows
from openr_data.exchange.formats.format import BadRow, NoOptions, QuestionGroup, Tally
from openr_data.exchange.formats.questions import QuestionsFormat
from openr_data.types import Question

FORM = QuestionsFormat(NoOptions(), "src", "")


def read(row: Any) -> Question:
    (question,) = FORM.read(row, Tally())
    return question


def test_math_and_gsm8k_rows_are_read() -> None:
    rows: list[dict[str, Any]] = [
        {"problem": "1+1?", "answer": "2", "level": "Level 3", "subject": "Algebra", "unique_id": "x/1"},
        {"question": "Clips?", "answer": "48/2 = <<48/2=24>>24\n#### 1,024"},
        {"problem": "No answer", "answer": ""},
        {"problem": "None", "answer": None},
        {"problem": "Number", "answer": 7, "type": "Geometry", "subject": None, "level": None},
    ]
    found = [read(row) for row in rows]
    assert [(q.question, q.answer) for q in found] == [
        ("1+1?", "2"), ("Clips?", "1024"), ("No answer", ""), ("None", ""), ("Number", "7")]  # fmt: skip
    assert (found[0].level, found[0].subject) == ("Level 3", "Algebra")
    assert json.loads(found[0].metadata)["unique_id"] == "x/1"
    assert (found[4].subject, found[4].level) == ("Geometry", "")
    assert [next(iter(FORM.write(QuestionGroup(question, ()), Tally()))) for question in found] == rows


def test_a_row_of_math_as_published_gets_its_answer_from_the_solution() -> None:
    row = {"problem": "2+2?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{4}$, not \\boxed."}
    question = read(row)
    assert (question.answer, question.subject, question.level) == ("4", "Algebra", "Level 1")
    assert next(iter(FORM.write(QuestionGroup(question, ()), Tally()))) == row


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "3"}, "no text in `problem` or `question`"),
        ({"problem": "  "}, "no text in"),
        ({"problem": 3}, "no text in"),
        ({"problem": "\ud800"}, "a character that is not Unicode text"),
        ({"problem": "a", "answer": "1", "image": b"x"}, "a field that is not a JSON value"),
    ],
)
def test_a_row_that_is_no_question_says_why(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        read(row)


def test_the_real_files_are_read_whole_and_written_as_they_were(shared_data: Path) -> None:
    for name, count in (("math/train.jsonl", 7500), ("math/test500.jsonl", 500), ("gsm8k/test.jsonl", 1319)):
        rows = [row for _, row in read_rows(str(shared_data / name)) if isinstance(row, dict)]
        questions = [read(row) for row in rows]
        assert len({question.question_id for question in questions}) == count
        assert [next(iter(FORM.write(QuestionGroup(question, ()), Tally()))) for question in questions] == rows
        if "gsm8k" in name:
            assert all(question.answer.lstrip("-").replace(".", "").isdigit() for question in questions)
    assert sum(not question.answer.strip() for question in questions) == 0
