"""TRL stepwise supervision: a prompt, the steps as `completions`, and one label per step.

    {"prompt": "Is 9.11 larger than 9.8?", "completions": ["11 > 8.", "Hence 9.11 > 9.8."], "labels": [true, false]}

Labels are truth values or numbers. Beware: TRL's trainer takes `int(label)`, which turns 0.9 into 0; `labels = "hard"`
writes only truth values. Steps are kept unchanged. Rows have no gold answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .format import BadRow, QuestionGroup, Row, Tally, text_of, texts_of
from .remainder import extras, processes, remainder, remember
from .soft_labels import Labels, read_labels, written_labels

_KNOWN = frozenset(("prompt", "completions", "labels"))


@dataclass(frozen=True, slots=True)
class TrlOptions:
    """A value above `threshold` is read as good. `labels` and `neutral` set how labels are written.

    `labels`: "kept" writes them as they were read, and truth values for records from other sources; "hard" writes truth
    values; "soft" writes values where they are known.
    """

    threshold: float = 0.5
    labels: Labels = "kept"
    neutral: Literal["good", "bad"] = "good"


class TrlFormat:
    """Reads and writes rows with `prompt`, `completions` and `labels`."""

    config_type: ClassVar[type] = TrlOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: TrlOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        prompt, steps = text_of(row, "prompt"), texts_of(row, "completions")
        if not all(map(str.strip, steps)):
            raise BadRow("a step without text")
        labels = read_labels(row.get("labels"), len(steps), (bool, int), self._config.threshold)
        rest: dict[str, Any] = {}
        if prompt != prompt.strip():
            rest["prompt"] = prompt
        if labels.form is not None:
            rest["labels"] = labels.form
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        yield Record(
            question=self._question(prompt.strip()),
            steps=steps,
            label=labels.label,
            method="trl",
            value=labels.value,
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            label_metadata=remember("trl", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step."""
        options = self._config
        for record in processes(group, tally):
            rest = remainder(record.label_metadata, "trl")
            steps, labels = written_labels(record, rest.get("labels"), options.labels, bool, options.neutral, tally)
            if steps:
                prompt = rest.get("prompt", group.question.question)
                yield {"prompt": prompt, "completions": list(steps), "labels": labels, **rest.get("extra", {})}
