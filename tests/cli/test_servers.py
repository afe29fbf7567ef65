"""`label --backend openai` and `jobs resume` against a real HTTP server."""

from openr_data.jobs import Job
from openr_data.store import Store
from tests.cli.conftest import Run
from tests.inference.serving.completions_server import serving

SMALL = ("arithmetic", "--limit", "6", "-o", "screening=4", "-o", "searches=2")


def test_a_job_on_a_server_runs_and_is_found_done(run: Run) -> None:
    with serving(model="arithmetic") as server:
        command = ("label", *SMALL, "--backend", "openai", "--base-url", server.url, "--max-requests", "3")
        answer = run(*command)
        assert answer.code == 0, answer.err
        assert server.most_under_way <= 3
        asked = len(server.requests)
        assert asked >= 6
        assert "is done already" in run(*command).err
        assert len(server.requests) == asked
    (job,) = Job.all(Store.open("openr-store"))
    assert job.described()["run"]["base_url"] == [server.url]


def test_a_job_goes_on_with_the_server_it_began_with_or_with_another(run: Run) -> None:
    with serving(model="arithmetic") as server:
        server.faults = ["400"]
        answer = run("label", *SMALL, "--backend", "openai", "--base-url", server.url)
        assert answer.code == 3
        assert "refuses a request (400): not this" in answer.err
        (job,) = Job.all(Store.open("openr-store"))
        asked = len(server.requests)
        server.faults = ["400"]
        assert run("jobs", "resume", job.job_id).code == 3
    assert run("jobs", "resume", job.job_id).code == 2
    with serving(model="arithmetic") as other:
        answer = run("jobs", "resume", job.job_id, "--base-url", other.url)
        assert answer.code == 0, answer.err
        assert 0 < len(other.requests) < asked
