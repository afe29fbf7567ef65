"""Tests RLHFlow's conversations."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.rlhflow import RlhflowFormat
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write


def a_row(*turns: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(turns)
    return {"conversations": [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]}


@pytest.mark.parametrize(
    ("first", "question", "step", "repaired"),
    [
        ("Q? Step 1: a", "Q?", "Step 1: a", ""),
        (" Find x.\n\nstep 1 : a? \n", "Find x.", "step 1 : a?", ""),
        ("Step 0? Q? a", "Step 0? Q?", "a", 'no "Step 1:": the question ends at its last question mark'),
        (
            "Find x.\n\nLet y.\n\nSo z.",
            "Find x.\n\nLet y.",
            "So z.",
            'no "Step 1:": the question ends at its last blank',
        ),
    ],
)
def test_the_first_turn_is_cut_and_written_as_it_was(first: str, question: str, step: str, repaired: str) -> None:
    row = {**a_row(first, "+", " Step 2: b", "-"), "id": 3}
    tally = Tally()
    (record,) = read(RlhflowFormat, row, tally)
    assert (record.question.question, record.steps) == (question, (step, " Step 2: b"))
    assert record.label == (1, -1)
    assert all(reason.startswith(repaired) for reason in tally.repaired)
    assert bool(tally.repaired) == bool(repaired)
    (out,) = rewritten(RlhflowFormat, row)
    assert same(out, row)


@given(
    question=st.text(st.sampled_from("ab?. \n"), max_size=9),
    joint=st.sampled_from([" ", "\n", "\n\n", "  \t"]),
    steps=st.lists(st.text(min_size=1).filter(lambda text: bool(text.strip())), min_size=1),
    data=st.data(),
)
def test_every_row_with_a_step_1_is_written_as_it_was(
    question: str, joint: str, steps: list[str], data: st.DataObject
) -> None:
    turns = [text for step in steps for text in (step, data.draw(st.sampled_from("+-")))]
    turns[0] = f"{question}Q{joint}Step 1: {turns[0]}"
    (out,) = rewritten(RlhflowFormat, a_row(*turns))
    assert same(out, a_row(*turns))


def test_records_from_elsewhere_are_joined_by_a_space() -> None:
    tally = Tally()
    rows = write(RlhflowFormat, [a_record((1, 0, None)), a_record((None,))], tally)
    assert rows == [a_row("What is 1 + 1? Step 1: a", "+", "Step 2: b", "+")]
    assert tally.lost["records without any judged step"] == 1


def test_a_question_whose_end_the_text_does_not_tell_is_counted() -> None:
    tally = Tally()
    write(RlhflowFormat, [a_record((1,), "Find x.", steps=("Is it 2? Yes.",))], tally)
    assert tally.lost == {"where the question ends: the text does not show it": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "`conversations` is not a list of messages"),
        ({"conversations": []}, "`conversations` is not a list of messages"),
        ({"conversations": ["Q"]}, "`conversations` is not a list of messages with only `role` and `content`"),
        ({"conversations": [{"role": "user", "content": None}]}, "a message of `conversations` whose role or content"),
        (a_row("Q? a"), "turns that are not user and assistant in pairs"),
        (a_row("Q? a", "yes"), "an answer that is neither"),
        (a_row("Q? a", "+", " ", "+"), "a step without text"),
        (a_row("Find it.", "+"), 'neither "Step 1:" nor a question mark nor a blank line ends the question'),
        (a_row("Step 1: a", "+"), "no question before the first step"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(RlhflowFormat, row)
