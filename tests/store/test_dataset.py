"""A store, its datasets, and what a view of one moment gives."""

import json
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError, MissingDataset, MissingRef, NotAStore, StoreError, UsageError
from openr_data.store import Dataset, Store
from openr_data.store.refs import DatasetName


def question(name: str, **more: Any) -> dict[str, Any]:
    row = {"question_id": name, "question": f"{name}?", "answer": "1", "source": "s", "split": "", "level": "1"}
    return {**row, "subject": "", "metadata": "{}", **more}


def solution(name: str, of: str, steps: list[str], job: str = "j") -> dict[str, Any]:
    return {"solution_id": name, "question_id": of, "steps": steps, "n_steps": len(steps), "final_answer": "1",
            "outcome": False, "generator": "g", "n_tokens": 3, "job_id": job}  # fmt: skip


def labels(name: str, of: str, question_id: str, label: list[int | None], job: str = "j") -> dict[str, Any]:
    n = len(label)
    return {"label_id": name, "solution_id": of, "question_id": question_id, "method": "m", "completer": "g",
            "job_id": job, "label": label, "value": [0.5] * n, "n_correct": [4] * n, "n_rollouts": [8] * n,
            "provenance": [0] * n, "node_id": [f"n{i}" for i in range(n)],
            "first_error": label.index(-1) if -1 in label else None}  # fmt: skip


def node(name: str, of: str, job: str, certified: bool = False) -> dict[str, Any]:
    return {"node_id": name, "parent_id": None, "question_id": of, "depth": 1, "step": "a", "n_rollouts": 8,
            "n_correct": 2, "n_unknown": 0, "certified": certified, "terminal": False, "verdict": None, "visits": 0,
            "method": "m", "policy": "p", "job_id": job}  # fmt: skip


def rollout(name: str, of: str, at: str, verdict: str, job: str = "j") -> dict[str, Any]:
    return {"rollout_id": name, "question_id": of, "node_id": at, "text": "t", "answer": "1", "verdict": verdict,
            "grader": "g", "finish_reason": "stop", "n_tokens": 3, "logprob": -1.0, "seed": 1, "policy": "p",
            "job_id": job}  # fmt: skip


@pytest.fixture
def filled(store: Store) -> Dataset:
    dataset = store.dataset("d", create=True)
    dataset.add_questions([question("q1"), question("q2")], "j/questions", 1)
    dataset.append("solutions", [solution("s1", "q1", ["a", "b", "c"])], "j/solutions", 1)
    dataset.append("labels", [labels("l1", "s1", "q1", [1, -1, None])], "j/labels", 1)
    return dataset


def test_a_question_is_added_once(filled: Dataset) -> None:
    assert filled.add_questions([question("q2"), question("q3"), question("q3")], "k/questions", 1) == 1
    assert filled.view().counts()["questions"] == 3


def test_records_and_steps_join_question_process_and_label(filled: Dataset) -> None:
    view = filled.view()
    record = view.sql("select question, steps, label, first_error from records").to_pylist()
    assert record == [{"question": "q1?", "steps": ["a", "b", "c"], "label": [1, -1, None], "first_error": 1}]
    steps = view.sql("select step_index, step, label, provenance from steps order by 1").to_pylist()
    assert [tuple(row.values()) for row in steps] == [
        (0, "a", 1, "measured"), (1, "b", -1, "measured"), (2, "c", None, "measured")]  # fmt: skip
    assert view.sql("select step from first_errors").to_pylist() == [{"step": "b"}]


def test_the_four_ways_of_reading_agree(filled: Dataset) -> None:
    view = filled.view()
    arrow = view.arrow("records")
    assert view.polars("records").to_arrow().to_pylist() == arrow.to_pylist()
    assert view.to_datasets("records").to_list() == arrow.to_pylist()
    assert view.sql("select * from records").to_pylist() == arrow.to_pylist()
    assert view.arrow("questions", ["answer"]).column_names == ["answer"]


def test_prefix_counts_sum_over_jobs_and_count_a_shared_rollout_once(filled: Dataset) -> None:
    filled.append("nodes", [node("n", "q1", "j"), node("n", "q1", "k")], "x/nodes", 1)
    first = [
        rollout("r1", "q1", "n", "correct"),
        rollout("r2", "q1", "n", "incorrect"),
        rollout("r3", "q1", "n", "unknown"),
    ]
    filled.append("rollouts", first, "x/rollouts", 1)
    filled.append(
        "rollouts",
        [rollout("r1", "q1", "n", "correct", "k"), rollout("r4", "q1", "n", "incorrect", "k")],
        "x/rollouts",
        2,
    )
    row = filled.view().sql("select * from prefixes").to_pylist()[0]
    assert (row["n_correct"], row["n_rollouts"], row["n_unknown"], row["n_jobs"]) == (1, 3, 1, 2)
    assert row["soft"] == pytest.approx(1 / 3)
    assert row["hard"] == 1
    # Wilson's interval for 1 of 3 at 95 %, from a table.
    assert (row["low"], row["high"]) == (pytest.approx(0.0615, abs=1e-3), pytest.approx(0.7923, abs=1e-3))


def test_a_certified_prefix_is_good_although_it_was_measured_zero(filled: Dataset) -> None:
    filled.append("nodes", [node("n", "q1", "j", certified=True), node("z", "q1", "j")], "x/nodes", 1)
    filled.append("rollouts", [rollout(f"r{at}", "q1", at, "incorrect") for at in "nz"], "x/rollouts", 1)
    rows = filled.view().sql("select node_id, soft, hard from prefixes order by 1").to_pylist()
    assert [(row["node_id"], row["soft"], row["hard"]) for row in rows] == [("n", 0.0, 1), ("z", 0.0, -1)]


def test_a_snapshot_does_not_see_what_comes_later(store: Store, filled: Dataset) -> None:
    first = filled.snapshot("label", "one", "j")
    filled.add_questions([question("q9")], "k/questions", 1)
    second = filled.snapshot("import", "two")
    assert (first.name, second.name, second.parent) == ("1", "2", "1")
    assert store.view("d@1").counts()["questions"] == 2
    assert store.view("d@2").counts()["questions"] == 3
    assert store.view("d").counts() == store.view("d@main").counts() == store.view("d@2").counts()
    assert store.view("d@1").digest() == first.digest != second.digest


def test_a_snapshot_of_the_same_content_is_the_same_snapshot(filled: Dataset) -> None:
    assert filled.snapshot("label", "one") == filled.snapshot("label", "again")


def test_the_digest_does_not_depend_on_the_order_of_commits(tmp_path: Path) -> None:
    rows = [question(f"q{i}") for i in range(20)]
    digests = []
    for number, order in enumerate((rows, rows[::-1])):
        dataset = Store.open(tmp_path / str(number), create=True).dataset("d", create=True)
        for seq, start in enumerate(range(0, 20, 7), start=1):
            dataset.append("questions", order[start : start + 7], "a", seq)
        digests.append(dataset.view().digest())
    assert digests[0] == digests[1]


def test_rows_are_ordered_by_question_in_their_file(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    dataset.append("questions", [question(name) for name in ("c", "a", "b")], "x", 1)
    assert dataset.view().sql("select question_id from questions").column(0).to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("statement", [
    "drop view steps", "create table x as select 1", "copy labels to 'x.csv'", "insert into labels select * from labels",
    "select 1; select 2", "attach 'x.db'", "pragma database_list", "", "install httpfs", "set threads = 1",
    "explain analyze copy labels to 'x.csv'", "EXPLAIN (FORMAT json) drop view steps", "explain analyze create table x as select 1",
])  # fmt: skip
def test_sql_can_change_nothing(filled: Dataset, statement: str) -> None:
    with pytest.raises(InputError, match="one SELECT"):
        filled.view().sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "explain select * from steps",
        "EXPLAIN ANALYZE select 1",
        "describe steps",
        "summarize steps",
        "with a as (select 1) select * from a",
        "from steps",
    ],
)
def test_sql_can_read_in_every_way(filled: Dataset, statement: str) -> None:
    assert filled.view().sql(statement).num_columns > 0


def test_sql_reads_nothing_else_of_the_machine(filled: Dataset, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for source in (f"read_csv('{tmp_path}/secret.csv')", f"'{tmp_path}/secret.csv'", "glob('/etc/*')"):
        with pytest.raises(InputError, match="SQL: Permission Error"):
            filled.view().sql(f"select * from {source}")


@pytest.mark.parametrize("statement", ["select * from nope", "selec 1", "select nope from steps", "select 1/'x'"])
def test_a_wrong_query_is_an_input_error_with_the_reason(filled: Dataset, statement: str) -> None:
    with pytest.raises(InputError, match="^SQL: "):
        filled.view().sql(statement)


def test_a_folder_that_is_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for create in (True, False):
        with pytest.raises(NotAStore, match=r"is not an openr-data store"):
            Store.open(tmp_path, create=create)
    with pytest.raises(NotAStore, match="There is no store in"):
        Store.open(tmp_path / "absent")
    with pytest.raises(NotAStore, match="is not an openr-data store"):
        Store.open(tmp_path / "notes.txt", create=True)
    assert Store.at(tmp_path / "absent") is None


def test_a_store_of_a_later_version_is_not_touched(store: Store) -> None:
    (store.path / "openr-store.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(NotAStore, match="schema version 99, newer"):
        Store.open(store.path)
    (store.path / "openr-store.json").write_text("{")
    with pytest.raises(NotAStore, match="damaged"):
        Store.open(store.path)


def test_missing_things_are_named_with_what_there_is(store: Store, filled: Dataset) -> None:
    with pytest.raises(MissingDataset, match=r"No dataset 'e' .*there are: d.*openr-data ls"):
        store.view("e")
    filled.snapshot("label", "one")
    with pytest.raises(MissingRef, match=r'No snapshot "v2" in d \(there are: main, 1\).*openr-data log d'):
        store.view("d@v2")


@pytest.mark.parametrize("text", ["", "@1", "d@", "../x", "a b", "-x"])
def test_a_name_that_is_no_name_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not a dataset name"):
        DatasetName.parse(text)


def test_two_writers_of_the_same_snapshot_number_do_not_share_it(filled: Dataset) -> None:
    from dataclasses import replace

    from openr_data.store import refs

    first = filled.snapshot("label", "one")
    with pytest.raises(StoreError, match="exists already"):
        refs.write(filled.path / "refs", replace(first, message="another"))


def test_a_snapshot_is_never_older_than_the_one_before_it(filled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from openr_data.store import View

    real = View.digest
    raced = []

    def another_writer_comes_first(self: View) -> str:
        digest = real(self)
        if not raced:
            raced.append(1)
            filled.add_questions([question("q8")], "other/questions", 1)
            filled.snapshot("import", "the other")
        return digest

    monkeypatch.setattr(View, "digest", another_writer_comes_first)
    filled.snapshot("label", "ours")
    rows = [item.counts["questions"] for item in filled.snapshots()]
    assert rows == sorted(rows)


def test_a_rollout_of_two_jobs_keeps_both_rows_and_counts_once(filled: Dataset) -> None:
    filled.append("nodes", [node("n", "q1", "j"), node("n", "q1", "k")], "x/nodes", 1)
    filled.append("rollouts", [rollout("r1", "q1", "n", "correct", "j")], "x/rollouts", 1)
    filled.append("rollouts", [rollout("r1", "q1", "n", "correct", "k")], "x/rollouts", 2)
    view = filled.view()
    assert view.counts()["rollouts"] == 2
    assert len({view.sql("select * from rollouts order by job_id").to_pylist()[0]["job_id"] for _ in range(3)}) == 1
    assert view.sql("select n_rollouts from prefixes").column(0).to_pylist() == [1]


def test_prefixes_of_two_policies_are_not_mixed(filled: Dataset) -> None:
    filled.append("nodes", [node("n", "q1", "j"), {**node("n", "q1", "k"), "policy": "p2"}], "x/nodes", 1)
    drawn = [rollout("r1", "q1", "n", "correct"), {**rollout("r2", "q1", "n", "incorrect", "k"), "policy": "p2"}]
    filled.append("rollouts", drawn, "x/rollouts", 1)
    rows = filled.view().sql("select policy, soft from prefixes order by policy").to_pylist()
    assert rows == [{"policy": "p", "soft": 1.0}, {"policy": "p2", "soft": 0.0}]


def test_a_missing_parquet_file_is_a_store_error_with_the_next_command(filled: Dataset) -> None:
    next((filled.path / "labels").glob("*.parquet")).unlink()
    with pytest.raises(StoreError, match="missing or damaged.*openr-data doctor"):
        filled.view().sql("select * from labels")


def test_two_columns_of_one_name_are_refused(filled: Dataset) -> None:
    with pytest.raises(InputError, match='two columns are called "a"'):
        filled.view().sql("select 1 as a, 2 as a")


def test_what_an_interrupted_first_use_left_does_not_spoil_the_folder(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".openr-store.json.123").write_text("")
    assert Store.at(tmp_path / "s") is None
    assert Store.open(tmp_path / "s", create=True).names() == []


def test_two_that_add_the_same_question_at_once_add_it_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from openr_data.store import tables

    dataset = store.dataset("d", create=True)
    real, raced = tables.write_parquet, []

    def somebody_else_comes_first(*arguments: Any) -> Any:
        written = real(*arguments)
        if not raced:
            raced.append(1)
            dataset.add_questions([question("q1"), question("q2")], "other/questions", 1)
        return written

    monkeypatch.setattr(tables, "write_parquet", somebody_else_comes_first)
    assert dataset.add_questions([question("q1"), question("q3")], "ours/questions", 1) == 1
    assert sorted(dataset.view().arrow("questions")["question_id"].to_pylist()) == ["q1", "q2", "q3"]


def test_a_store_that_another_process_makes_at_the_same_moment_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "new"
    root.mkdir()

    def made_meanwhile(folder: Path) -> bool:
        monkeypatch.undo()
        Store.open(folder, create=True).dataset("d", create=True)
        return False

    # Between the look for the marker and the look into the folder.
    monkeypatch.setattr("openr_data.store.store._is_blank", made_meanwhile)
    assert Store.open(root, create=True).names() == ["d"]
