"""Checks the label rule: the target and weight of each step, and the counts, from records and from a store."""

from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError
from openr_data.exchange.selection import REPEATED, Selection
from openr_data.store import Store
from openr_data.training.prm.examples import Example, ExampleCounts, LabelRule, read_examples, to_example
from openr_data.types import Provenance, Record
from tests.conftest import a_question
from tests.training.prm.toys import a_row, bring

HARD, SOFT = LabelRule(), LabelRule("soft")
BY_ROLLOUTS = LabelRule(weights="rollouts")
MEASURED = Provenance.MEASURED


def a_record(label: tuple[int | None, ...], **more: Any) -> Record:
    steps = tuple(f"step {place}" for place in range(len(label)))
    return Record(a_question(), steps, label, "toy", **more)


def targets(record: Record, rule: LabelRule, counts: ExampleCounts | None = None) -> tuple[float | None, ...]:
    example = to_example(record, rule, counts or ExampleCounts())
    assert example is not None
    return example.target


# Hard.


def test_a_good_or_neutral_step_is_one_and_a_bad_step_is_zero() -> None:
    assert targets(a_record((1, 0, -1)), HARD) == (1.0, 1.0, 0.0)


def test_a_step_without_a_label_is_masked() -> None:
    assert targets(a_record((None, 1, None, 1)), HARD) == (None, 1.0, None, 1.0)


@pytest.mark.parametrize("rule", [HARD, SOFT, LabelRule(threshold=0.25)])
def test_steps_behind_a_first_error_are_masked_whatever_their_labels(rule: LabelRule) -> None:
    labels, shares = (1, -1, 1, None, -1), (1.0, 0.0, 1.0, 1.0, 0.0)
    assert targets(a_record(labels), rule) == (1.0, 0.0, None, None, None)
    record = a_record(labels, value=shares, provenance=(MEASURED,) * 5)
    assert targets(record, rule) == (1.0, 0.0, None, None, None)


@pytest.mark.parametrize("rule", [SOFT, LabelRule(threshold=0.25)])
def test_a_step_that_nobody_judged_is_masked_even_where_a_share_was_measured(rule: LabelRule) -> None:
    record = a_record((1, None, 1), value=(0.5, 0.5, 0.5), provenance=(MEASURED,) * 3)
    assert targets(record, rule) == ((rule.threshold and 1.0) or 0.5, None, (rule.threshold and 1.0) or 0.5)


# Weights by source.


def test_a_source_and_a_method_weigh_what_they_are_said_to_be_worth() -> None:
    def weight_of(rule: LabelRule) -> tuple[float, ...]:
        record = Record(a_question(), ("a", "b"), (1, -1), "toy", n_rollouts=(8, 2))
        example = to_example(record, rule, ExampleCounts())
        assert example is not None
        return example.weight

    assert weight_of(LabelRule(source_weights=("toy:2",))) == (2.0, 2.0)
    assert weight_of(LabelRule(source_weights=("test:0.5",))) == (0.5, 0.5)
    assert weight_of(LabelRule(source_weights=("test:0.5", "toy:3", "other:9"))) == (1.5, 1.5)
    assert weight_of(LabelRule(weights="rollouts", source_weights=("toy:2",))) == (16.0, 4.0)
    assert weight_of(LabelRule(source_weights=("other:9",))) == (1.0, 1.0)


@pytest.mark.parametrize("item", ["toy", "toy:", "toy:x", ":2", "toy:0", "toy:-1", "toy:inf", "toy:nan"])
def test_a_weight_that_is_none_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match="source_weights are NAME:NUMBER"):
        LabelRule(source_weights=(item,))


def test_a_weight_of_a_source_that_is_not_there_is_one_sentence(store: Store) -> None:
    dataset = bring(store, [a_row("One?", ["a", "b"], [1, -1])])
    rule = LabelRule(source_weights=("nowhere:2",))
    with pytest.raises(
        InputError, match=r"source_weights names 'nowhere', which has no labels here. Sources with labels: \w+"
    ):
        list(read_examples(dataset.view(), rule, ExampleCounts(), selection=Selection()))


# Threshold and soft.


def test_with_a_threshold_the_measured_share_decides() -> None:
    record = a_record((1, 1, 1), value=(0.8, 0.5, 0.25), provenance=(MEASURED,) * 3)
    assert targets(record, HARD) == (1.0, 1.0, 1.0)
    assert targets(record, LabelRule(threshold=0.0)) == (1.0, 1.0, 1.0)
    # A value at the threshold is not good; only above it.
    assert targets(record, LabelRule(threshold=0.25)) == (1.0, 1.0, 0.0)
    # A step that the threshold makes an error is a first error.
    assert targets(record, LabelRule(threshold=0.5)) == (1.0, 0.0, None)


def test_with_a_threshold_a_label_is_no_error_where_the_share_is_above() -> None:
    record = a_record((1, -1, 1), value=(0.9, 0.3, 0.6), provenance=(MEASURED,) * 3)
    assert targets(record, LabelRule(threshold=0.25)) == (1.0, 1.0, 1.0)
    assert targets(record, HARD) == (1.0, 0.0, None)
    # Soft labels end at the stored first error.
    assert targets(record, SOFT) == (0.9, 0.3, None)


def test_a_soft_target_is_the_measured_share() -> None:
    record = a_record((1, 0, 1, -1), value=(1.0, 0.7, 0.125, 0.0), provenance=(MEASURED,) * 4)
    assert targets(record, SOFT) == (1.0, 0.7, 0.125, 0.0)


@pytest.mark.parametrize("where", Provenance)
def test_the_hard_label_stands_in_where_the_share_is_biased_or_certified(where: Provenance) -> None:
    counts = ExampleCounts()
    record = a_record((1, 1), value=(0.3, 0.75), provenance=(where, MEASURED))
    biased = where in (Provenance.STOPPED, Provenance.CERTIFIED)
    assert targets(record, SOFT, counts) == (1.0 if biased else 0.3, 0.75)
    assert counts.without_share == int(biased)
    assert targets(record, LabelRule(threshold=0.5)) == (1.0 if biased else 0.0, 0.75 > 0.5 if biased else None)


@pytest.mark.parametrize("rule", [SOFT, LabelRule(threshold=0.5)])
@pytest.mark.parametrize("value", [None, float("nan"), -1.0, 1.5])
def test_the_hard_label_stands_in_where_there_is_no_share(rule: LabelRule, value: float | None) -> None:
    counts = ExampleCounts()
    record = a_record((1, -1), value=(value, value), provenance=(Provenance.JUDGED, MEASURED))
    assert targets(record, rule, counts) == (1.0, 0.0)
    assert counts.without_share == 2
    # The same holds for a record without any columns besides the labels.
    assert targets(a_record((1, -1)), rule, counts) == (1.0, 0.0)
    assert counts.without_share == 4


def test_hard_labels_need_no_share_and_do_not_count_its_absence() -> None:
    counts = ExampleCounts()
    targets(a_record((1, -1), value=(None, 0.5)), HARD, counts)
    assert counts.without_share == 0


@pytest.mark.parametrize(
    "broken",
    [{"threshold": 1.0}, {"threshold": -0.1}, {"threshold": float("nan")}, {"labels": "soft", "threshold": 0.0}],
)
def test_a_rule_that_makes_no_sense_is_not_built(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        LabelRule(**broken)


# Weights.


def test_a_measured_step_weighs_its_rollouts_and_at_least_one() -> None:
    record = a_record((1, 1, None, -1), n_rollouts=(16, 0, 4, 1), n_correct=(8, 0, 4, 0))
    for rule, weight in ((HARD, (1.0,) * 4), (BY_ROLLOUTS, (16.0, 1.0, 4.0, 1.0))):
        example = to_example(record, rule, ExampleCounts())
        assert example is not None
        assert example.weight == weight
    without = to_example(a_record((1, -1)), BY_ROLLOUTS, ExampleCounts())
    assert without is not None
    assert without.weight == (1.0, 1.0)


# What is counted.


def test_a_record_without_labels_is_no_example_and_is_counted() -> None:
    counts = ExampleCounts()
    assert to_example(a_record((None, None)), HARD, counts) is None
    assert to_example(a_record((None,), value=(0.5,), provenance=(MEASURED,)), SOFT, counts) is None
    assert counts == ExampleCounts(without_labels=2)


@pytest.mark.parametrize(
    ("rule", "good"), [(HARD, 3), (SOFT, 2), (LabelRule(threshold=0.4), 3)], ids=["hard", "soft", "threshold"]
)
def test_steps_good_ones_and_masked_ones_are_counted(rule: LabelRule, good: int) -> None:
    counts = ExampleCounts()
    record = a_record((1, 1, None, 0, -1, 1), value=(0.9, 0.6, 0.9, 0.5, 0.0, 0.9), provenance=(MEASURED,) * 6)
    assert to_example(record, rule, counts) is not None
    assert (counts.steps, counts.masked, counts.good) == (4, 2, good)


def test_an_example_is_the_solution_as_it_is_stored() -> None:
    record = a_record((1, -1))
    example = to_example(record, HARD, ExampleCounts())
    question = record.question
    assert example == Example(
        question.question_id, "test", question.question, ("step 0", "step 1"), (1.0, 0.0), (1.0, 1.0)
    )


# From a store.


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = Store.open(tmp_path_factory.mktemp("examples") / "store", create=True)
    rows = [
        a_row("Q1?", ["a", "b"], [1, -1]),
        a_row("Q1?", ["a", "c"], [1, 1]),
        a_row("Q2?", ["a", "b"], [None, None]),
        a_row("Q3?", ["a", "b", "c"], [1, None, 1], method="judge"),
        {"question": "Never labelled?", "answer": "1"},
    ]
    # A row without steps is only a question.
    return bring(store, [{"steps": [], **row} for row in rows])


def read(dataset: Any, rule: LabelRule = HARD, **more: Any) -> tuple[list[Example], ExampleCounts]:
    counts = ExampleCounts()
    selection = more.pop("selection", Selection())
    return list(read_examples(dataset.view(), rule, counts, selection=selection, **more)), counts


def test_records_of_a_snapshot_come_question_by_question_and_are_counted(labelled: Any) -> None:
    examples, counts = read(labelled)
    assert [item.question_id for item in examples] == sorted(item.question_id for item in examples)
    assert sorted((item.question, item.steps, item.target) for item in examples) == [
        ("Q1?", ("a", "b"), (1.0, 0.0)),
        ("Q1?", ("a", "c"), (1.0, 1.0)),
        ("Q3?", ("a", "b", "c"), (1.0, None, 1.0)),
    ]
    assert (counts.records, counts.without_labels, counts.steps, counts.good, counts.masked) == (4, 1, 6, 5, 1)
    assert counts.left_out == {"questions without a label set": 1}


def test_records_are_chosen_by_method_condition_and_selection(labelled: Any) -> None:
    assert [item.question for item in read(labelled, method="judge")[0]] == ["Q3?"]
    assert {item.question for item in read(labelled, where="n_steps = 2")[0]} == {"Q1?"}
    few, counts = read(labelled, selection=Selection(per_question=1))
    assert sorted(item.question for item in few) == ["Q1?", "Q3?"]
    assert sum(counts.left_out.values()) == 2
    with pytest.raises(InputError):
        read(labelled, where="no_such_column = 1")


def test_repeated_records_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = bring(
        Store.open(tmp_path / "store", create=True),
        [a_row("Q?", ["a", "b"], [1, 1]), a_row("Q?", ["a", "b"], [1, 1], method="other")],
    )
    assert len(read(dataset)[0]) == 2
    examples, counts = read(dataset, selection=Selection(dedupe=True))
    assert len(examples) == 1
    assert counts.left_out == {REPEATED: 1}
