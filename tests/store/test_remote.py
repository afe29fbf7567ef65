"""A store in an object store: a real client against a local server that speaks S3."""

import json
import multiprocessing
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openr_data.errors import InputError, NotAStore, StoreError
from openr_data.store import Store, maintenance, query, tables
from openr_data.store.remote import RemotePath, SnapshotFiles, place
from openr_data.store.rollback import rollback
from openr_data.store.spool import Spool
from openr_data.store.verify import verify
from tests.store.test_dataset import labels, question, solution

boto3 = pytest.importorskip("boto3")
pytest.importorskip("moto")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = [sys.executable, str(ROOT / "tests" / "s3_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(20)


@pytest.fixture
def uri(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URI of a folder in a new bucket, with the variables that a user would set."""
    settings = {
        "AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "OPENR_JOBS": str(tmp_path / "jobs"),
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=server, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/my store"


def test_a_dataset_lives_in_an_object_store(uri: str) -> None:
    dataset = Store.open(uri, create=True).dataset("d", create=True)
    dataset.add_questions([question("q1"), question("q2")], "j/questions", 1)
    dataset.append("solutions", [solution("s1", "q1", ["a", "b"])], "j/solutions", 1)
    dataset.append("labels", [labels("l1", "s1", "q1", [1, -1])], "j/labels", 1)
    first = dataset.snapshot("label", "one", "j")
    assert dataset.tag("v1").versions == first.versions
    dataset.append("labels", [{**labels("l1", "s1", "q1", [1, 1]), "revision": 1}], "k/labels", 1)
    second = dataset.snapshot("regrade", "two")
    assert second.changes["~steps"] == 1
    again = Store.open(uri)
    assert again.names() == ["d"]
    assert again.view("d@v1").sql("select label from records").to_pylist() == [{"label": [1, -1]}]
    assert again.view("d").sql("select step, label from steps order by 1").to_pylist() == [
        {"step": "a", "label": 1},
        {"step": "b", "label": 1},
    ]
    assert again.view("d").polars("questions").height == 2
    assert maintenance.compact(dataset)
    assert query.digest(dataset.view().connect()) == second.digest
    assert rollback(dataset, "v1").changes["~steps"] == 1
    assert dataset.view().sql("select first_error from labels").to_pylist() == [{"first_error": 1}]
    assert dataset.size() > 0
    gone = maintenance.gc(dataset, keep_days=0, retention_hours=0, alone=True)
    assert gone.snapshots == ["2"]
    assert {problem.what for problem in verify(dataset)} <= {"ids that are not the hash of what they name"}


def test_sql_reads_the_files_of_the_snapshot_and_nothing_else(uri: str) -> None:
    dataset = Store.open(uri, create=True).dataset("d", create=True)
    dataset.add_questions([question("q1")], "j/questions", 1)
    view = dataset.view()
    (file,) = view.files("questions")
    dataset.add_questions([question("q2")], "j/questions", 2)
    other = next(name for name in dataset.view().files("questions") if name != file)
    for wanted in (other, "/etc/passwd", file.rpartition("/")[0] + "/*.parquet"):
        with pytest.raises((InputError, StoreError)):
            view.sql(f"select * from read_parquet('{wanted}')")
    with pytest.raises(PermissionError, match="read-only"):
        SnapshotFiles([file]).open(file, "wb")


def test_a_file_is_read_on_from_where_it_was_left_and_by_each_thread_for_itself(uri: str) -> None:
    there = place(uri) / "letters"
    assert isinstance(there, RemotePath)
    there.write_bytes(b"0123456789")
    file = SnapshotFiles([str(there)]).open(str(there))
    assert [file.read(3), file.read(3), file.tell()] == [b"012", b"345", 6]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(file.read, 2).result() == b"01"
    assert file.read() == b"6789"
    assert file.seek(-2, 2) == 8
    assert file.read(9) == b"89"
    file.close()


def test_a_spool_commits_to_an_object_store_and_a_replay_doubles_nothing(uri: str, tmp_path: Path) -> None:
    dataset = Store.open(uri, create=True).dataset("d", create=True)
    rows = {"solutions": [solution("s", "q", ["a"])], "labels": [labels("l", "s", "q", [1])]}
    dead = Spool(tmp_path / "spool", dataset, "j/w0")
    dead.add("q", {}, rows)
    Spool(tmp_path / "spool", dataset, "j/w0").close()
    again = Spool(tmp_path / "spool", dataset, "j/w0")
    assert set(again.finished) == {"q"}
    again.close()
    assert dataset.view().counts()["labels"] == 1


def _append(uri: str, worker: int, count: int) -> None:
    dataset = Store.open(uri).dataset("d")
    for seq in range(1, count + 1):
        dataset.append("solutions", [solution(f"{worker}-{seq}", "q", ["a"])], f"j/w{worker}", seq)
        dataset.add_questions([question("q"), question(f"{worker}")], f"j/w{worker}/questions", seq)


@pytest.mark.slow
def test_four_processes_lose_and_double_nothing(uri: str) -> None:
    dataset = Store.open(uri, create=True).dataset("d", create=True)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(uri, worker, 5)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
        assert worker.exitcode == 0
    rows = dataset.view().sql("select solution_id from solutions").column(0).to_pylist()
    assert Counter(rows) == Counter(f"{worker}-{seq}" for worker in range(4) for seq in range(1, 6))
    asked = dataset.view().sql("select question_id from questions").column(0).to_pylist()
    assert sorted(asked) == ["0", "1", "2", "3", "q"]


@pytest.mark.slow
def test_the_commands_take_a_uri(uri: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"problem": "1+1?", "answer": "2"}) + "\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "openr_data.cli", "--store", uri, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, cwd=tmp_path)

    assert run("import", "mine", "q.jsonl").stdout == "mine@1\n"
    labelled = run("label", "--limit", "2", "-o", "searches=2", "-o", "screening=8")
    assert labelled.returncode == 0, labelled.stderr
    assert [item.name for item in (tmp_path / "jobs").iterdir()]
    assert run("sql", "arithmetic", "select count(*) as n from questions", "--csv").stdout == "n\n2\n"
    for command in ("verify", "compact", "verify"):
        done = run(command, "arithmetic")
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(run("ls", "-q").stdout.split()) == ["arithmetic", "mine"]
    assert run("doctor").returncode == 0


def test_a_bucket_that_is_not_there_is_one_sentence(uri: str) -> None:
    with pytest.raises(NotAStore, match="There is no store in s3://no-such-bucket-here/x"):
        Store.open("s3://no-such-bucket-here/x")
    with pytest.raises(StoreError, match="s3://no-such-bucket-here/x"):
        Store.open("s3://no-such-bucket-here/x", create=True).dataset("d", create=True)


def test_a_uri_is_a_place_and_a_path_is_one(tmp_path: Path) -> None:
    assert place(tmp_path) == tmp_path
    there = place("s3://bucket/a b/")
    assert isinstance(there, RemotePath)
    assert str(there / "c") == "s3://bucket/a b/c"
    assert (there.name, str(there.parent)) == ("a b", "s3://bucket")
    assert tables.newest is not None
