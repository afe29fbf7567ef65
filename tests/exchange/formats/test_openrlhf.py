"""Tests rows of OpenRLHF and ER-PRM-Data."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.openrlhf import OpenRlhfFormat
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write

TEXT = "Q? Step 1: a ки\nStep 2: b ки"
WORDS = st.text(st.sampled_from("ab ?.\n"), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"input": TEXT, "value": ["+", "-"]}, (1, -1)),
        ({"text": TEXT, "value": [0.75, 0.1]}, (1, -1)),
        ({"input": TEXT, "value": [1, 0]}, (1, -1)),
        ({"input": TEXT, "value": [True, False], "text": "beside it"}, (1, -1)),
        ({"input": "Q? Step 1: aки\n\nStep 2: bки\n", "value": [2 / 3, 0.0]}, (1, -1)),
        ({"input": " Q? Step 1: aки Step 2: b ки", "value": ["-", "-"]}, (-1, -1)),
        ({"input": "Q ки is? Step 1: a ки\nStep 2: b ки", "value": ["+", "-", "+"]}, (-1, 1)),
        ({"input": "Q? a ки\nb ки tail", "value": ["+", "-"]}, (1, -1)),
    ],
)
def test_every_row_is_written_as_it_was(row: dict[str, Any], label: tuple[int, ...]) -> None:
    (record,) = read(OpenRlhfFormat, row)
    assert record.label == label
    (out,) = rewritten(OpenRlhfFormat, row)
    assert same(out, row)


@given(
    question=WORDS,
    steps=st.lists(WORDS, min_size=1, max_size=4),
    between=st.sampled_from(["", " ", "\n", "\n\n"]),
    soft=st.booleans(),
    data=st.data(),
)
def test_every_text_that_is_read_is_written_as_it_was(
    question: str, steps: list[str], between: str, soft: bool, data: st.DataObject
) -> None:
    marks: st.SearchStrategy[Any] = st.floats(0, 1) if soft else st.sampled_from(["+", "-"])
    value = data.draw(st.lists(marks, min_size=len(steps), max_size=len(steps)))
    row = {"input": question + between.join(f"{step}ки" for step in steps), "value": value}
    try:
        (out,) = rewritten(OpenRlhfFormat, row)
    except BadRow:
        return
    assert same(out, row)


def test_records_from_elsewhere_are_written_like_math_shepherd() -> None:
    (row,) = write(OpenRlhfFormat, [a_record()])
    assert row == {"input": "What is 1 + 1? Step 1: a ки\nStep 2: b ки", "value": ["+", "-"]}
    (row,) = write(OpenRlhfFormat, [a_record(value=(0.1, 0.0))], labels="soft", placeholder="§")
    assert row == {"input": "What is 1 + 1? Step 1: a §\nStep 2: b §", "value": [0.1, 0.0]}


def test_texts_that_cannot_be_read_again_are_counted() -> None:
    tally = Tally()
    assert write(OpenRlhfFormat, [a_record((1,), steps=("раки",))], tally) == []
    write(OpenRlhfFormat, [a_record((1,), "Find x.", steps=("Two? Yes.",))], tally)
    assert tally.lost == {
        "records whose text holds the placeholder": 1,
        "where the question ends: the text does not show it": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"value": ["+"]}, "no text in `text`"),
        ({"input": "Q? a", "value": ["+"]}, "no placeholder in the text"),
        ({"input": "Q? a ки ки", "value": ["+", "+"]}, "a step without text"),
        ({"input": TEXT, "value": ["+"]}, "not one label a step"),
        ({"input": TEXT, "value": None}, "not one label a step"),
        ({"input": TEXT, "value": ["+", "?"]}, "labels that are neither marks nor values"),
        ({"input": "ки Q? Step 1: a ки", "value": [None, "+"]}, "labels that are neither marks nor values"),
        ({"input": "Find x ки", "value": ["+"]}, "nor a blank line ends the question"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(OpenRlhfFormat, row)
