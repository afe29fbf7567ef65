"""Math-Shepherd (arXiv 2312.08935): the same text twice, with `ки` after each step in one and + or - in the other.

    {"input": "Q? Step 1: a ки\\nStep 2: b ки", "label": "Q? Step 1: a +\\nStep 2: b -", "task": "GSM8K"}

The reader repairs and counts two defects: a tag inside the question, and a "Step 1:" that is missing (the cut is after
the last question mark) or spelled differently. A row in an unusual layout stores its two texts in the metadata, so that
it can be written unchanged. Rows have no gold answer; the last label is whether the final answer was right, because
that is how the data was generated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from ...ids import question_id
from ...types import Provenance, Question, Record
from .format import BadRow, QuestionGroup, Row, Tally, all_judged, decode, encode, lose_values
from .question_cut import cut_tagged

TAG = "ки"
_LABELS = {"+": 1, "-": -1}
_ANSWER = "The answer is:"


@dataclass(frozen=True, slots=True)
class MathShepherdOptions:
    """`neutral` is what a neutral label becomes when it is written."""

    neutral: Literal["good", "bad"] = "good"


class MathShepherdFormat:
    """Reads and writes rows with `input`, `label` and `task`."""

    config_type: ClassVar[type] = MathShepherdOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: MathShepherdOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        text, labelled = row.get("input"), row.get("label")
        if not isinstance(text, str) or not isinstance(labelled, str):
            raise BadRow("no texts in `input` and `label`")
        pieces = text.split(TAG)
        labels, end = _labels(pieces, labelled)
        if pieces.pop().strip():
            tally.repair(f"text after the last {TAG} left out")
        question, first, tags_inside = cut_tagged(pieces, TAG, tally)
        steps = tuple(piece.strip() for piece in (first, *pieces[tags_inside + 1 :]))
        labels = labels[tags_inside:]
        if not all(steps):
            raise BadRow("a step without text")
        task = str(row.get("task") or "")
        # The two texts differ only in their tags, so comparing one of them is enough.
        is_usual = end == len(labelled) and text == _tagged(question, steps)
        raw = {} if is_usual else {"math_shepherd": {"input": text, "label": labelled}}
        yield Record(
            question=self._question(question, task),
            steps=steps,
            label=tuple(labels),
            method="math-shepherd",
            provenance=(int(Provenance.IMPORTED),) * len(steps),
            final_answer=_answer(steps[-1]),
            outcome=labels[-1] == 1,
            label_metadata=encode(raw),
        )

    def _new_question(self, text: str, task: str) -> Question:
        metadata = encode({"task": task} if task else {})
        return Question(question_id(text, ""), text, "", self._source, split=self._split, metadata=metadata)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a process ends before its first unjudged step."""
        task = decode(group.question.metadata).get("task") or group.question.source
        for record in group.records:
            raw = decode(record.label_metadata).get("math_shepherd")
            if isinstance(raw, dict):
                yield {**raw, "task": task}
                continue
            lose_values(record, tally)
            steps, labels = all_judged(record, tally, 1 if self._config.neutral == "good" else -1)
            if not steps:
                tally.lose("records without any judged step")
                continue
            question = group.question.question
            if TAG in question or any(TAG in step for step in steps):
                tally.lose(f"records whose text holds {TAG} itself")
                continue
            signs = ["+" if label == 1 else "-" for label in labels]
            yield {
                "input": _tagged(question, steps),
                "label": question + " " + "\n".join(map(" ".join, zip(steps, signs, strict=True))),
                "task": task,
            }


def _labels(pieces: list[str], labelled: str) -> tuple[list[int], int]:
    """Return the sign after each piece but the last, and where the labelled text ends, by walking along both texts."""
    labels: list[int] = []
    at = 0
    for piece in pieces[:-1]:
        is_same = labelled.startswith(piece, at)
        at += len(piece)
        label = _LABELS.get(labelled[at : at + 1])
        if label is None or not is_same:
            raise BadRow("`input` and `label` are not the same text")
        labels.append(label)
        at += 1
    if not labels:
        raise BadRow(f"no {TAG} in `input`")
    return labels, at


def _tagged(question: str, steps: tuple[str, ...]) -> str:
    between = f" {TAG}\n"
    return f"{question} {between.join(steps)} {TAG}"


def _answer(step: str) -> str | None:
    _, marker, answer = step.rpartition(_ANSWER)
    return answer.strip() if marker else None
