"""Checks that pull restores a published dataset row for row and detects every change to its files."""

import io
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from openr_data.exchange import importer
from openr_data.exchange.formats.format import NoOptions
from openr_data.exchange.formats.records import RecordsFormat
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.schema import SCHEMA_VERSION, TABLES
from openr_data.store import Dataset, Store
from openr_data.store.rows import score_rows, search_node_rows
from openr_data.store.verify import verify
from openr_data.types import SearchNode, Verdict
from tests.cli.conftest import Answer, Run
from tests.huggingface.conftest import TOKEN
from tests.huggingface.stand_in import StandInHub

# httpx2 deprecates the `data=` argument with which huggingface_hub 2.4 sends LFS files; `verify` leaves open files to
# the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]
REPO = "org/d"
MANIFEST = "openr_data.json"


def recommit(hub: StandInHub, files: Mapping[str, bytes | None]) -> None:
    """Change files of the published dataset as another user with write access would."""
    operations = [
        CommitOperationDelete(name) if data is None else CommitOperationAdd(name, data) for name, data in files.items()
    ]
    HfApi(endpoint=hub.url, token=TOKEN).create_commit(REPO, operations, commit_message="x", repo_type="dataset")


def remake(hub: StandInHub, **changes: Any) -> None:
    """Change the manifest; None removes a field."""
    manifest = json.loads(hub.files(REPO)[MANIFEST])
    for name, value in changes.items():
        if value is None:
            del manifest[name]
        else:
            manifest[name] = value
    recommit(hub, {MANIFEST: json.dumps(manifest).encode()})


def rewrite(hub: StandInHub, config: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first row of the first file of a configuration."""
    name = next(name for name in sorted(hub.files(REPO)) if name.startswith(f"data/{config}/"))
    table = pq.read_table(io.BytesIO(hub.files(REPO)[name]))
    rows = table.to_pylist()
    change(rows[0])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out)
    recommit(hub, {name: out.getvalue()})


def pulled(run: Run, repo: str = REPO, into: str = "back", *more: str) -> Answer:
    return run("pull", repo, "--into", into, *more)


def contents(dataset: Dataset) -> dict[str, list[str]]:
    return {name: sorted(map(repr, dataset.view().arrow(name).to_pylist())) for name in TABLES}


def at(name: str) -> Dataset:
    return Store.open("openr-store").dataset(name)


def is_refused(answer: Answer, code: int, *words: str) -> None:
    """Check that the failure is one sentence with this code, and that no dataset was written."""
    assert (answer.code, answer.out) == (code, "")
    assert len(answer.err.splitlines()) == 1
    assert "Unexpected" not in answer.err
    for word in words:
        assert word in answer.err
    assert "back" not in Store.open("openr-store").names()


def test_what_was_published_comes_back_row_for_row(run: Run, published: Dataset, hub: StandInHub) -> None:
    answer = pulled(run)
    assert (answer.code, answer.out) == (0, "back@1\n")
    assert "every id and digest holds" in answer.err
    back = at("back")
    assert contents(back) == contents(published)
    assert back.snapshots()[0].digest == published.snapshots()[0].digest
    assert list(verify(back)) == []
    # The cost of each question comes back with the rows, as it was stored.
    costs = "select * from question_costs order by job_id, question_id"
    spent = [item.view().sql(costs).to_pylist() for item in (back, published)]
    assert spent[0] == spent[1]
    assert len(spent[0]) == 6
    assert all(item.method in ("GET", "HEAD") for item in hub.requests)


def test_scores_and_search_trees_are_published_and_come_back(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    asked, step = (
        dataset.view().sql("select question_id, step from nodes where depth = 1 limit 1").to_pylist()[0].values()
    )
    tree = (SearchNode(None, "", "kept"), SearchNode(0, step, "ended", 12, 0.5, answer="7", verdict=Verdict.CORRECT))
    nodes = search_node_rows(tree, asked, "beam", "p", "gs")
    dataset.append("search_nodes", nodes, "gs/search_nodes", 1)
    dataset.append("scores", score_rows(asked, [nodes[1]["node_id"]], [0.25], "r@1", "e"), "e/scores", 1)
    dataset.snapshot("eval", "a score and a tree", "e")
    assert run("publish", "d", REPO).code == 0
    card = hub.files(REPO)["README.md"].decode()
    assert "config_name: scores" in card
    assert "config_name: search_nodes" in card
    answer = pulled(run)
    assert (answer.code, answer.out) == (0, "back@1\n")
    back = at("back")
    assert contents(back) == contents(dataset)
    assert back.snapshots()[0].digest == dataset.snapshots()[-1].digest
    # What is there already does not come a second time.
    assert pulled(run).code == 0
    assert contents(back) == contents(dataset)
    assert list(verify(back)) == []


def test_it_comes_back_into_another_store_under_its_own_name(
    run: Run, published: Dataset, hub: StandInHub, tmp_path: Path
) -> None:
    answer = run("--store", str(tmp_path / "other"), "pull", f"{REPO}@snapshot-1")
    assert (answer.code, answer.out) == (0, "d@1\n")
    other = Store.open(tmp_path / "other").dataset("d")
    assert contents(other) == contents(published)
    assert other.snapshots()[0].operation == "pull"
    assert f"{REPO}@" in other.snapshots()[0].message


def test_pulling_again_adds_nothing(run: Run, published: Dataset) -> None:
    pulled(run)
    facts = json.loads(pulled(run, REPO, "back", "--json").out)
    assert facts["dataset"] == "back@1"
    assert not any(facts["added"].values())
    assert len(at("back").snapshots()) == 1
    facts = json.loads(pulled(run, REPO, "d", "--json").out)
    assert not any(facts["added"].values())
    assert [item.name for item in published.snapshots()] == ["1"]


def rows_of(start: int, stop: int, label: int = -1) -> list[tuple[str, dict[str, Any]]]:
    return [
        (str(i), {"question": f"{i}?", "answer": "1", "steps": ["a", f"b {i}"], "label": [1, label], "method": "m"})
        for i in range(start, stop)
    ]


def bring(dataset: Dataset, rows: list[tuple[str, dict[str, Any]]]) -> None:
    import_rows(dataset, ImportConfig("records", "s"), RecordsFormat(NoOptions(), "s", ""), rows, "x.jsonl")


def test_only_what_is_missing_is_added_to_a_dataset_that_is_there(run: Run, hub: StandInHub) -> None:
    store = Store.open("openr-store", create=True)
    whole = store.dataset("d", create=True)
    bring(whole, rows_of(0, 30))
    assert run("publish", "d", REPO).code == 0
    part = store.dataset("back", create=True)
    bring(part, rows_of(10, 20))
    bring(part, rows_of(30, 35))
    facts = json.loads(pulled(run, REPO, "back", "--json").out)
    assert {name: facts["added"][name] for name in ("questions", "solutions", "labels")} == {
        "questions": 20, "solutions": 20, "labels": 20
    }  # fmt: skip
    assert at("back").view().counts()["labels"] == 35
    assert list(verify(at("back"))) == []


def test_labels_that_were_superseded_supersede_again(run: Run, hub: StandInHub) -> None:
    store = Store.open("openr-store", create=True)
    whole = store.dataset("d", create=True)
    bring(whole, rows_of(0, 10))
    run("publish", "d", REPO)
    pulled(run)
    bring(whole, rows_of(0, 3, label=1))
    assert run("publish", "d", REPO).code == 0
    facts = json.loads(pulled(run, REPO, "back", "--json").out)
    assert facts["added"]["labels"] == 3
    back = at("back")
    assert back.snapshots()[-1].changes == {"~labels": 3, "~steps": 3}
    assert back.snapshots()[-1].digest == whole.snapshots()[-1].digest
    first = run("pull", f"{REPO}@snapshot-1", "--into", "first")
    assert first.code == 0
    assert at("first").snapshots()[-1].digest == whole.snapshots()[0].digest
    # Pulling an older state of the Hub removes nothing.
    older = json.loads(run("pull", f"{REPO}@snapshot-1", "--into", "back", "--json").out)
    assert older["added"]["labels"] == 0
    assert list(verify(back)) == []


def test_solutions_without_labels_and_all_kinds_of_values_come_back(run: Run, hub: StandInHub) -> None:
    store = Store.open("openr-store", create=True)
    dataset = store.dataset("d", create=True)
    row = {
        "question": " Ünïcode\u2028 \x00 'quoted' \"?\n", "answer": "\\frac{1}{2}", "source": "s|t", "split": "a b",
        "level": "5", "subject": "x", "metadata": {"a": [1, {"b": None}]}, "steps": ["", " x ", "\ty\n"],
        "label": [1, 0, None], "value": [0.1, None, 1 / 3], "n_correct": [1, 0, 2**31 - 1],
        "n_rollouts": [2, 0, 2**31 - 1], "provenance": ["measured", "human", "judged"], "method": "m",
        "completer": "c/d", "generator": "g", "final_answer": None, "outcome": None, "solution_metadata": {"k": "v"},
        "label_metadata": {"l": 1.5},
    }  # fmt: skip
    bring(dataset, [("1", row), *rows_of(0, 2)])
    (solution,) = dataset.view().sql("select * from solutions limit 1").to_pylist()
    dataset.append("solutions", [{**solution, "job_id": "ffffffffffff"}], "ffffffffffff/solutions", 1)
    assert run("publish", "d", REPO).code == 0
    assert any(name.startswith("data/solutions/") for name in hub.files(REPO))
    assert pulled(run).code == 0
    assert contents(at("back")) == contents(dataset)
    assert at("back").snapshots()[-1].digest == dataset.snapshots()[-1].digest
    assert list(verify(at("back"))) == []


def test_a_publication_without_rollouts_comes_back_without_them(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    run("publish", "d", REPO, "--no-rollouts")
    assert pulled(run).code == 0
    pulled_rows, published_rows = contents(at("back")), contents(dataset)
    assert pulled_rows.pop("rollouts") == []
    published_rows.pop("rollouts")
    assert pulled_rows == published_rows
    assert list(verify(at("back"))) == []


def test_a_private_dataset_needs_the_token(
    run: Run, dataset: Dataset, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("publish", "d", REPO, "--private")
    monkeypatch.delenv("HF_TOKEN")
    is_refused(pulled(run), 1, REPO, "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pulled(run).code == 0


def test_a_repository_of_somebody_else_is_told_with_the_way_to_import_it(
    run: Run, dataset: Dataset, hub: StandInHub
) -> None:
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo("org/foreign", repo_type="dataset")
    rows = [CommitOperationAdd("train.jsonl", b'{"problem": "1?", "answer": "1"}\n')]
    api.create_commit("org/foreign", rows, commit_message="x", repo_type="dataset")
    answer = pulled(run, "org/foreign")
    is_refused(
        answer, 2, "org/foreign was not published by openr-data", "openr-data import NAME hf:org/foreign"
    )  # fmt: skip


def test_a_dataset_that_is_not_there_is_named(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    is_refused(pulled(run, "org/absent"), 1, "org/absent", "(404)", "check the name")


def test_a_revision_that_is_not_there_is_named(run: Run, published: Dataset) -> None:
    answer = pulled(run, f"{REPO}@v9")
    assert "v9" in answer.err
    assert "no such dataset" not in answer.err
    assert answer.code == 2


def test_a_revision_that_is_not_there_is_one_sentence_and_writes_nothing(run: Run, published: Dataset) -> None:
    is_refused(pulled(run, f"{REPO}@v9"), 2, REPO, "there are: main")


def first_file(hub: StandInHub, config: str) -> tuple[str, bytearray]:
    """Return the name and the bytes of the first file of a configuration."""
    name = next(name for name in sorted(hub.files(REPO)) if name.startswith(f"data/{config}/"))
    return name, bytearray(hub.files(REPO)[name])


def blank(data: bytearray, column: str) -> None:
    """Overwrite the pages of a column of a Parquet file with zeros."""
    group = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(0)
    chunks = map(group.column, range(group.num_columns))
    chunk = next(item for item in chunks if item.path_in_schema.split(".")[0] == column)
    start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)


@pytest.mark.parametrize("config", ["records", "rollouts", "jobs"])
@pytest.mark.parametrize("place", ["foot", "cut"])
def test_a_file_whose_end_is_broken_is_found(
    run: Run, published: Dataset, hub: StandInHub, config: str, place: str
) -> None:
    name, data = first_file(hub, config)
    if place == "foot":
        data[-6] ^= 0xFF
    else:
        del data[len(data) // 2 :]
    recommit(hub, {name: bytes(data)})
    is_refused(pulled(run), 1, REPO)


@pytest.mark.parametrize(("config", "column"), [("records", "label"), ("questions", "level"), ("nodes", "n_correct")])
def test_a_column_that_cannot_be_read_is_found(
    run: Run, published: Dataset, hub: StandInHub, config: str, column: str
) -> None:
    name, data = first_file(hub, config)
    blank(data, column)
    recommit(hub, {name: bytes(data)})
    is_refused(pulled(run), 1, "damaged")


def test_a_column_that_cannot_be_read_is_told_of_the_repository(run: Run, published: Dataset, hub: StandInHub) -> None:
    name, data = first_file(hub, "records")
    blank(data, "label")
    recommit(hub, {name: bytes(data)})
    answer = pulled(run)
    assert REPO in answer.err
    assert "doctor" not in answer.err


@pytest.mark.parametrize(("config", "column"), [("rollouts", "text"), ("jobs", "totals")])
def test_a_column_outside_of_the_digests_that_cannot_be_read_is_found_before_anything_is_written(
    run: Run, published: Dataset, hub: StandInHub, config: str, column: str
) -> None:
    name, data = first_file(hub, config)
    blank(data, column)
    recommit(hub, {name: bytes(data)})
    is_refused(pulled(run), 1)


@pytest.mark.parametrize(
    ("config", "field"), [("questions", "question"), ("questions", "answer"), ("records", "steps")]
)
def test_a_text_that_is_null_is_found(run: Run, published: Dataset, hub: StandInHub, config: str, field: str) -> None:
    def take(row: dict[str, Any]) -> None:
        row[field] = [None, *row["steps"][1:]] if field == "steps" else None

    rewrite(hub, config, take)
    is_refused(pulled(run), 1, REPO)


@pytest.mark.parametrize("config", ["records", "questions", "nodes", "rollouts"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_flipped_byte_is_found_or_changed_nothing(
    run: Run, published: Dataset, hub: StandInHub, config: str, share: float
) -> None:
    name, data = first_file(hub, config)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    data[4 + int((len(data) - footer - 4) * share)] ^= 0xFF
    recommit(hub, {name: bytes(data)})
    answer = pulled(run)
    if answer.code == 0:
        assert contents(at("back")) == contents(published)
    else:
        is_refused(answer, 1)


def test_a_file_that_is_gone_is_found(run: Run, published: Dataset, hub: StandInHub) -> None:
    for config in ("records", "questions", "nodes", "rollouts"):
        name = next(name for name in sorted(hub.files(REPO)) if name.startswith(f"data/{config}/"))
        data = hub.files(REPO)[name]
        recommit(hub, {name: None})
        is_refused(pulled(run), 1, REPO, "incomplete", "Nothing was written")
        recommit(hub, {name: data})
    assert pulled(run).code == 0


CHANGES: Mapping[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "a question": ("questions", lambda row: row.update(question="Another?")),
    "an answer": ("questions", lambda row: row.update(answer="2")),
    "a level": ("questions", lambda row: row.update(level="99")),
    "a step": ("records", lambda row: row["steps"].__setitem__(0, "Another step")),
    "a label": ("records", lambda row: row["label"].__setitem__(0, -row["label"][0])),
    "a value": ("records", lambda row: row["value"].__setitem__(-1, 0.125)),
    "a method": ("records", lambda row: row.update(method="human")),
    "a count": ("nodes", lambda row: row.update(n_correct=row["n_correct"] + 1)),
    "a step of a node": ("nodes", lambda row: row.update(step=f"{row['step']}.", parent_id="0" * 32)),
    "a verdict": ("rollouts", lambda row: row.update(verdict="unknown")),
    "metadata": ("records", lambda row: row.update(label_metadata='{"a":1}')),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_somebody_changed_is_found_and_nothing_is_written(
    run: Run, published: Dataset, hub: StandInHub, what: str
) -> None:
    rewrite(hub, *CHANGES[what])
    is_refused(pulled(run), 1, REPO, "Nothing was written")
    assert run("pull", f"{REPO}@snapshot-1", "--into", "tagged").code == 0


def test_a_changed_text_of_a_rollout_is_found(run: Run, published: Dataset, hub: StandInHub) -> None:
    rewrite(hub, "rollouts", lambda row: row.update(text="forged"))
    is_refused(pulled(run), 1, REPO)


def test_a_changed_job_is_found(run: Run, published: Dataset, hub: StandInHub) -> None:
    rewrite(hub, "jobs", lambda row: row.update(totals='{"tokens": 0}'))
    is_refused(pulled(run), 1, REPO)


def test_a_manifest_with_a_wrong_digest_of_a_table_is_found(run: Run, published: Dataset, hub: StandInHub) -> None:
    tables = json.loads(hub.files(REPO)[MANIFEST])["tables"]
    remake(hub, tables={**tables, "labels": "7:" + "0" * 32})
    is_refused(pulled(run), 1, f"The labels of {REPO} differ from those that were published (7 rows)")


def test_a_manifest_with_a_wrong_digest_of_all_is_found(run: Run, published: Dataset, hub: StandInHub) -> None:
    remake(hub, digest="2-" + "0" * 32)
    is_refused(pulled(run), 1, REPO)


def test_a_manifest_without_its_tables_is_damaged(run: Run, published: Dataset, hub: StandInHub) -> None:
    remake(hub, tables={})
    is_refused(pulled(run), 2, REPO, "damaged")


def test_a_newer_schema_version_is_refused_with_the_way_to_update(
    run: Run, published: Dataset, hub: StandInHub
) -> None:
    remake(hub, schema_version=SCHEMA_VERSION + 1)
    is_refused(pulled(run), 2, f"schema version {SCHEMA_VERSION + 1}", "pip install -U openr-data")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": "x"}', '{"schema_version": 3}', "\xff"])
def test_a_damaged_manifest_is_one_sentence(run: Run, published: Dataset, hub: StandInHub, text: str) -> None:
    recommit(hub, {MANIFEST: text.encode("latin-1")})
    is_refused(pulled(run), 2, f"{MANIFEST} of {REPO} is damaged")


@pytest.mark.parametrize("name", ["digest", "snapshot"])
def test_a_manifest_that_lacks_a_field_is_one_sentence(
    run: Run, published: Dataset, hub: StandInHub, name: str
) -> None:
    remake(hub, **{name: None})
    is_refused(pulled(run), 2, f"{MANIFEST} of {REPO} is damaged")


def test_a_manifest_cannot_choose_a_folder_outside_of_the_store(
    run: Run, published: Dataset, hub: StandInHub, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if "datasets/d" not in str(path)}
    remake(hub, dataset="../../evil")
    answer = run("pull", REPO)
    assert (answer.code, answer.out) == (2, "")
    assert "is not a dataset name" in answer.err
    assert {path for path in tmp_path.rglob("*") if "datasets/d" not in str(path)} == before


@pytest.mark.parametrize("into", ["../x", "", "a b", ".x"])
def test_a_name_that_is_none_is_a_mistake_of_usage(run: Run, published: Dataset, hub: StandInHub, into: str) -> None:
    if not into:
        remake(hub, dataset="")
    answer = run("pull", REPO, "--into", into) if into else run("pull", REPO)
    assert (answer.code, answer.out) == (2, "")
    assert "is not a dataset name" in answer.err


def test_a_name_with_a_reference_is_a_mistake_of_usage(run: Run, published: Dataset) -> None:
    answer = pulled(run, REPO, "e@1")
    assert answer.code == 2
    assert "e@1" not in Store.open("openr-store").names()


def test_a_pull_that_fails_makes_no_store(run: Run, hub: StandInHub) -> None:
    assert pulled(run, "org/absent").code == 1
    assert not Path("openr-store").exists()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("pattern", [r"^/api/datasets/org/d(/revision/.*)?$", "/resolve/"])
def test_a_hub_that_refuses_to_give_is_one_sentence_and_the_same_command_works_later(
    run: Run, published: Dataset, hub: StandInHub, status: int, pattern: str
) -> None:
    hub.fail(
        next=10_000,
        status=status,
        when=lambda method, path: re.search(pattern, path) is not None,
        headers={"Retry-After": "0"},
    )
    is_refused(pulled(run), 1, REPO)
    hub.faults.clear()
    assert pulled(run).code == 0
    assert contents(at("back")) == contents(published)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("pattern", [r"^/api/datasets/org/d$", "/resolve/.*records", "/tree/"])
def test_a_connection_that_drops_in_a_pull_is_made_good(
    run: Run, published: Dataset, hub: StandInHub, reset: bool, pattern: str
) -> None:
    hub.drop(when=lambda method, path: re.search(pattern, path) is not None, during="response", reset=reset)
    answer = pulled(run)
    if answer.code:
        is_refused(answer, 1, REPO, "run the same command again")
        answer = pulled(run)
    assert answer.code == 0, answer.err
    assert contents(at("back")) == contents(published)


def test_a_write_that_fails_in_the_middle_is_finished_by_the_same_command(
    run: Run, published: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Dataset.append, 0

    def broken(self: Dataset, table: str, *arguments: Any, **more: Any) -> int:
        nonlocal calls
        calls += table == "rollouts"
        if calls == 1:
            raise OSError(28, "No space left on device")
        return real(self, table, *arguments, **more)

    monkeypatch.setattr(Dataset, "append", broken)
    assert pulled(run).code == 1
    monkeypatch.setattr(Dataset, "append", real)
    assert pulled(run).code == 0
    assert contents(at("back")) == contents(published)


def test_no_temporary_folder_is_left(
    run: Run, published: Dataset, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    pulled(run)
    pulled(run, f"{REPO}@v9", "other")
    run("publish", "d", REPO)
    hub.fail(next=99, status=403, when=lambda method, path: "/commit/" in path)
    run("publish", "back", "org/other")
    assert list(folder.iterdir()) == []


def test_two_imports_of_one_job_in_a_second_are_two_rows_of_jobs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "now", lambda: "2026-11-24T10:00:00Z")
    dataset = Store.open(tmp_path / "openr-store", create=True).dataset("d", create=True)
    bring(dataset, rows_of(0, 3))
    bring(dataset, rows_of(3, 5))
    assert dataset.view().counts()["jobs"] == 2
    shutil.rmtree(tmp_path / "openr-store")
