"""The file that survives a kill at any byte."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.checked_lines import CheckedLines
from openr_data.errors import StoreError

PAYLOADS = st.lists(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3)), max_size=5)


def written(path: Path, payloads: list[Any]) -> bytes:
    path.unlink(missing_ok=True)
    lines = CheckedLines(path)
    for payload in payloads:
        lines.append(payload)
    lines.close()
    return path.read_bytes()


@given(PAYLOADS)
@settings(max_examples=50)
def test_what_is_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, payloads: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    written(path, payloads)
    assert list(CheckedLines(path).read()) == payloads


@given(PAYLOADS.filter(bool), st.data())
@settings(max_examples=50)
def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    whole = written(path, payloads)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    lines = CheckedLines(path)
    kept = whole[:cut].count(b"\n")
    assert list(lines.read()) == payloads[:kept]
    lines.append("after")
    lines.close()
    assert list(CheckedLines(path).read()) == [*payloads[:kept], "after"]


def test_a_flipped_bit_costs_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    data = bytearray(written(path, ["one", "two", "three"]))
    data[data.index(b"two")] ^= 1
    path.write_bytes(data)
    lines = CheckedLines(path)
    assert list(lines.read()) == ["one", "three"]
    assert lines.damaged == 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    lines = CheckedLines(path)
    lines.append("safe")
    real = os.write

    def fails_after_some_bytes(handle: int, data: bytes) -> int:
        if len(data) > 5:
            return real(handle, bytes(data[:5]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fails_after_some_bytes)
    with pytest.raises(StoreError, match=r"The disk is full: cannot write .*a\.jsonl"):
        lines.append("lost")
    monkeypatch.undo()
    lines.append("later")
    lines.close()
    assert list(CheckedLines(path).read()) == ["safe", "later"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        CheckedLines(tmp_path / "file" / "a.jsonl")
