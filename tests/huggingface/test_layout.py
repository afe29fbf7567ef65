"""Checks the published folder: the same bytes each time, and load_dataset reads every configuration and split."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from openr_data.errors import StoreError
from openr_data.exchange.formats.format import NoOptions
from openr_data.exchange.formats.questions import QuestionsFormat
from openr_data.exchange.formats.records import RecordsFormat
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.huggingface import layout as layouts
from openr_data.huggingface.card import CONFIGS, card
from openr_data.huggingface.layout import MANIFEST, QUERIES, Layout, write_layout
from openr_data.store import Dataset, Store, query
from tests.huggingface.stand_in import StandInHub

FACTS: Mapping[str, Any] = {"dataset": "d", "snapshot": "1", "digest": "2-0"}


def made_layout(dataset: Dataset, folder: Path, rollouts: bool = True) -> Layout:
    folder.mkdir()
    layout = write_layout(dataset.view(), folder, FACTS, rollouts)
    (folder / "README.md").write_text(card(dataset.view(), layout, "org/d", "mit"), encoding="utf-8")
    return layout


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bring(store: Store, name: str, rows: list[dict[str, Any]]) -> Dataset:
    """Make a dataset from rows in the format `records` or `questions`."""
    dataset = store.dataset(name, create=True)
    kind = RecordsFormat if "steps" in rows[0] else QuestionsFormat
    form = kind(NoOptions(), name, "")
    import_rows(dataset, ImportConfig("x", name), form, ((f"{i}", row) for i, row in enumerate(rows)), "x")
    return dataset


LOAD = """
import collections, json, sys
import datasets
folder = sys.argv[1]
splits = {}
for config in datasets.get_dataset_config_names(folder):
    for split, data in datasets.load_dataset(folder, config).items():
        splits[f"{config}/{split}"] = data.to_list()
one = datasets.load_dataset(folder, split=sys.argv[2])
splits["default"] = sorted(one.column_names)
print(json.dumps(splits))
"""


def loaded(folder: Path, home: Path, split: str = "train") -> dict[str, Any]:
    """Load a folder with load_dataset, in a new process without a network and with empty caches."""
    with StandInHub() as hub:
        environment = {**hub.environment(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), split],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    splits: dict[str, Any] = json.loads(done.stdout)
    return splits


def test_the_same_snapshot_gives_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    first = made_layout(dataset, tmp_path / "a")
    again = made_layout(dataset, tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert [part.files for part in first.parts] == [part.files for part in again.parts]


def test_a_store_that_came_to_the_same_by_another_way_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [
        {"question": f"{i}?", "answer": "1", "steps": ["a", str(i)], "label": [1, -1], "method": "m"} for i in range(30)
    ]
    store = Store.open(tmp_path / "store", create=True)
    one = bring(store, "s", rows)
    other = Store.open(tmp_path / "other", create=True)
    bring(other, "s", rows[20:])
    two = bring(other, "s", list(reversed(rows)))
    made_layout(one, tmp_path / "a")
    made_layout(two, tmp_path / "b")
    first, second = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    # The events of the jobs and their durations differ.
    assert {name for name in first if first[name] != second[name]} <= {
        "data/jobs/train-00000-of-00001.parquet", "README.md", MANIFEST
    }  # fmt: skip
    tables = [json.loads((tmp_path / name / MANIFEST).read_text())["tables"] for name in "ab"]
    assert tables[0] == tables[1]


def test_the_files_of_a_folder_are_those_of_its_parts(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a")
    listed = {name for part in layout.parts for name in part.files}
    assert listed | {MANIFEST, "README.md"} == set(hashes(tmp_path / "a"))
    assert {part.config for part in layout.parts} <= set(QUERIES)
    for part in layout.parts:
        files = [pq.ParquetFile(tmp_path / "a" / name) for name in part.files]
        assert sum(file.metadata.num_rows for file in files) == part.rows > 0
        assert layout.manifest["rows"][f"{part.config}/{part.split}"] == part.rows
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    assert manifest == layout.manifest
    assert manifest["tables"] == query.table_digests(dataset.view().connect())


def test_without_rollouts_the_folder_and_its_manifest_have_none(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a", rollouts=False)
    assert not (tmp_path / "a" / "data" / "rollouts").exists()
    assert "rollouts" not in layout.manifest["tables"]
    assert "nodes" in layout.manifest["tables"]


@pytest.mark.slow
def test_load_dataset_reads_every_configuration_and_split(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a")
    splits = loaded(tmp_path / "a", tmp_path / "home")
    assert set(splits) == {f"{part.config}/{part.split}" for part in layout.parts} | {"default"}
    for part in layout.parts:
        assert len(splits[f"{part.config}/{part.split}"]) == part.rows
    view = dataset.view()
    for config in ("records", "steps", "questions", "nodes", "rollouts"):
        rows = [row for name, rows in splits.items() if name.startswith(f"{config}/") for row in rows]
        assert len(rows) == view.sql(f"select count(*) as n from {config}")["n"][0].as_py()
    records = {row["label_id"]: row for row in view.arrow("records").to_pylist()}
    for name, rows in splits.items():
        for row in rows if name.startswith("records/") else ():
            record = records[row["label_id"]]
            assert {field: row[field] for field in record} == record
    assert "steps" in splits["default"]
    assert "label" in splits["default"]


def test_splits_are_kept_apart_and_named_as_load_dataset_takes_them(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a")
    names = layout.manifest["splits"]
    assert sorted(names.values()) == ["", "dev set!", "train"]
    assert names["dev_set"] == "dev set!"
    for part in layout.parts:
        for file in part.files if part.config in ("records", "questions", "steps") else ():
            table = pq.read_table(tmp_path / "a" / file)
            assert set(table["split"].to_pylist()) == {names[part.split]}


def test_a_split_with_a_good_name_keeps_it_beside_questions_without_a_split(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a")
    assert layout.manifest["splits"]["train"] == "train"


def test_splits_whose_plain_names_are_the_same_stay_apart(tmp_path: Path) -> None:
    rows = [{"problem": f"{split} {i}?", "answer": "1", "split": split} for split in ("a b", "a-b", "a_b", "ü", "тест")
            for i in range(3)]  # fmt: skip
    dataset = bring(Store.open(tmp_path / "store", create=True), "q", rows)
    layout = made_layout(dataset, tmp_path / "a")
    assert sorted(layout.manifest["splits"].values()) == sorted({str(row["split"]) for row in rows})
    assert {part.rows for part in layout.parts if part.config == "questions"} == {3}


@pytest.mark.slow
def test_load_dataset_reads_questions_alone_in_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "SHARD", 20_000)
    monkeypatch.setattr("openr_data.store.storage.ROW_GROUP", 100)
    rows = [{"problem": f"What is {i}?", "answer": str(i), "split": "test"} for i in range(1_000)]
    dataset = bring(Store.open(tmp_path / "store", create=True), "q", rows)
    layout = made_layout(dataset, tmp_path / "a")
    (part,) = (part for part in layout.parts if part.config == "questions")
    assert len(part.files) > 2
    assert part.files[0] == f"data/questions/test-00000-of-{len(part.files):05d}.parquet"
    splits = loaded(tmp_path / "a", tmp_path / "home", split="test")
    assert sorted(row["question"] for row in splits["questions/test"]) == sorted(str(row["problem"]) for row in rows)
    assert "answer" in splits["default"]


def test_the_card_is_read_by_the_hub_and_names_what_it_is_of(dataset: Dataset, tmp_path: Path) -> None:
    layout = made_layout(dataset, tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert data["license"] == "mit"
    assert data["openr_data"] == {"dataset": "d", "snapshot": "1", "digest": "2-0"}
    assert {config["config_name"] for config in data["configs"]} == {part.config for part in layout.parts}
    assert [config["config_name"] for config in data["configs"] if config.get("default")] == ["records"]
    patterns = [entry["path"] for config in data["configs"] for entry in config["data_files"]]
    assert all(list((tmp_path / "a").glob(pattern)) for pattern in patterns)
    infos = {info["config_name"]: info for info in data["dataset_info"]}
    for part in layout.parts:
        (split,) = (item for item in infos[part.config]["splits"] if item["name"] == part.split)
        assert split["num_examples"] == part.rows
    body = text.partition("\n---\n")[2]
    assert "snapshot `1`" in body
    assert "`2-0`" in body
    assert 'load_dataset("org/d", "records"' in body
    assert "omegaprm" in body
    assert "openr-data pull org/d --into d" in body
    assert "openr-data label test --method omegaprm --policy scripted --into d" in body
    assert all(what in body for config, what in CONFIGS.items() if config in infos)


def test_the_card_of_questions_alone_says_so(tmp_path: Path) -> None:
    rows = [{"problem": "a | b\n?", "answer": "1", "level": "x|y"}]
    dataset = bring(Store.open(tmp_path / "store", create=True), "q", rows)
    made_layout(dataset, tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert {config["config_name"] for config in data["configs"]} == {"questions", "jobs"}
    assert "No labels yet" in text
    assert data["size_categories"] == ["n<1K"]


def test_a_dataset_name_with_signs_of_yaml_makes_a_card_that_is_read(tmp_path: Path) -> None:
    rows = [{"problem": "1?", "answer": "1"}]
    dataset = bring(Store.open(tmp_path / "store", create=True), "0.1_a-b", rows)
    (tmp_path / "a").mkdir()
    layout = write_layout(dataset.view(), tmp_path / "a", {"dataset": "0.1_a-b", "snapshot": "1", "digest": "0: {["})
    data = DatasetCard(card(dataset.view(), layout, "org/d", "other")).data.to_dict()
    assert data["pretty_name"] == "0.1_a-b"
    assert data["openr_data"]["digest"] == "0: {["


def test_an_empty_dataset_has_a_card(tmp_path: Path) -> None:
    dataset = Store.open(tmp_path / "store", create=True).dataset("d", create=True)
    made_layout(dataset, tmp_path / "a")


def test_a_store_that_lost_a_file_is_not_published_half(dataset: Dataset, tmp_path: Path) -> None:
    for file in dataset.view().files("rollouts"):
        Path(file).unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        made_layout(dataset, tmp_path / "a")
