"""A job from Python as the command starts it; a job of an older store is found done."""

import asyncio
import shutil
from pathlib import Path

import openr_data
from openr_data.jobs import Job
from openr_data.jobs.plan import plan
from openr_data.jobs.start import JobRun, RunOptions, label_layers, open_job, run_plan, run_plan_async
from openr_data.store import Store

OLD = Path(__file__).parents[1] / "store" / "stores" / "version3"
OPTIONS = {"screening": 4, "searches": 1}


def test_one_call_labels_and_the_same_call_finds_it_done(tmp_path: Path) -> None:
    first = openr_data.label("arithmetic", store=tmp_path / "s", method="omegaprm", limit=1, options=OPTIONS)
    assert not first.was_done
    assert first.totals["done"] == 1
    second = openr_data.label("arithmetic", store=tmp_path / "s", method="omegaprm", limit=1, options=OPTIONS)
    assert second.was_done
    assert second.job == first.job
    layers, _ = label_layers([{"method": "omegaprm", "limit": 1}])
    assert plan(None, layers, OPTIONS).config.job_id() == first.job.job_id, "the job that the command starts"


def test_a_job_is_awaited_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> JobRun:
        return await openr_data.label_async(
            "arithmetic", store=tmp_path / "s", method="omegaprm", limit=1, options=OPTIONS
        )

    assert asyncio.run(notebook()).totals["done"] == 1


def test_layers_stand_over_the_recipe_and_under_nothing() -> None:
    layers, begun = label_layers([{"source": "", "limit": 3}])
    assert begun is not None
    assert begun.name == "arithmetic"
    assert layers == [{"method": "adaptive"}, begun.layer, {"limit": 3}]
    assert label_layers([{"source": "math"}]) == ([{"method": "adaptive"}, {"source": "math"}], None)


def test_a_search_of_an_older_store_is_found_done_and_speaks_of_a_search(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "s")
    layer = {"source": "arithmetic", "split": "test", "into": "arithmetic-search", "policy": "arithmetic", "limit": 2}
    made = plan(Store.at(tmp_path / "s"), [{**layer, "method": "best-of-n"}], {"n": "4"})
    ran = run_plan(tmp_path / "s", made)
    assert (ran.was_done, ran.job.job_id, ran.totals["labelled"]) == (True, "6666e723fc35", 2)
    assert asyncio.run(run_plan_async(tmp_path / "s", made)) == ran
    assert ran.job.kind() == "search"
    assert ran.job.config() == made.config


def test_an_older_search_that_was_not_finished_resumes_and_asks_nothing_twice(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    job = Job.find(store, "6666e723fc35")
    (job.path / "result.json").unlink()
    before = store.view("arithmetic-search").counts()["rollouts"]
    layer = {"source": "arithmetic", "split": "test", "into": "arithmetic-search", "policy": "arithmetic", "limit": 2}
    made = plan(store, [{**layer, "method": "best-of-n"}], {"n": "4"})
    with open_job(tmp_path / "s", made, RunOptions()) as opened:
        status = opened.runner().run()
    assert (status.done, status.resumed, status.succeeded, status.journal_hits) == (2, 2, 2, 0)
    assert store.view("arithmetic-search").counts()["rollouts"] == before
    assert job.state() == "done"
