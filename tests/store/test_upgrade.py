"""A store of an earlier schema version is read, written to, and then no longer taken for an old one."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from openr_data.errors import NotAStore, StoreError
from openr_data.jobs.job import Job
from openr_data.schema import LATER_TABLES, REFS, SCHEMA_VERSION, TABLES
from openr_data.store import Store, maintenance, query, storage, tables
from openr_data.store.rollback import rollback
from openr_data.store.verify import verify
from tests.store.test_dataset import labels, node, question, rollout, solution

NEW = {"extraction", "reason", "revision"}
VERSION_2 = Path(__file__).parent / "stores" / "version2"
VERSION_3 = Path(__file__).parent / "stores" / "version3"
DIGESTS_3 = {
    "arithmetic": "2-2ef66affb04db30369242a41c97e6971",
    "arithmetic-search": "2-6813d523636149a0fbf45ebf8ae38dd1",
}
"""The output of `openr-data show` from the version that wrote the store."""


def old_schema(schema: pa.Schema) -> pa.Schema:
    later = {"metadata"} if "question" not in schema.names else set()
    return pa.schema([field for field in schema if field.name not in NEW | later])


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store as version 1 laid it out, with one row a table and a snapshot."""
    monkeypatch.setattr(storage, "SCHEMA_VERSION", 1)
    root = tmp_path / "old"
    folder = root / "datasets" / "d"
    folder.mkdir(parents=True)
    (root / "openr-store.json").write_text(json.dumps({"schema_version": 1}))
    rows = {
        "questions": question("q"),
        "solutions": solution("s", "q", ["a", "b"]),
        "nodes": node("n0", "q", "j"),
        "rollouts": rollout("r", "q", "n0", "correct"),
        "labels": labels("l", "s", "q", [1, -1]),
    }
    for name, schema in TABLES.items():
        if name in LATER_TABLES:
            continue
        tables.create(folder / name, old_schema(schema), None)
        if name in rows:
            table = pa.Table.from_pylist([rows[name]], schema=old_schema(schema))
            tables.append(folder / name, table, f"j/{name}", 1)
    tables.create(folder / "refs", REFS, None)
    monkeypatch.undo()
    return root


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """A store that the release before wrote: a labeling of two questions, then a regrade."""
    shutil.copytree(VERSION_2, tmp_path / "version2")
    return tmp_path / "version2"


@pytest.fixture
def version_3(tmp_path: Path) -> Path:
    """A store of version 3: a labeling with an evaluation of a reward model, and a search with another."""
    shutil.copytree(VERSION_3, tmp_path / "version3")
    return tmp_path / "version3"


@pytest.mark.parametrize("name", DIGESTS_3)
def test_a_store_of_version_3_opens_verifies_and_keeps_its_digests(version_3: Path, name: str) -> None:
    dataset = Store.open(version_3).dataset(name)
    assert list(verify(dataset)) == []
    assert dataset.view().digest() == query.digest(dataset.view().connect()) == DIGESTS_3[name]
    assert (dataset.view().counts()["scores"], dataset.view().counts()["search_nodes"]) == (0, 0)
    assert dataset.view().sql("select count(*) as n from scores").to_pylist() == [{"n": 0}]
    assert json.loads((version_3 / "openr-store.json").read_text())["schema_version"] == 3
    assert not (dataset.path / "scores").exists()


@pytest.mark.parametrize("name", DIGESTS_3)
def test_a_store_of_version_3_gets_the_new_tables_when_it_is_written_to(version_3: Path, name: str) -> None:
    dataset = Store.open(version_3).dataset(name, write=True)
    assert json.loads((version_3 / "openr-store.json").read_text())["schema_version"] == SCHEMA_VERSION
    before = dataset.snapshots()
    # The new tables are empty: the state is the one that the last snapshot names.
    assert dataset.snapshot("tag", "unchanged") == before[-1]
    assert query.digest(dataset.view().connect()) == DIGESTS_3[name]
    asked = dataset.view().arrow("questions")["question_id"][0].as_py()
    score = {"node_id": "n", "question_id": asked, "reward": "r", "score": 0.5, "job_id": "j"}
    dataset.append("scores", [score], "j/scores", 1)
    made = dataset.snapshot("eval", "one score", "j")
    assert made.changes == {"+scores": 1}
    assert made.digest != DIGESTS_3[name]
    assert list(verify(dataset)) == []
    maintenance.compact(dataset)
    assert dataset.view().arrow("scores").to_pylist() == [score]
    # A state from before the tables has none of their rows, and can come back.
    assert dataset.view(before[-1].name).counts()["scores"] == 0
    rollback(dataset, before[-1].name)
    assert dataset.view().digest() == DIGESTS_3[name]
    assert list(verify(dataset)) == []


def test_small_files_of_a_store_of_version_3_are_merged_before_it_is_upgraded(version_3: Path) -> None:
    dataset = Store.open(version_3).dataset("arithmetic")
    assert maintenance.compact(dataset)
    assert dataset.view().digest() == DIGESTS_3["arithmetic"]
    assert maintenance.gc(dataset, keep_days=-1, retention_hours=0, alone=True).snapshots == ["1"]
    assert list(verify(dataset)) == []


def test_a_table_that_a_snapshot_names_and_that_is_gone_is_damage(version_3: Path) -> None:
    dataset = Store.open(version_3).dataset("arithmetic", write=True)
    asked = dataset.view().arrow("questions")["question_id"][0].as_py()
    score = {"node_id": "n", "question_id": asked, "reward": "r", "score": 0.5, "job_id": "j"}
    dataset.append("scores", [score], "j/scores", 1)
    dataset.snapshot("eval", "one score", "j")
    shutil.rmtree(dataset.path / "scores")
    with pytest.raises(StoreError, match="scores of arithmetic is missing"):
        dataset.view()
    assert any(problem.where == "scores" for problem in verify(dataset))


@pytest.mark.parametrize("job", ["43ce45e1eea4", "751739998563"])
def test_the_evaluations_of_a_store_of_version_3_are_still_known(version_3: Path, job: str) -> None:
    assert Job.find(Store.open(version_3), job).result() is not None


def test_a_store_of_the_version_before_is_read_as_it_was(version_2: Path) -> None:
    store = Store.open(version_2)
    first, second = store.view("arithmetic@1"), store.view("arithmetic")
    assert second.counts() == {
        "questions": 2, "solutions": 6, "nodes": 31, "rollouts": 64, "labels": 6, "jobs": 2, "steps": 24,
        "search_nodes": 0, "scores": 0,
    }  # fmt: skip
    assert first.sql("select distinct grader from rollouts").to_pylist() == [{"grader": "math/2"}]
    assert second.sql("select distinct grader from rollouts").to_pylist() == [{"grader": "openr/1"}]
    assert second.sql("select metadata from solutions").column(0).null_count == 6
    assert [row.operation for row in store.dataset("arithmetic").snapshots()] == ["label", "regrade"]


def test_the_digests_of_the_version_before_still_hold(version_2: Path) -> None:
    dataset = Store.open(version_2).dataset("arithmetic")
    for snapshot in dataset.snapshots():
        assert query.digest(dataset.view(snapshot.name).connect(), snapshot.digest) == snapshot.digest


def test_a_store_of_the_version_before_is_written_to_tagged_and_compacted(version_2: Path) -> None:
    dataset = Store.open(version_2).dataset("arithmetic", create=True)
    before = dataset.view().sql("select * from labels order by label_id").to_pylist()
    dataset.add_questions([question("q")], "j/questions", 1)
    assert dataset.snapshot("import", "one more").changes == {"+questions": 1}
    assert dataset.tag("v1", "1").versions == dataset.snapshots()[0].versions
    assert maintenance.compact(dataset)
    assert dataset.view().counts()["questions"] == 3
    assert dataset.view().sql("select * from labels order by label_id").to_pylist() == before
    assert dataset.view("v1").counts()["questions"] == 2
    assert all(f"-v{SCHEMA_VERSION}-" in file for file in dataset.view().files("labels"))


def test_what_an_old_store_lacks_is_null(old_store: Path) -> None:
    view = Store.open(old_store).view("d")
    assert view.sql("select verdict, reason, revision from rollouts").to_pylist() == [
        {"verdict": "correct", "reason": None, "revision": None}
    ]
    assert view.sql("select count(*) as n from steps").to_pylist() == [{"n": 2}]
    assert view.counts()["rollouts"] == 1
    assert view.digest()
    assert json.loads((old_store / "openr-store.json").read_text())["schema_version"] == 1


def test_writing_upgrades_it_and_old_and_new_rows_stand_side_by_side(old_store: Path) -> None:
    dataset = Store.open(old_store).dataset("d", create=True)
    before = dataset.view().versions["rollouts"]
    assert json.loads((old_store / "openr-store.json").read_text())["schema_version"] == SCHEMA_VERSION
    new = {**rollout("r", "q", "n0", "incorrect"), "reason": "", "extraction": "boxed", "revision": 1}
    dataset.append("rollouts", [new, {**new, "rollout_id": "other", "revision": 0}], "k/rollouts", 1)
    rows = dataset.view().sql("select rollout_id, verdict, revision from rollouts order by 1").to_pylist()
    assert rows == [
        {"rollout_id": "other", "verdict": "incorrect", "revision": 0},
        {"rollout_id": "r", "verdict": "incorrect", "revision": 1},
    ]
    frame = dataset.view().polars("rollouts")
    assert "revision" in frame.columns
    # Delta's own readers see the columns too, and the state before the upgrade can still be read.
    assert {field.name for field in tables.open_table(dataset.path / "rollouts").schema().fields} >= NEW
    assert len(tables.files(dataset.path / "rollouts", before - 1)) == 1
    Store.open(old_store).dataset("d", create=True)


def test_a_store_of_a_newer_version_is_left_alone(old_store: Path) -> None:
    (old_store / "openr-store.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(NotAStore, match="newer than"):
        Store.open(old_store)


def test_the_highest_revision_of_a_row_counts(tmp_path: Path) -> None:
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    for revision, verdict in ((1, "incorrect"), (0, "correct"), (2, "unknown")):
        row = {**rollout("r", "q", "n", verdict), "revision": revision}
        dataset.append("rollouts", [row], f"job{revision}", 1)
    assert dataset.view().sql("select verdict from rollouts").to_pylist() == [{"verdict": "unknown"}]
