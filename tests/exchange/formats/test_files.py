"""Checks containers: written rows are read back, a damaged line costs that line, a damaged file gives one sentence."""

import csv
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr_data.errors import InputError, OpenRError, UsageError
from openr_data.exchange.formats import files
from openr_data.exchange.formats.files import json_line, kind_of, read_rows, write_rows

TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
ALL = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet")
ROWS: list[dict[str, Any]] = [
    {"q": "Is 1 < 2?", "steps": ["a", "b, \"c\"\n\td"], "more": {"n": "1", "list": ["x", "ки"]}},
    {"q": "…\u2028 | ,;'\"\\", "steps": [], "more": {"n": "", "list": ["[", "{"]}},
    {"q": "=1+1\r\nend\n", "steps": ["\\u00e9é\U0001f600"], "more": {"n": "null", "list": []}},
]  # fmt: skip


def saved(path: Path, data: bytes | str) -> Path:
    plain = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(plain) if path.suffix == ".gz" else plain)
    return path


def read(path: Path) -> list[Any]:
    return [row for _, row in read_rows(str(path))]


def found(path: Path) -> list[tuple[str, Any]]:
    return list(read_rows(str(path)))


# --- every container


@pytest.mark.parametrize("suffix", ALL)
def test_every_container_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    assert write_rows(path, iter(ROWS)) == 3
    assert read(path) == ROWS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ALL)
def test_no_rows_are_a_file_that_is_read_as_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    assert write_rows(path, []) == 0
    assert read(path) == []


@pytest.mark.parametrize("suffix", TEXTS)
def test_a_gz_is_compressed_and_the_same_inside(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"a{suffix}", ROWS)
    write_rows(tmp_path / f"a{suffix}.gz", ROWS)
    assert gzip.decompress((tmp_path / f"a{suffix}.gz").read_bytes()) == (tmp_path / f"a{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ".jsonl"), ("a.NDJSON", ".ndjson"), ("a.b.json.gz", ".json"), ("a.parquet", ".parquet"),
        ("a.CSV", ".csv"), ("a.tsv.GZ", ".tsv"), ("a", ".jsonl"), ("a.txt", ".jsonl"), ("v1.0", ".jsonl"),
        ("a.json.txt", ".jsonl"),
    ],
)  # fmt: skip
def test_the_suffix_says_the_container(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TRICKY = st.text(st.sampled_from('[]{}",\\ \n\t\réи😀'), max_size=20)
ROW = st.dictionaries(TRICKY, JSON | TRICKY, min_size=1, max_size=3)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".json.gz"])
@given(rows=st.lists(ROW, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_comes_back_from_json(tmp_path: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, rows)
    assert read(path) == rows


@given(rows=st.lists(ROW, min_size=1, max_size=6), block=st.integers(1, 40), indent=st.sampled_from([None, 1]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_array_is_read_whatever_stands_at_the_borders_of_its_blocks(
    tmp_path: Path, rows: list[dict[str, Any]], block: int, indent: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_BLOCK", block)
        for ascii_ in (True, False):
            path = saved(tmp_path / "rows.json", json.dumps(rows, indent=indent, ensure_ascii=ascii_))
            assert found(path) == [(f"object {i}", row) for i, row in enumerate(rows, start=1)]


CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8) | TRICKY


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(rows=st.lists(st.fixed_dictionaries({"a": CELL, "b": CELL}), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_come_back_from_csv(tmp_path: Path, suffix: str, rows: list[dict[str, str]]) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, rows)
    assert read(path) == rows


PLAIN_CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz"])
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a": PLAIN_CELL.map(lambda text: f"x{text}"), "b": st.lists(PLAIN_CELL, max_size=3)}),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plain_texts_and_lists_come_back_from_csv(tmp_path: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, rows)
    assert read(path) == rows


def test_the_answers_of_math_come_back_from_csv(tmp_path: Path, shared_data: Path) -> None:
    rows = [row for row in read(shared_data / "math" / "train.jsonl") if isinstance(row, dict)]
    write_rows(tmp_path / "math.csv", rows)
    assert read(tmp_path / "math.csv") == rows


# --- the start and the lines of a text


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_a_byte_order_mark_before_an_array_is_no_matter(tmp_path: Path, suffix: str) -> None:
    assert read(saved(tmp_path / f"a{suffix}", b'\xef\xbb\xbf[{"a": 1}, {"a": 2}]')) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", '{"a": "1"}\n{"a": "2"}\n'), ("a.csv", "a\n1\n2\n"), ("a.tsv.gz", "a\n1\n2\n")]
)
def test_a_byte_order_mark_before_lines_is_no_matter(tmp_path: Path, name: str, text: str) -> None:
    assert read(saved(tmp_path / name, b"\xef\xbb\xbf" + text.encode())) == [{"a": "1"}, {"a": "2"}]


def test_lines_end_as_they_may_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jsonl", '\r\n{"a": 1}\r\n\r\n  \t\n{"a": 2}\n\n{"a": 3}')
    assert found(path) == [("line 2", {"a": 1}), ("line 5", {"a": 2}), ("line 7", {"a": 3})]
    assert read(saved(tmp_path / "a.csv", "a,b\r\n1,2\r\n\r\n3,4")) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert read(saved(tmp_path / "a.json", '\r\n [\r\n{"a": 1}\r\n,\r\n{"a": 2}\r\n]\r\n')) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("text", ["", "\n", " \r\n\n\t ", "\ufeff"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path: Path, suffix: str, text: str) -> None:
    rows = found(saved(tmp_path / f"a{suffix}", text))
    assert rows == []


def test_an_empty_csv_and_one_with_a_header_alone_have_no_rows(tmp_path: Path) -> None:
    assert read(saved(tmp_path / "a.csv", "")) == []
    assert read(saved(tmp_path / "b.csv", "a,b\n")) == []


def test_lines_are_lines_whatever_the_suffix_says(tmp_path: Path) -> None:
    lines, array = '{"a": 1}\n{"a": 2}\n', '[{"a": 1}, {"a": 2}]'
    for name, text in (("a.json", lines), ("a.jsonl", array), ("a", array), ("a.txt.gz", lines)):
        assert read(saved(tmp_path / name, text)) == [{"a": 1}, {"a": 2}]


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    row = {"problem": "1?", "level": "Level 1", "nested": {"a": [1, {"b": "}\n{"}]}}
    for name in ("a.json", "b.jsonl", "c.json.gz"):
        assert found(saved(tmp_path / name, json.dumps(row, indent=2))) == [("the file", row)]
    assert found(saved(tmp_path / "d.json", json.dumps(row))) == [("line 1", row)]


def test_a_huge_line_is_one_row(tmp_path: Path) -> None:
    row = {"text": 'é[{"' * 2_000_000}
    for name, text in (("a.jsonl", json_line(row) + '\n{"a": 1}\n'), ("a.json", f'[{json_line(row)}, {{"a": 1}}]')):
        assert read(saved(tmp_path / name, text)) == [row, {"a": 1}]
    (tmp_path / "a.csv").write_text(f'a,b\n"{"x" * 3_000_000}",1\n', encoding="utf-8")
    assert [len(row["a"]) for row in read(tmp_path / "a.csv")] == [3_000_000]


def test_an_array_longer_than_a_block_is_read_whole(tmp_path: Path) -> None:
    rows = [{"i": i, "text": f'"\\[{{{i}' * 40} for i in range(20_000)]
    path = saved(tmp_path / "a.json", json.dumps(rows))
    assert path.stat().st_size > 3 * files._BLOCK
    assert read(path) == rows


def test_an_array_is_not_much_slower_than_lines(tmp_path: Path) -> None:
    copied = 0

    class Counted(str):
        """A string that counts the characters its slices copy."""

        __slots__ = ()

        def __getitem__(self, key: Any) -> "Counted":
            nonlocal copied
            part = Counted(super().__getitem__(key))
            copied += len(part)
            return part

        def lstrip(self, chars: str | None = None) -> "Counted":
            nonlocal copied
            part = Counted(super().lstrip(chars))
            copied += len(part)
            return part

        def __add__(self, other: str) -> "Counted":
            return Counted(super().__add__(other))

    class File:
        def __init__(self, text: str) -> None:
            self.text, self.at = text, 0

        def read(self, n: int) -> Counted:
            part = self.text[self.at : self.at + n]
            self.at += n
            return Counted(part)

    text = json.dumps([{"question": "q" * 60, "answer": str(i)} for i in range(5_000)])
    rows = list(files._json_array(File(text), tmp_path))  # type: ignore[arg-type]
    assert len(rows) == 5_000
    assert copied < 20 * len(text)


# --- lines that are not rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("oops", "not JSON"), ('{"a": 1', "not JSON"), ("{'a': 1}", "not JSON"), ("[1, 2]", "a JSON list, not an object"),
        ('"text"', "a JSON str, not an object"), ("12", "a JSON int, not an object"), ("null", "a JSON NoneType, not"),
        ('{"a": "\\ud800"}', "a character that is not Unicode text"), ('{"\\uDFFF": 1}', "not Unicode text"),
        ('{"a": ["x", {"b": "\\ud83d"}]}', "not Unicode text"), ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"), ('{"a": 1} {"a": 2}', "not JSON"),
    ],
)  # fmt: skip
def test_a_bad_line_costs_that_line_alone(tmp_path: Path, line: str, reason: str) -> None:
    rows = found(saved(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 2}}\n'))
    assert [rows[0], rows[2]] == [("line 1", {"a": 1}), ("line 3", {"a": 2})]
    assert rows[1][0] == "line 2"
    assert isinstance(rows[1][1], str)
    assert reason in rows[1][1]


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    assert read(saved(tmp_path / "a.jsonl", '{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}\n')) == [
        {"a": "\U0001f600", "b": "\\ud800"}
    ]


def test_what_is_no_object_in_an_array_costs_itself_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.json", '[{"a": 1}, 12, "x", [3], null, {"a": "\\ud800"}, {"a": 2}]')
    rows = found(path)
    assert [row for _, row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert rows[1] == ("object 2", "a JSON int, not an object")
    assert rows[5] == ("object 6", "a character that is not Unicode text")


@pytest.mark.parametrize(("name", "text"), [("a.json", '{\n  "a": "\\ud800"\n}'), ("a.csv", 'a\n"[""\\ud800""]"\n')])
def test_half_a_character_is_found_in_every_container(tmp_path: Path, name: str, text: str) -> None:
    ((_, row),) = found(saved(tmp_path / name, text))
    assert isinstance(row, str)


def test_a_line_of_csv_with_too_many_or_too_few_cells_costs_itself_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.csv", 'a,b\n1,2\n1\n1,2,3\n"x\ny",4\n')
    reason = "not as many cells as the header has"
    assert found(path) == [
        ("line 2", {"a": "1", "b": "2"}), ("line 3", reason), ("line 4", reason), ("line 6", {"a": "x\ny", "b": "4"})
    ]  # fmt: skip


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.csv", "a,a\n1,2\n")
    with pytest.raises(InputError):
        read(path)


# --- files that cannot be read


def refusal(path: Path) -> str:
    """Return the error message for a file that cannot be read."""
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


DAMAGED = {
    "half.json": (
        b'[{"a": 1}, {"a": 2}, {"a"',
        "is incomplete: the JSON array ends early or is damaged at its object 3.",
    ),
    "mixed.json": (b'[{"a": 1},\nand then some text\n', "is damaged at its object 2."),
    "open.json": (b'[{"a": 1}', "is damaged at its object 2."),
    "bracket.json": (b"[", "is damaged at its object 1."),
    "latin.jsonl": ('{"a": "é"}\n'.encode("latin-1"), "is not text in UTF-8"),
    "latin.csv": ("a\né\n".encode("latin-1"), "is not text in UTF-8"),
    "utf16.jsonl": ('{"a": 1}\n'.encode("utf-16"), "is not text in UTF-8"),
    "quote.csv": (b'a,b\n"x,2\n', "is not CSV: unexpected end of data."),
    "quotes.csv": (b'a,b\n"x"y,2\n', "is not CSV: "),
    "text.jsonl.gz": (b'{"a": 1}\n', "Cannot read"),
    "cut.jsonl.gz": (gzip.compress(b'{"a": 1}\n' * 9_000, mtime=0)[:-20], "Cannot read"),
    "empty.parquet": (b"", "is not a complete Parquet file"),
    "text.parquet": (b'{"a": 1}\n' * 9, "is not a complete Parquet file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    data, words = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    told = refusal(tmp_path / name)
    assert str(tmp_path / name) in told
    assert words in told


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_parquet_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, ({"a": f"{i} {i * i}"} for i in range(9_000)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert f"{path} is not a complete Parquet file: " in refusal(path)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_parquet_with_damaged_pages_is_one_sentence(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.parquet"
    write_rows(path, ({"a": f"{i} {i * i}"} for i in range(9_000)))
    data = bytearray(path.read_bytes())
    place = int(len(data) * share)
    data[place : place + 200] = bytes(200)
    path.write_bytes(bytes(data))
    assert f"{path} is not a complete Parquet file: " in refusal(path)


def test_a_parquet_with_texts_that_are_no_texts_is_one_sentence(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"a": bad}), tmp_path / "a.parquet")
    refusal(tmp_path / "a.parquet")


def test_a_gz_with_damaged_data_is_one_sentence(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(b'{"a": %d}\n' % (i * i) for i in range(9_000))))
    data[5_000:5_100] = b"\xff" * 100
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(data))
    refusal(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize("tail", ['\n[{"a": 2}]', " and then some text", '\n{"a": 2}\n'])
def test_what_stands_behind_an_array_is_not_left_out_in_silence(tmp_path: Path, tail: str) -> None:
    path = saved(tmp_path / "a.json", f'[{{"a": 1}}]{tail}')
    try:
        rows = found(path)
    except InputError:
        return
    assert len(rows) > 1


@pytest.mark.parametrize("text", ['[{"a": 1},, {"a": 2}]', '[{"a": 1} {"a": 2}]', '[,{"a": 1}]'])
def test_an_array_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    refusal(saved(tmp_path / "a.json", text))


def test_a_file_half_json_half_text_keeps_the_rows_that_are_json(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 2}\nLorem ipsum\n\ndolor\n')
    assert found(path) == [
        ("line 1", {"a": 1}), ("line 2", {"a": 2}), ("line 3", "not JSON"), ("line 5", "not JSON")
    ]  # fmt: skip


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.jsonl") == f"There is no file {tmp_path / 'absent.jsonl'}."


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.jsonl", "{}")

    def refuse(*arguments: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(path) == f"Cannot read {path}: Permission denied."


def test_reading_is_lazy(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        path = tmp_path / name
        write_rows(path, ({"a": str(i)} for i in range(200_000)))
        rows = read_rows(str(path))
        assert next(rows)[1] == {"a": "0"}
        rows.close()  # type: ignore[attr-defined]


# --- Hugging Face datasets


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the cache of `datasets` into a folder of the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def local_dataset(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", rows)
    return folder


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("prefix", ["", "hf:"])
def test_a_folder_is_read_by_load_dataset(tmp_path: Path, prefix: str) -> None:
    rows = [{"problem": f"{i}?", "steps": ["a", "b"], "label": i} for i in range(5)]
    folder = local_dataset(tmp_path / "data", train=rows)
    assert list(read_rows(f"{prefix}{folder}")) == [(f"row {i}", row) for i, row in enumerate(rows, start=1)]


@pytest.mark.usefixtures("offline")
def test_of_several_splits_one_is_chosen_by_name(tmp_path: Path) -> None:
    folder = local_dataset(tmp_path / "data", train=[{"a": 1}, {"a": 2}], test=[{"a": 3}])
    assert [row for _, row in read_rows(str(folder), split="test")] == [{"a": 3}]
    assert [row for _, row in read_rows(str(folder), split="train")] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UsageError, match=r"has the splits (train, test|test, train)\. Choose one with --split"):
        list(read_rows(str(folder)))
    with pytest.raises(InputError, match=f"Cannot load the Hugging Face dataset {folder}: .*nope"):
        list(read_rows(str(folder), split="nope"))


@pytest.mark.usefixtures("offline")
def test_a_configuration_is_chosen_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        write_rows(folder / name / "train.parquet", [{"name": name}])
    card = "".join(f"- config_name: {name}\n  data_files: {name}/train.parquet\n" for name in ("one", "two"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    assert [row for _, row in read_rows(str(folder), "two", "train")] == [{"name": "two"}]
    with pytest.raises(InputError, match="two"):
        list(read_rows(str(folder)))


@pytest.mark.usefixtures("offline")
def test_a_folder_that_holds_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "Cannot load the Hugging Face dataset" in refusal(tmp_path / "data")
    (tmp_path / "data" / "train.parquet").write_bytes(b"no parquet")
    assert "Cannot load the Hugging Face dataset" in refusal(tmp_path / "data")


@pytest.mark.usefixtures("offline")
def test_a_dataset_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(InputError, match="Cannot load the Hugging Face dataset org/absent: "):
        list(read_rows("hf:org/absent"))


# --- writing


@pytest.mark.parametrize("suffix", ALL)
def test_a_failure_leaves_no_file_and_the_old_one_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": "1"}
        yield {"a": "2"}
        raise InputError("The store is damaged.")

    with pytest.raises(InputError, match="The store is damaged"):
        write_rows(path, rows())
    assert list(tmp_path.iterdir()) == []
    write_rows(path, [{"a": "old"}])
    with pytest.raises(InputError, match="The store is damaged"):
        write_rows(path, rows())
    assert read(path) == [{"a": "old"}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_rows(tmp_path / "absent" / "a.jsonl", [{"a": 1}])


def test_rows_with_more_fields_than_the_first_are_refused_by_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The rows differ in their fields, which CSV cannot hold. Export to .jsonl"):
        write_rows(tmp_path / "a.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert list(tmp_path.iterdir()) == []


def test_rows_with_fewer_fields_than_the_first_are_refused_by_csv(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_rows(tmp_path / "a.csv", [{"a": 1, "b": 2}, {"a": 2}])


def test_rows_of_different_types_are_refused_by_parquet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The rows differ in their fields or types, which Parquet cannot hold"):
        write_rows(tmp_path / "a.parquet", [{"a": 1}, {"a": "x"}])
    with pytest.raises(UsageError, match="The rows differ in their fields or types"):
        write_rows(tmp_path / "a.parquet", ({"a": "x" if i == 25_000 else i} for i in range(30_000)))
    assert list(tmp_path.iterdir()) == []


def test_rows_with_more_fields_than_the_first_come_whole_into_parquet_or_are_refused(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": 2, "b": 3}]
    try:
        write_rows(tmp_path / "a.parquet", rows)
    except UsageError:
        return
    assert [row for row in read(tmp_path / "a.parquet") if row.get("b") == 3]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Decode the objects of a row that Parquet holds as JSON text."""
    return {name: json.loads(value) if isinstance(value, str) else value for name, value in row.items()}


@pytest.mark.parametrize(
    "rows", [[{"m": {"x": 1}}, {"m": {"y": 2}}], [{"m": {}}, {"m": {"x": [1]}}], [{"m": {}}, {"m": None}]]
)
def test_objects_with_different_fields_are_json_text_in_parquet(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_rows(tmp_path / "a.parquet", rows)
    assert [plain(row) for row in read(tmp_path / "a.parquet")] == rows


def test_objects_with_the_same_fields_stay_objects_in_parquet(tmp_path: Path) -> None:
    rows = [{"m": {"x": 1, "y": [1]}}, {"m": {"x": 2, "y": []}}, {"m": None}]
    write_rows(tmp_path / "a.parquet", rows)
    assert read(tmp_path / "a.parquet") == rows


@pytest.mark.parametrize("place", ["later", "deeper"])
def test_objects_that_differ_later_or_deeper_come_back_as_they_were_or_are_refused(tmp_path: Path, place: str) -> None:
    objects = [{"x": 1}] * 20_001 + [{"y": 2}] if place == "later" else [{"m": {"x": 1}}, {"m": {"y": 2}}]
    rows: list[dict[str, Any]] = [{"m": value} for value in objects]
    try:
        write_rows(tmp_path / "a.parquet", rows)
    except UsageError:
        return
    assert [plain(row) for row in read(tmp_path / "a.parquet")] == rows


@pytest.mark.parametrize("value", [2**70, "\ud800"], ids=["big", "surrogate"])
def test_what_parquet_cannot_hold_is_refused_in_one_sentence(tmp_path: Path, value: Any) -> None:
    with pytest.raises(OpenRError):
        write_rows(tmp_path / "a.parquet", [{"a": value}])
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_is_first_empty_and_then_not_is_written_or_refused(tmp_path: Path) -> None:
    rows = [{"a": None if i < 25_000 else "x"} for i in range(30_000)]
    with pytest.raises(UsageError, match="The rows differ in their fields or types"):
        write_rows(tmp_path / "a.parquet", rows)
    write_rows(tmp_path / "b.parquet", rows[10_000:])
    assert read(tmp_path / "b.parquet") == rows[10_000:]


def test_what_csv_cannot_tell_comes_back_as_text(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"n": 1, "f": 0.1, "t": True, "none": None, "list": [1, None], "obj": {"a": 1}}])
    assert read(tmp_path / "a.csv") == [
        {"n": "1", "f": "0.1", "t": "true", "none": "", "list": [1, None], "obj": {"a": 1}}
    ]


def test_floats_are_written_so_that_they_are_the_same_again(tmp_path: Path) -> None:
    rows = [{"a": value} for value in (0.1, 1 / 3, 1e-300, 1.7e308, -0.0, 5e-324)]
    for name in ("a.jsonl", "a.parquet"):
        write_rows(tmp_path / name, rows)
        back = [row["a"] for row in read(tmp_path / name)]
        assert [value.hex() for value in back] == [row["a"].hex() for row in rows]
    write_rows(tmp_path / "n.jsonl", [{"a": math.nan}])
    assert math.isnan(read(tmp_path / "n.jsonl")[0]["a"])


def test_a_csv_reader_of_somebody_else_reads_what_was_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", ROWS)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["q"] for row in rows] == [row["q"] for row in ROWS]
    assert [json.loads(row["steps"]) for row in rows] == [row["steps"] for row in ROWS]


def test_a_cell_in_json_s_quotes_is_a_text_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n"""hello""","""[0"\n')
    assert read(path) == [{"a": '"hello"', "b": '"[0'}]
