"""Runs the real client against the stand-in: what it stores, what it sends again, and how it reports faults."""

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.huggingface.stand_in import File, StandInHub

# httpx2 deprecates the `data=` argument with which huggingface_hub 2.4 sends LFS files.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
NAME, DATASET = "org/steps", "dataset"
BINARY = bytes(range(256)) * 40


@pytest.fixture
def hub() -> Iterator[StandInHub]:
    with StandInHub(part_size=4096, page_size=2) as hub:
        HfApi(endpoint=hub.url).create_repo(NAME, repo_type=DATASET)
        yield hub


def commit(hub: StandInHub, files: dict[str, bytes | None], parent: str | None = None, token: str | None = None) -> str:
    operations = [
        CommitOperationDelete(path) if data is None else CommitOperationAdd(path, data) for path, data in files.items()
    ]
    api = HfApi(endpoint=hub.url, token=token)
    return api.create_commit(NAME, operations, commit_message="Steps", repo_type=DATASET, parent_commit=parent).oid


def test_commits_tags_and_branches_read_back_as_they_were_made(hub: StandInHub) -> None:
    api = HfApi(endpoint=hub.url)
    assert api.create_repo(NAME, repo_type=DATASET, exist_ok=True).repo_id == NAME
    first = commit(hub, {"README.md": b"# Steps", "data/a.parquet": BINARY, "data/b.jsonl": b"{}\n"})
    api.create_tag(NAME, tag="v1", repo_type=DATASET)
    api.create_tag(NAME, tag="gone", revision="v1", repo_type=DATASET)
    api.delete_tag(NAME, tag="gone", repo_type=DATASET)
    api.create_branch(NAME, branch="try/out", revision=first, repo_type=DATASET)
    second = commit(hub, {"data/": None, "new.txt": b"new"}, parent=first)

    info = api.dataset_info(NAME, revision="v1", files_metadata=True)
    assert info.sha == first
    found = {file.rfilename: file for file in info.siblings or []}
    lfs = found["data/a.parquet"].lfs
    assert lfs is not None
    assert (lfs.sha256, lfs.size) == (hashlib.sha256(BINARY).hexdigest(), len(BINARY))
    assert found["README.md"].blob_id == File(b"# Steps").blob_id
    assert found["README.md"].size == 7
    refs = api.list_repo_refs(NAME, repo_type=DATASET)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "try/out": first}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    listed = api.list_repo_commits(NAME, repo_type=DATASET)
    assert [made.commit_id for made in listed][:2] == [second, first]
    assert listed[-1].title == "initial commit"
    assert api.list_repo_files(NAME, repo_type=DATASET) == [".gitattributes", "README.md", "new.txt"]
    tree = api.list_repo_tree(NAME, recursive=True, revision="try/out", repo_type=DATASET)
    assert [entry.path for entry in tree] == [".gitattributes", "README.md", "data", "data/a.parquet", "data/b.jsonl"]
    assert [entry.path for entry in api.list_repo_tree(NAME, "data", revision="v1", repo_type=DATASET)] == [
        "data/a.parquet",
        "data/b.jsonl",
    ]
    paths = api.get_paths_info(NAME, ["data", "data/a.parquet", "absent"], revision=first, repo_type=DATASET)
    assert [entry.path for entry in paths] == ["data", "data/a.parquet"]


def test_a_file_in_parts_or_in_one_goes_to_lfs_once_and_is_known_afterwards(hub: StandInHub) -> None:
    api = HfApi(endpoint=hub.url)
    ahead = CommitOperationAdd("ahead.parquet", BINARY)
    api.preupload_lfs_files(NAME, [ahead], repo_type=DATASET)
    assert [len(put.body) for put in hub.asked("PUT", "/lfs/")] == [4096, 4096, 2048]
    commit(hub, {"one.parquet": b"PAR1", "copy.parquet": BINARY, "text.txt": b"text"})
    assert [put.body for put in hub.asked("PUT", "/lfs/")[3:]] == [b"PAR1"]
    hub.requests.clear()
    commit(hub, {"one.parquet": b"PAR1", "copy.parquet": BINARY, "text.txt": b"changed"})
    assert hub.asked("PUT", "/lfs/") == []
    assert [request.files for request in hub.asked("POST", "/commit/")] == [["text.txt"]]
    head = commit(hub, {"text.txt": b"changed"})
    assert len(hub.asked("POST", "/commit/")) == 1, "an unchanged commit is not sent"
    assert head == api.dataset_info(NAME).sha


def test_a_folder_and_a_file_handle_go_up_and_come_down_at_any_revision(hub: StandInHub, tmp_path: Path) -> None:
    api, folder = HfApi(endpoint=hub.url), tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a b.bin").write_bytes(BINARY)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    first = api.upload_folder(repo_id=NAME, folder_path=folder, repo_type=DATASET).oid
    api.create_tag(NAME, tag="v1", repo_type=DATASET)
    api.upload_file(path_or_fileobj=io.BytesIO(b"2"), path_in_repo="deep/a b.bin", repo_id=NAME, repo_type=DATASET)
    for revision, expected in (("v1", BINARY), (first, BINARY), ("main", b"2")):
        cache = tmp_path / f"cache-{revision}"
        root = api.snapshot_download(NAME, revision=revision, repo_type=DATASET, cache_dir=cache)
        assert (Path(root) / "deep" / "a b.bin").read_bytes() == expected
        assert sorted(os.listdir(root)) == [".gitattributes", "README.md", "deep"]
    one = api.hf_hub_download(NAME, "README.md", revision="v1", repo_type=DATASET, cache_dir=tmp_path / "one")
    assert Path(one).parent.name == first


def test_the_client_tells_what_is_missing_by_its_exceptions(hub: StandInHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.url)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("org/absent")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(NAME, revision="absent")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(NAME, tag="absent", repo_type=DATASET)
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(NAME, "absent", repo_type=DATASET, cache_dir=tmp_path)
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        commit(hub, {"absent": None})
    api.create_tag(NAME, tag="v1", repo_type=DATASET)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(NAME, tag="v1", repo_type=DATASET)
    assert caught.value.response.status_code == 409
    api.create_tag(NAME, tag="v1", repo_type=DATASET, exist_ok=True)


def test_a_commit_on_a_parent_that_is_no_longer_the_head_is_refused(hub: StandInHub) -> None:
    first = commit(hub, {"a": b"1"})
    commit(hub, {"a": b"2"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as caught:
        commit(hub, {"a": b"3"}, parent=first)
    assert caught.value.response.status_code == 412
    assert hub.files(NAME)["a"] == b"2"


def test_writes_and_private_repos_demand_the_token(tmp_path: Path) -> None:
    with StandInHub(token="hf_test", user="mei") as hub:
        owner, nobody, stranger = (HfApi(endpoint=hub.url, token=token) for token in ("hf_test", False, "hf_other"))
        assert owner.whoami()["name"] == "mei"
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            stranger.whoami()
        with pytest.raises(HfHubHTTPError) as caught:
            nobody.create_repo(NAME, repo_type=DATASET)
        assert caught.value.response.status_code == 401
        owner.create_repo(NAME, repo_type=DATASET, private=True)
        commit(hub, {"a": b"1"}, token="hf_test")
        assert owner.dataset_info(NAME).private
        with pytest.raises(RepositoryNotFoundError):
            nobody.dataset_info(NAME)
        with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header"):
            stranger.dataset_info(NAME)
        with pytest.raises(RepositoryNotFoundError):
            nobody.hf_hub_download(NAME, "a", repo_type=DATASET, cache_dir=tmp_path)
        owner.hf_hub_download(NAME, "a", repo_type=DATASET, cache_dir=tmp_path)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_client_asks_again_for_uploads_but_sends_a_commit_once(
    hub: StandInHub, waits: list[float], status: int
) -> None:
    fault = hub.fail(next=2, status=status, when=lambda method, path: method == "PUT", headers={"Retry-After": "0"})
    commit(hub, {"a.parquet": b"PAR1"})
    assert fault.left == 0
    assert waits == [1, 1]
    assert len(hub.asked("PUT", "/lfs/")) == 3
    hub.fail(status=status, when=lambda method, path: "/commit/" in path)
    with pytest.raises(HfHubHTTPError) as caught:
        commit(hub, {"a.parquet": b"PAR2"})
    assert caught.value.response.status_code == status
    hub.requests.clear()
    commit(hub, {"a.parquet": b"PAR2"})
    assert hub.asked("PUT", "/lfs/") == [], "the LFS object outlives the commit that failed"


@pytest.mark.parametrize("status", [401, 403, 409])
def test_a_refused_upload_is_not_asked_for_again(hub: StandInHub, waits: list[float], status: int) -> None:
    hub.fail(next=9, status=status, when=lambda method, path: method == "PUT", message="no")
    with pytest.raises(RuntimeError, match=r"Error while uploading 'a.parquet'") as caught:
        commit(hub, {"a.parquet": b"PAR1"})
    assert isinstance(caught.value.__cause__, HfHubHTTPError)
    assert caught.value.__cause__.response.status_code == status
    assert (waits, len(hub.asked("PUT", "/lfs/"))) == ([], 1)


def test_a_connection_that_drops_in_an_upload_is_tried_again(hub: StandInHub, waits: list[float]) -> None:
    hub.part_size = 10**9
    large = os.urandom(8 * 2**20)
    hub.drop(when=lambda method, path: method == "PUT")
    hub.drop(when=lambda method, path: method == "PUT", reset=True)
    hub.drop(when=lambda method, path: method == "PUT", during="response")
    commit(hub, {"large.bin": large})
    half, whole = len(large) // 2, len(large)
    assert [len(put.body) for put in hub.asked("PUT", "/lfs/")] == [half, half, whole, whole]
    assert waits == [1, 2, 4]
    assert hub.files(NAME)["large.bin"] == large


def test_a_commit_whose_answer_is_lost_has_happened(hub: StandInHub) -> None:
    before = commit(hub, {"a": b"1"})
    hub.drop(when=lambda method, path: "/commit/" in path, during="response")
    with pytest.raises(httpx2.RemoteProtocolError):
        commit(hub, {"a": b"2"}, parent=before)
    hub.fail(status=504, when=lambda method, path: "/commit/" in path, carried_out=True)
    with pytest.raises(HfHubHTTPError):
        commit(hub, {"a": b"3"})
    assert hub.files(NAME)["a"] == b"3"
    titles = [made.title for made in HfApi(endpoint=hub.url).list_repo_commits(NAME, repo_type=DATASET)]
    assert titles == ["Steps", "Steps", "Steps", "initial commit"]


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: StandInHub, tmp_path: Path, waits: list[float]) -> None:
    commit(hub, {"a.parquet": BINARY})
    api = HfApi(endpoint=hub.url)
    hub.drop(when=lambda method, path: method == "GET" and "/resolve/" in path, during="response")
    path = api.hf_hub_download(NAME, "a.parquet", repo_type=DATASET, cache_dir=tmp_path)
    assert Path(path).read_bytes() == BINARY
    assert (waits, len(hub.asked("GET", "/resolve/"))) == ([1], 2)
    answer = httpx2.get(f"{hub.url}/datasets/{NAME}/resolve/main/a.parquet", headers={"Range": "bytes=-5"})
    assert (answer.status_code, answer.content) == (206, BINARY[-5:])


def test_a_hub_that_is_down_is_told_from_one_that_lacks_the_file(hub: StandInHub, tmp_path: Path) -> None:
    hub.fail(next=99, status=503, when=lambda method, path: "/resolve/" in path)
    with pytest.raises(LocalEntryNotFoundError) as caught:
        HfApi(endpoint=hub.url).hf_hub_download(NAME, ".gitattributes", repo_type=DATASET, cache_dir=tmp_path)
    assert isinstance(caught.value.__cause__, HfHubHTTPError)
    for reset, error in ((False, httpx2.RemoteProtocolError), (True, httpx2.ReadError)):
        hub.drop(reset=reset)
        with pytest.raises(error):
            HfApi(endpoint=hub.url).dataset_info(NAME)
    with pytest.raises(httpx2.ConnectError):
        HfApi(endpoint="http://127.0.0.1:9").dataset_info(NAME)


def test_load_dataset_reads_a_config_of_a_private_repo_in_a_new_process(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: steps\n  data_files: data/steps-*.parquet\n- config_name: other\n  data_files: o/*\n---\n"
    table = io.BytesIO()
    pq.write_table(pa.table({"step": ["a", "b"], "value": [0.5, 1.0]}), table)
    script = (
        "import datasets, json; data = datasets.load_dataset('org/steps', 'steps', split='train', revision='v1')\n"
        "print(json.dumps(data.to_list()))"
    )
    with StandInHub(token="hf_test") as hub:
        api = HfApi(endpoint=hub.url, token="hf_test")
        api.create_repo(NAME, repo_type=DATASET, private=True)
        commit(hub, {"README.md": card.encode(), "data/steps-0.parquet": table.getvalue()}, token="hf_test")
        api.create_tag(NAME, tag="v1", repo_type=DATASET)
        commit(hub, {"data/steps-0.parquet": None}, token="hf_test")
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=hub.environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"step": "a", "value": 0.5}, {"step": "b", "value": 1.0}]
