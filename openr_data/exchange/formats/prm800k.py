"""PRM800K (arXiv 2305.20050), phases 1 and 2: a tree of completions rated by people, one labelled solution per row.

    {"labeler": "...", "timestamp": "...", "generation": null, "is_quality_control_question": false,
     "is_initial_screening_question": false, "question": {"problem": "...", "ground_truth_answer": "29"},
     "label": {"steps": [{"completions": [{"text": "s1", "rating": 1, "flagged": false}], "human_completion": null,
                          "chosen_completion": 0}], "total_time": 293250, "finish_reason": "solution"}}

The main record of a row is the path the labeler followed: the chosen completion of each step, or the labeler's own text
(labelled 1). The path ends at the first step that has neither, with the first completion rated -1, else the first rated
one. Every other completion becomes a record of its own: the path up to its step, then the alternative. The main record
stores the row without the texts of the path, so that it can be written unchanged; that row includes the alternatives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, NamedTuple

from ...ids import content_hash, question_id
from ...types import Provenance, Question, Record
from .format import BadRow, QuestionGroup, Row, Tally, encode, judged, lose_values
from .remainder import processes, remainder, remember

_ANSWER: Final = "# Answer"
_ON_PATH: Final = 0
"""Replaces, in the stored row, a text that the record holds; a number cannot be confused with a text of the row."""


@dataclass(frozen=True, slots=True)
class Prm800kOptions:
    """`neutral` is what a rating of 0 becomes; rows for screening and quality control are dropped by default."""

    neutral: Literal["neutral", "good", "bad"] = "neutral"
    keep_screening: bool = False


class _Alternative(NamedTuple):
    step: int
    completion: int
    text: str
    rating: int | None


class Prm800kFormat:
    """Reads and writes rows with `question` and `label`."""

    config_type: ClassVar[type] = Prm800kOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: Prm800kOptions, source: str, split: str) -> None:
        self._source, self._split = source, split
        self._keeps_screening = config.keep_screening
        self._neutral = {"neutral": 0, "good": 1, "bad": -1}[config.neutral]
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """Read the main record and one per alternative. Raises `BadRow` for a row that is not in this format."""
        self._check_screening(row)
        question_fields, label = row.get("question"), row.get("label")
        if not isinstance(question_fields, Mapping) or not isinstance(label, Mapping):
            raise BadRow("no objects in `question` and `label`")
        problem, gold, solution = question_fields.get("problem"), question_fields.get("ground_truth_answer"), None
        if not isinstance(problem, str) or not problem.strip():
            raise BadRow("no text in `problem`")
        if gold is not None and not isinstance(gold, str):
            raise BadRow("`ground_truth_answer` is not a string")
        if isinstance(question_fields.get("ground_truth_solution"), str):
            solution = question_fields["ground_truth_solution"]
        path, ratings, alternatives, kept_steps = _walk(label.get("steps"))
        if not path:
            raise BadRow("no step that was chosen, written or rated")
        question = self._question(problem.strip(), gold or "", solution)
        key = content_hash("prm800k", str(row.get("labeler")), str(row.get("timestamp")), *path)[:16]
        stored_row = {
            **row,
            "question": {**question_fields, "problem": _ON_PATH} if problem == problem.strip() else question_fields,
            "label": {**label, "steps": kept_steps},
        }
        try:
            metadata = encode({"prm800k": {"key": key, "row": stored_row}})
        except (TypeError, ValueError, RecursionError):
            raise BadRow("a value that is not JSON") from None
        is_end = label.get("finish_reason") == "solution" and ratings[-1] in (1, -1)
        steps, labels = tuple(path), tuple([self._neutral if rating == 0 else rating for rating in ratings])
        labeler = row.get("labeler")
        completer = labeler if isinstance(labeler, str) else ""
        yield self._record(question, steps, labels, completer, metadata, ratings[-1] == 1 if is_end else None)
        ratings_by_text: dict[tuple[int, str], int | None] = {}
        for step, completion, text, rating in alternatives:
            place = (step, text)
            if (step < len(path) and text == path[step]) or place in ratings_by_text:
                if rating != ratings_by_text.get(place, ratings[step] if step < len(path) else None):
                    tally.repair("one completion rated twice and differently: the first rating is used")
                continue
            ratings_by_text[place] = rating
            link = remember("prm800k_alternative", {"key": key, "step": step, "completion": completion})
            last = self._neutral if rating == 0 else rating
            yield self._record(question, (*steps[:step], text), (*labels[:step], last), completer, link, None)

    def _check_screening(self, row: Row) -> None:
        for name in ("is_quality_control_question", "is_initial_screening_question"):
            flag = row.get(name, False)
            if not isinstance(flag, bool):
                raise BadRow(f"`{name}` is not a truth value")
            if flag and not self._keeps_screening:
                raise BadRow("a row for quality control or screening")

    def _record(
        self,
        question: Question,
        steps: tuple[str, ...],
        label: tuple[int | None, ...],
        completer: str,
        label_metadata: str,
        outcome: bool | None,
    ) -> Record:
        _, marker, answer = steps[-1].rpartition(_ANSWER)
        return Record(
            question=question,
            steps=steps,
            label=label,
            method="human",
            provenance=(int(Provenance.HUMAN),) * len(steps),
            generator="prm800k",
            completer=completer,
            final_answer=answer.strip() if marker else None,
            outcome=outcome,
            label_metadata=label_metadata,
        )

    def _new_question(self, text: str, gold: str, solution: str | None) -> Question:
        metadata = encode({} if solution is None else {"ground_truth_solution": solution})
        return Question(question_id(text, gold), text, gold, self._source, split=self._split, metadata=metadata)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write the rows as they were read, and one row per other record.

        The process of a new row ends before its first unjudged step.
        """
        remainders = [remainder(record.label_metadata, "prm800k") for record in processes(group, tally)]
        keys = {rest["key"] for rest in remainders if rest}
        for record, rest in zip(group.records, remainders, strict=True):
            if rest:
                yield _as_read(rest["row"], record)
            elif remainder(record.label_metadata, "prm800k_alternative").get("key") not in keys:
                yield from _new_row(record, group.question, tally)


def _walk(
    steps: object,
) -> tuple[list[str], list[int | None], list[_Alternative], list[Mapping[str, Any]]]:
    """Return the path, its ratings, the completions off the path, and the steps without the texts of the path."""
    if not isinstance(steps, (list, tuple)):
        raise BadRow("`steps` of `label` is not a list")
    path: list[str] = []
    ratings: list[int | None] = []
    alternatives: list[_Alternative] = []
    stored_steps: list[Mapping[str, Any]] = []
    is_open = True
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping):
            raise BadRow("a step that is not an object")
        completions, human = _completions(step), step.get("human_completion")
        chosen = step.get("chosen_completion")
        if human is not None and not (isinstance(human, Mapping) and isinstance(human.get("text"), (str, type(None)))):
            raise BadRow("a human completion that is not an object with a text")
        if chosen is not None and (type(chosen) is not int or not 0 <= chosen < len(completions)):
            raise BadRow("`chosen_completion` is not an index of a completion")
        if not is_open:
            stored_steps.append(step)
            continue
        if chosen is None and human is not None and (human.get("text") or "").strip():
            path.append(human["text"])
            ratings.append(1)
            stored_steps.append({**step, "human_completion": {**human, "text": _ON_PATH}})
        else:
            is_open = chosen is not None
            pick = chosen if is_open else _last_of_path(completions)
            if pick is not None:
                text, rating = completions[pick]
                if not text:
                    raise BadRow("the chosen completion has no text")
                path.append(text)
                ratings.append(rating)
                texts = list(step["completions"])
                texts[pick] = {**texts[pick], "text": _ON_PATH}
                stored_steps.append({**step, "completions": texts})
                completions[pick] = ("", None)
            else:
                stored_steps.append(step)
        alternatives += [_Alternative(number, i, text, rating) for i, (text, rating) in enumerate(completions) if text]
    return path, ratings, alternatives, stored_steps


def _completions(step: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """Return text and rating of each completion of a step; text that is only white space becomes empty."""
    entries = step.get("completions")
    if entries is None:
        return []
    if not isinstance(entries, (list, tuple)):
        raise BadRow("`completions` is not a list")
    completions = []
    for completion in entries:
        if not isinstance(completion, Mapping) or not isinstance(completion.get("text"), (str, type(None))):
            raise BadRow("a completion that is not an object with a text")
        rating = completion.get("rating")
        if rating is not None and (type(rating) is not int or not -1 <= rating <= 1):
            raise BadRow("a rating that is not 1, 0, -1 or null")
        text = completion.get("text") or ""
        completions.append((text if text.strip() else "", rating))
    return completions


def _last_of_path(completions: Sequence[tuple[str, int | None]]) -> int | None:
    bad = (i for i, (text, rating) in enumerate(completions) if text and rating == -1)
    rated = (i for i, (text, rating) in enumerate(completions) if text and rating is not None)
    return next(bad, next(rated, None))


def _as_read(row: Mapping[str, Any], record: Record) -> Row:
    """Return the stored row with the texts of the path put back."""
    texts = iter(record.steps)
    for step in row["label"]["steps"]:
        for completion in (*(step.get("completions") or ()), step.get("human_completion")):
            if completion is not None and completion.get("text") == _ON_PATH:
                completion["text"] = next(texts)
    if row["question"]["problem"] == _ON_PATH:
        row["question"]["problem"] = record.question.question
    return row


def _new_row(record: Record, question: Question, tally: Tally) -> Iterator[Row]:
    n = judged(record)
    if n < len(record.steps):
        tally.lose("steps that were not judged, and those after them", len(record.steps) - n)
    if not n:
        tally.lose("records without any judged step")
        return
    lose_values(record, tally)
    is_error = record.label[n - 1] == -1
    steps = [
        {
            "completions": [{"text": text, "rating": label, "flagged": False}],
            "human_completion": None,
            "chosen_completion": None if is_error and i == n - 1 else 0,
        }
        for i, (text, label) in enumerate(zip(record.steps[:n], record.label[:n], strict=True))
    ]
    yield {
        "labeler": record.method,
        "timestamp": None,
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": question.question, "ground_truth_answer": question.answer},
        "label": {
            "steps": steps,
            "total_time": 0,
            "finish_reason": "found_error" if is_error else "solution",
        },
    }
