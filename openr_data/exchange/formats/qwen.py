"""Qwen2.5-Math-PRM (arXiv 2501.07301): a chat whose answer has a tag after each step, with one label per tag.

    {"messages": [{"role": "system", "content": "Please reason step by step, ..."},
                  {"role": "user", "content": "Q?"},
                  {"role": "assistant", "content": "step 1<extra_0>step 2<extra_0>"}],
     "labels": [1, 0]}

The model reads its two-class logits at each `<extra_0>`; the next step follows a tag directly. Labels are 1 and 0 or
numbers between them. Rows have no gold answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .conversation import as_messages, messages_of
from .format import BadRow, QuestionGroup, Row, Tally
from .remainder import extras, processes, remainder, remember
from .soft_labels import Labels, read_labels, written_labels
from .tagged_text import White, layout, rendered

_KNOWN = frozenset(("messages", "labels"))
_USUAL: Final[White] = ("", "", "", "")


@dataclass(frozen=True, slots=True)
class QwenOptions:
    """A value above `threshold` is read as good. `labels` and `neutral` set how labels are written (see `trl.py`)."""

    tag: str = "<extra_0>"
    system: str = "Please reason step by step, and put your final answer within \\boxed{}."
    threshold: float = 0.5
    labels: Labels = "kept"
    neutral: Literal["good", "bad"] = "good"

    def __post_init__(self) -> None:
        if not self.tag.strip():
            raise ValueError("tag is empty")


class QwenFormat:
    """Reads and writes rows with `messages` and `labels`."""

    config_type: ClassVar[type] = QwenOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: QwenOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        messages = messages_of(row, "messages")
        system = messages.pop(0)[1] if messages[0][0] == "system" else None
        if [role for role, _ in messages] != ["user", "assistant"]:
            raise BadRow("messages that are not system (optional), user and assistant")
        (_, prompt), (_, content) = messages
        question = prompt.strip()
        pieces = content.split(self._config.tag)
        if not question or len(pieces) == 1:
            raise BadRow("no question" if not question else "no tag in the assistant's message")
        if pieces.pop().strip():
            tally.repair("text after the last tag left out")
        steps = tuple(map(str.strip, pieces))
        if not all(steps):
            raise BadRow("a step without text")
        labels = read_labels(row.get("labels"), len(steps), (int, bool), self._config.threshold)
        rest: dict[str, Any] = {}
        if system != self._config.system:
            rest["system"] = system
        if prompt != question:
            rest["question"] = prompt
        if (text := layout(content, "", steps, self._config.tag, _USUAL)) is not None:
            rest["text"] = text
        if labels.form is not None:
            rest["labels"] = labels.form
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        yield Record(
            question=self._question(question),
            steps=steps,
            label=labels.label,
            method="qwen",
            value=labels.value,
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            label_metadata=remember("qwen", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step."""
        options = self._config
        for record in processes(group, tally):
            if any(options.tag in step for step in record.steps):
                tally.lose("records whose text holds the tag")
                continue
            rest = remainder(record.label_metadata, "qwen")
            steps, labels = written_labels(record, rest.get("labels"), options.labels, int, options.neutral, tally)
            if not steps:
                continue
            system = rest.get("system", options.system)
            turns = [] if system is None else [("system", system)]
            turns.append(("user", rest.get("question", group.question.question)))
            turns.append(("assistant", rendered(rest.get("text"), "", steps, options.tag, _USUAL)))
            yield {"messages": as_messages(turns), "labels": labels, **rest.get("extra", {})}
