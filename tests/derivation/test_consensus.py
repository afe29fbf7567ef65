"""Consensus filtering: what several methods agree on, worked out by hand, and what is written of it."""

import json
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from openr_data.derivation import consensus
from openr_data.derivation.consensus import Consensus, Join
from openr_data.derivation.regrade import regrade
from openr_data.errors import StoreError, UnknownName, UsageError
from openr_data.grading import MathGrader
from openr_data.ids import label_id
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.judge import Judge, JudgeConfig
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.labels import HardLabel, first_error
from openr_data.reasons import reasons_of
from openr_data.store import Dataset, Store
from openr_data.store.rollback import rollback
from openr_data.store.rows import solution_of
from openr_data.store.verify import verify
from openr_data.types import Provenance, Sampling, Solution
from tests.conftest import a_question, four_steps
from tests.evaluation.test_labels import records, steps

MEASURED = [Provenance.MEASURED.name.lower()] * 3
JUDGED = [Provenance.JUDGED.name.lower()] * 3

# Of each solution what Monte Carlo says, and what the judge says.
CASES: tuple[tuple[list[HardLabel] | None, list[HardLabel] | None], ...] = (
    ([1, 1, 1], [1, 1, 1]),
    ([1, -1, -1], [1, -1, None]),
    ([1, -1, 1], [1, 1, -1]),
    ([1, 1, None], [1, 1, 1]),
    ([-1, 1, 1], [1, 1, 1]),
    ([1, 1, 1], [1, -1, None]),
    ([1, 1, 1], None),
    (None, [1, 1, 1]),
    ([0, None, -1], [1, 1, -1]),
    ([1, None, -1], [1, None, -1]),
    ([1, None, None], [None, None, None]),
)
REASONS = {
    2: "mc says step 1, judge says step 2",
    3: "mc is undecided",
    4: "mc sees an error where judge sees none",
    5: "judge sees an error where mc sees none",
    6: "not labelled by judge",
    7: "not labelled by mc",
    10: "mc is undecided",
}
KEPT = {0: [1, 1, 1], 1: [1, -1, None], 8: [1, 1, -1], 9: [1, None, -1]}
COUNTS = {"value": [0.75, 0.5, 0.25], "n_correct": [3, 2, 1], "n_rollouts": [4, 4, 4], "provenance": MEASURED}


@pytest.fixture
def dataset(store: Store) -> Dataset:
    return store.dataset("d", create=True)


def label(
    dataset: Dataset, method: str, sets: Sequence[list[HardLabel] | None], source: str = "", **columns: Any
) -> str:
    """Label sets of a method, solution i with its labels; returns the job."""
    return records(
        dataset, method, *({"label": item, **columns} if item else {} for item in sets), source=source or method
    )


def small(dataset: Dataset) -> None:
    label(dataset, "mc", [item for item, _ in CASES], **COUNTS)
    label(dataset, "judge", [item for _, item in CASES], provenance=JUDGED)


def keep(dataset: Dataset, *methods: str, into: Dataset | None = None) -> Consensus:
    join = Join(dataset.view(), methods or ("mc", "judge"))
    join.write(into or dataset)
    return join.found


def kept(dataset: Dataset) -> dict[int, dict[str, Any]]:
    """The records of the consensus by the number of their solution."""
    rows = dataset.view().sql("select * from records where method = 'consensus'").to_pylist()
    return {int(row["question"].split()[1].rstrip("?")): row for row in rows}


def contents(dataset: Dataset) -> dict[str, list[str]]:
    return {
        name: sorted(map(repr, dataset.view().arrow(name).to_pylist())) for name in ("questions", "solutions", "labels")
    }


def test_what_is_kept_and_why_the_rest_is_not_is_as_worked_out_by_hand(dataset: Dataset) -> None:
    small(dataset)
    join = Join(dataset.view(), ("mc", "judge"))
    found = join.found
    assert (found.methods, found.kept, found.errors, found.solutions) == (("mc", "judge"), 4, 3, 11)
    assert found.discarded == {
        "mc is undecided": 2,
        "different first errors": 1,
        "mc sees an error where judge sees none": 1,
        "judge sees an error where mc sees none": 1,
        "not labelled by judge": 1,
        "not labelled by mc": 1,
    }
    names = {a_question(f"Question {i}?", "").question_id: i for i in range(11)}
    told = {names[row["question_id"]]: row for row in join.discarded()}
    assert {i: row["reason"] for i, row in told.items()} == REASONS
    assert told[2]["first_errors"] == {"mc": 1, "judge": 2}
    assert told[3]["first_errors"] == {"mc": None, "judge": -1}
    assert told[6]["first_errors"] == {"mc": -1, "judge": None}
    assert told[7]["first_errors"] == {"mc": None, "judge": -1}
    solutions = {row["solution_id"] for row in dataset.view().arrow("solutions").to_pylist()}
    assert {row["solution_id"] for row in told.values()} < solutions


def test_the_reasons_of_a_judge_come_along(dataset: Dataset) -> None:
    label(dataset, "mc", [[1, 1, 1], [1, -1, None]], **COUNTS, label_metadata={"reasons": [None, " ", None]})
    said = ["Right.", 'It\'s "two".', "Behind the error nothing is said."]
    label(dataset, "judge", [[1, 1, 1], [1, -1, None]], provenance=JUDGED, label_metadata={"reasons": said})
    label(dataset, "critic", [[1, 1, 1], [1, -1, None]], provenance=JUDGED, label_metadata={"reasons": ["No"] * 3})
    keep(dataset, "mc", "judge", "critic")
    for row in kept(dataset).values():
        document = json.loads(row["label_metadata"])
        known = 3 if row["first_error"] is None else 2
        # Of the first named method that tells some.
        assert document["reasons"] == [*said[:known], *[None] * (3 - known)]
        assert reasons_of(row["label_metadata"], 3)[:2] == ("Right.", 'It\'s "two".')
        assert set(document) == {"consensus", "reasons"}
    assert {row["first_error"] for row in kept(dataset).values()} == {None, 1}


def test_labels_that_have_got_reasons_make_another_job(dataset: Dataset) -> None:
    label(dataset, "mc", [[1, 1, 1]], **COUNTS)
    label(dataset, "judge", [[1, 1, 1]], provenance=JUDGED)
    first = keep(dataset)
    label(dataset, "judge", [[1, 1, 1]], provenance=JUDGED, label_metadata={"reasons": ["a", "b", "c"]})
    again = keep(dataset)
    assert again.job_id != first.job_id
    rows = dataset.view().sql("select job_id, label_metadata from records where method = 'consensus'").to_pylist()
    document = {row["job_id"]: json.loads(row["label_metadata"]).get("reasons") for row in rows}
    assert document == {first.job_id: None, again.job_id: ["a", "b", "c"]}


def test_kept_label_sets_are_good_to_the_error_bad_there_and_say_nothing_behind(dataset: Dataset) -> None:
    small(dataset)
    consensus = keep(dataset)
    rows = kept(dataset)
    assert {i: row["label"] for i, row in rows.items()} == KEPT
    assert {i: row["first_error"] for i, row in rows.items()} == {0: None, 1: 1, 8: 2, 9: 2}
    assert rows[0]["value"] == [0.75, 0.5, 0.25]
    assert (rows[1]["value"], rows[1]["n_correct"], rows[1]["n_rollouts"]) == ([0.75, 0.5, None], [3, 2, 0], [4, 4, 0])
    assert rows[1]["provenance"] == [Provenance.MEASURED, Provenance.MEASURED, Provenance.INFERRED]
    assert (rows[1]["steps"], rows[1]["job_id"]) == (steps(1), consensus.job_id)
    assert rows[1]["label_id"] == label_id(rows[1]["solution_id"], "consensus", consensus.job_id)
    document = json.loads(rows[1]["label_metadata"])["consensus"]
    assert document["methods"] == ["mc", "judge"]
    of = {
        row["label_id"]: row["method"]
        for row in dataset.view().sql("select * from records where question = 'Question 1?'").to_pylist()
    }
    assert [of[name] for name in document["label_ids"]] == ["mc", "judge"]
    assert (consensus.added, len(rows)) == (4, 4)
    assert list(verify(dataset)) == []


def test_values_counts_and_provenance_are_those_of_the_first_method_that_has_rollouts(dataset: Dataset) -> None:
    small(dataset)
    label(dataset, "other", [item for item, _ in CASES], value=[1.0, 1.0, 1.0], provenance=["human"] * 3)
    keep(dataset, "judge", "mc")
    first = kept(dataset)[0]
    assert (first["value"], first["n_rollouts"], first["provenance"]) == ([0.75, 0.5, 0.25], [4] * 3, [0] * 3)
    assert json.loads(first["label_metadata"])["consensus"]["methods"] == ["judge", "mc"]
    consensus = keep(dataset, "other", "judge")
    row = (
        dataset.view()
        .sql(f"select * from records where job_id = '{consensus.job_id}' and question = 'Question 0?'")
        .to_pylist()[0]
    )
    assert (row["value"], row["n_rollouts"], row["provenance"]) == ([1.0] * 3, [0] * 3, [Provenance.HUMAN] * 3)


def test_three_methods_must_all_agree(dataset: Dataset) -> None:
    good: list[HardLabel] = [1, 1, 1]
    label(dataset, "a", [good, good, [1, -1, None], [-1, None, None], good, good], **COUNTS)
    label(dataset, "b", [good, good, [1, 1, -1], [-1, None, None], None, good])
    label(dataset, "c", [good, [1, -1, None], good, [-1, None, None], None, [1, None, 1]])
    join = Join(dataset.view(), ("a", "b", "c"))
    told = sorted(row["reason"] for row in join.discarded())
    assert told == [
        "a sees an error where c sees none",
        "c is undecided",
        "c sees an error where a sees none",
        "not labelled by b",
    ]
    assert (join.found.kept, join.found.errors) == (2, 1)


def test_the_same_command_again_adds_nothing_whatever_else_has_come(dataset: Dataset) -> None:
    small(dataset)
    first = keep(dataset)
    before, snapshots = contents(dataset), len(dataset.snapshots())
    second = keep(dataset)
    assert (second.kept, second.added, second.job_id) == (4, 0, first.job_id)
    assert (contents(dataset), len(dataset.snapshots())) == (before, snapshots)
    assert second.snapshot == first.snapshot
    label(dataset, "another", [[1, 1, 1]])
    assert keep(dataset).added == 0
    assert len(dataset.view().sql("select * from jobs where kind = 'consensus'")) == 1


def test_it_is_one_snapshot_that_says_what_it_holds(dataset: Dataset) -> None:
    small(dataset)
    before = len(dataset.snapshots())
    consensus = keep(dataset)
    made = dataset.snapshots()[before:]
    assert [(item.operation, item.job_id, item.message) for item in made] == [
        ("consensus", consensus.job_id, "4 of 11 solutions kept: mc and judge agree")
    ]
    (row,) = dataset.view().sql("select * from jobs where kind = 'consensus'").to_pylist()
    totals = json.loads(row["totals"])
    assert (totals["kept"], totals["added"], totals["discarded"]["mc is undecided"]) == (4, 4, 2)
    assert list(json.loads(row["config"])["methods"]) == ["mc", "judge"]


def test_labels_that_have_changed_make_another_job(dataset: Dataset) -> None:
    label(dataset, "a", [[1, 1, 1]])
    label(dataset, "b", [[1, 1, 1]])
    first = keep(dataset, "a", "b")
    label(dataset, "b", [[1, 1, -1]])
    second = Join(dataset.view(), ("a", "b")).found
    assert (second.kept, second.job_id == first.job_id) == (0, False)
    assert Join(dataset.view(), ("b", "a")).found.job_id != second.job_id


def test_another_dataset_gets_questions_solutions_and_labels(store: Store, dataset: Dataset) -> None:
    small(dataset)
    before = contents(dataset)
    other = store.dataset("agreed", create=True)
    consensus = keep(dataset, into=other)
    assert contents(dataset) == before
    counts = other.view().counts()
    assert (counts["questions"], counts["solutions"], counts["labels"], consensus.added) == (4, 4, 4, 4)
    assert {i: row["label"] for i, row in kept(other).items()} == KEPT
    assert list(verify(other)) == []
    assert keep(dataset, into=other).added == 0
    assert other.view().counts() == counts


def test_an_earlier_snapshot_is_joined_as_it_was(store: Store, dataset: Dataset) -> None:
    label(dataset, "a", [[1, 1, 1]])
    label(dataset, "b", [[1, 1, 1]])
    label(dataset, "b", [[1, 1, -1]])
    join = Join(store.view("d@2"), ("a", "b"))
    join.write(dataset)
    assert (join.found.kept, kept(dataset)[0]["label"]) == (1, [1, 1, 1])
    assert Join(dataset.view(), ("a", "b")).found.kept == 0


@pytest.mark.parametrize("after", [1, 2, 3])
def test_what_a_dead_run_has_left_is_finished(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    small(dataset)
    monkeypatch.setattr(consensus, "AT_ONCE", 1)
    append = Dataset.append
    done = 0

    def dies(self: Dataset, table: str, *arguments: Any, **more: Any) -> int:
        nonlocal done
        if done == after:
            raise StoreError("the disk is full")
        done += 1
        return append(self, table, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "append", dies)
        with pytest.raises(StoreError, match="the disk is full"):
            keep(dataset)
    found = keep(dataset)
    assert (found.kept, found.added) == (4, 4 - after // 2)
    assert {i: row["label"] for i, row in kept(dataset).items()} == KEPT
    assert len(dataset.view().sql("select * from labels where method = 'consensus'")) == 4
    assert len(dataset.view().sql(f"select * from solutions where job_id = '{found.job_id}'")) == 4
    assert list(verify(dataset)) == []


def test_what_a_rollback_has_taken_away_comes_again(dataset: Dataset) -> None:
    small(dataset)
    before = dataset.snapshots()[-1].name
    keep(dataset)
    rollback(dataset, before)
    assert kept(dataset) == {}
    assert keep(dataset).added == 4
    assert {i: row["label"] for i, row in kept(dataset).items()} == KEPT
    assert list(verify(dataset)) == []


@pytest.mark.parametrize("at_once", [5, 2_000])
def test_many_solutions_in_batches_are_what_python_says_of_each(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(consensus, "AT_ONCE", at_once)
    rng = random.Random(3)
    first = [_any_labels(rng) for _ in range(24)]
    sets = [first, [item if rng.random() < 0.6 else _any_labels(rng) for item in first]]
    for name, rows in zip("ab", sets, strict=True):
        label(dataset, name, rows)
    found = keep(dataset, "a", "b")
    expected = {i: first_error(a) for i, (a, b) in enumerate(zip(*sets, strict=True)) if _agree(a, b)}
    assert {i: row["first_error"] for i, row in kept(dataset).items()} == expected
    assert (found.kept, found.added) == (len(expected), len(expected))
    assert found.discarded.total() == 24 - found.kept
    assert 5 < len(expected) < 19


def _any_labels(rng: random.Random) -> list[HardLabel]:
    chosen: list[HardLabel] = [rng.choice((1, 1, 1, -1, None)) for _ in range(3)]
    return chosen


def _agree(a: list[HardLabel], b: list[HardLabel]) -> bool:
    decided = all(first_error(item) is not None or None not in item for item in (a, b))
    return decided and first_error(a) == first_error(b)


# --- which label sets are meant


def test_several_jobs_of_a_method_have_one_say_where_they_labelled_different_solutions(dataset: Dataset) -> None:
    label(dataset, "mc", [[1, 1, 1], None], source="x")
    label(dataset, "mc", [None, [1, -1, None]], source="y")
    label(dataset, "judge", [[1, 1, 1], [1, -1, None]])
    consensus = keep(dataset)
    assert (consensus.kept, consensus.discarded, consensus.methods) == (2, {}, ("mc", "judge"))


def test_a_solution_that_a_method_labelled_in_several_jobs_asks_for_the_job(dataset: Dataset) -> None:
    jobs = sorted(label(dataset, "mc", [[1, 1, 1], [1, 1, 1]], source=name) for name in "xy")
    label(dataset, "judge", [[1, 1, 1]])
    with pytest.raises(UsageError, match=f"mc has labelled 2 solutions in several jobs.* mc/{jobs[0]} or mc/{jobs[1]}"):
        keep(dataset)
    consensus = keep(dataset, f"mc/{jobs[1][:7]}", "judge")
    assert (consensus.kept, consensus.methods) == (1, (f"mc/{jobs[1][:6]}", "judge"))
    # Two jobs of one method may well have a say each.
    assert keep(dataset, jobs[0], jobs[1]).kept == 2


def test_of_several_people_in_one_job_the_one_who_judged_most_is_heard(dataset: Dataset) -> None:
    rows = [
        {"question": "Question 0?", "steps": steps(0), "label": marks, "method": "human", "completer": who}
        for who, marks in (("a", [1, None, None]), ("b", [1, -1, 1]), ("c", [1, 1, None]))
    ]
    records(dataset, "human", *rows)
    label(dataset, "judge", [[1, -1, None]])
    assert keep(dataset, "human", "judge").kept == 1


@pytest.mark.parametrize(
    ("methods", "kind", "words"),
    [
        ((), UsageError, r"needs two methods or more: --methods A,B \(there are: judge, mc\)"),
        (("mc",), UsageError, "needs two methods or more"),
        (("mc", "mc"), UsageError, "needs two methods or more"),
        (("mc", "jduge"), UnknownName, "No method 'jduge'.*Did you mean 'judge'"),
        (("mc", "{mc}"), UsageError, "The label sets of mc/.* are named twice"),
    ],
)
def test_who_has_a_say_must_be_clear(
    dataset: Dataset, methods: tuple[str, ...], kind: type[Exception], words: str
) -> None:
    job = label(dataset, "mc", [[1, 1, 1]])
    label(dataset, "judge", [[1, 1, 1]])
    with pytest.raises(kind, match=words):
        Join(dataset.view(), [item.format(mc=job[:8]) for item in methods])


def test_a_job_with_several_methods_is_no_method(dataset: Dataset) -> None:
    rows = [{"question": "Question 0?", "steps": steps(0), "label": [1, 1, 1], "method": name} for name in "ab"]
    job = records(dataset, "", *rows)
    label(dataset, "c", [[1, 1, 1]])
    with pytest.raises(UsageError, match=r"holds several methods \(a, b\)"):
        Join(dataset.view(), (job[:6], "c"))
    assert Join(dataset.view(), (f"a/{job[:6]}", "b")).found.kept == 1


def test_a_state_that_an_interrupted_regrade_left_is_not_joined(dataset: Dataset) -> None:
    small(dataset)
    dataset.begin("regrade", "openr-data regrade d")
    with pytest.raises(StoreError, match="A regrade of d was interrupted"):
        Join(dataset.view(), ("mc", "judge"))


# --- with what labelers really write


def test_a_judge_filters_what_a_tree_search_has_located_and_a_regrade_leaves_that_alone(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    questions = [a_question(f"Question {i}?") for i in range(6)]
    config = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"k": 4})
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling())
    job = Job.create(store, config, {"policy_revision": "scripted"})
    run_label(job, config, questions, dataset, labeler, ScriptedPolicy(four_steps), MathGrader())
    given: dict[str, list[Solution]] = {}
    for row in dataset.view().arrow("solutions").to_pylist():
        given.setdefault(row["question_id"], []).append(solution_of(row))

    def critique(prompt: str, steps: tuple[str, ...]) -> list[Branch]:
        """Knows the world, but takes every third step for good."""
        places = [i for i in range(4) if f"<paragraph_{i}>\nwrong {i + 1}" in prompt and i != 2]
        return [] if steps else [Branch(Fraction(1), f"\\boxed{{{min(places, default=-1)}}}")]

    judging = LabelConfig(source="d", method="judge", policy="critic", into="d", given_solutions=True)
    job = Job.create(store, judging, {"policy_revision": "critic"})
    judge = Judge(JudgeConfig(), Sampling())
    run_label(
        job, judging, questions, dataset, judge, ScriptedPolicy(critique, name="critic"), MathGrader(), given=given
    )
    join = Join(dataset.view(), ("omegaprm", "judge"))
    join.write(dataset)
    assert join.found.errors > 0
    assert 0 < join.found.discarded["omegaprm sees an error where judge sees none"] < join.found.solutions
    by_method = dataset.view().sql(
        "select solution_id, list(first_error order by method) as errors, list(outcome) as outcomes, "
        "list(generator) as generators from records group by solution_id having count(*) = 3"
    )
    assert len(by_method) == join.found.kept
    for row in by_method.to_pylist():
        assert len(set(row["errors"])) == len(set(row["outcomes"])) == 1
        assert set(row["generators"]) == {"scripted"}
    assert list(verify(dataset)) == []
    before = contents(dataset)
    assert sum(regrade(dataset, MathGrader()).rows.values()) == 0
    assert contents(dataset) == before
