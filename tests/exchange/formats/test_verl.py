"""Tests verl's rows of questions."""

from typing import Any

import pytest

from openr_data.exchange.formats.format import BadRow, QuestionGroup, Tally
from openr_data.exchange.formats.verl import VerlFormat
from openr_data.types import Question
from tests.exchange.formats.round_trip import a_record, make, rewritten, same

ROW: dict[str, Any] = {
    "data_source": "gsm8k",
    "prompt": [{"role": "user", "content": "How many? Let's think step by step."}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "72"},
    "extra_info": {"split": "train", "index": 3, "question": "How many?", "level": "2"},
}


def question_of(row: dict[str, Any], **options: Any) -> Question:
    (found,) = make(VerlFormat, **options).read(row, Tally())
    assert isinstance(found, Question)
    return found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " How many?\n"}]},
        {"extra_info": None, "ability": None, "agent": "x"},
        {"reward_model": {"style": "rule", "ground_truth": " 72 ", "more": [1]}},
    ],
)
def test_every_row_is_written_as_it_was(change: dict[str, Any]) -> None:
    row = {**ROW, **change}
    (out,) = rewritten(VerlFormat, row)
    assert same(out, row)


def test_an_instruction_is_no_part_of_the_question() -> None:
    found = question_of(ROW)
    assert (found.question, found.answer, found.split, found.level) == ("How many?", "72", "train", "2")
    plain = {**ROW, "extra_info": {}}
    assert question_of(plain).question == "How many? Let's think step by step."
    assert question_of(plain, instruction=" Let's think step by step.").question == "How many?"


def test_questions_from_elsewhere_are_written_and_their_processes_counted() -> None:
    tally = Tally()
    record = a_record()
    (row,) = make(VerlFormat, instruction="Think.").write(QuestionGroup(record.question, [record]), tally)
    assert row["prompt"] == [{"role": "user", "content": "What is 1 + 1?\nThink."}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": "2"}
    assert (row["data_source"], row["ability"]) == ("elsewhere", "math")
    assert tally.lost == {"processes and their labels: the rows hold questions only": 1}
    assert question_of(dict(row), instruction="Think.").question == "What is 1 + 1?"


def test_a_question_without_a_gold_answer_is_counted() -> None:
    tally = Tally()
    assert len(list(make(VerlFormat).write(QuestionGroup(Question("0" * 32, "Q", "", "s"), []), tally))) == 1
    assert tally.lost == {"questions without a gold answer (`ground_truth` is empty)": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "Q"}, "`prompt` is not a list of messages"),
        ({"prompt": [{"role": "assistant", "content": "Q"}]}, "a prompt that is not one user message"),
        ({"prompt": [{"role": "user", "content": " "}]}, "no question in the prompt"),
        ({"data_source": 1}, "`data_source` or `ability` is not a string"),
        ({"reward_model": {"ground_truth": 72}}, "no text in `ground_truth` of `reward_model`"),
        ({"reward_model": None}, "no text in `ground_truth` of `reward_model`"),
        ({"extra_info": 1}, "`extra_info` is not an object"),
        ({"extra_info": {"a": b"x"}}, "a value that is not JSON"),
    ],
)
def test_a_bad_row_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        question_of({**ROW, **change})
