"""Tests chats for Qwen2.5-Math-PRM."""

from typing import Any

import pytest

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.qwen import QwenFormat
from tests.exchange.formats.round_trip import a_record, read, rewritten, same, write

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def a_row(content: str, labels: Any = (1, 0), system: str | None = SYSTEM, question: str = "Q") -> dict[str, Any]:
    turns = [] if system is None else [("system", system)]
    turns += [("user", question), ("assistant", content)]
    return {"messages": [{"role": role, "content": text} for role, text in turns], "labels": labels}


@pytest.mark.parametrize(
    "row",
    [
        a_row("a<extra_0>b<extra_0>", [1, 0]),
        a_row("a<extra_0>b<extra_0>", [0.25, 1 / 3]),
        a_row("a<extra_0>b<extra_0>", [True, False]),
        a_row("a<extra_0>b<extra_0>", [1, 0.5]),
        a_row(" a <extra_0>\n\nb <extra_0>\n", [1, 0]),
        a_row("a<extra_0> b <extra_0>", [1, 0]),
        a_row("a<extra_0>b<extra_0>", [1, 0], None, " Q\n"),
        a_row("a<extra_0>b<extra_0>", [1, 0], "Think."),
        a_row("a<extra_0>b<extra_0>left over", [1, 0]),
    ],
)
def test_every_row_is_written_as_it_was(row: dict[str, Any]) -> None:
    (record,) = read(QwenFormat, row)
    assert record.steps == ("a", "b")
    (out,) = rewritten(QwenFormat, row)
    assert same(out, row)


def test_regular_white_space_is_not_kept_as_a_second_text() -> None:
    (record,) = read(QwenFormat, a_row("a\n\n<extra_0>b\n\n<extra_0>"))
    assert record.label_metadata == '{"qwen":{"text":["","\\n\\n","",""]}}'


def test_records_from_elsewhere_are_written_without_white_space_between_steps() -> None:
    tally = Tally()
    (row,) = write(QwenFormat, [a_record((1, -1, None))], tally)
    assert row == a_row("Step 1: a<extra_0>Step 2: b<extra_0>", [1, 0], question="What is 1 + 1?")
    (row,) = write(QwenFormat, [a_record((1, -1), value=(0.75, 0.0))], labels="soft", tag="#")
    assert row == a_row("Step 1: a#Step 2: b#", [0.75, 0.0], question="What is 1 + 1?")
    assert tally.lost == {"steps that were not judged, and those after them": 1}


def test_a_step_that_holds_the_tag_is_not_written() -> None:
    tally = Tally()
    assert write(QwenFormat, [a_record((1,), steps=("a<extra_0>b",))], tally) == []
    assert tally.lost == {"records whose text holds the tag": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "`messages` is not a list of messages"),
        ({"messages": [{"role": "system", "content": "s"}]}, "messages that are not system"),
        (a_row("no tag"), "no tag in the assistant's message"),
        (a_row("a<extra_0>b<extra_0>", question=" "), "no question"),
        (a_row("a<extra_0> <extra_0>"), "a step without text"),
        (a_row("a<extra_0>b<extra_0>", [1]), "not one label a step"),
        (a_row("a<extra_0>b<extra_0>", ["+", "-"]), "labels that are neither marks nor values"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(QwenFormat, row)
