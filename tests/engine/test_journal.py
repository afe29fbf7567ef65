"""Replies by the content of their request: across processes, torn writes, flipped bytes and full disks."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openr_data.engine import journal as module
from openr_data.engine.journal import Journal
from openr_data.engine.replies import usage_of
from openr_data.engine.request_keys import question_key, request_key, stem_key
from openr_data.errors import StoreError
from openr_data.types import Completion, Prefix, Sampling, Usage

PREFIX, SAMPLING = Prefix("q", ("a", "b")), Sampling(seed=3, stop=("x",))
STEM, WHO = stem_key("p", PREFIX, SAMPLING), question_key("Q")
REPLY = (Completion("text ✓", 4, "end", -1.25, 7, 3), Completion("", 1, "length", None, 7, 3))

one_by_one = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of journals: what reaches the operating system is enough, the disk itself is slow."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def key(number: int) -> bytes:
    return request_key(STEM, 8, number)


def reply(number: int, size: int = 1) -> tuple[Completion, ...]:
    """Make a reply that holds its number and has a cost of its own."""
    return (Completion(f"{number} " * size, number + 1, "end", -0.5 * number, 10 + number, number),)


def put(journal: Journal, number: int, *, size: int = 1, question: bytes = WHO) -> None:
    journal.put(key(number), STEM, question, number, reply(number, size))


def written(path: Path, count: int, size: int = 1) -> list[int]:
    """A journal of `count` replies; the length of the file before the first one and after each."""
    journal = Journal(path)
    ends = [0]
    for number in range(count):
        put(journal, number, size=size)
        ends.append(path.stat().st_size)
    journal.close()
    return ends


def found(path: Path, count: int, sizes: Sequence[int] = (1,)) -> list[int]:
    """The numbers of the replies that a journal has; fails where one is not what was put."""
    journal = Journal(path)
    there = []
    for number in range(count):
        got = journal.get(key(number))
        assert got is None or got in [reply(number, size) for size in sizes]
        if got is not None:
            there.append(number)
    journal.close()
    return there


def segments(path: Path) -> list[int]:
    """The offsets of the segments of a whole journal."""
    journal = Journal(path, read_only=True)
    starts = sorted({entry.place[0] for entry in journal.entries() if entry.place})
    journal.close()
    return starts


def paid(numbers: Sequence[int]) -> Usage:
    total = Usage()
    for number in numbers:
        total.add(usage_of(reply(number)))
    return total


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_reply_is_there_at_once_and_in_the_next_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert journal.get(key(1)) is None
    used = journal.put(key(1), STEM, WHO, 3, REPLY)
    assert journal.get(key(1)) == REPLY
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.get(key(1)) == REPLY
    assert again.get(key(2)) is None
    found = [again.get(key(number)) is not None for number in (1, 2)]
    assert (len(again), found, again.damaged) == (1, [True, False], 0)
    assert again.paid == used == Usage(1, 2, 7, 3, 5, truncated=1, cut_tokens=1)
    again.close()


def test_a_killed_process_loses_no_reply_it_was_given(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.engine.test_journal import put\n"
        "from openr_data.engine.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(30): put(journal, number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "j")], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert found(tmp_path / "j", 31) == list(range(30))


# A high and a low half that stand beside each other are one character to JSON; no decoder of tokens makes them.
texts = st.text(st.characters(codec="utf-8")) | st.text(st.characters(min_codepoint=0xDC00, max_codepoint=0xDFFF))
completions = st.builds(
    Completion,
    text=texts,
    n_tokens=st.integers(0, 2**20),
    ended=st.sampled_from(["end", "stop", "length", "abort"]),
    logprob=st.none() | st.floats(allow_nan=False),
    draw=st.none() | st.tuples(st.integers(0, 2**63), st.integers(0, 2**20)),
)


@given(
    replies=st.lists(st.lists(completions, max_size=4), min_size=1, max_size=4),
    prompt=st.integers(0, 2**31),
    cached=st.none() | st.integers(0, 2**31 - 1),
    seed=st.integers(0, 2**64),
)
@one_by_one
def test_every_field_of_every_completion_comes_back_as_it_was(
    tmp_path: Path, replies: list[list[Completion]], prompt: int, cached: int | None, seed: int
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    given_ = [tuple(replace(c, prompt_tokens=prompt, cached_tokens=cached) for c in item) for item in replies]
    journal = Journal(path)
    total = Usage()
    for number, item in enumerate(given_):
        used = journal.put(key(number), STEM, WHO, seed, item)
        assert used == usage_of(item)
        total.add(used)
        assert journal.get(key(number)) == item
    journal.close()
    again = Journal(path)
    assert [again.get(key(number)) for number in range(len(given_))] == given_
    assert [(entry.question, entry.stem, entry.usage) for entry in again.entries()] == [
        (WHO, STEM, usage_of(item)) for item in given_
    ]
    assert [again.at(entry.place)[0] for entry in again.entries() if entry.place] == [seed] * len(given_)
    assert again.paid == total
    again.close()


def test_the_journal_of_an_earlier_version_says_stop_where_the_model_ended(tmp_path: Path) -> None:
    stored = Path(__file__).parents[1] / "store" / "stores" / "version3" / "jobs" / "586435f25ef9" / "journal.bin"
    path = Path(shutil.copy(stored, tmp_path))
    journal = Journal(path, read_only=True)
    replies = [item for entry in journal.entries() if entry.place for item in journal.at(entry.place)[1]]
    journal.close()
    assert b'"stop"' in b"".join(journal._decoded[0])
    assert {item.ended for item in replies} == {"end"}
    assert {item.finish_reason for item in replies} == {"stop"}


def test_a_reply_of_no_completions_is_a_reply(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.put(key(1), STEM, WHO, 1, ())
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.get(key(1)) == ()
    assert again.paid == Usage(requests=1)
    again.close()


def test_the_cost_of_a_reply_leaves_out_what_another_job_has_paid_for() -> None:
    old = Completion("old", 50, "length", None, 9, None, (7, 0), reused=True)
    new = Completion("new", 5, "length", None, 9, 4, (8, 0))
    assert usage_of((old, new)) == Usage(1, 1, 9, 4, 5, truncated=1, cut_tokens=5, reused=1)
    assert usage_of((old, old)) == Usage(reused=2)


def test_the_same_request_put_twice_gives_the_newer_reply_and_was_paid_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    put(journal, 1)
    put(journal, 1, size=2)
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.get(key(1)) == reply(1, 2)
    assert again.paid == paid([1, 1])
    again.close()


# --- what makes a key -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ("p2", PREFIX, SAMPLING),
        ("p", Prefix("r", ("a", "b")), SAMPLING),
        ("p", Prefix("q", ("a",)), SAMPLING),
        ("p", Prefix("q", ("ab",)), SAMPLING),
        ("p", Prefix("q", ("b", "a")), SAMPLING),
        ("p", Prefix("qa", ("b",)), SAMPLING),
        ("p", Prefix("q", ("a", "b", "x")), replace(SAMPLING, stop=())),
        ("p", PREFIX, replace(SAMPLING, stop=("x", "y"))),
        ("p", PREFIX, replace(SAMPLING, temperature=0.5)),
        ("p", PREFIX, replace(SAMPLING, top_p=0.5)),
        ("p", PREFIX, replace(SAMPLING, max_tokens=5)),
    ],
)
def test_everything_that_shapes_a_sample_is_in_the_stem(other: tuple[str, Prefix, Sampling]) -> None:
    assert stem_key("p", PREFIX, SAMPLING) == stem_key("p", replace(PREFIX), replace(SAMPLING)) == STEM
    assert stem_key(*other) != STEM


def test_the_seed_is_in_the_key_of_a_request_and_not_in_the_stem() -> None:
    assert stem_key("p", PREFIX, replace(SAMPLING, seed=4)) == STEM
    keys = {request_key(STEM, n, seed) for n, seed in ((8, 3), (8, 4), (9, 3), (83, 0), (8, 30))}
    assert len(keys) == 5
    assert request_key(stem_key("p2", PREFIX, SAMPLING), 8, 3) not in keys
    assert request_key(STEM, 8, 3) == request_key(STEM, 8, 3)


parts = st.tuples(st.text("ab ", max_size=2), st.lists(st.text("ab", max_size=2), max_size=3).map(tuple))
stops = st.lists(st.text("ab", min_size=1, max_size=2), max_size=3).map(tuple)


@given(parts, parts, stops, stops)
def test_no_two_prefixes_with_stop_strings_share_a_stem(
    one: tuple[str, tuple[str, ...]],
    other: tuple[str, tuple[str, ...]],
    stop: tuple[str, ...],
    other_stop: tuple[str, ...],
) -> None:
    left, right = (Prefix(*one), Sampling(stop=stop)), (Prefix(*other), Sampling(stop=other_stop))
    assert (stem_key("p", *left) == stem_key("p", *right)) == (left == right)


def test_steps_never_read_as_stop_strings() -> None:
    assert stem_key("p", Prefix("q", ("a", "", "b")), Sampling(stop=("c",))) != stem_key(
        "p", Prefix("q", ("a",)), Sampling(stop=("b", "", "c"))
    )


def test_text_that_no_encoding_takes_has_keys_too() -> None:
    assert question_key("\udcff") != question_key("\udcfe")
    assert stem_key("p", Prefix("\udcff"), SAMPLING) != stem_key("p", Prefix("\udcfe"), SAMPLING)


# --- what is torn or damaged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [30, module.SEGMENT])
def test_a_journal_cut_at_any_byte_keeps_all_whole_replies_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment: int
) -> None:
    monkeypatch.setattr(module, "SEGMENT", segment)
    ends = written(tmp_path / "whole", 3)
    whole = (tmp_path / "whole").read_bytes()
    assert ends[-1] == len(whole)
    path = tmp_path / "j"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = list(range(sum(end <= cut for end in ends[1:])))
        journal = Journal(path)
        assert [number for number in range(3) if journal.get(key(number)) == reply(number)] == kept, cut
        assert len(journal) == len(kept)
        assert journal.paid == paid(kept)
        assert journal.damaged == (cut not in ends)
        put(journal, 9)
        assert journal.get(key(9)) == reply(9)
        journal.close()
        again = Journal(path)
        assert again.damaged == 0, "the torn end is gone once it was written behind"
        assert [number for number in range(10) if again.get(key(number)) is not None] == [*kept, 9]
        assert [again.get(key(number)) for number in (*kept, 9)] == [reply(number) for number in (*kept, 9)]
        assert again.paid == paid([*kept, 9])
        again.close()


@pytest.mark.parametrize("segment", [30, module.SEGMENT])
@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_a_flipped_byte_never_gives_a_wrong_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment: int, flip: int
) -> None:
    monkeypatch.setattr(module, "SEGMENT", segment)
    ends = written(tmp_path / "whole", 3)
    whole = bytearray((tmp_path / "whole").read_bytes())
    path = tmp_path / "j"
    for place in range(len(whole)):
        whole[place] ^= flip
        path.write_bytes(whole)
        whole[place] ^= flip
        hit = sum(end <= place for end in ends[1:])
        journal = Journal(path)
        got = [journal.get(key(number)) for number in range(3)]
        assert got[:hit] == [reply(number) for number in range(hit)], place
        assert got[hit] is None, place
        assert all(item in (None, reply(number)) for number, item in enumerate(got)), place
        assert journal.damaged >= 1
        if place % 5:
            journal.close()
            continue
        for number in [number for number, item in enumerate(got) if item is None]:
            put(journal, number)
        journal.close()
        assert found(path, 3) == [0, 1, 2], "what was lost can be asked and kept again"


def test_behind_a_damaged_record_the_segment_is_paid_but_not_believed_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 100)
    ends = written(tmp_path / "j", 12)
    starts = segments(tmp_path / "j")
    assert len(starts) >= 3
    members = [[n for n in range(12) if sum(start <= ends[n] for start in starts) == i] for i in (1, 2)]
    assert len(members[1]) >= 3
    data = bytearray((tmp_path / "j").read_bytes())
    broken = members[1][1]
    data[ends[broken] + 90] ^= 0x10
    (tmp_path / "j").write_bytes(data)
    journal = Journal(tmp_path / "j")
    lost = members[1][1:]
    assert [number for number in range(12) if journal.get(key(number)) is None] == lost
    assert journal.damaged == len(lost)
    assert journal.paid == paid([number for number in range(12) if number != broken])
    assert [entry.key for entry in journal.entries() if entry.place is None] == [key(n) for n in lost[1:]]
    journal.close()


def test_a_segment_whose_first_record_is_damaged_is_not_read_with_the_stream_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 60)
    ends = written(tmp_path / "j", 12)
    second = segments(tmp_path / "j")[1]
    data = bytearray((tmp_path / "j").read_bytes())
    data[second + 30] ^= 1
    (tmp_path / "j").write_bytes(data)
    there = found(tmp_path / "j", 12)
    assert [number for number in there if ends[number] < second] == [n for n in range(12) if ends[n] < second]
    assert any(ends[number] > second for number in there), "the third segment is whole"


def test_garbage_between_two_records_is_passed_over(tmp_path: Path) -> None:
    ends = written(tmp_path / "one", 1)
    one = (tmp_path / "one").read_bytes()
    path = tmp_path / "j"
    # A header that promises more bytes than there are, only the magic, and noise.
    for garbage in (one[:40], module._MAGIC * 3, b"\x00" * 1000, os.urandom(500)):
        path.write_bytes(one + garbage + one)
        journal = Journal(path)
        assert journal.get(key(0)) == reply(0)
        assert [entry.place for entry in journal.entries()] == [(0, 0), (ends[1] + len(garbage), 0)]
        journal.close()


def test_a_file_that_is_no_journal_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'0123abcd ["key", []]\n' * 50)
    journal = Journal(tmp_path / "j")
    assert (len(journal), journal.paid) == (0, Usage())
    assert journal.damaged == 1
    journal.close()


# --- segments, places, memory -----------------------------------------------------------------------------------------


def test_segments_roll_over_and_old_ones_are_decoded_again_when_they_were_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT", 200)
    monkeypatch.setattr(module, "KEPT", 2)
    journal = Journal(tmp_path / "j")
    for number in range(60):
        put(journal, number, size=10)
    assert 10 < len(segments(tmp_path / "j")) < 60
    for opened in (journal, Journal(tmp_path / "j")):
        # Across the segments, from both ends: each look throws out another one.
        for number in sorted(range(60), key=lambda n: (n % 7, -n)):
            assert opened.get(key(number)) == reply(number, 10)
            assert len(opened._decoded) <= 2
        opened.close()


def test_a_segment_bounds_what_one_look_decodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 1000)
    written(tmp_path / "j", 40, size=100)
    journal = Journal(tmp_path / "j")
    for number in range(40):
        assert journal.get(key(number)) == reply(number, 100)
    assert max(sum(map(len, pieces)) for pieces in journal._decoded.values()) < 1000 + 2 * len(reply(39, 100)[0].text)
    journal.close()


def test_a_new_process_begins_a_segment_of_its_own(tmp_path: Path) -> None:
    for number in range(3):
        journal = Journal(tmp_path / "j")
        put(journal, number)
        journal.close()
    assert found(tmp_path / "j", 3) == [0, 1, 2]
    assert len(segments(tmp_path / "j")) == 3


def test_paid_is_the_same_after_reopening_and_counts_finished_questions(tmp_path: Path) -> None:
    done, other = question_key("done"), question_key("other")
    journal = Journal(tmp_path / "j")
    for number in range(20):
        put(journal, number, question=done if number % 3 else other)
    before = replace(journal.paid)
    journal.close()
    assert before == paid(range(20))
    again = Journal(tmp_path / "j", {done})
    assert again.paid == before
    assert len(again) == 7
    assert again.get(key(1)) is None
    assert again.get(key(0)) == reply(0)
    again.close()


def test_a_question_that_is_forgotten_holds_no_places_and_the_others_keep_theirs(tmp_path: Path) -> None:
    one, other = question_key("one"), question_key("other")
    journal = Journal(tmp_path / "j")
    for number in range(10):
        put(journal, number, question=one if number < 5 else other)
    put(journal, 3, question=one)
    journal.forget(one)
    journal.forget(question_key("never heard of"))
    assert len(journal) == 5
    assert [number for number in range(10) if journal.get(key(number))] == [5, 6, 7, 8, 9]
    journal.forget(one)
    journal.forget(other)
    assert len(journal) == 0
    assert not journal._keys_of
    journal.close()
    assert found(tmp_path / "j", 10) == list(range(10)), "the file forgets nothing"


def test_memory_holds_the_places_of_unfinished_questions_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for number in range(20_000):
        question = question_key(str(number // 4))
        put(journal, number, question=question)
        if number % 4 == 3:
            journal.forget(question)
    assert len(journal) == len(journal._keys_of) == 0
    assert len(journal._decoded) <= module.KEPT
    assert sum(map(len, journal._open_pieces)) <= module.SEGMENT + 1000
    journal.close()
    assert (tmp_path / "j").stat().st_size < 20_000 * 150
    again = Journal(tmp_path / "j", {question_key(str(number)) for number in range(5_000)})
    assert len(again) == len(again._keys_of) == 0
    assert again.paid.requests == 20_000
    again.close()


# --- reading beside a writer ------------------------------------------------------------------------------------------


def test_a_reader_sees_what_was_written_so_far_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = Journal(path)
    reader = Journal(path, read_only=True)
    for number in range(5):
        put(writer, number)
        entries = list(reader.entries())
        assert [entry.key for entry in entries] == [key(n) for n in range(number + 1)]
        assert [reader.at(entry.place)[1] for entry in entries if entry.place] == [reply(n) for n in range(number + 1)]
    before = path.read_bytes()
    reader.close()
    assert path.read_bytes() == before
    put(writer, 5)
    writer.close()
    assert found(path, 6) == list(range(6))


def test_a_reader_leaves_a_torn_end_to_its_writer(tmp_path: Path) -> None:
    ends = written(tmp_path / "j", 3)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-5])
    reader = Journal(tmp_path / "j", read_only=True)
    places = [entry.place for entry in reader.entries() if entry.place]
    assert len(places) == 2
    assert [reader.at(place) for place in places] == [(n, reply(n)) for n in range(2)]
    assert (tmp_path / "j").stat().st_size == ends[-1] - 5
    # The writer has continued in the meantime, so the partial entry is complete now.
    (tmp_path / "j").write_bytes(whole)
    places = [entry.place for entry in reader.entries() if entry.place]
    assert [reader.at(place) for place in places] == [(n, reply(n)) for n in range(3)]
    reader.close()


def test_a_reader_that_met_half_a_record_reads_it_when_it_is_whole(tmp_path: Path) -> None:
    written(tmp_path / "j", 3)
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-15])
    reader = Journal(tmp_path / "j", read_only=True)
    assert reader.at((0, 1)) == (1, reply(1))
    (tmp_path / "j").write_bytes(whole)
    assert reader.at((0, 2)) == (2, reply(2))
    reader.close()


def test_a_place_of_a_file_that_became_shorter_is_an_error_that_says_so(tmp_path: Path) -> None:
    written(tmp_path / "j", 3)
    reader = Journal(tmp_path / "j", read_only=True)
    *_, last = reader.entries()
    assert last.place is not None
    (tmp_path / "j").write_bytes(b"")
    with pytest.raises(StoreError, match="was changed while it was read"):
        reader.at(last.place)
    reader.close()


def test_a_journal_that_is_not_there_or_a_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Journal(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        Journal(tmp_path / "folder")


# --- a disk that fails ------------------------------------------------------------------------------------------------


def fill_disk(monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    """Make the next write fail for lack of room after half of its bytes."""
    real = os.write
    halves: list[int] = []

    def half(file: int, data: memoryview) -> int:
        if file != journal._file:
            return real(file, data)
        if halves:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        halves.append(real(file, data[: len(data) // 2]))
        return halves[0]

    monkeypatch.setattr(os, "write", half)


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("segment", [30, module.SEGMENT])
def test_a_full_disk_leaves_a_journal_that_goes_on_and_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, segment: int
) -> None:
    monkeypatch.setattr(module, "SEGMENT", segment)
    path = tmp_path / "j"
    journal = Journal(path)
    for number in range(before):
        put(journal, number)
    size, cost = path.stat().st_size, replace(journal.paid)
    with monkeypatch.context() as patched:
        fill_disk(patched, journal)
        with pytest.raises(StoreError, match="The disk is full"):
            put(journal, 7)
    assert path.stat().st_size == size, "half a record would swallow the next one"
    assert journal.get(key(7)) is None
    assert journal.paid == cost
    assert [journal.get(key(number)) for number in range(before)] == [reply(number) for number in range(before)]
    for number in range(before, before + 3):
        put(journal, number)
    assert [journal.get(key(number)) for number in range(before + 3)] == [reply(n) for n in range(before + 3)]
    assert journal.paid == paid(range(before + 3))
    journal.close()
    again = Journal(path)
    assert again.damaged == 0
    assert again.paid == paid(range(before + 3))
    again.close()
    assert found(path, 8) == list(range(before + 3))


def test_a_disk_that_cannot_be_synced_is_told_at_the_next_reply_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j")
    put(journal, 1)

    def fails(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    journal._sync()
    assert journal.get(key(1)) == reply(1)
    with pytest.raises(StoreError, match="Cannot write"):
        put(journal, 2)
    with pytest.raises(StoreError, match="Cannot write"):
        journal.close()
    assert found(tmp_path / "j", 3) == [1]
