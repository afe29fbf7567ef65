"""Publishes to a Hub that answers like the real one, including refusals, failures and closed connections."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import enable_progress_bars

from openr_data.exchange.formats.format import NoOptions
from openr_data.exchange.formats.questions import QuestionsFormat
from openr_data.exchange.importer import ImportConfig, import_rows
from openr_data.store import Dataset, Store, refs
from tests.cli.conftest import Answer, Run
from tests.huggingface.conftest import TOKEN
from tests.huggingface.stand_in import StandInHub, When

# httpx2 deprecates the `data=` argument with which huggingface_hub 2.4 sends LFS files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
REPO = "org/d"


def when(method: str, pattern: str) -> When:
    return lambda asked, path: asked == method and re.search(pattern, path) is not None


STAGES: Mapping[str, When] = {
    "create_repo": when("POST", "/repos/create"),
    "preupload": when("POST", "/preupload/"),
    "lfs batch": when("POST", "/objects/batch"),
    "lfs put": when("PUT", "/lfs/"),
    "commit": when("POST", "/commit/"),
    "tag": when("POST", "/tag/"),
}


def writes(hub: StandInHub) -> list[str]:
    """List the requests that change something."""
    return [f"{each.method} {each.path}" for each in hub.requests if each.method not in ("GET", "HEAD")]


def data_commits(hub: StandInHub) -> int:
    """Count the commits, without the one that creates a repository."""
    return len(hub.repos[REPO].commits) - 1 if REPO in hub.repos else 0


def published(run: Run, *arguments: str) -> Answer:
    return run("publish", "d", REPO, *arguments)


def questions(dataset: Dataset, *texts: str, split: str = "train") -> None:
    """Add questions and take a snapshot, as a new job each time."""
    rows = [(text, {"problem": text, "answer": "1", "split": split}) for text in texts]
    import_rows(dataset, ImportConfig("questions", texts[0]), QuestionsFormat(NoOptions(), "q", ""), rows, "q.jsonl")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with a dataset `d` of a few questions, which is quick to publish."""
    folder = tmp_path_factory.mktemp("few") / "openr-store"
    dataset = Store.open(folder, create=True).dataset("d", create=True)
    questions(dataset, "1?", "2?", "3?")
    questions(dataset, "4?", split="test")
    return folder


@pytest.fixture
def small(few: Path, tmp_path: Path) -> Dataset:
    """Copy the dataset of `few` to ./openr-store for a test that writes."""
    shutil.copytree(few, tmp_path / "openr-store")
    return Store.open(tmp_path / "openr-store").dataset("d")


def is_one_sentence(answer: Answer, *words: str) -> None:
    """Check that a failure gives code 1, nothing on stdout, one line that names the thing, and no traceback."""
    lines = [line for line in answer.err.splitlines() if not line.startswith("  ")]
    assert answer.code == 1
    assert answer.out == ""
    assert len(lines) == 1, answer.err
    assert "Unexpected" not in lines[0]
    assert "Traceback" not in answer.err
    for word in words:
        assert word in lines[0]


def test_a_snapshot_is_published_with_its_commit_its_tag_and_its_card(
    run: Run, dataset: Dataset, hub: StandInHub
) -> None:
    answer = published(run, "--license", "mit", "--json")
    assert answer.code == 0
    facts = json.loads(answer.out)
    head = hub.repos[REPO].branches["main"]
    assert facts == {
        "url": f"{hub.url}/datasets/{REPO}",
        "revision": head,
        "tag": "snapshot-1",
        "snapshot": "d@1",
    }
    assert hub.repos[REPO].tags == {"snapshot-1": head}
    commit = hub.repos[REPO].commits[head]
    assert commit.title == "d snapshot 1"
    assert dataset.snapshots()[0].digest in commit.message
    assert data_commits(hub) == 1
    files = hub.files(REPO)
    assert {"README.md", "openr_data.json", ".gitattributes"} <= set(files)
    assert {name.split("/")[1] for name in files if name.startswith("data/")} == {
        "records", "steps", "questions", "nodes", "rollouts", "jobs"
    }  # fmt: skip
    assert b"license: mit" in files["README.md"]
    assert json.loads(files["openr_data.json"])["digest"] == dataset.snapshots()[0].digest
    assert f"openr-data pull {REPO}@snapshot-1" in answer.err


def test_a_tag_is_published_as_the_tag_of_the_hub(run: Run, small: Dataset, hub: StandInHub) -> None:
    small.tag("v1.0", "1")
    answer = run("push", "d@v1.0", REPO)
    assert answer.code == 0, answer.err
    assert set(hub.repos[REPO].tags) == {"v1.0"}
    assert json.loads(hub.files(REPO)["openr_data.json"])["tag"] == "v1.0"
    assert "tag `v1.0`" in hub.files(REPO)["README.md"].decode()
    assert len([name for name in hub.files(REPO) if "questions/" in name]) == 1


def test_where_it_went_is_noted_in_the_store_once(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    published(run)
    notes = [row for row in refs.rows(small.path / "refs") if row.kind == "published"]
    assert [(row.message, row.hub_revision) for row in notes] == [(REPO, hub.repos[REPO].branches["main"])]
    assert [item.name for item in small.snapshots()] == ["1", "2"]


def test_publishing_again_sends_nothing(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    first = published(run, "--json")
    hub.requests.clear()
    again = published(run, "--json")
    assert again.code == 0
    assert again.out == first.out
    assert writes(hub) == []
    assert data_commits(hub) == 1


def test_a_small_change_sends_the_files_that_changed(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    published(run)
    before = hub.files(REPO)
    hub.requests.clear()
    questions(dataset, "A new one?", split="test")
    assert published(run).code == 0
    after = hub.files(REPO)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {
        "README.md",
        "openr_data.json",
        "data/questions/test-00000-of-00001.parquet",
        "data/jobs/train-00000-of-00001.parquet",
    }
    (sent,) = hub.asked("POST", "/commit/")
    assert set(sent.files) == changed
    assert len(hub.asked("PUT", "/lfs/")) == 2
    assert data_commits(hub) == 2
    assert set(hub.repos[REPO].tags) == {"snapshot-1", "snapshot-2"}
    assert hub.files(REPO, "snapshot-1") == before


def test_a_data_file_of_an_earlier_snapshot_goes_and_other_files_stay(
    run: Run, small: Dataset, hub: StandInHub
) -> None:
    small.tag("first", "1")
    published(run)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    others = [CommitOperationAdd(name, b"x") for name in ("notes.txt", "data/odd.bin", "LICENSE")]
    api.create_commit(REPO, others, commit_message="notes", repo_type="dataset")
    assert "data/questions/test-00000-of-00001.parquet" in hub.files(REPO)
    answer = run("publish", "d@first", REPO)
    assert answer.code == 0, answer.err
    files = hub.files(REPO)
    assert "data/questions/test-00000-of-00001.parquet" not in files
    assert "data/odd.bin" not in files
    assert files["notes.txt"] == files["LICENSE"] == b"x"
    assert "1 files gone" in answer.err or "2 files gone" in answer.err


def test_rollouts_can_be_left_out(run: Run, dataset: Dataset, hub: StandInHub) -> None:
    assert published(run, "--no-rollouts").code == 0
    assert not any("rollouts" in name for name in hub.files(REPO))


def test_a_private_repository_is_private(run: Run, small: Dataset, hub: StandInHub) -> None:
    assert published(run, "--private").code == 0
    assert hub.repos[REPO].private
    with StandInHub() as other:
        assert other.repos == {}


def test_a_repository_is_public_unless_it_is_said(run: Run, small: Dataset, hub: StandInHub) -> None:
    assert published(run).code == 0
    assert not hub.repos[REPO].private


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(run: Run, small: Dataset, hub: StandInHub) -> None:
    answer = published(run, "--dry-run", "--json")
    assert answer.code == 0
    rows = {row["file"]: row for row in json.loads(answer.out)}
    assert {row["state"] for row in rows.values()} == {"new"}
    assert {"README.md", "openr_data.json", "data/questions/test-00000-of-00001.parquet"} <= set(rows)
    assert "Nothing was sent" in answer.err
    assert writes(hub) == []
    assert hub.repos == {}
    published(run)
    sizes = {name: len(data) for name, data in hub.files(REPO).items()}
    assert {name: row["bytes"] for name, row in rows.items()} == {name: sizes[name] for name in rows}
    hub.requests.clear()
    questions(small, "5?")
    states = {row["file"]: row["state"] for row in json.loads(published(run, "--dry-run", "--json").out)}
    assert states["data/questions/test-00000-of-00001.parquet"] == "unchanged"
    assert states["data/questions/train-00000-of-00001.parquet"] == "changed"
    assert writes(hub) == []


def test_a_dry_run_of_a_small_repository_that_is_not_there_needs_no_token(
    run: Run, small: Dataset, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert published(run, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["d", "d"], "'d' is not a valid name on the Hub: write ORG/NAME"),
        (["d", "a/b/c"], "is not a valid name on the Hub"),
        (["d", "org/"], "is not a valid name on the Hub"),
        (["d@v9", REPO], 'No snapshot "v9" in d'),
        (["e", REPO], "No dataset 'e'"),
        (["d@", REPO], "is not a dataset name"),
    ],
)
def test_a_mistake_is_told_before_the_hub_is_asked(
    run: Run, small: Dataset, hub: StandInHub, arguments: list[str], words: str
) -> None:
    answer = run("publish", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert hub.requests == []


@pytest.mark.parametrize("repo", ["org/a b", "org/-x", "org/x..y"])
def test_a_name_that_the_hub_does_not_take_is_a_mistake_of_usage(
    run: Run, small: Dataset, hub: StandInHub, repo: str
) -> None:
    answer = run("publish", "d", repo)
    assert answer.code == 2
    assert "same command again" not in answer.err


REFUSALS = [(stage, status) for stage in STAGES for status in (401, 403, 409, 412, 429, 500, 503)]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "status"), [refusal for refusal in REFUSALS if refusal != ("create_repo", 409)])
def test_a_refusal_at_any_stage_is_one_sentence_and_the_same_command_finishes(
    run: Run, small: Dataset, hub: StandInHub, stage: str, status: int
) -> None:
    fault = hub.fail(next=10_000, status=status, when=STAGES[stage], headers={"Retry-After": "0"})
    answer = published(run)
    assert fault.left < 10_000
    is_one_sentence(answer, REPO)
    assert f"({status})" in answer.err
    assert "run the same command again" in answer.err or status in (401, 403)
    if stage == "tag":
        assert data_commits(hub) == 1
    else:
        assert data_commits(hub) == 0
        assert REPO not in hub.repos or set(hub.files(REPO)) == {".gitattributes"}
    hub.faults.clear()
    hub.requests.clear()
    again = published(run)
    assert again.code == 0, again.err
    assert data_commits(hub) == 1
    assert set(hub.repos[REPO].tags) == {"snapshot-2"}
    if stage in ("commit", "tag"):
        assert hub.asked("PUT", "/lfs/") == []


def test_a_conflict_while_the_repository_is_made_is_one_sentence(run: Run, small: Dataset, hub: StandInHub) -> None:
    hub.fail(status=409, when=STAGES["create_repo"])
    is_one_sentence(published(run), REPO, "run the same command again")


@pytest.mark.parametrize("status", [409, 412, 500, 503])
def test_a_commit_that_is_refused_once_is_tried_again_by_itself(
    run: Run, small: Dataset, hub: StandInHub, status: int
) -> None:
    fault = hub.fail(status=status, when=STAGES["commit"])
    answer = published(run)
    assert answer.code == 0, answer.err
    assert fault.left == 0
    assert data_commits(hub) == 1


@pytest.mark.parametrize("during", ["request", "response"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stage", ["lfs put", "commit", "lfs batch", "preupload", "create_repo", "tag"])
def test_a_connection_that_drops_is_made_good(
    run: Run, small: Dataset, hub: StandInHub, stage: str, during: Any, reset: bool
) -> None:
    hub.drop(when=STAGES[stage], during=during, reset=reset)
    answer = published(run)
    if answer.code:
        # If the client does not retry by itself, running the same command again does.
        is_one_sentence(answer, REPO, "run the same command again")
        answer = published(run)
    assert answer.code == 0, answer.err
    assert data_commits(hub) == 1
    assert set(hub.repos[REPO].tags) == {"snapshot-2"}


def test_a_commit_whose_answer_was_lost_is_not_made_twice(run: Run, small: Dataset, hub: StandInHub) -> None:
    hub.drop(when=STAGES["commit"], during="response")
    answer = published(run, "--json")
    assert answer.code == 0, answer.err
    assert len(hub.asked("POST", "/commit/")) == 1
    assert json.loads(answer.out)["revision"] == hub.repos[REPO].branches["main"]
    questions(small, "more?")
    hub.fail(status=504, when=STAGES["commit"], carried_out=True)
    assert published(run).code == 0
    assert data_commits(hub) == 2


def test_an_upload_that_always_drops_is_told_and_resumed_where_it_was(
    run: Run, dataset: Dataset, hub: StandInHub
) -> None:
    done: list[str] = []

    def third(method: str, path: str) -> bool:
        if method != "PUT":
            return False
        if path not in done and len(done) < 2:
            done.append(path)
        return path not in done

    fault = hub.drop(next=10_000, when=third)
    is_one_sentence(published(run), REPO, "run the same command again")
    assert data_commits(hub) == 0
    uploaded = set(hub.repos[REPO].lfs)
    assert len(uploaded) >= 1
    fault.left = 0
    hub.requests.clear()
    assert published(run).code == 0
    sent = {item.path.rpartition("/")[2] for item in hub.asked("PUT", "/lfs/")}
    assert not sent & uploaded
    assert data_commits(hub) == 1


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    run: Run, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    is_one_sentence(published(run), REPO, "run the same command again")


def test_a_wrong_token_is_told_with_the_way_to_a_right_one(
    run: Run, small: Dataset, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    is_one_sentence(published(run), REPO, "(401)", "HF_TOKEN", "hf auth login")
    monkeypatch.delenv("HF_TOKEN")
    is_one_sentence(published(run), REPO, "(401)", "HF_TOKEN")
    assert hub.repos == {}


def test_a_commit_of_somebody_else_in_between_is_built_upon(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    questions(small, "5?")
    struck: list[str] = []

    def meddle(method: str, path: str) -> bool:
        if STAGES["commit"](method, path) and not struck:
            struck.append(path)
            repo = hub.repos[REPO]
            files = dict(repo.resolve("main").files)
            files["notes.txt"] = files[".gitattributes"]
            repo.grow("main", files, "notes of somebody else")
        return False

    hub.fail(when=meddle)
    assert published(run).code == 0
    assert struck
    assert "notes.txt" in hub.files(REPO)
    assert data_commits(hub) == 3


def test_a_data_file_that_came_in_between_does_not_stay_beside_ours(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    questions(small, "5?")
    stray = "data/questions/train-00009-of-00010.parquet"
    struck: list[str] = []

    def meddle(method: str, path: str) -> bool:
        if STAGES["commit"](method, path) and not struck:
            struck.append(path)
            repo = hub.repos[REPO]
            files = dict(repo.resolve("main").files)
            files[stray] = files[".gitattributes"]
            repo.grow("main", files, "a file that load_dataset would take for ours")
        return False

    hub.fail(when=meddle)
    assert published(run).code == 0
    assert struck
    assert stray not in hub.files(REPO)


def test_a_tag_that_means_something_else_is_never_moved(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    head = hub.repos[REPO].branches["main"]
    other = Store.open("openr-store").dataset("other", create=True)
    questions(other, "x?")
    questions(other, "y?")
    answer = run("publish", "other", REPO)
    is_one_sentence(answer, "snapshot-2", "a tag never moves")
    assert hub.repos[REPO].tags == {"snapshot-2": head}


def test_a_tag_that_is_taken_is_found_before_anything_is_sent(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    before = hub.files(REPO)
    hub.requests.clear()
    other = Store.open("openr-store").dataset("other", create=True)
    questions(other, "x?")
    questions(other, "y?")
    assert run("publish", "other", REPO).code == 1
    assert hub.files(REPO) == before
    assert writes(hub) == []


def test_publishing_again_after_somebody_added_a_file_is_done(run: Run, small: Dataset, hub: StandInHub) -> None:
    published(run)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    notes = [CommitOperationAdd("notes.txt", b"x")]
    api.create_commit(REPO, notes, commit_message="notes", repo_type="dataset")
    answer = published(run)
    assert answer.code == 0, answer.err


def test_publishing_an_older_snapshot_again_is_done(run: Run, small: Dataset, hub: StandInHub) -> None:
    run("publish", "d@1", REPO)
    run("publish", "d@2", REPO)
    answer = run("publish", "d@1", REPO)
    assert answer.code == 0, answer.err


def test_a_pipe_has_no_bars(run: Run, small: Dataset, hub: StandInHub) -> None:
    enable_progress_bars()
    assert "%|" not in published(run).err


def test_an_empty_dataset_is_refused_in_one_sentence(run: Run, hub: StandInHub, tmp_path: Path) -> None:
    Store.open(tmp_path / "openr-store", create=True).dataset("d", create=True)
    answer = published(run)
    assert "Unexpected" not in answer.err


LOAD = """
import json, sys
import datasets
found = {}
for config in ("records", "steps", "questions", "nodes"):
    for split, data in datasets.load_dataset("org/d", config).items():
        found[f"{config}/{split}"] = len(data)
found["tag"] = len(datasets.load_dataset("org/d", "questions", split="dev_set", revision="snapshot-1"))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_load_dataset_reads_what_was_published_in_a_fresh_process(
    run: Run, dataset: Dataset, hub: StandInHub, tmp_path: Path
) -> None:
    assert published(run, "--private").code == 0
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=hub.environment(tmp_path / "home"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    counts = dataset.view().counts()
    assert document.pop("tag") == 2
    for config, count in (("questions", 6), ("nodes", counts["nodes"]), ("records", counts["labels"])):
        assert sum(n for name, n in document.items() if name.startswith(f"{config}/")) == count
    assert sum(n for name, n in document.items() if name.startswith("steps/")) == counts["steps"]
    assert len([name for name in document if name.startswith("questions/")]) == 3
