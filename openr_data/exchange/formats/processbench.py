"""ProcessBench (arXiv 2412.06559): people marked the 0-based index of the first wrong step, or -1 for none.

    {"id": "gsm8k-0", "generator": "Qwen2-7B-Instruct", "problem": "...", "steps": ["..."],
     "final_answer_correct": false, "label": 1}

Steps before the first wrong one are good; steps after it were not judged. Rows have no gold answer, only whether the
final answer was right. Steps are kept unchanged.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

from ...ids import question_id, solution_id
from ...types import Provenance, Question, Record
from .format import BadRow, NoOptions, QuestionGroup, Row, Tally, judged, lose_values, text_of, texts_of
from .remainder import extras, processes, remainder, remember

_KNOWN = frozenset(("id", "generator", "problem", "steps", "final_answer_correct", "label"))


class ProcessBenchFormat:
    """Reads and writes rows with `id`, `generator`, `problem`, `steps`, `final_answer_correct` and `label`."""

    config_type: ClassVar[type] = NoOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: NoOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the one record of a row. Raises `BadRow` for a row that is not in this format."""
        name, problem, steps = text_of(row, "id"), text_of(row, "problem"), texts_of(row, "steps")
        generator, outcome = row.get("generator"), row.get("final_answer_correct")
        if not all(map(str.strip, steps)):
            raise BadRow("a step without text")
        if not isinstance(generator, str):
            raise BadRow("`generator` is not a string")
        if outcome is not None and not isinstance(outcome, bool):
            raise BadRow("`final_answer_correct` is not a truth value")
        rest: dict[str, Any] = {"id": name}
        if problem != problem.strip():
            rest["problem"] = problem
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        yield Record(
            question=self._question(problem.strip()),
            steps=steps,
            label=_labels(row.get("label"), len(steps)),
            method="human",
            provenance=(int(Provenance.HUMAN),) * len(steps),
            generator=generator,
            outcome=outcome,
            metadata=remember("processbench", rest),
        )

    def _new_question(self, text: str) -> Question:
        return Question(question_id(text, ""), text, "", self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row per record; a record without a first error is left out unless all its steps are judged."""
        question = group.question
        for record in processes(group, tally):
            rest = remainder(record.metadata, "processbench")
            error = record.first_error
            first = -1 if error is None else error
            n_judged = judged(record)
            if error is None and n_judged < len(record.steps):
                tally.lose("records without a bad step, but with steps that were not judged")
                continue
            if n_judged < first:
                tally.lose("unjudged steps before the first bad one (now good)", record.label[:first].count(None))
            n_later = sum(label is not None for label in record.label[first + 1 :]) if first >= 0 else 0
            if n_later:
                tally.lose("labels after the first bad step", n_later)
            if neutral := record.label[: first if first >= 0 else None].count(0):
                tally.lose("neutral labels (now good or bad)", neutral)
            lose_values(record, tally)
            if record.outcome is None and not rest:
                tally.lose("whether the final answer is right: unknown (`final_answer_correct` is null)")
            yield {
                "id": rest.get("id") or f"{question.source}-{solution_id(question.question_id, record.steps)[:12]}",
                "generator": record.generator,
                "problem": rest.get("problem", question.question),
                "steps": list(record.steps),
                "final_answer_correct": record.outcome,
                "label": first,
                **rest.get("extra", {}),
            }


def _labels(first: object, n: int) -> tuple[int | None, ...]:
    if type(first) is not int or not -1 <= first < n:
        raise BadRow("`label` is neither the index of a step nor -1")
    if first == -1:
        return (1,) * n
    return (*(1,) * first, -1, *(None,) * (n - first - 1))
