"""Tests Math-Shepherd rows, including defective ones."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.exchange.formats.format import BadRow, Tally
from openr_data.exchange.formats.math_shepherd import MathShepherdFormat
from openr_data.types import Provenance
from tests.exchange.formats.round_trip import a_record, json_lines, read, rewritten, same, write


def a_row(template: str, signs: str, task: str = "GSM8K") -> dict[str, Any]:
    """Make a row from a text with § for each tag."""
    pieces = template.split("§")
    label = "".join(piece + sign for piece, sign in zip(pieces, signs, strict=False)) + pieces[-1]
    return {"input": template.replace("§", "ки"), "label": label, "task": task}


def test_every_real_row_is_written_as_it_was(shared_data: Path) -> None:
    for row in json_lines(shared_data / "formats" / "math_shepherd.jsonl"):
        (out,) = rewritten(MathShepherdFormat, row)
        assert same(out, row)


def test_a_row_is_its_steps_their_labels_and_the_outcome() -> None:
    (record,) = read(MathShepherdFormat, a_row("Q? Step 1: a §\nStep 2: b. The answer is: 4 §", "+-"))
    assert (record.question.question, record.question.answer) == ("Q?", "")
    assert record.steps == ("Step 1: a", "Step 2: b. The answer is: 4")
    assert (record.label, record.outcome, record.final_answer) == ((1, -1), False, "4")
    assert record.provenance == (Provenance.IMPORTED,) * 2


@pytest.mark.parametrize(
    ("template", "question", "steps", "reason"),
    [
        ("How § many? Step 1: a §\nStep 2: b §", "How  many?", ("Step 1: a", "Step 2: b"), "ки inside the question"),
        ("How many? Step 0? a §\nStep 2: b §", "How many? Step 0?", ("a", "Step 2: b"), 'no "Step 1:"'),
        ("How many? step 1: a §\nStep 2: b §", "How many?", ("step 1: a", "Step 2: b"), ""),
        ("Find x. Step 1 : a §\nStep 1: b §", "Find x.", ("Step 1 : a", "Step 1: b"), ""),
        ("Q? Step 1: a Step 1: b §\nStep 2: c §", "Q?", ("Step 1: a Step 1: b", "Step 2: c"), ""),
        ("Q? Step 1: a §\nStep 2: b §\nand so on", "Q?", ("Step 1: a", "Step 2: b"), "text after the last ки left"),
        ("Q?\nStep 1: a§  Step 2: b§", "Q?", ("Step 1: a", "Step 2: b"), ""),
    ],
)
def test_dirty_rows_are_mended_counted_and_written_as_they_were(
    template: str, question: str, steps: tuple[str, ...], reason: str
) -> None:
    tally = Tally()
    row = a_row(template, "+-+"[: template.count("§")])
    (record,) = read(MathShepherdFormat, row, tally)
    assert (record.question.question, record.steps) == (question, steps)
    assert len(tally.repaired) == bool(reason)
    assert all(found.startswith(reason) for found in tally.repaired)
    (out,) = rewritten(MathShepherdFormat, row)
    assert same(out, row)


@given(
    question=st.text(st.sampled_from("ab?. \n"), max_size=9),
    steps=st.lists(st.text(st.sampled_from("ab?+-. \n"), max_size=9), min_size=1, max_size=5),
    between=st.sampled_from(["\n", " ", "", "\n\n"]),
    data=st.data(),
)
def test_every_row_is_written_as_it_was(question: str, steps: list[str], between: str, data: st.DataObject) -> None:
    signs = "".join(data.draw(st.sampled_from("+-")) for _ in steps)
    body = between.join(f"Step {i}: {step} §" for i, step in enumerate(steps, start=1))
    row = a_row(f"{question}Q {body}", signs)
    (out,) = rewritten(MathShepherdFormat, row)
    assert same(out, row)


def test_records_from_elsewhere_are_written_with_their_losses_counted() -> None:
    tally = Tally()
    records = [a_record((1, 0, -1, None), value=(0.5, 0.5, 0.0, None)), a_record((None,))]
    rows = write(MathShepherdFormat, records, tally)
    assert rows == [a_row("What is 1 + 1? Step 1: a §\nStep 2: b §\nStep 3: c §", "++-", "elsewhere")]
    assert tally.lost == {
        "values of steps (soft labels)": 3,
        "neutral labels (now good or bad)": 1,
        "steps that were not judged, and those after them": 2,
        "records without any judged step": 1,
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input": "Q? a ки"}, "no texts in `input` and `label`"),
        ({"input": "Q? a", "label": "Q? a"}, "no ки in `input`"),
        ({"input": "Q? a ки", "label": "Q? a ?"}, "`input` and `label` are not the same text"),
        ({"input": "Q? a ки", "label": "Q? b +"}, "`input` and `label` are not the same text"),
        (a_row("Find x. a §", "+"), 'neither "Step 1:" nor a question mark ends the question'),
        (a_row("Step 1: a §", "+"), "no question before the first step"),
        (a_row("Q? Step 1: a § §", "++"), "a step without text"),
    ],
)
def test_a_bad_row_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read(MathShepherdFormat, row)
