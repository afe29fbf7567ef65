"""Reads and writes question files with `problem` or `question`, and `answer`: MATH, GSM8K and files like them.

    {"problem": "What is 1+1?", "answer": "2", "level": "Level 1", "subject": "Algebra"}

A GSM8K answer (calculation, then `#### N`) is reduced to N; without an `answer` the last box of a `solution` is used
(MATH as published). The answer may be empty or missing: the question is kept, and labeling skips it ("no gold
answer"). `level`, `subject` (or `type`) and `split` are read if present. The metadata holds every other field and the
original of every text that was changed, so that the row can be written back unchanged.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from ...grading.math.extract import extract_answer
from ...ids import question_id
from ...types import Question
from .format import BadRow, NoOptions, QuestionGroup, Row, Tally, decode, encode, text_of

TEXT_FIELDS: Final = ("problem", "question")
_KNOWN: Final = frozenset((*TEXT_FIELDS, "answer", "level", "subject", "type", "split"))
_ROW: Final = "row"


class QuestionsFormat:
    """Reads and writes rows with a text and an answer."""

    config_type: ClassVar[type] = NoOptions
    needs_nodes: ClassVar[bool] = False
    only_questions: ClassVar[bool] = True

    def __init__(self, config: NoOptions, source: str, split: str) -> None:
        self._source, self._split = source, split

    def read(self, row: Row, tally: Tally) -> Iterator[Question]:
        """Read the question of a row. Raises `BadRow`."""
        text = text_of(row, *TEXT_FIELDS)
        field = next(name for name in TEXT_FIELDS if row.get(name) is text)
        answer = _answer(row)
        try:
            (text + answer).encode()
        except UnicodeEncodeError as error:
            raise BadRow("a character that is not Unicode text") from error
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
            originals = {name: row[name] for name in row if name in _KNOWN and name != field}
            metadata = encode({**decode(more), _ROW: {"fields": list(row), **originals, field: None}})
        except (TypeError, ValueError) as error:
            raise BadRow("a field that is not a JSON value") from error
        yield Question(
            question.question_id, text, answer, self._source, split=split, level=level, subject=subject,
            metadata=metadata,
        )  # fmt: skip

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write the row of the question."""
        if group.records:
            tally.lose("processes with their labels", len(group.records))
        yield _written(group.question)


def _written(question: Question) -> Row:
    metadata = decode(question.metadata)
    originals = metadata.pop(_ROW, None)
    if isinstance(originals, dict) and isinstance(originals.get("fields"), list):
        whole = {**metadata, **originals}
        texts = {name: question.question for name in TEXT_FIELDS if name in originals and originals[name] is None}
        return {name: texts.get(name, whole.get(name)) for name in originals["fields"]}
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
