"""Question files: `problem` or `question`, and `answer`. MATH, GSM8K and whatever looks like them.

    {"problem": "What is 1+1?", "answer": "2", "level": "Level 1", "subject": "Algebra"}

A GSM8K answer (calculation, then `#### N`) is reduced to N; without an `answer` the last box of a `solution` is taken
(MATH as published). An answer may be empty or missing: the question is kept, and labeling passes over it ("no gold
answer"). `level`, `subject` (or `type`) and `split` are read where they are there; every other field goes into the
metadata, and the texts of a row that were changed with them, so that the row is written as it was.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from ...grading.math.extract import extract_answer
from ...ids import question_id
from ...types import Question
from .format import BadRow, Group, NoOptions, Row, Tally, decode, encode, text_of

TEXT_FIELDS: Final = ("problem", "question")
_KNOWN: Final = frozenset((*TEXT_FIELDS, "answer", "level", "subject", "type", "split"))
_ROW: Final = "row"


class QuestionsFormat:
    """Rows with a text and an answer."""

    config_type: ClassVar[type] = NoOptions
    needs_nodes: ClassVar[bool] = False
    only_questions: ClassVar[bool] = True

    def __init__(self, config: NoOptions, source: str, split: str) -> None:
        self._source, self._split = source, split

    def read(self, row: Row, tally: Tally) -> Iterator[Question]:
        """The question of a row. Raises `BadRow`."""
        text = text_of(row, *TEXT_FIELDS)
        field = next(name for name in TEXT_FIELDS if row.get(name) is text)
        answer = _answer(row)
        try:
            (text + answer).encode()
        except UnicodeEncodeError as error:
            raise BadRow("a character that is no Unicode text") from error
        split, level = self._split or _text(row, "split"), _text(row, "level")
        subject = _text(row, "subject") or _text(row, "type")
        try:
            more = encode({name: value for name, value in row.items() if name not in _KNOWN})
            question = Question(
                question_id(text, answer), text, answer, self._source, split=split, level=level, subject=subject,
                metadata=more,
            )  # fmt: skip
            if dict(_written(question)) == dict(row):
                yield question
                return
            kept = {name: row[name] for name in row if name in _KNOWN and name != field}
            metadata = encode({**decode(more), _ROW: {"fields": list(row), **kept, field: None}})
        except (TypeError, ValueError) as error:
            raise BadRow("a field that is no JSON value") from error
        yield Question(
            question.question_id, text, answer, self._source, split=split, level=level, subject=subject,
            metadata=metadata,
        )  # fmt: skip

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """The row of the question."""
        if group.records:
            tally.lose("processes with their labels", len(group.records))
        yield _written(group.question)


def _written(question: Question) -> Row:
    metadata = decode(question.metadata)
    kept = metadata.pop(_ROW, None)
    if isinstance(kept, dict) and isinstance(kept.get("fields"), list):
        whole = {**metadata, **kept}
        texts = {name: question.question for name in TEXT_FIELDS if name in kept and kept[name] is None}
        return {name: texts.get(name, whole.get(name)) for name in kept["fields"]}
    row: dict[str, Any] = {"problem": question.question, "answer": question.answer}
    for name in ("level", "subject", "split"):
        if getattr(question, name):
            row[name] = getattr(question, name)
    return {**row, **metadata}


def _answer(row: Row) -> str:
    answer = row.get("answer")
    if answer is None and isinstance(row.get("solution"), str) and "\\boxed" in row["solution"]:
        return extract_answer(row["solution"]) or ""
    text = "" if answer is None else str(answer)
    return text.rsplit("####", 1)[1].strip().replace(",", "") if "####" in text else text


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)
