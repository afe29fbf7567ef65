"""RLHFlow's PRM data: a conversation in which each step is a user turn and its label is the assistant's answer.

    {"conversations": [{"role": "user", "content": "Q? Step 1: a"}, {"role": "assistant", "content": "+"},
                       {"role": "user", "content": "Step 2: b"}, {"role": "assistant", "content": "-"}]}

The first turn holds the question and the first step in one text; `question_cut.py` splits it. Rows have no gold answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .conversation import as_messages, messages_of
from .format import BadRow, QuestionGroup, Row, Tally, all_judged, lose_values
from .question_cut import cut_question, is_recoverable
from .remainder import extras, processes, remainder, remember

_LABELS = {"+": 1, "-": -1}
_KNOWN = frozenset(("conversations",))


@dataclass(frozen=True, slots=True)
class RlhflowOptions:
    """`neutral` is what a neutral label becomes when it is written."""

    neutral: Literal["good", "bad"] = "good"


class RlhflowFormat:
    """Reads and writes rows with `conversations`."""

    config_type: ClassVar[type] = RlhflowOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: RlhflowOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        turns = messages_of(row, "conversations")
        users, signs = turns[::2], turns[1::2]
        if len(users) != len(signs) or {role for role, _ in users} != {"user"}:
            raise BadRow("turns that are not user and assistant in pairs")
        if any(role != "assistant" or sign not in _LABELS for role, sign in signs):
            raise BadRow("an answer that is neither + nor -")
        first_turn = users[0][1]
        question, first = cut_question(first_turn, tally)
        steps = (first, *[content for _, content in users[1:]])
        if not all(map(str.strip, steps)):
            raise BadRow("a step without text")
        rest: dict[str, Any] = {}
        if first_turn != f"{question} {first}":
            rest["white"] = _white(first_turn, question, first)
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        yield Record(
            question=self._question(question),
            steps=steps,
            label=tuple([_LABELS[sign] for _, sign in signs]),
            method="rlhflow",
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            label_metadata=remember("rlhflow", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step."""
        question = group.question.question
        for record in processes(group, tally):
            lose_values(record, tally)
            steps, labels = all_judged(record, tally, 1 if self._config.neutral == "good" else -1)
            if not steps:
                tally.lose("records without any judged step")
                continue
            rest = remainder(record.label_metadata, "rlhflow")
            before, joint, after = rest.get("white", ("", " ", ""))
            first = f"{before}{question}{joint}{steps[0]}{after}"
            if not is_recoverable(question, (first,)):
                tally.lose("where the question ends: the text does not show it")
            turns = []
            for text, label in zip((first, *steps[1:]), labels, strict=True):
                turns += [("user", text), ("assistant", "+" if label == 1 else "-")]
            yield {"conversations": as_messages(turns), **rest.get("extra", {})}


def _white(whole: str, question: str, first: str) -> tuple[str, str, str]:
    """Return the white space before the question, between it and the first step, and after the step."""
    before = whole.index(question)
    end = whole.rindex(first)
    return whole[:before], whole[before + len(question) : end], whole[end + len(first) :]
