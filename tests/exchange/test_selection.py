"""Balance and selection: which records stay, worked out by hand, and that it does not depend on anything else."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.errors import InputError, UsageError
from openr_data.exchange import exporter
from openr_data.exchange.exporter import export_rows
from openr_data.exchange.formats.format import Format, Tally
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.exchange.selection import REPEATED, Selected, Selection, parse_ratio, select_records
from openr_data.registry import load
from openr_data.store import Dataset, Store

GOOD, BAD = [1, 1], [1, -1]


def form_of(name: str) -> Format:
    kind = load("format", name)
    made: Format = kind(kind.config_type(), "test", "")
    return made


def a_row(question: str, steps: list[str], label: list[int], method: str = "m", answer: str = "") -> dict[str, Any]:
    return {"question": question, "answer": answer, "steps": steps, "label": label, "method": method}


def bring(store: Store, *rows: dict[str, Any], source: str = "s") -> Dataset:
    dataset = store.dataset("d", create=True)
    found = ((f"line {place}", row) for place, row in enumerate(rows))
    import_rows(dataset, ImportConfig("records", source), form_of("records"), found, "x")
    return dataset


def many(question: str, negatives: int, positives: int) -> list[dict[str, Any]]:
    bad = [a_row(question, [f"bad {i}", "end"], BAD) for i in range(negatives)]
    return bad + [a_row(question, [f"good {i}", "end"], GOOD) for i in range(positives)]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """18 negatives and 74 positives of 10 questions: each has 0 to 6 of the first and 2 to 20 of the second."""
    store = Store.open(tmp_path_factory.mktemp("uneven") / "store", create=True)
    sizes = [(0, 4), (1, 20), (6, 2), (0, 8), (3, 3), (2, 10), (4, 5), (1, 6), (0, 9), (1, 7)]
    return bring(store, *(row for i, size in enumerate(sizes) for row in many(f"q{i}?", *size)))


def exported(
    dataset: Dataset, selection: Selection | None = None, tally: Tally | None = None, **more: Any
) -> list[Any]:
    return list(export_rows(dataset.view(), form_of("records"), tally or Tally(), selection=selection, **more))


def sides(rows: list[Any]) -> tuple[int, int]:
    negatives = sum(-1 in row["label"] for row in rows)
    return negatives, len(rows) - negatives


def by_question(rows: list[Any]) -> dict[str, tuple[int, int]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["question"]].append(row)
    return {name: sides(group) for name, group in found.items()}


# --- nothing


def test_a_selection_that_leaves_nothing_out_gives_what_none_gives(uneven: Dataset) -> None:
    assert Selection().takes_all
    assert exported(uneven, Selection()) == exported(uneven) == exported(uneven, Selection(seed=7))
    assert sides(exported(uneven)) == (18, 74)
    # Also where it is asked.
    assert exported(uneven, Selection(per_question=99, dedupe=True)) == exported(uneven)


@pytest.mark.parametrize("wrong", [{"balance": 0.0}, {"balance": -1.0}, {"balance": float("inf")}, {"per_question": 0}])
def test_a_selection_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Selection(**wrong)


# --- balance


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (1.0, (18, 18)), (0.5, (18, 36)), (1 / 3, (18, 54)), (0.25, (18, 72)), (18 / 74, (18, 74)),
        # 14.8 negatives on 74 positives: the positives all stay, and now the negatives are thinned out.
        (0.2, (14, 74)), (2.0, (18, 9)), (5.0, (18, 3)), (1e-9, (1, 74)), (1e9, (18, 1)),
    ],
)  # fmt: skip
def test_the_larger_side_is_thinned_out_to_the_ratio(uneven: Dataset, ratio: float, kept: tuple[int, int]) -> None:
    tally = Tally()
    rows = exported(uneven, Selection(balance=ratio), tally)
    assert sides(rows) == kept
    told = {
        "records with a first error, for the balance": 18 - kept[0],
        "records without a first error, for the balance": 74 - kept[1],
    }
    assert tally.lost == {reason: count for reason, count in told.items() if count}
    assert tally.rows == sum(kept)


def test_a_ratio_is_met_exactly_where_it_can_be(store: Store) -> None:
    # 5 / (5 / 29) is a little less than 29 in floats.
    dataset = bring(store, *many("q?", 5, 40))
    assert sides(exported(dataset, Selection(balance=parse_ratio("5:29")))) == (5, 29)


def test_what_stays_is_a_part_of_the_export_in_its_order(uneven: Dataset) -> None:
    whole, rows = exported(uneven), exported(uneven, Selection(balance=1.0))
    assert rows == [row for row in whole if row in rows]


def test_a_smaller_side_keeps_what_a_larger_one_of_the_same_seed_has(uneven: Dataset) -> None:
    few, more = (exported(uneven, Selection(balance=ratio)) for ratio in (1.0, 0.5))
    assert all(row in more for row in few)


def test_the_seed_decides_and_nothing_else(uneven: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {seed: exported(uneven, Selection(balance=1.0, seed=seed)) for seed in range(4)}
    assert len({str(rows) for rows in chosen.values()}) == 4
    # The same records brought in another order, in another store, read in smaller pieces.
    rows = exported(uneven)
    other = bring(Store.open(tmp_path / "other", create=True), *rows[::-1])
    monkeypatch.setattr(exporter, "AT_ONCE", 3)
    assert [exported(other, Selection(balance=1.0, seed=seed)) for seed in range(4)] == list(chosen.values())


@pytest.mark.parametrize(
    ("rows", "told"), [(many("q?", 3, 0), "3 and 0"), (many("q?", 0, 2), "0 and 2"), (many("q?", 1, 1), "0 and 0")]
)
def test_a_balance_without_one_side_is_one_sentence(store: Store, rows: list[Any], told: str) -> None:
    where = "method = 'nobody'" if told == "0 and 0" else ""
    with pytest.raises(InputError, match=f"without, but there are {told}. Take other records, or ask for no balance."):
        exported(bring(store, *rows), Selection(balance=1.0), where=where)


def test_the_balance_is_of_the_records_that_where_and_method_choose(store: Store) -> None:
    others = [a_row("z?", [f"step {i}", "end"], GOOD, "other") for i in range(50)]
    dataset = bring(store, *many("a?", 4, 9), *many("b?", 1, 9), *others)
    assert sides(exported(dataset, Selection(balance=1.0), where="question = 'a?'")) == (4, 4)
    assert sides(exported(dataset, Selection(balance=0.5), method="m")) == (5, 10)
    assert sides(exported(dataset, Selection(balance=0.5), method="m", where="question = 'a?' or question = 'b?'")) == (
        5,
        10,
    )


# --- records of a question


def test_a_cap_takes_negatives_and_positives_in_turn(uneven: Dataset) -> None:
    tally = Tally()
    found = by_question(exported(uneven, Selection(per_question=4), tally))
    # Where one side runs out the other goes on.
    wanted = [(0, 4), (1, 3), (2, 2), (0, 4), (2, 2), (2, 2), (2, 2), (1, 3), (0, 4), (1, 3)]
    assert found == {f"q{i}?": kept for i, kept in enumerate(wanted)}
    assert tally.lost == {"records beyond 4 a question": 92 - 40}


def test_an_odd_cap_favours_neither_side(store: Store) -> None:
    dataset = bring(store, *(row for i in range(60) for row in many(f"q{i}?", 2, 2)))
    negatives, positives = sides(exported(dataset, Selection(per_question=1)))
    assert negatives + positives == 60
    assert 15 < negatives < 45
    assert set(by_question(exported(dataset, Selection(per_question=3))).values()) == {(1, 2), (2, 1)}


def test_the_balance_holds_after_the_cap(uneven: Dataset) -> None:
    # Of 11 negatives and 29 positives that the cap leaves.
    tally = Tally()
    rows = exported(uneven, Selection(balance=1.0, per_question=4), tally)
    assert sides(rows) == (11, 11)
    assert max(sum(pair) for pair in by_question(rows).values()) <= 4
    assert tally.lost == {
        "records beyond 4 a question": 52,
        "records without a first error, for the balance": 18,
    }


# --- repeated records


def test_repeated_records_stay_once_and_other_labels_of_the_same_process_stay(store: Store) -> None:
    rows = [
        a_row("q?", ["a", "b"], BAD), a_row("q?", ["a", "b"], BAD, "second"), a_row("q?", ["a", "b"], GOOD, "third"),
        a_row("q?", ["ab"], [1]), a_row("q?", ["a", "b"], BAD, answer="7"), a_row("p?", ["a", "b"], BAD),
    ]  # fmt: skip
    dataset = bring(store, *rows)
    tally = Tally()
    found = Counter(
        (row["question"], *row["steps"], *row["label"]) for row in exported(dataset, Selection(dedupe=True), tally)
    )
    assert found == {
        ("q?", "a", "b", 1, -1): 1,
        ("q?", "a", "b", 1, 1): 1,
        ("q?", "ab", 1): 1,
        ("p?", "a", "b", 1, -1): 1,
    }
    assert tally.lost == {REPEATED: 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [(["a, b"], ["a", "b"]), (['a","b'], ["a", "b"]), (["a'b"], ["a", "b"]), (["a\nb"], ["a", "b"]), (["[a]"], ["a"])],
)
def test_processes_that_only_look_alike_are_not_repeated(store: Store, one: list[str], other: list[str]) -> None:
    dataset = bring(store, a_row("q?", one, [1] * len(one)), a_row("q?", other, [1] * len(other)))
    assert len(exported(dataset, Selection(dedupe=True))) == 2


def test_the_same_records_of_two_imports_are_repeated(store: Store) -> None:
    rows = many("q?", 2, 3)
    bring(store, *rows)
    dataset = bring(store, *rows, source="again")
    assert len(exported(dataset)) == 10
    assert sides(exported(dataset, Selection(dedupe=True))) == (2, 3)


def test_a_repeated_record_takes_no_place_of_a_question_and_none_in_the_balance(store: Store) -> None:
    same = [a_row("q?", ["bad 0", "end"], BAD, f"m{i}") for i in range(8)]
    dataset = bring(store, *many("q?", 3, 20), *same)
    tally = Tally()
    rows = exported(dataset, Selection(balance=1.0, per_question=10, dedupe=True), tally)
    assert sides(rows) == (3, 3)
    assert tally.lost == {
        REPEATED: 8, "records beyond 10 a question": 13, "records without a first error, for the balance": 4}  # fmt: skip


# --- formats and pieces


@pytest.mark.parametrize("name", ["questions", "verl", "math-aps", "math-aps-tree"])
@pytest.mark.parametrize("selection", [Selection(balance=1.0), Selection(per_question=1), Selection(dedupe=True)])
def test_a_format_that_writes_no_records_has_nothing_to_choose(
    uneven: Dataset, name: str, selection: Selection
) -> None:
    with pytest.raises(UsageError, match="This format writes (questions|the whole tree)"):
        list(export_rows(uneven.view(), form_of(name), Tally(), selection=selection))


def test_a_selection_is_read_in_bounded_pieces(uneven: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exported(uneven, Selection(balance=0.5))
    for size in (1, 2, 7, 1000):
        monkeypatch.setattr(exporter, "AT_ONCE", size)
        assert exported(uneven, Selection(balance=0.5)) == whole


def test_only_what_was_chosen_is_read(uneven: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = exporter._record
    monkeypatch.setattr(exporter, "_record", lambda *given: made.append(1) or real(*given))
    rows = exported(uneven, Selection(balance=1.0))
    assert len(made) == len(rows) == 36


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 9))
def test_pieces_cut_no_question_and_lose_nothing(sizes: list[int], size: int) -> None:
    asked = [f"{i:03}" for i, count in enumerate(sizes) for _ in range(count)]
    labels = [f"l{i}" for i in range(len(asked))]
    pieces = list(Selected(asked, labels).pieces(size))
    assert [label for _, part in pieces for label in part] == labels
    names = [name for part, _ in pieces for name in part]
    assert names == sorted(set(asked))
    assert all(size <= len(part) < size + 5 for _, part in pieces[:-1])


def test_training_can_ask_without_an_export(uneven: Dataset) -> None:
    selected = select_records(uneven.view(), Selection(balance=1.0), "question <> 'q2?'")
    assert len(selected.label_id) == len(set(selected.label_id)) == len(selected.question_id) == 24
    assert selected.left_out == {"records without a first error, for the balance": 60}
    with pytest.raises(InputError, match="^SQL: "):
        select_records(uneven.view(), Selection(), "nope = 1")


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("1:1", 1.0), ("1:2", 0.5), ("0.5", 0.5), (" 2 : 1 ", 2.0), ("3", 3.0), ("1:0.5", 2.0), (".5", 0.5)],
)
def test_a_ratio_is_read_in_both_ways(text: str, ratio: float) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize("text", ["", "0", "1:0", "0:1", "-1", "1:1:1", "one", "1/2", "nan", "inf", "1e3", "50%", ":"])
def test_what_is_no_ratio_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a ratio of negatives to positives, for example 1:1, 1:3 or 0.5."):
        parse_ratio(text)
