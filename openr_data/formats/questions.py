"""Question files: JSON lines with `problem` or `question`, and `answer`.

A GSM8K answer (calculation, then `#### N`) is reduced to N. An answer may be empty or missing: the question
is kept, and labeling passes over it ("no gold answer"). `level`, `subject` (or `type`) and `split` are read where
they are there; every other field goes into the metadata.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..ids import question_id
from ..types import Question

TEXT_FIELDS = ("problem", "question")


def read_questions(path: Path, source: str, split: str = "") -> Iterator[Question]:
    """The questions of a file, streamed. Raises `InputError` naming the file, the line and what is wrong."""
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a JSONL file of questions.")
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _question(_row(line, path, number), path, number, source, split)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; expected JSON lines of questions.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"{path}, line {number}: not JSON ({error}). Expected one JSON object a line, with `problem` or "
            "`question`, and `answer`."
        ) from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number}: a JSON {type(row).__name__}, expected an object.")
    return row


def _question(row: dict[str, Any], path: Path, number: int, source: str, split: str) -> Question:
    field = next((name for name in TEXT_FIELDS if isinstance(row.get(name), str)), None)
    if field is None or not row[field].strip():
        there = ", ".join(map(str, row)) or "nothing"
        raise InputError(f"{path}, line {number}: no `problem` or `question` text (the row has: {there}).")
    answer = row.get("answer", "")
    answer = "" if answer is None else str(answer)
    if "####" in answer:
        answer = answer.rsplit("####", 1)[1].strip().replace(",", "")
    try:
        row[field].encode()
        answer.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path}, line {number}: a character that is no Unicode text ({error.reason}).") from error
    known = {field, "answer", "level", "subject", "type", "split"}
    return Question(
        question_id=question_id(row[field], answer),
        question=row[field],
        answer=answer,
        source=source,
        split=split or _text(row, "split"),
        level=_text(row, "level"),
        subject=_text(row, "subject") or _text(row, "type"),
        metadata=json.dumps({name: value for name, value in row.items() if name not in known}, ensure_ascii=False),
    )


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)
