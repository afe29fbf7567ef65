"""Question files as the field writes them, and the mistakes in them."""

import json
from pathlib import Path

import pytest

from openr_data.errors import InputError
from openr_data.formats.questions import read_questions
from openr_data.types import Question


def read(path: Path, text: str) -> list[Question]:
    file = path / "q.jsonl"
    file.write_text(text, encoding="utf-8")
    return list(read_questions(file, "src"))


def test_math_and_gsm8k_rows_are_read(tmp_path: Path) -> None:
    rows = [
        {"problem": "1+1?", "answer": "2", "level": "Level 3", "subject": "Algebra", "unique_id": "x/1"},
        {"question": "Clips?", "answer": "48/2 = <<48/2=24>>24\n#### 1,024"},
        {"problem": "No answer", "answer": ""},
        {"problem": "None", "answer": None},
        {"problem": "Number", "answer": 7, "type": "Geometry", "subject": None, "level": None},
    ]
    found = read(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n")
    assert [(q.question, q.answer) for q in found] == [
        ("1+1?", "2"), ("Clips?", "1024"), ("No answer", ""), ("None", ""), ("Number", "7")]  # fmt: skip
    assert (found[0].level, found[0].subject, json.loads(found[0].metadata)) == (
        "Level 3",
        "Algebra",
        {"unique_id": "x/1"},
    )
    assert (found[4].subject, found[4].level) == ("Geometry", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"q\.jsonl, line 1: not JSON"),
        ('{"problem": "a"}\n[1]', r"line 2: a JSON list, expected an object"),
        ('{"answer": "3"}', r"line 1: no `problem` or `question` text \(the row has: answer\)"),
        ('{"problem": "  "}', r"line 1: no `problem`"),
        ('{"problem": 3}', r"line 1: no `problem`"),
        ('{"problem": "a"', r"line 1: not JSON"),
        ('{"problem": "\\ud800"}', r"line 1: a character that is no Unicode text"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_no_text_or_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"b\.jsonl is not text in UTF-8"):
        list(read_questions(tmp_path / "b.jsonl", "s"))
    with pytest.raises(InputError, match="There is no file"):
        list(read_questions(tmp_path / "absent.jsonl", "s"))
    with pytest.raises(InputError, match="is a folder"):
        list(read_questions(tmp_path, "s"))


def test_the_real_files_are_read_whole(shared_data: Path) -> None:
    math = list(read_questions(shared_data / "math" / "train.jsonl", "math"))
    assert len(math) == 7500
    assert sum(not question.answer.strip() for question in math) == 2
    assert len({question.question_id for question in math}) == 7500
    gsm8k = list(read_questions(shared_data / "gsm8k" / "test.jsonl", "gsm8k"))
    assert len(gsm8k) == 1319
    assert all(question.answer.lstrip("-").replace(".", "").isdigit() for question in gsm8k)
