"""verify finds every kind of damage that it promises to find, and nothing in a dataset that is whole."""

import gc
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openr_data import ids
from openr_data.derivation.regrade import regrade
from openr_data.errors import StoreError
from openr_data.grading import MathGrader
from openr_data.grading.math.text_graders import ChoiceGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.jobs.plan import Plan
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.schema import LATER_TABLES, REFS, TABLES
from openr_data.store import Dataset, Store, maintenance, refs, tables
from openr_data.store.rollback import rollback
from openr_data.store.rows import solution_of
from openr_data.store.verify import SHOWN, Fault, verify
from openr_data.types import Sampling
from tests.conftest import a_question, four_steps
from tests.store.test_dataset import labels, node, question, rollout, solution

Row = dict[str, Any]
DIGEST = "another content than it was made with (its digest does not hold)"
HASH = "ids that are not the hash of what they name"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the labels of a scripted job, in one file a table, and a snapshot."""
    store = Store.open(tmp_path_factory.mktemp("verify") / "store", create=True)
    config = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"k": 4})
    labeler = OmegaPRM(OmegaPRMConfig(searches=4, screening=8, k=4), Sampling())
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    questions = [a_question(f"Question {number}?") for number in range(5)]
    run_label(job, config, questions, store.dataset("d", create=True), labeler, policy, MathGrader())
    return store.path


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(made, tmp_path / "copy")
    return Store.open(tmp_path / "copy").dataset("d")


def file_of(dataset: Dataset, table: str) -> Path:
    (file,) = tables.open_table(dataset.path / table).file_uris()
    return Path(str(file))


def rewrite(file: Path, schema: pa.Schema, edit: Callable[[list[Row]], Any]) -> None:
    rows: list[Row] = pq.read_table(file).to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def change(dataset: Dataset, table: str, where: Callable[[Row], bool], **new: Any) -> Row:
    """Change the first row for which `where` holds, in its file; the row as it was."""
    found: list[Row] = []

    def edit(rows: list[Row]) -> None:
        row = next(item for item in rows if where(item))
        found.append(dict(row))
        row.update({name: value(row) if callable(value) else value for name, value in new.items()})

    rewrite(file_of(dataset, table), TABLES[table], edit)
    return found[0]


def said(dataset: Dataset) -> dict[tuple[str, str], tuple[int, tuple[str, ...]]]:
    return {(problem.where, problem.what): (problem.count, problem.examples) for problem in verify(dataset)}


def of_rows(dataset: Dataset) -> dict[tuple[str, str], tuple[int, tuple[str, ...]]]:
    """Return the problems about rows, without those of snapshots that no longer match their digest."""
    return {key: value for key, value in said(dataset).items() if not key[0].startswith("@")}


def is_measured(row: Row) -> bool:
    return any(row["n_rollouts"])


# Whole


def test_nothing_is_said_of_a_dataset_that_is_whole(dataset: Dataset) -> None:
    assert list(verify(dataset)) == []
    counts = dataset.view().counts()
    assert min(counts[name] for name in TABLES if name not in LATER_TABLES) > 0


def test_nothing_is_said_of_an_empty_dataset(store: Store) -> None:
    assert list(verify(store.dataset("d", create=True))) == []


def test_nothing_is_said_after_regrade_compaction_rollback_tag_and_gc(dataset: Dataset) -> None:
    regrade(dataset, ChoiceGrader())
    assert list(verify(dataset)) == []
    maintenance.compact(dataset)
    dataset.tag("v1", "1")
    rollback(dataset, "1")
    regrade(dataset, MathGrader())
    assert list(verify(dataset)) == []
    maintenance.gc(dataset, keep_days=-1, retention_hours=0, alone=True)
    assert list(verify(dataset)) == []


def test_verify_writes_nothing(dataset: Dataset) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.path.rglob("*")}
    list(verify(dataset))
    assert {path: path.stat().st_mtime_ns for path in dataset.path.rglob("*")} == before


def test_verify_closes_every_file_it_opens(dataset: Dataset) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(verify(dataset))
        gc.collect()
    assert [item for item in caught if item.category is ResourceWarning] == []


# Files


@pytest.mark.parametrize("table", ["questions", "rollouts", "labels"])
@pytest.mark.parametrize("how", ["truncated", "missing", "emptied", "overwritten"])
def test_a_file_that_cannot_be_read_is_named(dataset: Dataset, table: str, how: str) -> None:
    file = file_of(dataset, table)
    data = file.read_bytes()
    file.unlink()
    if how != "missing":
        file.write_bytes({"truncated": data[: len(data) // 2], "emptied": b"", "overwritten": b"x" * len(data)}[how])
    (problem,) = verify(dataset)
    assert problem.where == table
    assert problem.what.startswith(f"the file {file.name} cannot be read: ")
    assert problem.what.endswith(".")


def test_a_file_that_only_an_old_snapshot_holds_is_read_too(dataset: Dataset) -> None:
    old = file_of(dataset, "labels")
    dataset.append("jobs", [], "x", 1)
    dataset.add_questions([question(ids.question_id("new?", "1"), question="new?")], "x/questions", 1)
    dataset.snapshot("import", "second")
    maintenance._merge(
        dataset.path / "labels",
        "labels",
        tables.open_table(dataset.path / "labels"),
        tables.data_files(tables.open_table(dataset.path / "labels")),
    )
    assert file_of(dataset, "labels") != old
    old.write_bytes(old.read_bytes()[:100])
    (problem,) = verify(dataset)
    assert (problem.where, old.name in problem.what) == ("labels", True)


def test_a_file_with_other_rows_than_its_log_says_is_named(dataset: Dataset) -> None:
    file = file_of(dataset, "rollouts")
    rewrite(file, TABLES["rollouts"], lambda rows: rows.pop())
    n = pq.read_metadata(file).num_rows
    assert list(verify(dataset)) == [Fault("rollouts", f"the file {file.name} holds {n} rows, its log says {n + 1}")]


def test_an_empty_log_entry_is_named(dataset: Dataset) -> None:
    max((dataset.path / "labels" / "_delta_log").glob("*.json")).write_text("")
    found = [problem for problem in verify(dataset) if problem.where == "labels"]
    assert found
    assert all("its log entry 00000000000000000001.json is empty" in problem.what for problem in found)


def test_an_empty_log_entry_before_the_last_is_named(dataset: Dataset) -> None:
    for seq in (1, 2):
        row = dataset.view().arrow("rollouts").to_pylist()[0]
        dataset.append("rollouts", [{**row, "rollout_id": f"r{seq}", "node_id": "x", "job_id": "x"}], "x", seq)
    (dataset.path / "rollouts" / "_delta_log" / "00000000000000000002.json").write_text("")
    assert any("empty" in problem.what for problem in verify(dataset))


def test_a_log_entry_that_is_gone_is_named(dataset: Dataset) -> None:
    (dataset.path / "nodes" / "_delta_log" / "00000000000000000001.json").unlink()
    assert any(problem.where == "nodes" for problem in verify(dataset))


def test_a_damaged_file_of_refs_is_said_and_not_raised(dataset: Dataset) -> None:
    file = file_of(dataset, "refs")
    file.write_bytes(file.read_bytes()[:50])
    assert any(problem.where == "refs" for problem in verify(dataset))


def test_a_file_without_a_column_is_said(dataset: Dataset) -> None:
    file = file_of(dataset, "labels")
    pq.write_table(pq.read_table(file).drop_columns(["value"]), file)
    assert [problem.where for problem in verify(dataset)] == ["d"]


# Ids


@pytest.mark.parametrize(
    ("table", "new"),
    [
        ("questions", {"question": lambda row: row["question"] + "!"}),
        ("questions", {"answer": "2"}),
        ("solutions", {"steps": lambda row: [*row["steps"][:-1], "another"]}),
        ("labels", {"method": "another"}),
        ("labels", {"completer": "another", "method": "m"}),
        ("nodes", {"step": "another"}),
    ],
)
def test_an_id_that_is_not_the_hash_of_what_it_names_is_said(dataset: Dataset, table: str, new: Row) -> None:
    row = change(dataset, table, lambda row: row.get("depth") != 0, **new)
    faults = of_rows(dataset)
    name = str(
        row[{"questions": "question_id", "solutions": "solution_id", "labels": "label_id"}.get(table, "node_id")]
    )
    assert faults == {(table, HASH): (1, (name,))}


def test_of_many_rows_some_are_named_and_all_counted(dataset: Dataset) -> None:
    def edit(rows: list[Row]) -> None:
        for row in rows:
            row["answer"] = "other"

    rewrite(file_of(dataset, "questions"), TABLES["questions"], edit)
    count, examples = of_rows(dataset)["questions", HASH]
    assert (count, len(examples)) == (5, SHOWN)


def test_several_problems_are_all_said(dataset: Dataset) -> None:
    change(dataset, "questions", lambda row: True, answer="2")
    change(dataset, "rollouts", lambda row: row["verdict"] == "incorrect", verdict="maybe")
    change(dataset, "solutions", lambda row: True, n_steps=99)
    kinds = set(of_rows(dataset))
    assert kinds >= {
        ("questions", HASH), ("rollouts", "a verdict that is none"), ("solutions", "n_steps is not the number of steps"),
    }  # fmt: skip


# Rows


@pytest.mark.parametrize("column", ["value", "n_correct", "n_rollouts", "provenance", "node_id"])
def test_a_list_of_another_length_is_said(dataset: Dataset, column: str) -> None:
    row = change(dataset, "labels", lambda row: True, **{column: lambda row: row[column][:-1]})
    assert of_rows(dataset)["labels", "lists of different length"] == (1, (row["label_id"],))


@pytest.mark.parametrize("column", ["value", "label"])
def test_a_list_that_is_null_is_said(dataset: Dataset, column: str) -> None:
    row = change(dataset, "labels", lambda row: row["first_error"] is None, **{column: None})
    assert of_rows(dataset)["labels", "lists of different length"] == (1, (row["label_id"],))


def test_a_label_set_shorter_than_its_process_is_said(dataset: Dataset) -> None:
    names = ("label", "value", "n_correct", "n_rollouts", "provenance", "node_id")
    cut = {name: lambda row, name=name: row[name][:-1] for name in names}
    row = change(dataset, "labels", lambda row: row["first_error"] is None, **cut)
    assert of_rows(dataset) == {("labels", "not as many labels as steps"): (1, (row["label_id"],))}


@pytest.mark.parametrize("n_steps", [0, 99, None])
def test_a_wrong_number_of_steps_is_said(dataset: Dataset, n_steps: int | None) -> None:
    row = change(dataset, "solutions", lambda row: True, n_steps=n_steps)
    assert of_rows(dataset)["solutions", "n_steps is not the number of steps"] == (1, (row["solution_id"],))


@pytest.mark.parametrize(("has_error", "new"), [(True, None), (True, 7), (True, -1), (False, 0)])
def test_a_first_error_that_is_not_the_first_bad_step_is_said(
    dataset: Dataset, has_error: bool, new: int | None
) -> None:
    row = change(dataset, "labels", lambda row: (row["first_error"] is not None) == has_error, first_error=new)
    assert of_rows(dataset) == {("labels", "first_error is not the first bad step"): (1, (row["label_id"],))}


def test_a_label_that_is_none_is_said(dataset: Dataset) -> None:
    row = change(dataset, "labels", lambda row: row["first_error"] is None, label=lambda row: [5, *row["label"][1:]])
    assert of_rows(dataset) == {("labels", "a label that is none of 1, 0, -1"): (1, (row["label_id"],))}


def test_a_verdict_that_is_none_is_said(dataset: Dataset) -> None:
    row = change(dataset, "rollouts", lambda row: row["verdict"] == "correct", verdict="right")
    assert of_rows(dataset)["rollouts", "a verdict that is none"] == (1, (row["rollout_id"],))


# Counts


def test_more_correct_rollouts_than_rollouts_are_said(dataset: Dataset) -> None:
    label = change(dataset, "labels", lambda row: True, n_correct=lambda row: [n + 1 for n in row["n_rollouts"]])
    node_row = change(dataset, "nodes", lambda row: row["n_rollouts"] > 0, n_correct=lambda row: row["n_rollouts"] + 1)
    faults = of_rows(dataset)
    assert faults["labels", "more correct rollouts than rollouts"] == (1, (label["label_id"],))
    assert faults["nodes", "more correct rollouts than rollouts"] == (1, (node_row["node_id"],))


def test_counts_of_a_label_set_that_are_not_those_of_its_node_are_said(dataset: Dataset) -> None:
    row = change(dataset, "labels", is_measured, n_rollouts=lambda row: [n and n + 1 for n in row["n_rollouts"]])
    assert of_rows(dataset) == {("labels", "counts that are not those of the node"): (1, (row["label_id"],))}


@pytest.mark.parametrize("column", ["n_rollouts", "n_unknown"])
def test_counts_of_a_node_that_are_not_those_of_its_rollouts_are_said(dataset: Dataset, column: str) -> None:
    row = change(dataset, "nodes", lambda row: row["depth"] == 0, **{column: lambda row: row[column] + 1})
    assert of_rows(dataset) == {("nodes", "counts that are not those of the rollouts"): (1, (row["node_id"],))}


def test_a_verdict_that_its_node_does_not_count_is_said(dataset: Dataset) -> None:
    row = change(dataset, "rollouts", lambda row: row["verdict"] == "correct", verdict="incorrect")
    assert of_rows(dataset)["nodes", "counts that are not those of the rollouts"] == (1, (row["node_id"],))


def test_a_node_that_counts_rollouts_of_which_none_is_there_is_said(dataset: Dataset) -> None:
    at = ids.child_id(ids.root_id(dataset.view().arrow("questions")["question_id"][0].as_py()), "lost")
    like = next(row for row in dataset.view().arrow("nodes").to_pylist() if row["depth"] == 1 and row["n_rollouts"])
    root = next(row for row in dataset.view().arrow("nodes").to_pylist() if ids.child_id(row["node_id"], "lost") == at)
    lost = {**like, "node_id": at, "parent_id": root["node_id"], "question_id": root["question_id"], "step": "lost"}
    dataset.append("nodes", [lost], "x", 1)
    assert any(problem.where == "nodes" for problem in verify(dataset))


# Dangling references


def added(dataset: Dataset, table: str, row: Row) -> dict[tuple[str, str], tuple[int, tuple[str, ...]]]:
    dataset.append(table, [row], "x", 1)
    return of_rows(dataset)


def test_a_process_of_no_question_is_said(dataset: Dataset) -> None:
    name = ids.solution_id("none", ["a"])
    faults = added(dataset, "solutions", solution(name, "none", ["a"]))
    assert faults == {("solutions", "no question of that id"): (1, (name,))}


@pytest.mark.parametrize("job", ["j", "another"])
def test_a_label_set_of_no_process_of_its_job_is_said(dataset: Dataset, job: str) -> None:
    there = dataset.view().arrow("solutions").to_pylist()[0]
    of = ids.solution_id("none", ["a"]) if job == "j" else there["solution_id"]
    n = 1 if job == "j" else there["n_steps"]
    name = ids.label_id(of, "m", job)
    faults = added(dataset, "labels", labels(name, of, there["question_id"], [1] * n, job))
    assert faults == {("labels", "no solution of that id and job"): (1, (name,))}


def test_a_node_of_no_question_is_said(dataset: Dataset) -> None:
    root = ids.root_id("none")
    row = {**node(root, "none", "j"), "depth": 0, "step": "", "n_rollouts": 0, "n_correct": 0}
    assert added(dataset, "nodes", row) == {("nodes", "no question of that id"): (1, (root,))}


def test_a_rollout_of_no_question_is_said(dataset: Dataset) -> None:
    at = dataset.view().arrow("nodes")["node_id"][0].as_py()
    faults = added(dataset, "rollouts", rollout("r", "none", at, "correct", "another"))
    assert faults == {
        ("rollouts", "no question of that id"): (1, ("r",)),
        ("rollouts", "no node of that id and job"): (1, ("r",)),
    }


def dangling(dataset: Dataset, depth: int) -> Row:
    asked = dataset.view().arrow("questions")["question_id"][0].as_py()
    name = ids.child_id("0" * 32, "a")
    more = {"parent_id": "0" * 32, "depth": depth, "n_rollouts": 0, "n_correct": 0}
    return {**node(name, asked, "j"), **more}


def test_a_node_without_its_parent_is_said(dataset: Dataset) -> None:
    row = dangling(dataset, 2)
    assert added(dataset, "nodes", row) == {("nodes", "no parent of that id"): (1, (row["node_id"],))}


def test_a_first_step_without_its_root_is_said(dataset: Dataset) -> None:
    row = dangling(dataset, 1)
    assert added(dataset, "nodes", row) == {("nodes", "no parent of that id"): (1, (row["node_id"],))}


def test_a_null_among_the_nodes_of_a_label_set_hides_no_missing_parent(dataset: Dataset) -> None:
    change(dataset, "labels", lambda row: not row["n_rollouts"][-1], node_id=lambda row: [*row["node_id"][:-1], None])
    row = dangling(dataset, 2)
    assert added(dataset, "nodes", row).get(("nodes", "no parent of that id")) == (1, (row["node_id"],))


def test_a_rollout_of_no_node_is_said(dataset: Dataset) -> None:
    asked = dataset.view().arrow("questions")["question_id"][0].as_py()
    assert added(dataset, "rollouts", rollout("r", asked, "none", "correct"))


@pytest.mark.parametrize("table", ["questions", "solutions", "nodes", "rollouts", "labels"])
def test_a_key_that_two_files_hold_although_they_say_they_do_not_is_said(dataset: Dataset, table: str) -> None:
    row = dataset.view().arrow(table).to_pylist()[0]
    dataset.append(table, [row], "x", 1)
    name = str(row["node_id" if table == "nodes" else f"{table[:-1]}_id"])
    assert of_rows(dataset).get((table, "keys that stand there twice")) == (1, (name,))


def test_a_key_that_a_revision_supersedes_is_no_problem(dataset: Dataset) -> None:
    row = dataset.view().arrow("labels").to_pylist()[0]
    dataset.append("labels", [{**row, "revision": 1, "metadata": "{}"}], "x", 1)
    assert said(dataset) == {}


# Snapshots


def test_a_content_whose_digest_does_not_hold_is_said(dataset: Dataset) -> None:
    dataset.tag("v1", "1")
    change(dataset, "rollouts", lambda row: True, answer="silently another")
    assert said(dataset) == {("@1", DIGEST): (1, ()), ("@v1", DIGEST): (1, ())}


def rewrite_refs(dataset: Dataset, **new: Any) -> None:
    def edit(rows: list[Row]) -> None:
        for row in rows:
            row.update(new)

    rewrite(file_of(dataset, "refs"), REFS, edit)
    # A process caches what it read, because files never change; another process reads the file again.
    refs._known.clear()


def test_a_snapshot_with_other_numbers_of_rows_is_said(dataset: Dataset) -> None:
    counts = {**dataset.snapshots()[0].counts, "labels": 1, "steps": 0}
    rewrite_refs(dataset, counts=list(counts.items()))
    assert said(dataset) == {("@1", "other numbers of rows than it was made with in labels, steps"): (1, ())}


def test_a_snapshot_without_its_parent_is_said(dataset: Dataset) -> None:
    rewrite_refs(dataset, parent="7")
    assert said(dataset) == {("@1", "its parent 7 is not there"): (1, ())}


def test_a_snapshot_of_a_version_that_does_not_open_is_said(dataset: Dataset) -> None:
    versions = {**dataset.snapshots()[0].versions, "labels": 9}
    rewrite_refs(dataset, versions=list(versions.items()))
    (problem,) = verify(dataset)
    assert problem.where == "labels"
    assert "cannot be read at version 9" in problem.what


def test_a_snapshot_that_gc_let_go_is_no_missing_parent(dataset: Dataset) -> None:
    dataset.add_questions([question(ids.question_id("new?", "1"), question="new?")], "x/questions", 1)
    dataset.snapshot("import", "second")
    assert maintenance.gc(dataset, keep_days=-1).snapshots == ["1"]
    assert said(dataset) == {}


def test_a_tag_with_another_digest_than_its_snapshot_is_said(dataset: Dataset) -> None:
    first = dataset.snapshots()[0]
    refs.write_tag(dataset.path / "refs", "d", "v1", replace(first, digest="2-0"), "")
    assert said(dataset) == {("@v1", DIGEST): (1, ())}


def test_a_change_that_was_interrupted_is_said_with_the_command(dataset: Dataset) -> None:
    dataset.begin("regrade", "openr-data regrade d --grader math")
    with pytest.raises(StoreError) as caught:
        dataset.check_whole()
    assert said(dataset) == {("d", str(caught.value)): (1, ())}
    assert "openr-data regrade d --grader math" in str(caught.value)


@pytest.mark.parametrize("method", ["adaptive", "omegaprm", "math-shepherd", "mips"])
@pytest.mark.parametrize("given", [False, True])
def test_what_every_labeler_writes_is_whole(store: Store, method: str, given: bool) -> None:
    questions = [a_question(f"What is 1, question {index}?") for index in range(12)]
    policy = ScriptedPolicy(four_steps)
    dataset = store.dataset("w", create=True)
    first = LabelConfig(source="test", method="adaptive", policy="scripted", into="w", options={"most": 4})
    plan = Plan(first, tuple(questions), "test")
    job = Job.create(store, first, {"policy_revision": policy.name})
    run_label(job, first, questions, dataset, plan.labeler(), policy, MathGrader())
    if given:
        rows = dataset.view().sql("select * from solutions").to_pylist()
        solutions: dict[str, list[Any]] = {}
        for row in rows:
            solutions.setdefault(row["question_id"], []).append(solution_of(row))
    else:
        solutions = {}
    config = LabelConfig(
        source="test", method=method, policy="scripted", into="w", seed=1, given_solutions=given, options={}
    )
    plan = Plan(config, tuple(questions), "test")
    job = Job.create(store, config, {"policy_revision": policy.name})
    run_label(job, config, questions, dataset, plan.labeler(), policy, MathGrader(), given=solutions)
    assert list(verify(dataset)) == []
