"""Replies by the content of their request, across processes."""

from dataclasses import replace
from pathlib import Path

import pytest

from openr_data.engine.journal import Journal, request_key
from openr_data.types import Completion, Prefix, Sampling

PREFIX, SAMPLING = Prefix("q", ("a", "b")), Sampling(seed=3, stop=("x",))
REPLY = (Completion("text ✓", 4, "stop", -1.25, 7), Completion("", 1, "length"))


def test_a_reply_is_there_in_the_next_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.put("key", REPLY)
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.get("key") == REPLY
    assert again.get("other") is None
    assert len(again) == 1


def test_a_torn_reply_is_forgotten_not_believed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.put("one", REPLY)
    journal.put("two", REPLY)
    journal.close()
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-9])
    again = Journal(tmp_path / "j")
    assert again.get("one") == REPLY
    assert again.get("two") is None
    assert again.damaged == 1


@pytest.mark.parametrize(
    "other",
    [
        ("p2", PREFIX, 8, SAMPLING),
        ("p", Prefix("q", ("a",)), 8, SAMPLING),
        ("p", Prefix("q", ("a", "b", "x")), 8, replace(SAMPLING, stop=())),
        ("p", PREFIX, 9, SAMPLING),
        ("p", PREFIX, 8, replace(SAMPLING, seed=4)),
        ("p", PREFIX, 8, replace(SAMPLING, temperature=0.5)),
        ("p", PREFIX, 8, replace(SAMPLING, max_tokens=5)),
    ],
)
def test_everything_that_shapes_a_sample_is_in_the_key(other: tuple[str, Prefix, int, Sampling]) -> None:
    assert request_key("p", PREFIX, 8, SAMPLING) == request_key("p", PREFIX, 8, replace(SAMPLING))
    assert request_key(*other) != request_key("p", PREFIX, 8, SAMPLING)
