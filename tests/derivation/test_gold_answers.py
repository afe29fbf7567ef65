"""Gold answers from another dataset: filled where the text is the same, before any id is made."""

import json
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import MissingDataset
from openr_data.exchange.exporter import export_rows
from openr_data.exchange.formats.files import read_rows
from openr_data.exchange.formats.format import Format, Tally
from openr_data.exchange.importer import GoldAnswers, ImportConfig, Imported, import_rows
from openr_data.ids import question_id
from openr_data.registry import load
from openr_data.store import Dataset, Store
from tests.conftest import a_question


def form_of(name: str, source: str = "s") -> Format:
    kind = load("format", name)
    made: Format = kind(kind.config_type(), source, "")
    return made


def bring(store: Store, into: str, format_: str, rows: Any, gold: GoldAnswers | None = None) -> Imported:
    dataset = store.dataset(into, create=True)
    config = ImportConfig(format_, into, gold_from="known" if gold else "")
    found = ((f"line {place}", row) for place, row in enumerate(rows))
    return import_rows(dataset, config, form_of(format_, into), found, "x", gold=gold)


def known(store: Store, *questions: tuple[str, str]) -> GoldAnswers:
    bring(store, "known", "questions", [{"problem": text, "answer": answer} for text, answer in questions])
    return GoldAnswers(store.view("known"))


def counts(gold: GoldAnswers) -> tuple[int, int, int]:
    return gold.filled, gold.ambiguous, gold.absent


def answers(dataset: Dataset) -> dict[str, str]:
    return {row["question"]: row["answer"] for row in dataset.view().arrow("questions").to_pylist()}


CASE = {
    "id": "x-0",
    "generator": "g",
    "problem": "1 + 1?",
    "steps": ["a", "b"],
    "final_answer_correct": False,
    "label": 1,
}


def test_a_record_gets_the_answer_of_the_question_with_its_text(store: Store) -> None:
    gold = known(store, ("1 + 1?", "2"), ("2 + 2?", "4"))
    rows = [CASE, {**CASE, "id": "x-1", "problem": "3 + 3?"}, {**CASE, "id": "x-2", "steps": ["c", "d"]}]
    imported = bring(store, "bench", "processbench", rows, gold)
    dataset = store.dataset("bench")
    assert answers(dataset) == {"1 + 1?": "2", "3 + 3?": ""}
    # Two processes of one question: it counts once.
    assert counts(gold) == (1, 0, 1)
    assert (imported.questions, imported.labels, imported.without_gold) == (2, 3, 1)
    (row,) = dataset.view().sql("select distinct question_id from records where answer = '2'").to_pylist()
    assert row["question_id"] == question_id("1 + 1?", "2")
    assert dataset.view().sql("select count(*) as n from records where answer = '2'").to_pylist() == [{"n": 2}]


def test_plain_questions_get_it_too_and_an_answer_that_is_there_stays(store: Store) -> None:
    gold = known(store, ("1 + 1?", "2"), ("2 + 2?", "4"), ("5?", "5"))
    rows = [
        {"problem": "1 + 1?", "answer": ""},
        {"problem": "2 + 2?", "answer": "four"},
        {"problem": "5?", "level": "1"},
    ]
    bring(store, "mine", "questions", rows, gold)
    assert answers(store.dataset("mine")) == {"1 + 1?": "2", "2 + 2?": "four", "5?": "5"}
    assert counts(gold) == (2, 0, 0)
    found = store.view("mine").sql("select question_id, level from questions where question = '5?'").to_pylist()
    assert found == [{"question_id": question_id("5?", "5"), "level": "1"}]


@pytest.mark.parametrize("text", ["  What is\n 1\t?", "What  is 1 ?\n", "What is 1 ?"])
def test_white_space_does_not_count(store: Store, text: str) -> None:
    gold = known(store, ("What is 1 ?", "1"))
    bring(store, "mine", "questions", [{"problem": text, "answer": ""}], gold)
    assert answers(store.dataset("mine")) == {text: "1"}


@pytest.mark.parametrize("text", ["what is 1 ?", "What is 1?", "What is 1 ? Really?"])
def test_everything_else_counts(store: Store, text: str) -> None:
    gold = known(store, ("What is 1 ?", "1"))
    assert gold.fill(a_question(text, "")) == a_question(text, "")
    assert counts(gold) == (0, 0, 1)


def test_a_text_with_several_answers_gives_none_and_is_counted(store: Store) -> None:
    questions = [
        ("1?", "1"),
        ("1? ", "one"),
        ("2?", "2"),
        ("What is 3?", "3, 4"),
        ("What  is 3?", "3,  4"),
        ("4?", ""),
        ("4? ", "4"),
        ("5?", ""),
    ]
    gold = known(store, *questions)
    rows = [{"problem": text, "answer": ""} for text in ("1?", "2?", "What is 3?", "4?", "5?")]
    bring(store, "mine", "questions", rows, gold)
    found = answers(store.dataset("mine"))
    assert found.pop("What is 3?").split() == ["3,", "4"]
    assert found == {"1?": "", "2?": "2", "4?": "4", "5?": ""}
    # A question without an answer there is as good as none.
    assert counts(gold) == (3, 1, 1)


def test_the_third_answer_does_not_settle_what_two_left_open(store: Store) -> None:
    gold = known(store, ("1?", "1"), ("1? ", "one"), ("1?  ", "1"), (" 1?", "1"))
    assert gold.fill(a_question("1?", "")).answer == ""  # type: ignore[union-attr]
    assert counts(gold) == (0, 1, 0)


def test_the_same_import_again_adds_nothing_and_one_without_gold_is_another(store: Store) -> None:
    gold = known(store, ("1 + 1?", "2"))
    bring(store, "bench", "processbench", [CASE], gold)
    again = bring(store, "bench", "processbench", [CASE], GoldAnswers(store.view("known")))
    assert (again.questions, again.solutions, again.labels, again.repeated) == (0, 0, 0, 1)
    without = bring(store, "bench", "processbench", [CASE])
    assert (without.questions, without.labels) == (1, 1)
    jobs = [json.loads(row["config"]).get("gold_from") for row in store.view("bench").arrow("jobs").to_pylist()]
    assert sorted(jobs, key=str) == [None, "known"]


def test_an_import_without_gold_is_the_job_it_always_was() -> None:
    # The id of an import of before there were gold answers: what is stored under it goes on.
    assert (
        ImportConfig("trl", "a", "b", {"threshold": "0"}).job_id()
        == ImportConfig("trl", "a", "b", {"threshold": "0"}, "").job_id()
    )
    assert ImportConfig("processbench", "bench").job_id() == "2fc8481454d8"
    assert ImportConfig("processbench", "bench", gold_from="known").job_id() != "2fc8481454d8"


def test_gold_comes_from_the_snapshot_that_is_named(store: Store) -> None:
    known(store, ("1?", "1"))
    known(store, ("1? ", "one"), ("2?", "2"))
    for ref, found in (("known@1", ("1", "")), ("known", ("", "2"))):
        gold = GoldAnswers(store.view(ref))
        assert tuple(gold.fill(a_question(f"{number}?", "")).answer for number in (1, 2)) == found  # type: ignore[union-attr]
    with pytest.raises(MissingDataset):
        store.view("unknown")


def test_what_was_filled_goes_out_as_it_came_in(store: Store) -> None:
    other = {
        "id": "x-1",
        "problem": " 1 + 1?\n",
        "steps": ["c", "d"],
        "label": -1,
        "final_answer_correct": True,
        "note": 3,
    }
    rows = [CASE, {**CASE, **other}]
    bring(store, "bench", "processbench", rows, known(store, ("1 + 1?", "2")))
    assert answers(store.dataset("bench")) == {"1 + 1?": "2"}
    back = list(export_rows(store.view("bench"), form_of("processbench"), Tally()))
    assert sorted(back, key=lambda row: str(row["id"])) == rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bench", "files", "records", "filled"),
    [
        ("processbench/gsm8k.json", ["gsm8k/test.jsonl"], 400, 400),
        ("processbench/math.json", ["math/test500.jsonl", "math/train.jsonl"], 1000, 113),
    ],
)
def test_processbench_gets_the_gold_answers_of_its_sources_and_goes_out_as_it_came(
    store: Store, shared_data: Path, bench: str, files: list[str], records: int, filled: int
) -> None:
    for name in files:
        import_rows(
            store.dataset("known", create=True), ImportConfig("questions", name), form_of("questions"),
            read_rows(str(shared_data / name)), name,
        )  # fmt: skip
    dataset = store.dataset("bench", create=True)
    config = ImportConfig("processbench", "bench", gold_from="known")
    gold = GoldAnswers(store.view("known"))
    import_rows(dataset, config, form_of("processbench"), read_rows(str(shared_data / bench)), bench, gold=gold)
    query = "select count(*) as n, count(*) filter (answer <> '') as filled from records"
    assert dataset.view().sql(query).to_pylist() == [{"n": records, "filled": filled}]
    back = export_rows(dataset.view(), form_of("processbench"), Tally())
    rows = [row for _, row in read_rows(str(shared_data / bench))]
    assert sorted(map(json.dumps, back)) == sorted(map(json.dumps, rows))
