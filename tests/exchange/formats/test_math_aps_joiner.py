"""Checks that processes whose steps are pieces of a text are written as that text."""

import json

from openr_data.exchange.formats.format import QuestionGroup, Tally
from openr_data.exchange.formats.math_aps import MathApsFormat
from openr_data.types import Record
from tests.conftest import a_question

PIECES = ("We add.", " Two and two is 5.\n\n", "So 5.")


def written(*joiners: str | None) -> tuple[list[str], Tally]:
    question, tally = a_question(), Tally()
    records = [
        Record(
            question,
            PIECES if place == 0 else (*PIECES[:2], f"Other {place}."),
            (1, -1, None),
            "omegaprm",
            value=(1.0, 0.0, None),
            metadata="{}" if joiner is None else json.dumps({"joiner": joiner}),
        )
        for place, joiner in enumerate(joiners)
    ]
    form = MathApsFormat(MathApsFormat.config_type(), "test", "")
    (row,) = form.write(QuestionGroup(question, records), tally)
    return [step["solution_prefix"] for step in row["reasoning_steps"]], tally


def test_the_joiner_of_the_metadata_stands_between_pieces() -> None:
    texts, tally = written("")
    assert any(text.endswith("We add. Two and two is 5.\n\n") for text in texts)
    assert not any("tree" in reason for reason in tally.lost)


def test_without_one_a_blank_line_stands_between_steps() -> None:
    texts, _ = written(None)
    assert any(text.endswith("We add.\n\n Two and two is 5.\n\n") for text in texts)


def test_processes_with_different_joiners_in_one_tree_are_counted() -> None:
    _, tally = written("", None)
    assert tally.lost["how the steps of processes in one tree are joined"] == 1
