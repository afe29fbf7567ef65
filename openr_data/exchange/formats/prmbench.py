"""PRMBench (arXiv 2501.03124): correct processes modified to be wrong, with the 1-based indices of the wrong steps.

    {"idx": "circular_prm_test_p1_0", "classification": "circular", "question": "...", "original_question": "...",
     "modified_question": "...", "original_process": ["1. ..."], "modified_process": ["1. ..."],
     "modified_steps": [3], "error_steps": [3, 4, 5], "reason": "..."}

The record is the modified process of the modified question, which the benchmark scores; the metadata holds the rest of
the row. Rows have no gold answer. Steps are kept unchanged.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import ClassVar, Final

from ...ids import question_id, solution_id
from ...types import Provenance, Question, Record
from .format import BadRow, NoOptions, QuestionGroup, Row, Tally, all_judged, lose_values, text_of, texts_of
from .remainder import extras, processes, remainder, remember

_TEXTS: Final = ("idx", "classification", "question", "original_question", "reason")
_OTHERS: Final = (*_TEXTS, "original_process", "modified_steps")
_KNOWN: Final = frozenset((*_OTHERS, "modified_question", "modified_process", "error_steps"))


class PrmBenchFormat:
    """Reads and writes rows with `modified_question`, `modified_process`, `error_steps` and their origin."""

    config_type: ClassVar[type] = NoOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: NoOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        question, steps = text_of(row, "modified_question"), texts_of(row, "modified_process")
        if not all(map(str.strip, steps)):
            raise BadRow("a step without text")
        errors = _indices(row, "error_steps", len(steps))
        if row.get("original_process") not in (None, []):
            texts_of(row, "original_process")
        if row.get("modified_steps") is not None:
            _indices(row, "modified_steps", None)
        if not all(isinstance(row.get(name, ""), (str, type(None))) for name in _TEXTS):
            raise BadRow("a descriptive field that is not a string")
        rest = {name: row[name] for name in _OTHERS if name in row}
        if question != question.strip():
            rest["modified_question"] = question
        if errors != sorted(set(errors)):
            rest["error_steps"] = errors
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        wrong = set(errors)
        yield Record(
            question=self._question(question.strip()),
            steps=steps,
            label=tuple([-1 if number in wrong else 1 for number in range(1, len(steps) + 1)]),
            method="prmbench",
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            metadata=remember("prmbench", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step.

        A record from another source has no original: its `original_process` and `modified_steps` are empty.
        """
        question = group.question
        for record in processes(group, tally):
            lose_values(record, tally)
            steps, labels = all_judged(record, tally)
            if not steps:
                tally.lose("records without any judged step")
                continue
            rest = remainder(record.metadata, "prmbench")
            text = rest.pop("modified_question", question.question)
            errors = [number for number, label in enumerate(labels, start=1) if label == -1]
            others = rest or {
                "idx": f"{question.source}-{solution_id(question.question_id, steps)[:12]}",
                "classification": record.method,
                "question": text,
                "original_question": text,
                "original_process": [],
                "modified_steps": [],
                "reason": "",
            }
            extra = others.pop("extra", {})
            yield {
                "modified_question": text,
                "modified_process": list(steps),
                "error_steps": others.pop("error_steps", errors),
                **others,
                **extra,
            }


def _indices(row: Row, name: str, n: int | None) -> list[int]:
    """Return a list of step numbers, counted from 1, each at most n unless n is None. Raises `BadRow` otherwise."""
    numbers = row.get(name)
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        raise BadRow(f"`{name}` is not a list of step numbers")
    if n is not None and not all(1 <= number <= n for number in numbers):
        raise BadRow(f"`{name}` names a step that does not exist (steps count from 1)")
    return list(numbers)
