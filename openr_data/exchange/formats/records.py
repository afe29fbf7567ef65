"""Reads and writes this project's own rows: a whole record as JSON. Only the ids of jobs do not survive a round trip.

{"question": "Q?", "answer": "4", "source": "mine", "split": "train", "level": "", "subject": "", "metadata": {},
 "steps": ["a", "b"], "label": [1, -1], "value": [0.5, 0.0], "n_correct": [4, 0], "n_rollouts": [8, 8],
 "provenance": ["measured", "measured"], "method": "omegaprm", "completer": "m", "generator": "m",
 "final_answer": "4", "outcome": true, "solution_metadata": {}, "label_metadata": {}}
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from ...ids import question_id
from ...reasons import reasons_of
from ...types import Provenance, Question, Record
from .format import BadRow, NoOptions, QuestionGroup, Row, Tally, decode, encode, plain_value, text_of, texts_of

_TEXTS: Final = ("answer", "source", "split", "level", "subject")
_PROVENANCE: Final = {provenance.name.lower(): int(provenance) for provenance in Provenance}
_NAMES: Final = {number: name for name, number in _PROVENANCE.items()}
_BIG: Final = 2**31


class RecordsFormat:
    """Reads and writes rows with the columns of the view `records`."""

    config_type: ClassVar[type] = NoOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: NoOptions, source: str, split: str) -> None:
        self._source, self._split = source, split

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """Read the record of a row, or only its question if it has no steps. Raises `BadRow`."""
        if "steps" not in row:
            raise BadRow("no field `steps`")
        text = text_of(row, "question")
        plain = {name: _text(row, name) for name in _TEXTS}
        plain["source"] = plain["source"] or self._source
        plain["split"] = self._split or plain["split"]
        identity = question_id(text, plain["answer"])
        question = Question(identity, text, metadata=_object(row, "metadata"), **plain)
        if not row.get("steps"):
            yield question
            return
        steps = texts_of(row, "steps")
        outcome = row.get("outcome")
        if isinstance(outcome, str):
            # CSV gives every value as text.
            outcome = {"true": True, "false": False, "": None}.get(outcome.lower(), outcome)
        if outcome is not None and not isinstance(outcome, bool):
            raise BadRow("`outcome` is not a truth value")
        correct = _list(row, "n_correct", len(steps), _count)
        rollouts = _list(row, "n_rollouts", len(steps), _count)
        if any(k > n for k, n in zip(correct, rollouts or (0,) * len(correct), strict=True)):
            raise BadRow("more correct rollouts than rollouts")
        label_metadata = _object(row, "label_metadata")
        try:
            reasons_of(label_metadata, len(steps))
        except ValueError as error:
            raise BadRow(f"`label_metadata` holds {error}") from error
        yield Record(
            question=question,
            steps=steps,
            label=_list(row, "label", len(steps), _label) or (None,) * len(steps),
            method=text_of(row, "method"),
            value=_list(row, "value", len(steps), _value),
            n_correct=correct,
            n_rollouts=rollouts,
            provenance=_list(row, "provenance", len(steps), _provenance),
            completer=_text(row, "completer"),
            generator=_text(row, "generator"),
            final_answer=None if row.get("final_answer") is None else _text(row, "final_answer"),
            outcome=outcome,
            metadata=_object(row, "solution_metadata"),
            label_metadata=label_metadata,
        )

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record."""
        fields = {name: getattr(group.question, name) for name in ("question", *_TEXTS)}
        fields["metadata"] = decode(group.question.metadata)
        for record in group.records:
            values = record.value or (None,) * len(record.steps)
            yield {
                **fields,
                "steps": list(record.steps),
                "label": list(record.label),
                "value": [None if value is None else plain_value(value) for value in values],
                "n_correct": list(record.n_correct),
                "n_rollouts": list(record.n_rollouts),
                "provenance": [_NAMES[number] for number in record.provenance],
                "method": record.method,
                "completer": record.completer,
                "generator": record.generator,
                "final_answer": record.final_answer,
                "outcome": record.outcome,
                "solution_metadata": decode(record.metadata),
                "label_metadata": decode(record.label_metadata),
            }


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"`{name}` is not a string")
    return value or ""


def _object(row: Row, name: str) -> str:
    value = row.get(name)
    if isinstance(value, str):
        # Parquet columns hold such objects as JSON text.
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            raise BadRow(f"`{name}` is not an object") from None
    if value is not None and not isinstance(value, Mapping):
        raise BadRow(f"`{name}` is not an object")
    try:
        return encode(value or {})
    except (TypeError, ValueError) as error:
        raise BadRow(f"`{name}` is not JSON") from error


def _list(row: Row, name: str, n: int, entry: Any) -> tuple[Any, ...]:
    value = row.get(name)
    if value is None or value == []:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) != n:
        raise BadRow(f"`{name}` does not have one entry per step")
    entries = tuple(entry(item) for item in value)
    if any(checked is BadRow for checked in entries):
        raise BadRow(f"`{name}` holds a value that is not allowed there")
    return entries


def _label(item: Any) -> Any:
    return item if item is None or (type(item) is int and item in (1, 0, -1)) else BadRow


def _value(item: Any) -> Any:
    if item is None:
        return None
    return float(item) if type(item) in (int, float) and abs(item) < 3e38 else BadRow


def _count(item: Any) -> Any:
    return item if type(item) is int and 0 <= item < _BIG else BadRow


def _provenance(item: Any) -> Any:
    return _PROVENANCE.get(item, BadRow) if isinstance(item, str) else BadRow
