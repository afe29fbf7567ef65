"""Tests the difference of two states: rows by table, and labelled steps with old and new labels."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr_data.errors import InputError
from openr_data.store import Dataset, Store, maintenance
from openr_data.store.diff import COMPARED, Diff, TableDiff, changed_steps, diff
from openr_data.store.rollback import rollback
from tests.store.test_dataset import labels, node, question, rollout, solution

COLUMNS = [
    "change", "question_id", "solution_id", "step_index", "method", "completer", "old_label", "new_label", "old_value",
    "new_value", "old_correct", "new_correct", "old_rollouts", "new_rollouts", "step", "level", "subject", "source",
    "question",
]  # fmt: skip
NOTHING = TableDiff()


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """One snapshot: two questions, two processes of three steps, a label set each, a node, a rollout."""
    dataset = store.dataset("d", create=True)
    fill(dataset)
    dataset.snapshot("label", "first", "j")
    return dataset


def fill(dataset: Dataset, job: str = "j") -> None:
    dataset.add_questions([question("q1"), question("q2", level="5")], f"{job}/questions", 1)
    steps = ["a", "b", "c"]
    dataset.append("solutions", [solution(f"s{n}", f"q{n}", steps, job) for n in (1, 2)], f"{job}/solutions", 1)
    dataset.append("nodes", [node("n1", "q1", job)], f"{job}/nodes", 1)
    dataset.append("rollouts", [rollout("r1", "q1", "n1", "correct", job)], f"{job}/rollouts", 1)
    rows = [labels(f"{job}l{n}", f"s{n}", f"q{n}", [1, -1, None], job) for n in (1, 2)]
    dataset.append("labels", rows, f"{job}/labels", 1)


def superseded(
    name: str, of: str, asked: str, label: list[int | None], revision: int = 1, **more: Any
) -> dict[str, Any]:
    return {**labels(name, of, asked, label), "revision": revision, **more}


def regraded(dataset: Dataset) -> None:
    """As a regrade does it: the same keys with the next revision."""
    dataset.append("rollouts", [{**rollout("r1", "q1", "n1", "incorrect"), "revision": 1}], "g/rollouts", 1)
    dataset.append("nodes", [{**node("n1", "q1", "j"), "n_correct": 1, "revision": 1}], "g/nodes", 1)
    dataset.append("labels", [superseded("jl1", "s1", "q1", [1, 1, -1])], "g/labels", 1)


def told(found: Diff) -> dict[str, TableDiff]:
    return {name: item for name, item in {**found.tables, "steps": found.steps}.items() if item != NOTHING}


def rows_of(dataset: Dataset, old: str, new: str, where: str = "", limit: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = changed_steps(dataset.view(old), dataset.view(new), where, limit).to_pylist()
    return rows


def test_a_state_does_not_differ_from_itself(dataset: Dataset) -> None:
    difference = diff(dataset.view("1"), dataset.view())
    assert not difference
    assert (told(difference), difference.changes()) == ({}, {})
    assert changed_steps(dataset.view("1"), dataset.view()).column_names == COLUMNS
    assert rows_of(dataset, "1", "main") == []


def test_the_first_state_is_all_added(store: Store, dataset: Dataset) -> None:
    empty = store.dataset("e", create=True).view()
    difference = diff(empty, dataset.view())
    assert told(difference) == {
        "questions": TableDiff(2), "solutions": TableDiff(2), "nodes": TableDiff(1), "rollouts": TableDiff(1),
        "labels": TableDiff(2), "steps": TableDiff(6),
    }  # fmt: skip
    assert dataset.snapshots()[0].changes == {
        "+questions": 2, "+solutions": 2, "+nodes": 1, "+rollouts": 1, "+labels": 2, "+steps": 6,
    }  # fmt: skip
    assert told(diff(dataset.view(), empty)) == {
        name: TableDiff(removed=item.added) for name, item in told(difference).items()
    }


def test_what_a_job_adds_is_told_by_table_and_by_step(dataset: Dataset) -> None:
    dataset.add_questions([question("q3")], "k/questions", 1)
    dataset.append("solutions", [solution("s3", "q3", ["x"], "k")], "k/solutions", 1)
    dataset.append("labels", [labels("kl", "s3", "q3", [-1], "k")], "k/labels", 1)
    made = dataset.snapshot("label", "second", "k")
    assert told(diff(dataset.view("1"), dataset.view("2"))) == {
        "questions": TableDiff(1), "solutions": TableDiff(1), "labels": TableDiff(1), "steps": TableDiff(1),
    }  # fmt: skip
    assert made.changes == {"+questions": 1, "+solutions": 1, "+labels": 1, "+steps": 1}
    (row,) = rows_of(dataset, "1", "2")
    assert list(row) == COLUMNS
    assert (row["change"], row["solution_id"], row["step_index"], row["step"]) == ("added", "s3", 0, "x")
    assert (row["old_label"], row["new_label"], row["old_correct"], row["new_correct"]) == (None, -1, None, 4)
    (back,) = rows_of(dataset, "2", "1")
    assert (back["change"], back["old_label"], back["new_label"], back["step"]) == ("removed", -1, None, "x")


def test_a_revision_relabels_the_steps_that_came_out_different(dataset: Dataset) -> None:
    regraded(dataset)
    made = dataset.snapshot("regrade", "another grader", "g")
    assert told(diff(dataset.view("1"), dataset.view("2"))) == {
        "nodes": TableDiff(changed=1), "rollouts": TableDiff(changed=1), "labels": TableDiff(changed=1),
        "steps": TableDiff(changed=2),
    }  # fmt: skip
    assert made.changes == {"~nodes": 1, "~rollouts": 1, "~labels": 1, "~steps": 2}
    assert [
        (row["change"], row["solution_id"], row["step_index"], row["old_label"], row["new_label"], row["step"])
        for row in rows_of(dataset, "1", "2")
    ] == [("relabelled", "s1", 1, -1, 1, "b"), ("relabelled", "s1", 2, None, -1, "c")]


@pytest.mark.parametrize("change", [{"value": [0.5, 0.25, 0.5]}, {"n_correct": [4, 3, 4]}, {"n_rollouts": [8, 9, 8]}])
def test_another_value_or_other_counts_relabel_a_step_too(dataset: Dataset, change: dict[str, Any]) -> None:
    dataset.append("labels", [superseded("jl1", "s1", "q1", [1, -1, None], **change)], "g/labels", 1)
    difference = diff(dataset.view("1"), dataset.view())
    assert told(difference) == {"labels": TableDiff(changed=1), "steps": TableDiff(changed=1)}
    (row,) = rows_of(dataset, "1", "main")
    assert (row["change"], row["step_index"]) == ("relabelled", 1)


def test_a_revision_with_the_same_labels_relabels_no_step(dataset: Dataset) -> None:
    dataset.append("labels", [superseded("jl1", "s1", "q1", [1, -1, None])], "g/labels", 1)
    assert diff(dataset.view("1"), dataset.view()).steps == NOTHING


def test_two_jobs_that_labelled_the_same_processes_in_two_datasets_are_compared_step_by_step(
    store: Store, dataset: Dataset
) -> None:
    other = store.dataset("e", create=True)
    fill(other, "k")
    other.append("labels", [superseded("kl2", "s2", "q2", [1, 1, 1], job_id="k")], "k2/labels", 1)
    difference = diff(dataset.view(), other.view())
    # Solutions, nodes and rollouts are rows of their jobs; labels of the same process are matched.
    assert told(difference) == {
        "solutions": TableDiff(2, 2), "nodes": TableDiff(1, 1), "rollouts": TableDiff(1, 1),
        "labels": TableDiff(changed=1), "steps": TableDiff(changed=2),
    }  # fmt: skip
    rows = changed_steps(dataset.view(), other.view()).to_pylist()
    assert [(row["solution_id"], row["step_index"], row["old_label"], row["new_label"]) for row in rows] == [
        ("s2", 1, -1, 1), ("s2", 2, None, 1)]  # fmt: skip


def test_another_method_or_completer_is_no_partner(store: Store, dataset: Dataset) -> None:
    for name, change in (("e", {"method": "n"}), ("f", {"completer": "h"}), ("g", {"completer": None})):
        other = store.dataset(name, create=True)
        fill(other, "k")
        rows = [superseded(f"kl{n}", f"s{n}", f"q{n}", [1, 1, 1], job_id="k", **change) for n in (1, 2)]
        other.append("labels", rows, "k2/labels", 1)
        difference = diff(dataset.view(), other.view())
        assert (difference.tables["labels"], difference.steps) == (TableDiff(2, 2), TableDiff(6, 6))


def test_labels_of_people_without_a_completer_find_their_partner(store: Store) -> None:
    views = []
    for name, label in (("d", [1, -1]), ("e", [1, 1])):
        dataset = store.dataset(name, create=True)
        dataset.append("solutions", [solution("s", "q", ["a", "b"], name)], "x/solutions", 1)
        dataset.append("labels", [{**labels(name, "s", "q", list(label), name), "completer": None}], "x/labels", 1)
        views.append(dataset.view())
    assert diff(*views).steps == TableDiff(changed=1)


def test_a_process_of_another_length_has_steps_added_and_removed(store: Store, dataset: Dataset) -> None:
    other = store.dataset("e", create=True)
    fill(other)
    other.append("labels", [superseded("jl1", "s1", "q1", [1, -1, None, 1])], "g/labels", 1)
    other.append("labels", [superseded("jl2", "s2", "q2", [1])], "g/labels", 2)
    difference = diff(dataset.view(), other.view())
    assert difference.tables["labels"] == TableDiff(changed=2)
    assert difference.steps == TableDiff(added=1, removed=2)
    rows = changed_steps(dataset.view(), other.view()).to_pylist()
    assert [(row["change"], row["solution_id"], row["step_index"]) for row in rows] == [
        ("added", "s1", 3), ("removed", "s2", 1), ("removed", "s2", 2)]  # fmt: skip


def test_compaction_is_no_difference(dataset: Dataset) -> None:
    regraded(dataset)
    dataset.snapshot("regrade", "", "g")
    before = diff(dataset.view("1"), dataset.view()), rows_of(dataset, "1", "main")
    assert maintenance.compact(dataset)
    assert not diff(dataset.view("2"), dataset.view())
    assert (diff(dataset.view("1"), dataset.view()), rows_of(dataset, "1", "main")) == before
    assert dataset.snapshot("label", "nothing new").name == "2"


def test_a_rollback_is_the_difference_the_other_way_round(dataset: Dataset) -> None:
    regraded(dataset)
    dataset.add_questions([question("q3")], "k/questions", 1)
    dataset.append("labels", [labels("jl3", "s1", "q1", [1, 1], "k")], "k/labels", 1)
    forth = dataset.snapshot("regrade", "", "g").changes
    back = rollback(dataset, "1")
    assert not diff(dataset.view("1"), dataset.view())
    assert back.changes == {{"+": "-"}.get(name[0], name[0]) + name[1:]: count for name, count in forth.items()}
    assert back.changes["-steps"] == 2


def test_every_condition_over_the_columns_can_choose_steps(dataset: Dataset) -> None:
    dataset.append("labels", [superseded(f"jl{n}", f"s{n}", f"q{n}", [1, 1, 1]) for n in (1, 2)], "g/labels", 1)
    assert len(rows_of(dataset, "1", "main")) == 4
    assert [row["solution_id"] for row in rows_of(dataset, "1", "main", "level = '5'")] == ["s2", "s2"]
    assert len(rows_of(dataset, "1", "main", "old_label = -1 and new_label = 1")) == 2
    assert len(rows_of(dataset, "1", "main", "old_label is null or solution_id = 's1'")) == 3
    assert rows_of(dataset, "1", "main", "change = 'added'") == []
    assert len(rows_of(dataset, "1", "main", limit=3)) == 3
    assert len(rows_of(dataset, "1", "main", " ")) == 4


@pytest.mark.parametrize(
    "where", ["nope = 1", "1 =", "true; drop view changes", "(select count(*) from read_csv('/etc/passwd')) > 0"]
)
def test_a_condition_that_fails_is_an_input_error(dataset: Dataset, where: str) -> None:
    with pytest.raises(InputError, match="^SQL: "):
        rows_of(dataset, "1", "main", where)


def test_the_same_rollouts_regraded_by_two_graders_differ(store: Store) -> None:
    views = []
    for name, verdict in (("d", "correct"), ("e", "incorrect")):
        dataset = store.dataset(name, create=True)
        dataset.append("rollouts", [{**rollout("r", "q", "n", verdict), "revision": 1}], "g/rollouts", 1)
        views.append(dataset.view())
    assert diff(*views).tables["rollouts"] == TableDiff(changed=1)


def test_the_rows_of_jobs_are_no_difference(dataset: Dataset) -> None:
    row = {"job_id": "j", "kind": "label", "event": "end", "config": "{}", "versions": "{}", "totals": "{}", "at": "x"}
    dataset.append("jobs", [row], "j/end", 1)
    assert not diff(dataset.view("1"), dataset.view())


# Against a plain model of it, in any state

SOLUTIONS, METHODS, JOBS = ("s0", "s1", "s2"), ("m", "n"), ("j", "k")
LABEL = st.lists(st.sampled_from([1, -1, None]), min_size=3, max_size=3).map(tuple)
State = Mapping[tuple[str, str, str], tuple[int | None, ...]]
STATE = st.dictionaries(
    st.tuples(st.sampled_from(SOLUTIONS), st.sampled_from(METHODS), st.sampled_from(JOBS)), LABEL, max_size=8
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("diff") / "store", create=True)


def write(dataset: Dataset, state: State, revision: int, app: str) -> None:
    rows = []
    for (of, method, job), label in state.items():
        made = labels(f"{of}{method}{job}", of, f"q{of}", list(label), job)
        rows.append({**made, "method": method, "revision": revision})
    dataset.append("labels", rows, f"{app}/labels", 1)


def modelled(old: State, new: State) -> tuple[int, int, int, int, int, int]:
    """Label sets and steps that were added, removed, relabelled: matched by id, then by process and method."""
    pairs = [(old.get(key), new.get(key)) for key in {*old, *new} if key in old and key in new]
    for of, method in itertools.product(SOLUTIONS, METHODS):
        keys = [(of, method, job) for job in JOBS]
        gone = [old[key] for key in keys if key in old and key not in new]
        came = [new[key] for key in keys if key in new and key not in old]
        pairs += itertools.zip_longest(gone, came)
    apart = [(a, b) for a, b in pairs if a != b]
    added, removed = [a is None for a, _ in apart].count(True), [b is None for _, b in apart].count(True)
    relabelled = sum(x != y for a, b in apart if a is not None and b is not None for x, y in zip(a, b, strict=True))
    return added, removed, len(apart) - added - removed, 3 * added, 3 * removed, relabelled


def counted(found: Diff) -> tuple[int, int, int, int, int, int]:
    sets, steps = found.tables["labels"], found.steps
    return sets.added, sets.removed, sets.changed, steps.added, steps.removed, steps.changed


def mirrored(found: Diff) -> Diff:
    return Diff(
        {name: TableDiff(item.removed, item.added, item.changed) for name, item in found.tables.items()},
        TableDiff(found.steps.removed, found.steps.added, found.steps.changed),
    )


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=STATE, new=STATE)
def test_any_two_datasets_differ_as_the_model_says_and_the_same_the_other_way_round(
    shared: Store, old: State, new: State
) -> None:
    views = []
    for state in (old, new):
        dataset = shared.dataset(f"d{next(_numbers)}", create=True)
        write(dataset, state, 0, "x")
        views.append(dataset.view())
    forth, back = diff(*views), diff(*reversed(views))
    assert counted(forth) == modelled(old, new)
    assert mirrored(forth) == back
    assert not diff(views[0], views[0])
    assert bool(forth) == (counted(forth) != (0,) * 6)
    rows = changed_steps(*views).to_pylist()
    assert [row["change"] for row in rows].count("relabelled") == forth.steps.changed
    assert len(rows) == forth.steps.added + forth.steps.removed + forth.steps.changed
    other = {"added": "removed", "removed": "added", "relabelled": "relabelled"}
    turned = [
        (other[r["change"]], r["solution_id"], r["step_index"], r["method"], r["new_label"], r["old_label"])
        for r in changed_steps(*reversed(views)).to_pylist()
    ]
    plain = [
        (r["change"], r["solution_id"], r["step_index"], r["method"], r["old_label"], r["new_label"]) for r in rows
    ]
    assert sorted(plain, key=repr) == sorted(turned, key=repr)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=STATE, more=STATE, compacted=st.sampled_from(["never", "before", "between", "after"]))
def test_two_states_of_one_dataset_differ_as_the_model_says_whatever_files_they_share(
    shared: Store, old: State, more: State, compacted: str
) -> None:
    dataset = shared.dataset(f"d{next(_numbers)}", create=True)
    write(dataset, {key: label for key, label in old.items() if key[2] == "j"}, 0, "x")
    write(dataset, {key: label for key, label in old.items() if key[2] == "k"}, 0, "y")
    if compacted == "before":
        maintenance.compact(dataset)
    before = dataset.view()
    if compacted == "between":
        maintenance.compact(dataset)
    write(dataset, {key: label for key, label in more.items() if key not in old}, 0, "new")
    write(dataset, {key: label for key, label in more.items() if key in old}, 1, "again")
    if compacted == "after":
        maintenance.compact(dataset)
    difference = diff(before, dataset.view())
    assert counted(difference) == modelled(old, {**old, **more})
    assert mirrored(difference) == diff(dataset.view(), before)
    assert all(difference.tables[name] == NOTHING for name in COMPARED)
