"""A selection of the records of a snapshot: without repetitions, N a question, negatives and positives in balance.

Positives outnumber negatives many times over if labels come from rollouts, and a few questions can bring most of
them. A selection subsamples the records in three steps, each over the records that the step before left:

1. `dedupe`: of records with the same question text, steps and labels the first stays (in the order of an export).
2. `per_question`: at most N records of a question stay, negatives and positives in turn. A draw by question decides
   which of them begins, so that an odd number favours neither.
3. `balance`: negatives per positive. The larger side is subsampled.

A record is negative if it has a first error. A hash of its id and the seed decides whether it stays: the same records
and the same seed give the same selection on any machine, and one more record moves few of the others.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow.compute as pc

from ..errors import InputError, UsageError
from ..store import View

_REPEATED, _BEYOND, _UNBALANCED = 1, 2, 3

REPEATED: Final = "records that repeat another one (same question, steps and labels)"
_RATIO: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(?::\s*(\d+(?:\.\d*)?|\.\d+)\s*)?")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selection leaves out, by default nothing. `balance` is negatives per positive, counted in records."""

    balance: float | None = None
    per_question: int | None = None
    dedupe: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.balance is not None and not 0 < self.balance < math.inf:
            raise ValueError("balance is above 0")
        if self.per_question is not None and self.per_question < 1:
            raise ValueError("per_question is at least 1")

    @property
    def takes_all(self) -> bool:
        """Whether the selection leaves nothing out."""
        return self.balance is None and self.per_question is None and not self.dedupe


@dataclass(frozen=True, slots=True)
class Selected:
    """The records that stay, in the order of an export, and the number of those that do not, by reason.

    `question_id` and `label_id` are parallel; memory grows by some hundred bytes a record.
    """

    question_id: Sequence[str]
    label_id: Sequence[str]
    left_out: dict[str, int] = field(default_factory=dict)

    def pieces(self, size: int) -> Iterator[tuple[list[str], Sequence[str]]]:
        """The question ids, each once, and the label ids of pieces with about `size` records; no question is cut."""
        start = 0
        while start < len(self.label_id):
            end = min(start + size, len(self.label_id))
            while end < len(self.label_id) and self.question_id[end] == self.question_id[end - 1]:
                end += 1
            yield list(dict.fromkeys(self.question_id[start:end])), self.label_id[start:end]
            start = end


def parse_ratio(text: str) -> float:
    """Negatives per positive: "1:1" is 1, "1:2" is 0.5, "0.5" is 0.5. Raises `UsageError`."""
    match = _RATIO.fullmatch(text)
    first, second = (float(match[1]), float(match[2] or 1)) if match else (0.0, 0.0)
    if not first or not second:
        raise UsageError(f"{text!r} is not a ratio of negatives to positives, for example 1:1, 1:3 or 0.5.")
    return first / second


def select_records(view: View, selection: Selection, condition: str = "true") -> Selected:
    """The records that a selection takes of those that meet a condition of SQL over `records`.

    It reads ids and first errors, and texts only to find repetitions. Raises `InputError` for a condition that fails,
    and for a balance if one of the two sides has no record.
    """
    rows = view.sql(_query(selection, condition))
    if selection.balance is not None:
        sides = rows.filter(pc.field("reason").is_null() | (pc.field("reason") == _UNBALANCED))["is_negative"]
        negatives = pc.sum(sides).as_py() or 0
        if negatives in (0, len(sides)):
            raise InputError(
                f"A balance needs records with a first error and records without, but there are {negatives:,} and "
                f"{len(sides) - negatives:,}. Take other records, or ask for no balance."
            )
    reasons = Counter(zip(rows["reason"].to_pylist(), rows["is_negative"].to_pylist(), strict=True))
    counts = {
        REPEATED: reasons[_REPEATED, True] + reasons[_REPEATED, False],
        f"records beyond {selection.per_question} a question": reasons[_BEYOND, True] + reasons[_BEYOND, False],
        "records with a first error, for the balance": reasons[_UNBALANCED, True],
        "records without a first error, for the balance": reasons[_UNBALANCED, False],
    }
    stay = rows.filter(pc.field("reason").is_null())
    left_out = {reason: count for reason, count in counts.items() if count}
    return Selected(stay["question_id"].to_pylist(), stay["label_id"].to_pylist(), left_out)


def _query(selection: Selection, condition: str) -> str:
    """SQL for all records, each with the reason to leave it out or null. A step ignores records left out before it."""
    order = "question_id, solution_id, method, label_id"
    # A process id belongs to one question, and the same question text may be stored with two answers.
    same = "md5(concat(to_json(question), to_json(steps), to_json(label)))"
    is_repeated = f"row_number() over (partition by {same} order by {order}) > 1" if selection.dedupe else "false"
    is_beyond = "false" if selection.per_question is None else f"turn > {selection.per_question}"
    ratio, is_too_many = selection.balance, "false"
    if ratio is not None:
        # One record of a side always stays, and the 1e-9 makes 5 / (5 / 29) the 29 that it is.
        bound = f"if(is_negative, {ratio} * positives, negatives / {ratio})"
        is_too_many = f"place_of_side > greatest(1, floor({bound} + 1e-9))"
    return f"""
        with listed as (
            select {order}, first_error is not null as is_negative,
                   md5(concat('{selection.seed} ', label_id)) as draw,
                   md5(concat('{selection.seed} ', question_id)) < '8' as negatives_begin,
                   {is_repeated} as is_repeated
            from records where {condition}
        ), placed as (
            select *, row_number() over (partition by is_repeated, question_id, is_negative order by draw) as place
            from listed
        ), in_turn as (
            select *, row_number() over (
                       partition by is_repeated, question_id order by place, is_negative <> negatives_begin) as turn
            from placed
        ), capped as materialized (
            select *, case when is_repeated then {_REPEATED} when {is_beyond} then {_BEYOND} end as capped
            from in_turn
        ), sides as (
            -- Windows over all records took minutes.
            select count(*) filter (is_negative) as negatives, count(*) filter (not is_negative) as positives
            from capped where capped is null
        ), counted as (
            select *, row_number() over (partition by capped, is_negative order by draw) as place_of_side
            from capped cross join sides
        )
        select question_id, label_id, is_negative,
               case when capped is not null then capped
                    when {is_too_many} then {_UNBALANCED}
               end as reason
        from counted order by {order}
    """
