"""A comparison of labeling methods: every figure worked out by hand or by a second way, whoever knows the truth."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from openr_data.catalogs.arithmetic.problems import problems
from openr_data.catalogs.arithmetic.source import ArithmeticSource, to_question
from openr_data.engine.accounts import Account
from openr_data.engine.prices import Price
from openr_data.errors import MissingDependency, StoreError, UnknownName, UsageError
from openr_data.evaluation import truth
from openr_data.evaluation.label_figures import Contender, MethodComparison, Quality, Share
from openr_data.evaluation.labels import compare
from openr_data.exchange.formats.format import NoOptions
from openr_data.exchange.formats.processbench import ProcessBenchFormat
from openr_data.exchange.formats.records import RecordsFormat
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.ids import process_ids, question_id
from openr_data.jobs.spending import spending_row
from openr_data.labels import Agreement, Counts, HardLabel, agreement, first_error, wilson
from openr_data.store import Dataset, Store
from openr_data.store.rows import question_row
from openr_data.types import Usage

HUMAN = 4


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset("d", create=True)


def people(dataset: Dataset, *first_wrong: int) -> None:
    """A file like ProcessBench: solution i of three steps, with the index of its first wrong step."""
    rows = [
        (str(i), {"id": f"t-{i}", "generator": "g", "problem": f"Question {i}?", "steps": steps(i),
                  "final_answer_correct": wrong < 0, "label": wrong})
        for i, wrong in enumerate(first_wrong)
    ]  # fmt: skip
    import_rows(dataset, ImportConfig("processbench", "pb"), ProcessBenchFormat(NoOptions(), "pb", ""), rows, "pb.json")


def steps(i: int) -> list[str]:
    return [f"step {n} of {i}" for n in range(3)]


def records(dataset: Dataset, method: str, *rows: dict[str, Any], source: str = "s") -> str:
    """Import label sets of a method, solution i with its labels; another source is another job. Returns its id."""
    filled = [
        {"question": f"Question {i}?", "steps": steps(i), "method": method, **row} for i, row in enumerate(rows) if row
    ]
    config = ImportConfig("records", source)
    form = RecordsFormat(NoOptions(), source, "")
    import_rows(dataset, config, form, [(str(i), row) for i, row in enumerate(filled)], "r.jsonl")
    return config.job_id()


def label_rows(method: str, job: str, sets: dict[str, list[HardLabel]], provenance: int = 0) -> list[dict[str, Any]]:
    """Rows of `labels` without their questions, for solutions that are named at will."""
    return [
        {"label_id": f"{method}-{job}-{name}", "solution_id": name, "question_id": f"q{name}", "method": method,
         "completer": "p", "job_id": job, "label": label, "value": [None] * len(label),
         "n_correct": [0] * len(label), "n_rollouts": [0] * len(label), "provenance": [provenance] * len(label),
         "node_id": [f"{name}-{i}" for i in range(len(label))], "first_error": first_error(label), "revision": 0}
        for name, label in sets.items()
    ]  # fmt: skip


def add_labels(dataset: Dataset, method: str, job: str, sets: dict[str, list[HardLabel]], provenance: int = 0) -> None:
    dataset.append("labels", label_rows(method, job, sets, provenance), f"{job}/{method}/labels", 1)


def spend(dataset: Dataset, job: str, *questions: tuple[int, int], price: Price | None = None) -> None:
    """What questions cost: policy calls and completion tokens."""
    rows = [
        spending_row(job, f"q{i}", {"calls": calls}, Account(usage=Usage(completion_tokens=tokens)), price)
        for i, (calls, tokens) in enumerate(questions)
    ]
    dataset.append("jobs", rows, f"{job}/costs", 1)


def one(found: MethodComparison) -> Contender:
    (contender,) = found.contenders
    return contender


# Truth:   all good    second wrong   first wrong   third wrong      all good
TRUTH = (-1, 1, 0, 2, -1)
LABELS: tuple[dict[str, Any], ...] = (
    {"label": [1, 1, 1], "value": [1.0, 0.75, 0.5]},
    # Exactly found; what stands behind has no truth.
    {"label": [1, -1, -1], "value": [0.75, 0.0, 0.0]},
    # One step too late.
    {"label": [1, -1, 1], "value": [0.25, 0.0, None]},
    # Undecided; its last value is one nevertheless.
    {"label": [1, 0, None], "value": [0.7, None, 0.1]},
    # A false zero; 1.5 is no share.
    {"label": [-1, 1, 1], "value": [0.0, 0.3, 1.5]},
)


def test_every_figure_against_people_is_the_one_worked_out_by_hand(dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    job = records(dataset, "m", *LABELS)
    spend(dataset, job, (30, 600), (15, 301))
    comparison = compare(dataset.view())
    assert (comparison.dataset, dict(comparison.truth), comparison.pairs, comparison.unreadable) == (
        "d",
        {"human": 5},
        (),
        0,
    )
    told = one(comparison)
    assert (told.name, told.method, told.job_id) == ("m", "m", job)
    assert (told.questions, told.label_sets, told.steps, told.good, told.bad, told.unjudged) == (5, 5, 14, 9, 4, 1)
    assert (told.located, told.calls, told.tokens, told.cost) == (3, 45, 901, None)
    assert (told.calls_per_located, told.tokens_per_located) == (15.0, pytest.approx(901 / 3))
    quality = told.quality
    assert (quality.solutions, quality.undecided) == (5, 1)
    assert (quality.true_bad, quality.false_bad, quality.missed_bad, quality.true_good) == (1, 1, 1, 8)
    assert (quality.precision, quality.recall, quality.f1_bad) == (0.5, 0.5, 0.5)
    assert quality.f1_good == pytest.approx(8 / 9)
    assert (quality.on_erroneous, quality.on_correct, quality.exact_hit) == (Share(1, 3), Share(1, 2), Share(2, 5))
    assert quality.exact_hit.interval == wilson(Counts(5, 2))
    assert quality.processbench_f1 == pytest.approx(0.4)
    assert (quality.false_zeros, quality.false_zeros.rate) == (Share(1, 2), 0.5)
    assert quality.false_zeros.interval == wilson(Counts(2, 1))
    fit = quality.calibration
    assert fit is not None
    assert fit.steps == 10
    assert fit.ece == pytest.approx(0.335)
    assert fit.brier == pytest.approx(0.20275)
    assert [(item.low, item.n, item.good) for item in fit.bins] == [
        (0.0, 2, 0.5), (0.1, 1, 0.0), (0.2, 1, 0.0), (0.3, 1, 1.0), (0.5, 1, 1.0), (0.7, 3, 1.0), (0.9, 1, 1.0),
    ]  # fmt: skip
    assert [item.high for item in fit.bins] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
    assert fit.bins[5].mean_value == pytest.approx(2.2 / 3)


@pytest.mark.parametrize(
    ("value", "low"),
    [(0.0, 0.0), (0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.4, 0.4), (0.6, 0.6), (0.7, 0.7), (0.8, 0.8), (0.9, 0.9), (1.0, 0.9),
     (0.0999, 0.0), (0.6999, 0.6), (7 / 8, 0.8), (2 / 3, 0.6)],
)  # fmt: skip
def test_a_value_at_the_edge_of_a_bin_opens_it_and_one_belongs_to_the_last(
    dataset: Dataset, value: float, low: float
) -> None:
    people(dataset, -1)
    records(dataset, "m", {"label": [1, 1, 1], "value": [value, None, None]})
    fit = one(compare(dataset.view())).quality.calibration
    assert fit is not None
    assert [(item.low, item.n) for item in fit.bins] == [(low, 1)]


@pytest.mark.parametrize("value", [-0.5, 1.01, 3.0])
def test_what_is_no_share_is_not_calibrated(dataset: Dataset, value: float) -> None:
    people(dataset, -1)
    records(dataset, "m", {"label": [1, 1, 1], "value": [value, None, None]})
    quality = one(compare(dataset.view())).quality
    assert quality.calibration is None
    assert (quality.true_good, quality.as_dict()["ece"], quality.as_dict()["bins"]) == (3, None, [])


def test_steps_without_a_value_are_in_no_bin(dataset: Dataset) -> None:
    people(dataset, -1)
    records(dataset, "m", {"label": [1, 1, 1], "value": [0.95, None, None]})
    fit = one(compare(dataset.view())).quality.calibration
    assert fit is not None
    assert (fit.steps, fit.ece, fit.brier) == (1, pytest.approx(0.05), pytest.approx(0.0025))
    assert [(item.low, item.n, item.good) for item in fit.bins] == [(0.9, 1, 1.0)]


def reference(sets: dict[str, list[HardLabel]], truth: dict[str, list[HardLabel]]) -> Quality:
    """The same in plain Python, from the definitions."""
    counts = dict.fromkeys(("true_bad", "false_bad", "missed_bad", "true_good"), 0)
    solutions = undecided = 0
    shares = {True: [0, 0], False: [0, 0]}
    for name in sets.keys() & truth.keys():
        mine, true = sets[name], truth[name]
        solutions += 1
        mine_error, true_error = first_error(mine), first_error(true)
        says_nothing = mine_error is None and None in mine
        undecided += says_nothing
        if true_error is not None or None not in true:
            share = shares[true_error is not None]
            share[1] += 1
            share[0] += mine_error == true_error and not says_nothing
        for label, right in list(zip(mine, true, strict=True))[: None if true_error is None else true_error + 1]:
            if label is None or right is None:
                continue
            key = {(True, True): "true_bad", (True, False): "false_bad", (False, True): "missed_bad"}
            counts[key.get((label == -1, right == -1), "true_good")] += 1
    return Quality(solutions, undecided, Share(*shares[True]), Share(*shares[False]), **counts)


@pytest.mark.parametrize("seed", range(4))
def test_sql_counts_what_plain_python_counts(dataset: Dataset, seed: int) -> None:
    rng = random.Random(seed)
    lengths = {f"s{i}": rng.randint(1, 6) for i in range(120)}

    def some(share: float) -> dict[str, list[HardLabel]]:
        names = [name for name in lengths if rng.random() < share]
        return {name: rng.choices([1, -1, 0, None], [6, 2, 1, 1], k=lengths[name]) for name in names}

    told: dict[str, dict[str, list[HardLabel]]] = {"a": some(0.8), "b": some(0.8), "c": some(0.5), "true": some(0.7)}
    for method, sets in told.items():
        add_labels(dataset, method, f"j{method}", sets)
    comparison = compare(dataset.view(), ("c", "a", "b"), truth="true")
    assert [item.name for item in comparison.contenders] == ["c", "a", "b"]
    for contender in comparison.contenders:
        expected = reference(told[contender.name], told["true"])
        assert replace(contender.quality, calibration=None) == expected
        assert expected.undecided
        assert contender.located == sum(first_error(label) is not None for label in told[contender.name].values())
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [("c", "a"), ("c", "b"), ("a", "b")]
    for pair in comparison.pairs:
        first, second = told[pair.first], told[pair.second]
        common = first.keys() & second.keys()
        assert pair.solutions == len(common)
        assert pair.agreement == sum((agreement(first[name], second[name]) for name in common), Agreement())
        decided = [
            name for name in common
            if all(first_error(label) is not None or None not in label for label in (first[name], second[name]))
        ]  # fmt: skip
        same = sum(first_error(first[name]) == first_error(second[name]) for name in decided)
        assert pair.same_first_error == Share(same, len(decided))
        assert 0 < len(decided) < len(common)


# --- truth


def arithmetic(
    dataset: Dataset, *plans: tuple[int, int | None], method: str = "m", metadata: bool = True, file: str = "arithmetic"
) -> None:
    """Solutions of the arithmetic world: number of the problem, index of the calculation that is wrong; all "good"."""
    made = list(zip(range(8), problems("test", 0), strict=False))
    rows = []
    for number, wrong in plans:
        problem = made[number][1]
        question = to_question(problem, "test")
        lines = [f"So {item.equation()} is known." for item in problem.plan]
        if wrong is not None:
            lines[wrong] = lines[wrong].replace("=", "=1")
        row = question_row(question)
        row["metadata"] = json.loads(question.metadata) if metadata else {}
        rows.append({**row, "steps": lines, "label": [1] * len(lines), "method": method})
    import_rows(
        dataset, ImportConfig("records", file), RecordsFormat(NoOptions(), "arithmetic", ""),
        [(str(i), row) for i, row in enumerate(rows)], "a.jsonl",
    )  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 2, 5_000])
def test_the_oracle_of_a_source_is_the_truth_where_there_is_one(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(truth, "AT_ONCE", at_once)
    arithmetic(dataset, (0, None), (1, 0), (2, 1), (2, None))
    comparison = compare(dataset.view())
    assert dict(comparison.truth) == {"oracle": 4}
    quality = one(comparison).quality
    assert (quality.on_erroneous, quality.on_correct) == (Share(0, 2), Share(2, 2))
    assert (quality.missed_bad, quality.true_bad, quality.false_bad, quality.recall) == (2, 0, 0, 0.0)
    assert (quality.precision, quality.processbench_f1, quality.false_zeros.interval) == (None, 0.0, None)
    assert compare(dataset.view(), truth="oracle") == comparison


def test_a_solution_of_several_jobs_is_judged_once(dataset: Dataset) -> None:
    arithmetic(dataset, (0, None), (1, 0))
    arithmetic(dataset, (0, None), method="n", file="another")
    assert dataset.view().counts()["solutions"] == 3
    comparison = compare(dataset.view())
    assert dict(comparison.truth) == {"oracle": 2}
    assert [item.quality.solutions for item in comparison.contenders] == [2, 1]


def test_questions_without_what_the_oracle_needs_are_counted_and_have_no_truth(dataset: Dataset) -> None:
    arithmetic(dataset, (0, None), metadata=False)
    arithmetic(dataset, (1, None))
    comparison = compare(dataset.view())
    assert (dict(comparison.truth), comparison.unreadable, one(comparison).quality.solutions) == ({"oracle": 1}, 1, 1)


def test_the_oracle_goes_before_people_who_judge_the_rest(dataset: Dataset) -> None:
    arithmetic(dataset, (0, None))
    (row,) = dataset.view().arrow("labels").to_pylist()
    # People are wrong about the solution of the arithmetic world, and alone with another one.
    n = len(row["label"])
    add_labels(dataset, "human", "h", {row["solution_id"]: [-1] * n, "other": [1, -1]}, HUMAN)
    add_labels(dataset, "m", "k", {"other": [1, -1]})
    comparison = compare(dataset.view())
    assert dict(comparison.truth) == {"oracle": 1, "human": 1}
    assert [item.quality.exact_hit for item in comparison.contenders] == [Share(1, 1), Share(1, 1)]
    by_people = compare(dataset.view(), truth="human")
    assert dict(by_people.truth) == {"human": 2}
    assert sorted(item.quality.exact_hit.part for item in by_people.contenders) == [0, 1]


def test_sources_that_are_registered_but_cannot_judge_or_be_loaded_are_no_truth(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    arithmetic(dataset, (0, None))
    with monkeypatch.context() as patch:
        patch.delattr(ArithmeticSource, "judge")
        assert not compare(dataset.view()).truth

    def missing(kind: str, name: str) -> None:
        raise MissingDependency("no package")

    monkeypatch.setattr(truth, "load", missing)
    assert not compare(dataset.view()).truth
    with pytest.raises(MissingDependency):
        compare(dataset.view(), truth="oracle")


def test_a_method_that_is_named_as_truth_is_not_compared_with_itself(dataset: Dataset) -> None:
    add_labels(dataset, "a", "ja", {"s": [1, -1]})
    add_labels(dataset, "b", "jb", {"s": [1, 1]})
    comparison = compare(dataset.view(), truth="a")
    assert (dict(comparison.truth), one(comparison).name, one(comparison).quality.recall) == ({"a": 1}, "b", 0.0)
    named = compare(dataset.view(), ("a", "b"), truth="a")
    assert [item.quality.exact_hit.rate for item in named.contenders] == [1.0, 0.0]


def test_of_several_that_know_the_truth_the_one_that_judges_most_is_heard(dataset: Dataset) -> None:
    add_labels(dataset, "m", "j", {"s": [1, 1, -1]})
    add_labels(dataset, "human", "1", {"s": [1, None, None]}, HUMAN)
    add_labels(dataset, "human", "2", {"s": [1, 1, 1]}, HUMAN)
    add_labels(dataset, "human", "3", {"s": [None, -1, None]}, HUMAN)
    quality = one(compare(dataset.view())).quality
    assert (quality.solutions, quality.false_bad, quality.true_good) == (1, 1, 2)


def test_an_undecided_truth_judges_steps_and_no_solution(dataset: Dataset) -> None:
    add_labels(dataset, "m", "j", {"s": [1, -1, 1], "t": [1, 1, 1]})
    add_labels(dataset, "human", "h", {"s": [1, 1, None], "t": [None, None, -1]}, HUMAN)
    quality = one(compare(dataset.view())).quality
    assert (quality.solutions, quality.exact_hit) == (2, Share(0, 1))
    assert (quality.false_bad, quality.missed_bad, quality.true_good) == (1, 1, 1)


def test_a_value_on_a_step_that_truth_does_not_judge_is_not_calibrated(dataset: Dataset) -> None:
    records(dataset, "m", {"label": [1, 1, 1], "value": [1.0, 0.5, 0.25]})
    records(dataset, "human", {"label": [1, None, -1], "provenance": ["human"] * 3}, source="t")
    fit = one(compare(dataset.view())).quality.calibration
    assert fit is not None
    assert [(item.low, item.n, item.good) for item in fit.bins] == [(0.2, 1, 0.0), (0.9, 1, 1.0)]


def test_only_sets_that_people_made_are_the_truth_of_people(dataset: Dataset) -> None:
    add_labels(dataset, "m", "j", {"s": [1, 1], "t": [1, 1]})
    rows = label_rows("human", "h", {"s": [1, 1]}, HUMAN) + label_rows("human", "h", {"t": [-1, None]}, 5)
    dataset.append("labels", rows, "h/labels", 1)
    comparison = compare(dataset.view())
    assert (dict(comparison.truth), one(comparison).quality.exact_hit) == ({"human": 1}, Share(1, 1))


def test_a_method_called_human_is_taken_at_its_word_when_asked_for(dataset: Dataset) -> None:
    add_labels(dataset, "m", "j", {"s": [1, 1]})
    add_labels(dataset, "human", "h", {"s": [-1, None]}, 5)
    assert not compare(dataset.view()).truth
    assert dict(compare(dataset.view(), truth="human").truth) == {"human": 1}


def test_truth_of_another_length_is_of_another_process(dataset: Dataset) -> None:
    add_labels(dataset, "m", "j", {"s": [1, 1], "t": [1]})
    add_labels(dataset, "human", "h", {"s": [1, 1, 1], "t": [1]}, HUMAN)
    assert one(compare(dataset.view())).quality.solutions == 1


# --- what is compared


def test_first_errors_on_one_prefix_are_one(dataset: Dataset) -> None:
    question, shared = question_id("Q?", ""), "a wrong start"
    rows = [{"question": "Q?", "steps": [shared, more], "label": [-1, None], "method": "m"} for more in ("x", "y")]
    rows.append({"question": "Q?", "steps": ["another"], "label": [-1], "method": "m"})
    form = RecordsFormat(NoOptions(), "s", "")
    import_rows(dataset, ImportConfig("records", "s"), form, [(str(i), row) for i, row in enumerate(rows)], "x")
    assert process_ids(question, [shared, "x"])[1][0] == process_ids(question, [shared, "y"])[1][0]
    told = one(compare(dataset.view()))
    assert (told.questions, told.label_sets, told.located, told.unjudged) == (1, 3, 2, 2)


def test_a_method_with_several_jobs_is_told_by_job(dataset: Dataset) -> None:
    for job in ("aaaaaa111111", "aaaaaa222222", "bbbbbb333333"):
        add_labels(dataset, "m", job, {"s": [1, 1]})
    add_labels(dataset, "n", "cccccc444444", {"s": [1, -1]})
    view = dataset.view()
    names = ["m/aaaaaa1", "m/aaaaaa2", "m/bbbbbb", "n"]
    assert [item.name for item in compare(view).contenders] == names
    assert len(compare(view).pairs) == 6

    def chosen(*methods: str) -> list[str]:
        return [item.name for item in compare(view, methods).contenders]

    assert chosen("m") == names[:3]
    assert chosen("n", "m/bb") == ["n", "m/bbbbbb"]
    assert chosen("m/aaaaaa2", "aaaaaa2", "m") == ["m/aaaaaa2", "m/aaaaaa1", "m/bbbbbb"]
    assert chosen("ccc") == ["n"]
    with pytest.raises(UsageError, match=r"'m/aaa' begins several jobs \(aaaaaa111111, aaaaaa222222\)"):
        chosen("m/aaa")
    with pytest.raises(UnknownName, match=r"No method 'n/bbb' \(there are: m, m/aaaaaa1, m/aaaaaa2, m/bbbbbb, n\)"):
        chosen("n/bbb")


def test_a_method_whose_name_has_a_slash_is_found(dataset: Dataset) -> None:
    add_labels(dataset, "judge/big", "j", {"s": [1]})
    assert one(compare(dataset.view(), ("judge/big",))).method == "judge/big"
    assert one(compare(dataset.view(), ("judge/big/j",))).method == "judge/big"


def test_a_job_with_several_methods_is_several(dataset: Dataset) -> None:
    add_labels(dataset, "a", "job", {"s": [1]})
    add_labels(dataset, "b", "job", {"s": [1]})
    assert [item.name for item in compare(dataset.view(), ("job",)).contenders] == ["a", "b"]


def test_an_earlier_snapshot_is_compared_as_it_was(store: Store, dataset: Dataset) -> None:
    add_labels(dataset, "a", "ja", {"s": [1]})
    dataset.snapshot("test", "one")
    add_labels(dataset, "b", "jb", {"s": [1]})
    dataset.snapshot("test", "two")
    comparison = compare(store.view("d@1"))
    assert (comparison.dataset, [item.name for item in comparison.contenders]) == ("d@1", ["a"])
    assert len(compare(store.view("d")).contenders) == 2


def test_relabelled_sets_count_as_they_are_now(dataset: Dataset) -> None:
    people(dataset, 1)
    records(dataset, "m", {"label": [1, 1, 1]})
    records(dataset, "m", {"label": [1, -1, None]})
    told = one(compare(dataset.view()))
    assert (told.label_sets, told.bad, told.quality.exact_hit) == (1, 1, Share(1, 1))


# --- cost


PRICE = Price("m", "EUR", "2026-01-01", completion=1_000_000.0)


def test_an_import_has_no_cost_and_a_job_that_located_nothing_no_price_of_one(dataset: Dataset) -> None:
    add_labels(dataset, "bought", "x", {"s": [-1]})
    add_labels(dataset, "ours", "y", {"s": [1]})
    spend(dataset, "y", (3, 40))
    bought, ours = compare(dataset.view()).contenders
    assert (bought.calls, bought.tokens, bought.calls_per_located, bought.tokens_per_located) == (None,) * 4
    assert (ours.calls, ours.tokens, ours.calls_per_located, ours.tokens_per_located) == (3, 40, None, None)


def test_money_is_what_the_job_says_or_what_its_questions_add_up_to(dataset: Dataset) -> None:
    for job in ("a", "b", "c"):
        add_labels(dataset, f"m{job}", job, {"s": [-1]})
    spend(dataset, "a", (1, 2), (1, 3), price=PRICE)
    spend(dataset, "b", (1, 2), price=PRICE)
    spend(dataset, "c", (1, 2))
    end = {"job_id": "b", "kind": "label", "config": "{}", "versions": "{}"}
    events = [("stop", 3.0, "2026-01-02"), ("end", 12.5, "2026-01-03")]
    rows = [
        {**end, "event": event, "totals": json.dumps({"cost": cost, "currency": "EUR"}), "at": at}
        for event, cost, at in events
    ]
    dataset.append("jobs", rows, "b/end", 1)
    told = [(item.cost, item.currency) for item in compare(dataset.view()).contenders]
    assert told == [(5.0, "EUR"), (12.5, "EUR"), (None, "")]


# --- nothing to compare


def test_a_dataset_without_labels_says_how_to_get_some(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="d has no labels to compare. Label it with: openr-data label d --method"):
        compare(dataset.view())


def test_a_dataset_of_people_alone_compares_them_when_they_are_named(dataset: Dataset) -> None:
    people(dataset, -1, 1)
    with pytest.raises(UsageError, match=r"no labels beside those of people .* \(there are: human\)"):
        compare(dataset.view())
    assert one(compare(dataset.view(), ("human",))).quality.exact_hit == Share(2, 2)


@pytest.mark.parametrize(
    ("methods", "wanted", "words"),
    [
        (("omegaprn",), "", r"No method 'omegaprn' \(there are: human, omegaprm\). Did you mean 'omegaprm'\?"),
        (("",), "", "No method ''"),
        ((), "humans", r"No truth 'humans' \(there are: human, omegaprm\). Did you mean 'human'\?"),
        ((), "oracle", r"No truth 'oracle' \(there are: human, omegaprm\)."),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(
    dataset: Dataset, methods: tuple[str, ...], wanted: str, words: str
) -> None:
    add_labels(dataset, "omegaprm", "j", {"s": [1]})
    add_labels(dataset, "human", "h", {"s": [1]}, HUMAN)
    with pytest.raises(UnknownName, match=words):
        compare(dataset.view(), methods, wanted)


def test_the_oracle_is_among_the_truths_that_are_known(dataset: Dataset) -> None:
    arithmetic(dataset, (0, None))
    with pytest.raises(UnknownName, match=r"No truth 'oracel' \(there are: m, oracle\). Did you mean 'oracle'\?"):
        compare(dataset.view(), truth="oracel")


def test_without_truth_and_without_common_solutions_cost_is_all_there_is(dataset: Dataset) -> None:
    add_labels(dataset, "a", "ja", {"s": [1, -1]})
    add_labels(dataset, "b", "jb", {"t": [1, None]})
    add_labels(dataset, "human", "h", {"u": [1]}, HUMAN)
    comparison = compare(dataset.view())
    assert not comparison.truth
    assert all(item.quality == Quality() for item in comparison.contenders)
    (pair,) = comparison.pairs
    assert (pair.solutions, pair.agreement.rate, pair.agreement.kappa, pair.same_first_error.rate) == (0, *(None,) * 3)
    empty = comparison.contenders[0].quality.as_dict()
    assert {value for name, value in empty.items() if name not in ("bins", "solutions_with_truth", "undecided")} == {
        None
    }


def test_a_damaged_file_is_told_as_one_while_the_oracle_reads(dataset: Dataset) -> None:
    arithmetic(dataset, (0, None))
    (file,) = dataset.view().files("solutions")
    # The page of the steps alone, so that only who reads the steps can see it.
    place = parquet.ParquetFile(file).metadata.row_group(0).column(2)
    assert place.path_in_schema.startswith("steps")
    data, start = bytearray(Path(file).read_bytes()), place.dictionary_page_offset or place.data_page_offset
    data[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    Path(file).write_bytes(data)
    with pytest.raises(StoreError, match="missing or damaged"):
        compare(dataset.view())
    assert not compare(dataset.view(), truth="m", methods=("m",)).unreadable


def test_everything_is_json(dataset: Dataset) -> None:
    people(dataset, *TRUTH)
    records(dataset, "m", *LABELS)
    records(dataset, "n", *LABELS[:2], source="t")
    document = json.loads(json.dumps(compare(dataset.view()).as_dict()))
    assert set(document) == {"dataset", "truth", "methods", "agreement"}
    assert [item["name"] for item in document["methods"]] == ["m", "n"]
    assert document["methods"][0]["bins"][0] == {"low": 0.0, "high": 0.1, "n": 2, "mean_value": 0.0, "good": 0.5}
    assert document["agreement"] == [
        {"first": "m", "second": "n", "solutions": 2, "steps": 6, "agreement": 1.0, "kappa": 1.0, "same_first_error": 1.0}
    ]  # fmt: skip
