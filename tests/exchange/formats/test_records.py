"""Checks that this project's own rows hold a whole record, and that an invalid row gives its reason."""

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, NoOptions, QuestionGroup, Tally, plain_value
from openr_data.exchange.formats.records import RecordsFormat
from openr_data.ids import question_id
from openr_data.types import Provenance, Question, Record
from tests.exchange.formats.round_trip import make, same, stored

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SOLID = TEXT.filter(lambda text: text.strip())
PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, width=64) | TEXT
OBJECT = st.dictionaries(
    TEXT, PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(TEXT, PLAIN, max_size=2), max_size=3
)
COUNT = st.integers(0, 2**31 - 1)
FLOAT32 = st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100)


def seven_digits(value: float) -> bool:
    """Report whether the seven written digits distinguish a float32 from its neighbours."""
    return struct.unpack("f", struct.pack("f", float(f"{value:.7g}")))[0] == value


def text_of(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) if data else "{}"


@st.composite
def records(draw: st.DrawFn) -> Record:
    n = draw(st.integers(1, 4))

    def of(kind: Any) -> tuple[Any, ...]:
        return tuple(draw(st.lists(kind, min_size=n, max_size=n)))

    def maybe(kind: Any) -> tuple[Any, ...]:
        return of(kind) if draw(st.booleans()) else ()

    rollouts = maybe(COUNT)
    correct = tuple(draw(st.integers(0, most)) for most in rollouts)
    text, answer = draw(SOLID), draw(TEXT)
    question = Question(
        question_id(text, answer), text, answer, draw(SOLID), draw(TEXT), draw(TEXT), draw(TEXT), text_of(draw(OBJECT))
    )
    return Record(
        question=question,
        steps=of(TEXT),
        label=of(st.sampled_from([1, 0, -1, None])),
        method=draw(SOLID),
        value=of(st.none() | FLOAT32.filter(seven_digits)),
        n_correct=correct,
        n_rollouts=rollouts,
        provenance=maybe(st.sampled_from(list(map(int, Provenance)))),
        generator=draw(TEXT),
        completer=draw(TEXT),
        final_answer=draw(st.none() | TEXT),
        outcome=draw(st.sampled_from([True, False, None])),
        metadata=text_of(draw(OBJECT)),
        label_metadata=text_of(draw(OBJECT)),
    )


@given(record=records())
@settings(max_examples=300, deadline=None)
def test_any_record_comes_back_from_its_row_as_it_was(record: Record) -> None:
    form, tally = make(RecordsFormat), Tally()
    (row,) = form.write(QuestionGroup(record.question, [record]), tally)
    row = json.loads(json.dumps(row, ensure_ascii=False))
    (found,) = form.read(row, tally)
    assert isinstance(found, Record)
    assert stored(found) == record
    assert not tally.lost
    assert not tally.repaired
    (again,) = form.write(QuestionGroup(record.question, [record]), tally)
    assert same(dict(again), row)


@given(value=FLOAT32)
@settings(max_examples=300, deadline=None)
def test_a_value_is_within_a_millionth_of_what_it_was(value: float) -> None:
    record = read(a_row(value=[value, None]))
    (row,) = make(RecordsFormat).write(QuestionGroup(record.question, [record]), Tally())
    assert math.isclose(row["value"][0], value, rel_tol=1e-6)


@pytest.mark.parametrize("n", [3, 6, 7, 12])
def test_every_share_of_rollouts_comes_back(n: int) -> None:
    for k in range(n + 1):
        value = struct.unpack("f", struct.pack("f", k / n))[0]
        record = read(a_row(value=[value, None]))
        (row,) = make(RecordsFormat).write(QuestionGroup(record.question, [record]), Tally())
        assert struct.pack("f", row["value"][0]) == struct.pack("f", value)


def a_row(**changes: Any) -> dict[str, Any]:
    return {"question": "1+1?", "answer": "2", "steps": ["a", "b"], "label": [1, -1], "method": "m", **changes}


def read(row: dict[str, Any], source: str = "here", split: str = "") -> Record:
    (found,) = RecordsFormat(NoOptions(), source, split).read(row, Tally())
    assert isinstance(found, Record)
    return found


def test_the_least_row_is_a_record() -> None:
    record = read({"question": "1+1?", "steps": ["a"], "method": "m"})
    assert record.label == (None,)
    assert record.value == ()
    assert record.question.question_id == question_id("1+1?", "")
    assert record.question.source == "here"
    assert (record.outcome, record.final_answer, record.metadata) == (None, None, "{}")


def test_null_is_nothing_in_every_field_that_may_be_absent() -> None:
    names = (
        "answer", "source", "split", "level", "subject", "metadata", "label", "value", "n_correct", "n_rollouts",
        "provenance", "completer", "generator", "final_answer", "outcome", "solution_metadata", "label_metadata",
    )  # fmt: skip
    nothing = read({"question": "1+1?", "steps": ["a"], "method": "m", **dict.fromkeys(names)})
    assert nothing == read({"question": "1+1?", "steps": ["a"], "method": "m"})


def test_the_source_of_the_row_counts_and_the_split_of_the_command() -> None:
    record = read(a_row(source="mine", split="test"), source="here", split="train")
    assert (record.question.source, record.question.split) == ("mine", "train")
    assert read(a_row(split="test")).question.split == "test"


@pytest.mark.parametrize(("text", "outcome"), [("true", True), ("True", True), ("false", False), ("", None)])
def test_a_truth_value_out_of_csv_is_read_from_its_text(text: str, outcome: bool | None) -> None:
    assert read(a_row(outcome=text)).outcome is outcome


def test_metadata_out_of_parquet_is_read_from_its_json() -> None:
    assert read(a_row(solution_metadata='{"a": [1]}')) == read(a_row(solution_metadata={"a": [1]}))
    assert read(a_row(label_metadata=" ")) == read(a_row())


@pytest.mark.parametrize("steps", [[], None, ""])
def test_a_row_without_steps_is_a_question(steps: Any) -> None:
    (found,) = make(RecordsFormat).read({"question": "1+1?", "answer": "2", "steps": steps, "level": "3"}, Tally())
    assert isinstance(found, Question)
    assert (found.question, found.answer, found.level) == ("1+1?", "2", "3")


def test_several_records_of_a_question_are_several_rows_in_their_order() -> None:
    one, two = read(a_row()), read(a_row(steps=["c"], label=[0], completer="x"))
    rows = list(make(RecordsFormat).write(QuestionGroup(one.question, [two, one]), Tally()))
    assert [row["steps"] for row in rows] == [["c"], ["a", "b"]]
    assert [row["completer"] for row in rows] == ["x", ""]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"steps": 1}, "`steps` is not a list of texts"),
    ({"steps": "ab"}, "`steps` is not a list of texts"),
    ({"steps": ["a", 1]}, "`steps` is not a list of texts"),
    ({"steps": {"a": 1}}, "`steps` is not a list of texts"),
    ({"question": ""}, "no text in `question`"),
    ({"question": None}, "no text in `question`"),
    ({"question": 3}, "no text in `question`"),
    ({"method": " "}, "no text in `method`"),
    ({"method": None}, "no text in `method`"),
    ({"answer": 2}, "`answer` is not a string"),
    ({"level": ["5"]}, "`level` is not a string"),
    ({"completer": 1}, "`completer` is not a string"),
    ({"final_answer": 2}, "`final_answer` is not a string"),
    ({"outcome": 1}, "`outcome` is not a truth value"),
    ({"outcome": "yes"}, "`outcome` is not a truth value"),
    ({"metadata": "x"}, "`metadata` is not an object"),
    ({"metadata": [1]}, "`metadata` is not an object"),
    ({"solution_metadata": {"a": b"x"}}, "`solution_metadata` is not JSON"),
    ({"label_metadata": 1}, "`label_metadata` is not an object"),
    ({"label": [1]}, "`label` does not have one entry per step"),
    ({"label": [1, -1, 1]}, "`label` does not have one entry per step"),
    ({"label": "+-"}, "`label` does not have one entry per step"),
    ({"label": [1, 2]}, "`label` holds a value that is not allowed there"),
    ({"label": [1, True]}, "`label` holds a value that is not allowed there"),
    ({"label": [1, 1.0]}, "`label` holds a value that is not allowed there"),
    ({"label": [1, "1"]}, "`label` holds a value that is not allowed there"),
    ({"value": [0.5, "x"]}, "`value` holds a value that is not allowed there"),
    ({"value": [0.5, math.nan]}, "`value` holds a value that is not allowed there"),
    ({"value": [0.5, math.inf]}, "`value` holds a value that is not allowed there"),
    ({"value": [0.5, 1e39]}, "`value` holds a value that is not allowed there"),
    ({"value": [0.5, 10**400]}, "`value` holds a value that is not allowed there"),
    ({"value": [0.5, False]}, "`value` holds a value that is not allowed there"),
    ({"n_correct": [1, -1]}, "`n_correct` holds a value that is not allowed there"),
    ({"n_correct": [1, None]}, "`n_correct` holds a value that is not allowed there"),
    ({"n_rollouts": [1, 2**31]}, "`n_rollouts` holds a value that is not allowed there"),
    ({"n_rollouts": [1, 1.0]}, "`n_rollouts` holds a value that is not allowed there"),
    ({"provenance": ["human", "nobody"]}, "`provenance` holds a value that is not allowed there"),
    ({"provenance": [0, 1]}, "`provenance` holds a value that is not allowed there"),
    ({"provenance": {"a": 1}}, "`provenance` does not have one entry per step"),
    (
        {"label_metadata": {"reasons": ["a"]}},
        "`label_metadata` holds reasons that are not one entry for each of 2 steps",
    ),
    ({"label_metadata": {"reasons": ["a", 1]}}, "`label_metadata` holds reasons that are no texts"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD)
def test_a_row_that_is_no_record_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=f"^{reason}"):
        read(a_row(**changes))


def test_a_row_without_the_field_steps_is_none_of_ours() -> None:
    with pytest.raises(BadRow, match="^no field `steps`$"):
        list(make(RecordsFormat).read({"question": "1+1?", "answer": "2"}, Tally()))


def test_more_correct_rollouts_than_rollouts_are_refused() -> None:
    with pytest.raises(BadRow):
        read(a_row(n_correct=[5, 0], n_rollouts=[2, 2]))


def test_a_value_is_written_as_the_shortest_number_that_is_that_value() -> None:
    written = [repr(plain_value(struct.unpack("f", struct.pack("f", value))[0])) for value in (0.1, 0.875, 1 / 3, 1e-8)]
    assert written == ["0.1", "0.875", "0.33333334", "1e-08"]
