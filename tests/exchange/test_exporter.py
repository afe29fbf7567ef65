"""An export: what OmegaPRM labelled goes out in every format with its labels, and what is lost is counted."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import InputError
from openr_data.exchange import exporter
from openr_data.exchange.exporter import export_rows
from openr_data.exchange.formats.files import read_rows, write_rows
from openr_data.exchange.formats.format import Format, Tally
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.grading import MathGrader
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.registry import FORMATS, load
from openr_data.store import Dataset, Store
from openr_data.types import Question, Record, Sampling
from tests.conftest import RIGHT, a_question

Labels = Counter[tuple[str, tuple[str, ...], tuple[int | None, ...]]]
OF_PROCESSES = [name for name in FORMATS if name not in ("questions", "verl")]


def numbered_steps(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """Three steps, each right with 3/4; no step asks anything, so that a text tells where the question ends."""
    if steps and "boxed" in steps[-1]:
        return []
    if len(steps) == 3:
        return [Branch(Fraction(1), RIGHT if all("right" in step for step in steps) else "So \\boxed{7}.")]
    return [
        Branch(Fraction(3, 4), f"right {len(steps) + 1} of {len(question)}"),
        Branch(Fraction(1, 4), f"wrong {len(steps) + 1}"),
    ]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six questions of three levels, labelled by OmegaPRM with a scripted policy."""
    store = Store.open(tmp_path_factory.mktemp("labelled") / "store", create=True)
    config = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"k": 4})
    questions = [a_question(f"What is 1, number {i}?", level=str(i % 3)) for i in range(6)]
    policy = ScriptedPolicy(numbered_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    dataset = store.dataset("d", create=True)
    labeler = OmegaPRM(OmegaPRMConfig(searches=6, screening=8, k=4), Sampling())
    run_label(job, config, questions, dataset, labeler, policy, MathGrader())
    assert dataset.view().counts()["labels"] > 6
    return dataset


def form_of(name: str, **options: Any) -> Format:
    kind = load("format", name)
    made: Format = kind(kind.config_type(**options), "test", "")
    return made


def exported(dataset: Dataset, name: str, tally: Tally | None = None, **chosen: str) -> list[Mapping[str, Any]]:
    return list(export_rows(dataset.view(), form_of(name), tally or Tally(), **chosen))


def read_back(name: str, rows: list[Mapping[str, Any]]) -> list[Record]:
    form, tally = form_of(name), Tally()
    items: list[Question | Record] = [item for row in rows for item in form.read(row, tally)]
    assert not tally.dropped
    return [item for item in items if isinstance(item, Record)]


def labels_of(dataset: Dataset) -> Labels:
    rows = dataset.view().arrow("records").to_pylist()
    return Counter((row["question"], tuple(row["steps"]), tuple(row["label"])) for row in rows)


def labels_in(records: list[Record]) -> Labels:
    return Counter((record.question.question, record.steps, record.label) for record in records)


def judged(labels: Labels) -> Labels:
    """Every process up to its first step without a label: where a format has no "not judged", and says so."""
    found: Labels = Counter()
    for (question, steps, label), count in labels.items():
        if n := label.index(None) if None in label else len(label):
            found[question, steps[:n], label[:n]] += count
    return found


def until_error(labels: Labels) -> Labels:
    """Every process with what one index of the first error says of it."""
    found: Labels = Counter()
    for (question, steps, label), count in labels.items():
        n = label.index(-1) + 1 if -1 in label else len(label)
        found[question, steps, (*label[:n], *(None,) * (len(label) - n))] += count
    return found


@pytest.mark.parametrize("name", OF_PROCESSES)
def test_what_omegaprm_labelled_reads_back_with_the_same_hard_labels(labelled: Dataset, name: str) -> None:
    tally = Tally()
    rows = json.loads(json.dumps(exported(labelled, name, tally)))
    found, wanted = labels_in(read_back(name, rows)), labels_of(labelled)
    assert None in {item for _, _, label in wanted for item in label}
    if name.startswith("math-aps"):
        # A tree has every node that was measured: its leaves are more than the processes with a label set.
        known = {(question, steps[: i + 1]): label[i] for question, steps, label in found for i in range(len(steps))}
        for question, steps, label in judged(wanted):
            assert [known[question, steps[: i + 1]] for i in range(len(label))] == list(label)
    elif name == "processbench":
        assert found == until_error(wanted)
    elif name == "records":
        assert found == wanted
    else:
        assert found == judged(wanted)
        assert tally.lost["steps that were not judged, and those after them"] > 0


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "records"])
def test_what_a_format_cannot_hold_is_counted(labelled: Dataset, name: str) -> None:
    tally = Tally()
    rows = exported(labelled, name, tally)
    assert rows
    assert tally.lost
    counts = labelled.view().counts()
    assert tally.rows == counts["questions" if name in ("questions", "verl") else "labels"]


def test_records_lose_nothing(labelled: Dataset, tmp_path: Path) -> None:
    tally = Tally()
    rows = exported(labelled, "records", tally)
    assert not tally.lost
    again = Store.open(tmp_path / "again", create=True).dataset("d", create=True)
    import_rows(
        again, ImportConfig("records", "test"), form_of("records"), ((f"{i}", row) for i, row in enumerate(rows)), "x"
    )
    assert exported(again, "records") == rows
    columns = "question, answer, level, steps, label, value, n_correct, n_rollouts, provenance, method, completer"
    query = f"select {columns}, outcome, final_answer from records order by all"
    assert again.view().sql(query).to_pylist() == labelled.view().sql(query).to_pylist()


@pytest.mark.parametrize("name", ["records", "trl", "processbench"])
def test_a_question_without_a_label_set_is_written_or_counted(store: Store, name: str) -> None:
    dataset = store.dataset("q", create=True)
    rows = [("line 1", {"problem": "What is 2?", "answer": "2"})]
    import_rows(dataset, ImportConfig("questions", "q"), form_of("questions"), rows, "q")
    tally = Tally()
    assert exported(dataset, name, tally) or tally.lost


def test_questions_come_out_without_processes_which_are_counted(labelled: Dataset) -> None:
    tally = Tally()
    rows = exported(labelled, "questions", tally)
    assert sorted(row["problem"] for row in rows) == [f"What is 1, number {i}?" for i in range(6)]
    assert {row["answer"] for row in rows} == {"1"}
    assert tally.lost == {"processes with their labels": labelled.view().counts()["labels"]}


def test_where_and_method_choose_records(labelled: Dataset) -> None:
    everything = exported(labelled, "records")
    some = exported(labelled, "records", where="level = '1'")
    assert 0 < len(some) < len(everything)
    assert some == [row for row in everything if row["level"] == "1"]
    assert exported(labelled, "records", method="omegaprm") == everything
    assert exported(labelled, "records", method="math-shepherd") == []
    assert exported(labelled, "records", where="len(steps) > 99") == []
    both = exported(labelled, "records", method="omegaprm", where="level = '1' or level = '2'")
    assert both == [row for row in everything if row["level"] in "12"]
    assert exported(labelled, "records", method="o'brien") == []
    questions = exported(labelled, "questions", where="level = '1'")
    assert [row["level"] for row in questions] == ["1", "1"]


@pytest.mark.parametrize("where", ["nope = 1", "level = ", "1) or (1", "level = '1'; drop table questions"])
@pytest.mark.parametrize("name", ["records", "questions"])
def test_a_condition_that_fails_is_an_input_error(labelled: Dataset, where: str, name: str) -> None:
    with pytest.raises(InputError, match="^SQL: "):
        exported(labelled, name, where=where)


def test_questions_of_a_method_that_labelled_none_are_none(labelled: Dataset) -> None:
    assert exported(labelled, "questions", method="math-shepherd") == []


def test_pieces_are_bounded_and_the_order_does_not_depend_on_them(
    labelled: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {name: exported(labelled, name) for name in ("records", "math-aps-tree", "questions")}
    monkeypatch.setattr(exporter, "AT_ONCE", 1)
    assert {name: exported(labelled, name) for name in whole} == whole


def test_an_export_of_a_snapshot_is_that_of_the_snapshot(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    for answer in ("1", "2"):
        rows = [("line 1", {"problem": f"What is {answer}?", "answer": answer})]
        import_rows(dataset, ImportConfig("questions", "q"), form_of("questions"), rows, "q")
    rows_of = {ref: list(export_rows(dataset.view(ref), form_of("questions"), Tally())) for ref in ("1", "2", "main")}
    assert [len(rows) for rows in rows_of.values()] == [1, 2, 2]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".ndjson"])
def test_records_in_json_are_read_back_from_a_file_as_they_were(labelled: Dataset, tmp_path: Path, suffix: str) -> None:
    rows = exported(labelled, "records")
    path = tmp_path / f"d{suffix}"
    assert write_rows(path, rows) == len(rows)
    assert [row for _, row in read_rows(str(path))] == rows


def test_records_in_parquet_are_read_back_with_their_labels(labelled: Dataset, tmp_path: Path) -> None:
    rows = exported(labelled, "records")
    write_rows(tmp_path / "d.parquet", rows)
    back = [row for _, row in read_rows(str(tmp_path / "d.parquet")) if not isinstance(row, str)]
    assert labels_in(read_back("records", back)) == labels_of(labelled)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_records_in_csv_are_read_back_with_their_labels(labelled: Dataset, tmp_path: Path, suffix: str) -> None:
    rows = exported(labelled, "records")
    path = tmp_path / f"d{suffix}"
    write_rows(path, rows)
    form, tally = form_of("records"), Tally()
    back = [item for _, row in read_rows(str(path)) if not isinstance(row, str) for item in form.read(row, tally)]
    assert labels_in([item for item in back if isinstance(item, Record)]) == labels_of(labelled)


@pytest.mark.parametrize("name", ["math-shepherd", "trl", "qwen", "openrlhf", "rlhflow", "processbench", "verl"])
def test_other_formats_in_parquet_are_read_back_as_they_were(labelled: Dataset, tmp_path: Path, name: str) -> None:
    rows = exported(labelled, name)
    write_rows(tmp_path / "d.parquet", rows)
    assert [row for _, row in read_rows(str(tmp_path / "d.parquet"))] == json.loads(json.dumps(rows))


@pytest.mark.slow
def test_many_records_are_exported_in_little_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)

    def rows() -> Any:
        for i in range(12_000):
            steps = [f"{i} {rng.random()}" for _ in range(4)]
            yield str(i), {"question": f"{i // 2}?", "answer": "", "steps": steps, "label": [1] * 4, "method": "m"}

    dataset = store.dataset("d", create=True)
    import_rows(dataset, ImportConfig("records", "q"), form_of("records"), rows(), "q")
    asked: list[int] = []
    real = exporter._record

    def record(*arguments: Any) -> Record:
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(exporter, "_record", record)
    stream = export_rows(dataset.view(), form_of("records"), Tally())
    next(stream)
    # One piece is in memory when the first row comes out, not the dataset.
    assert len(asked) <= exporter.AT_ONCE + 2
    assert 1 + sum(1 for _ in stream) == 12_000
