"""PRM800K (arXiv 2305.20050), phases 1 and 2: a tree of completions rated by people, one labelled solution a row.

    {"labeler": "...", "timestamp": "...", "generation": null, "is_quality_control_question": false,
     "is_initial_screening_question": false, "question": {"problem": "...", "ground_truth_answer": "29"},
     "label": {"steps": [{"completions": [{"text": "s1", "rating": 1, "flagged": false}], "human_completion": null,
                          "chosen_completion": 0}], "total_time": 293250, "finish_reason": "solution"}}

The main record of a row is the path that was gone: the chosen completion of each step, or the person's own text
(labelled 1). Where neither is there the path ends, with the first completion rated -1, else the first rated at all.
Every other completion is a record of its own: the path up to its step, then the alternative. The main record keeps
the row, its texts of the path left out, so that it is written as it was; the alternatives are then part of that row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, NamedTuple

from ...ids import content_hash, question_id
from ...types import Provenance, Question, Record
from .format import BadRow, Group, Row, Tally, encode, judged, lose_values
from .remainder import processes, remainder, remember

_ANSWER: Final = "# Answer"
_ON_PATH: Final = 0
"""Stands in the kept row for a text that the record holds; no text of a row is a number."""


@dataclass(frozen=True, slots=True)
class Prm800kOptions:
    """`neutral` is what a rating of 0 is read as; rows for screening and quality control are dropped unless kept."""

    neutral: Literal["neutral", "good", "bad"] = "neutral"
    keep_screening: bool = False


class _Alternative(NamedTuple):
    step: int
    completion: int
    text: str
    rating: int | None


class Prm800kFormat:
    """Rows with `question` and `label`."""

    config_type: ClassVar[type] = Prm800kOptions
    needs_nodes: ClassVar[bool] = False

    def __init__(self, config: Prm800kOptions, source: str, split: str) -> None:
        self._source, self._split = source, split
        self._keeps_screening = config.keep_screening
        self._neutral = {"neutral": 0, "good": 1, "bad": -1}[config.neutral]
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Record]:
        """The main record and one for each alternative. Raises `BadRow` for a row that is not in this format."""
        self._check_screening(row)
        asked, label = row.get("question"), row.get("label")
        if not isinstance(asked, Mapping) or not isinstance(label, Mapping):
            raise BadRow("no objects in `question` and `label`")
        problem, gold, solution = asked.get("problem"), asked.get("ground_truth_answer"), None
        if not isinstance(problem, str) or not problem.strip():
            raise BadRow("no text in `problem`")
        if gold is not None and not isinstance(gold, str):
            raise BadRow("`ground_truth_answer` is no text")
        if isinstance(asked.get("ground_truth_solution"), str):
            solution = asked["ground_truth_solution"]
        path, ratings, alternatives, kept_steps = _walk(label.get("steps"))
        if not path:
            raise BadRow("no step that was chosen, written or rated")
        question = self._question(problem.strip(), gold or "", solution)
        key = content_hash("prm800k", str(row.get("labeler")), str(row.get("timestamp")), *path)[:16]
        kept = {
            **row,
            "question": {**asked, "problem": _ON_PATH} if problem == problem.strip() else asked,
            "label": {**label, "steps": kept_steps},
        }
        try:
            metadata = encode({"prm800k": {"key": key, "row": kept}})
        except (TypeError, ValueError, RecursionError):
            raise BadRow("a value that is no JSON") from None
        is_end = label.get("finish_reason") == "solution" and ratings[-1] in (1, -1)
        steps, labels = tuple(path), tuple([self._neutral if rating == 0 else rating for rating in ratings])
        labeler = row.get("labeler")
        who = labeler if isinstance(labeler, str) else ""
        yield self._record(question, steps, labels, who, metadata, ratings[-1] == 1 if is_end else None)
        known: dict[tuple[int, str], int | None] = {}
        for step, completion, text, rating in alternatives:
            here = (step, text)
            if (step < len(path) and text == path[step]) or here in known:
                if rating != known.get(here, ratings[step] if step < len(path) else None):
                    tally.repair("one completion rated twice and differently: the first rating counts")
                continue
            known[here] = rating
            where = remember("prm800k_alternative", {"key": key, "step": step, "completion": completion})
            last = self._neutral if rating == 0 else rating
            yield self._record(question, (*steps[:step], text), (*labels[:step], last), who, where, None)

    def _check_screening(self, row: Row) -> None:
        for name in ("is_quality_control_question", "is_initial_screening_question"):
            found = row.get(name, False)
            if not isinstance(found, bool):
                raise BadRow(f"`{name}` is no truth value")
            if found and not self._keeps_screening:
                raise BadRow("a row for quality control or screening")

    def _record(
        self,
        question: Question,
        steps: tuple[str, ...],
        label: tuple[int | None, ...],
        who: str,
        kept: str,
        outcome: bool | None,
    ) -> Record:
        _, found, answer = steps[-1].rpartition(_ANSWER)
        return Record(
            question=question,
            steps=steps,
            label=label,
            method="human",
            provenance=(int(Provenance.HUMAN),) * len(steps),
            generator="prm800k",
            completer=who,
            final_answer=answer.strip() if found else None,
            outcome=outcome,
            label_metadata=kept,
        )

    def _new_question(self, text: str, gold: str, solution: str | None) -> Question:
        metadata = encode({} if solution is None else {"ground_truth_solution": solution})
        return Question(question_id(text, gold), text, gold, self._source, split=self._split, metadata=metadata)

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """The rows that were read, and one row for each other record; a process ends before its first unjudged step."""
        kept = [remainder(record.label_metadata, "prm800k") for record in processes(group, tally)]
        keys = {found["key"] for found in kept if found}
        for record, found in zip(group.records, kept, strict=True):
            if found:
                yield _as_read(found["row"], record)
            elif remainder(record.label_metadata, "prm800k_alternative").get("key") not in keys:
                yield from _new_row(record, group.question, tally)


def _walk(
    steps: object,
) -> tuple[list[str], list[int | None], list[_Alternative], list[Mapping[str, Any]]]:
    """The path, its ratings, the completions beside it, and the steps without the texts of the path."""
    if not isinstance(steps, (list, tuple)):
        raise BadRow("`steps` of `label` is no list")
    path: list[str] = []
    ratings: list[int | None] = []
    alternatives: list[_Alternative] = []
    kept: list[Mapping[str, Any]] = []
    is_open = True
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping):
            raise BadRow("a step that is no object")
        completions, human = _completions(step), step.get("human_completion")
        chosen = step.get("chosen_completion")
        if human is not None and not (isinstance(human, Mapping) and isinstance(human.get("text"), (str, type(None)))):
            raise BadRow("a human completion that is no object with a text")
        if chosen is not None and (type(chosen) is not int or not 0 <= chosen < len(completions)):
            raise BadRow("`chosen_completion` is no index of a completion")
        if not is_open:
            kept.append(step)
            continue
        if chosen is None and human is not None and (human.get("text") or "").strip():
            path.append(human["text"])
            ratings.append(1)
            kept.append({**step, "human_completion": {**human, "text": _ON_PATH}})
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
                kept.append({**step, "completions": texts})
                completions[pick] = ("", None)
            else:
                kept.append(step)
        alternatives += [_Alternative(number, i, *found) for i, found in enumerate(completions) if found[0]]
    return path, ratings, alternatives, kept


def _completions(step: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """Text and rating of each completion of a step; a text of white space alone is none."""
    found = step.get("completions")
    if found is None:
        return []
    if not isinstance(found, (list, tuple)):
        raise BadRow("`completions` is no list")
    completions = []
    for completion in found:
        if not isinstance(completion, Mapping) or not isinstance(completion.get("text"), (str, type(None))):
            raise BadRow("a completion that is no object with a text")
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
    """The kept row with the texts of the path put back."""
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
        tally.lose("steps that were not judged, and those behind them", len(record.steps) - n)
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
