"""OpenRLHF's PRM data, ER-PRM-Data too: a text with a placeholder behind each step, and a list of their labels.

    {"input": "Q? Step 1: a ки\\nStep 2: b ки", "value": ["+", "-"]}

The text may be called `text`. Labels are + and - or, since soft labels came (OpenRLHF PR 502), numbers. The question
is cut from the first step as `question_cut.py` says. There is no gold answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .format import BadRow, Group, Row, Tally, text_of
from .question_cut import cut_tagged, is_told
from .remainder import extras, processes, remainder, remember
from .soft_labels import Labels, read_labels, written_labels
from .tagged_text import White, layout, rendered

_USUAL: Final[White] = (" ", " ", "\n", "")


@dataclass(frozen=True, slots=True)
class OpenRlhfOptions:
    """A value above `threshold` is read as good. `labels` and `neutral` say how labels are written (see `trl.py`)."""

    placeholder: str = "ки"
    threshold: float = 0.5
    labels: Labels = "kept"
    neutral: Literal["good", "bad"] = "good"

    def __post_init__(self) -> None:
        if not self.placeholder.strip():
            raise ValueError("placeholder is empty")


class OpenRlhfFormat:
    """Rows with `input` (or `text`) and `value`."""

    config_type: ClassVar[type] = OpenRlhfOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: OpenRlhfOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """The one record of a row. Raises `BadRow` for one that is not in this format."""
        options = self._config
        name = "input" if isinstance(row.get("input"), str) else "text"
        text = text_of(row, "input", "text") if name == "input" else text_of(row, "text")
        pieces = text.split(options.placeholder)
        if len(pieces) == 1:
            raise BadRow("no placeholder in the text")
        if pieces.pop().strip():
            tally.repair("text behind the last placeholder left out")
        question, first, inside = cut_tagged(pieces, options.placeholder, tally, blank_line=True)
        steps = (first, *map(str.strip, pieces[inside + 1 :]))
        if not all(steps):
            raise BadRow("a step without text")
        found = row.get("value")
        if not isinstance(found, (list, tuple)):
            raise BadRow("not one label a step")
        labels = read_labels(found[inside:], len(steps), (str, bool), options.threshold)
        kept: dict[str, Any] = {} if name == "input" else {"name": name}
        if (white := layout(text, question, steps, options.placeholder, _USUAL)) is not None:
            kept["text"] = white
        if labels.kept is not None:
            kept["labels"] = labels.kept
        if inside:
            read_labels(found[:inside], inside, (str, bool), options.threshold)
            kept["inside"] = list(found[:inside])
        if more := extras(row, frozenset((name, "value")), tally):
            kept["extra"] = more
        yield Record(
            question=self._question(question),
            steps=steps,
            label=labels.label,
            method="openrlhf",
            value=labels.value,
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            label_metadata=remember("openrlhf", kept),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """One row a record; a process ends before its first unjudged step."""
        options, question, tag = self._config, group.question.question, self._config.placeholder
        for record in processes(group, tally):
            if any(tag in text for text in (question, *record.steps)):
                tally.lose("records whose text holds the placeholder")
                continue
            kept = remainder(record.label_metadata, "openrlhf")
            steps, labels = written_labels(record, kept.get("labels"), options.labels, str, options.neutral, tally)
            if not steps:
                continue
            text = rendered(kept.get("text"), question, steps, tag, _USUAL)
            if not kept.get("inside") and not is_told(question, text.split(tag)[:-1], tag):
                tally.lose("where the question ends: the text does not tell")
            value = [*kept.get("inside", ()), *labels]
            yield {kept.get("name", "input"): text, "value": value, **kept.get("extra", {})}
