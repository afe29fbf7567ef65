"""The questions that a reward model says it has seen, in a folder and in the cache of the Hub."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from openr_data.errors import InputError
from openr_data.evaluation.seen_questions import seen_questions
from openr_data.overlap import SEEN_FILE, fingerprint

LIST = f"# a remark\n{fingerprint('One?')}\n{fingerprint('Two?')}\n"
COMMIT = "a" * 40


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository `org/prm` in a cache of the Hub, which is not to be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--org--prm"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def test_a_folder_says_which_questions_its_model_has_seen(tmp_path: Path) -> None:
    assert seen_questions(str(tmp_path)) is None
    (tmp_path / SEEN_FILE).write_text(LIST)
    for is_local in (True, False):
        found = seen_questions(str(tmp_path), is_local=is_local)
        assert found == {fingerprint("One?"), fingerprint("two")}


def test_the_shipped_model_says_it_too() -> None:
    found = seen_questions("arithmetic-reward")
    assert found is not None
    assert len(found) == 894


def test_a_list_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / SEEN_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="seen_questions.txt cannot be read"):
        seen_questions(str(tmp_path))


def test_a_repository_in_the_cache_says_it_where_it_has_the_list(cached: Path) -> None:
    (cached / "config.json").write_text("{}")
    assert seen_questions("org/prm") is None
    (cached / SEEN_FILE).write_text(LIST)
    found = seen_questions("org/prm")
    assert found is not None
    assert len(found) == 2
    # What a server calls its model may be the name of another one's repository.
    assert seen_questions("org/prm", is_local=False) is None


def test_of_a_repository_that_is_not_in_the_cache_nothing_is_asked(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    assert seen_questions("org/prm") is None
    assert seen_questions("no such name!") is None
