"""OpenRLHF's PRM data and ER-PRM-Data: a text with a placeholder after each step, and a list of the steps' labels.

    {"input": "Q? Step 1: a ки\\nStep 2: b ки", "value": ["+", "-"]}

The text may be in `text` instead of `input`. Labels are + and - or, since OpenRLHF PR 502 added soft labels, numbers.
`question_cut.py` separates the question from the first step. Rows have no gold answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .format import BadRow, QuestionGroup, Row, Tally, text_of
from .question_cut import cut_tagged, is_recoverable
from .remainder import extras, processes, remainder, remember
from .soft_labels import Labels, read_labels, written_labels
from .tagged_text import White, layout, rendered

_USUAL: Final[White] = (" ", " ", "\n", "")


@dataclass(frozen=True, slots=True)
class OpenRlhfOptions:
    """A value above `threshold` is read as good. `labels` and `neutral` set how labels are written (see `trl.py`)."""

    placeholder: str = "ки"
    threshold: float = 0.5
    labels: Labels = "kept"
    neutral: Literal["good", "bad"] = "good"

    def __post_init__(self) -> None:
        if not self.placeholder.strip():
            raise ValueError("placeholder is empty")


class OpenRlhfFormat:
    """Reads and writes rows with `input` (or `text`) and `value`."""

    config_type: ClassVar[type] = OpenRlhfOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: OpenRlhfOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        options = self._config
        name = "input" if isinstance(row.get("input"), str) else "text"
        text = text_of(row, "input", "text") if name == "input" else text_of(row, "text")
        pieces = text.split(options.placeholder)
        if len(pieces) == 1:
            raise BadRow("no placeholder in the text")
        if pieces.pop().strip():
            tally.repair("text after the last placeholder left out")
        question, first, inside = cut_tagged(pieces, options.placeholder, tally, blank_line=True)
        steps = (first, *map(str.strip, pieces[inside + 1 :]))
        if not all(steps):
            raise BadRow("a step without text")
        marks = row.get("value")
        if not isinstance(marks, (list, tuple)):
            raise BadRow("not one label a step")
        labels = read_labels(marks[inside:], len(steps), (str, bool), options.threshold)
        rest: dict[str, Any] = {} if name == "input" else {"name": name}
        if (white := layout(text, question, steps, options.placeholder, _USUAL)) is not None:
            rest["text"] = white
        if labels.form is not None:
            rest["labels"] = labels.form
        if inside:
            read_labels(marks[:inside], inside, (str, bool), options.threshold)
            rest["inside"] = list(marks[:inside])
        if more := extras(row, frozenset((name, "value")), tally):
            rest["extra"] = more
        yield Record(
            question=self._question(question),
            steps=steps,
            label=labels.label,
            method="openrlhf",
            value=labels.value,
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            label_metadata=remember("openrlhf", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step."""
        options, question, tag = self._config, group.question.question, self._config.placeholder
        for record in processes(group, tally):
            if any(tag in text for text in (question, *record.steps)):
                tally.lose("records whose text holds the placeholder")
                continue
            rest = remainder(record.label_metadata, "openrlhf")
            steps, labels = written_labels(record, rest.get("labels"), options.labels, str, options.neutral, tally)
            if not steps:
                continue
            text = rendered(rest.get("text"), question, steps, tag, _USUAL)
            if not rest.get("inside") and not is_recoverable(question, text.split(tag)[:-1], tag):
                tally.lose("where the question ends: the text does not show it")
            value = [*rest.get("inside", ()), *labels]
            yield {rest.get("name", "input"): text, "value": value, **rest.get("extra", {})}
