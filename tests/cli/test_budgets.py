"""Budgets, dry runs with a pilot, prices and reuse, as a user types them; a real HTTP server answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openr_data.jobs import Job
from openr_data.store import Store
from tests.cli.conftest import Run
from tests.inference.serving.completions_server import CompletionsServer, serving

PRICE = """
[[price]]
model = "arithmetic"
host = "127.0.0.1"
prompt = 1.0
completion = 10.0
currency = "USD"
as_of = 2026-11-05
"""


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with serving(model="arithmetic") as made:
        yield made


@pytest.fixture
def command(server: CompletionsServer) -> tuple[str, ...]:
    return (
        "label",
        "arithmetic",
        "--limit",
        "20",
        "--method",
        "omegaprm",
        "-o",
        "screening=4",
        "--backend",
        "openai",
        "--base-url",
        server.url,
    )


def only_job() -> Job:
    (job,) = Job.all(Store.open("openr-store"))
    return job


def test_a_limit_stops_the_job_says_so_and_the_next_run_goes_on(
    run: Run, command: tuple[str, ...], server: CompletionsServer
) -> None:
    stopped = run(*command, "--live", "1", "--max-tokens", "200")
    assert stopped.code == 0, stopped.err
    assert "Stopped: " in stopped.err
    assert "tokens are paid for (--max-tokens 200)" in stopped.err
    assert f"jobs resume {only_job().job_id}" in stopped.err
    asked = len(server.requests)
    assert 0 < asked < 20
    status = run("jobs", "status", only_job().job_id)
    assert "stopped" in status.out
    assert "Stopped: " in status.err
    assert "(--max-tokens 200). Continue with: " in status.err
    assert run("jobs", "resume", only_job().job_id, "--max-tokens", "200").code == 0
    assert len(server.requests) == asked
    assert run("jobs", "resume", only_job().job_id).code == 0
    assert len(server.requests) == 20
    assert only_job().state() == "done"


def test_a_limit_may_be_written_short(run: Run, command: tuple[str, ...]) -> None:
    assert run(*command, "--max-tokens", "25.6k").code == 0
    wrong = run(*command, "--max-tokens", "many")
    assert wrong.code == 2
    assert "25.6k or 1M" in wrong.err


def test_money_is_counted_where_the_price_is_known_and_never_guessed(
    run: Run, command: tuple[str, ...], tmp_path: Path
) -> None:
    refused = run(*command, "--max-cost", "1")
    assert refused.code == 2
    assert "--max-cost needs the price of this model" in refused.err
    assert not Path("openr-store").exists()
    Path("mine.toml").write_text(PRICE)
    answer = run(*command, "--prices", "mine.toml", "--max-cost", "0.001", "--live", "1", "--json")
    assert answer.code == 0, answer.err
    assert "(--max-cost 0.001)" in answer.err
    spent = json.loads(answer.out)["spent"]
    assert spent["currency"] == "USD"
    assert spent["cost"] == pytest.approx((spent["prompt_tokens"] + 10 * spent["completion_tokens"]) / 1e6)
    assert 0.001 <= spent["cost"] < 0.002
    # The store's own file is found without being named.
    (Path("openr-store") / "prices.toml").write_text(PRICE)
    assert "USD" in run("jobs", "resume", only_job().job_id).out
    costs = run("sql", "arithmetic", "select cost, currency, requests from jobs where event = 'end'", "--json")
    (row,) = json.loads(costs.out)
    assert (row["currency"], row["requests"]) == ("USD", 20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("price = 3", "is not a list of prices"),
        ('[[price]]\nmodel = "m"\n', "lacks currency, as_of"),
        (PRICE.replace("prompt =", "promt ="), "Did you mean 'prompt'"),
        (PRICE.replace("10.0", "-1"), "not negative"),
        ("[[", "is not TOML"),
    ],
)
def test_a_wrong_file_of_prices_is_one_sentence(run: Run, command: tuple[str, ...], text: str, words: str) -> None:
    Path("mine.toml").write_text(text)
    answer = run(*command, "--prices", "mine.toml")
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err


def test_a_dry_run_knows_the_typical_case_from_a_pilot_which_is_part_of_the_job(
    run: Run, command: tuple[str, ...], server: CompletionsServer
) -> None:
    first: dict[str, Any] = json.loads(run(*command, "--dry-run", "--json").out)
    assert first["requests_typical"] is None
    assert server.requests == []
    assert not Path("openr-store").exists()
    piloted = run(*command, "--dry-run", "--pilot", "5")
    assert piloted.code == 0, piloted.err
    assert "about 20, at most" in piloted.out
    assert "5 questions of the job" in piloted.out
    assert "5 questions were labelled for real" in piloted.err
    assert len(server.requests) == 5
    numbers: dict[str, Any] = json.loads(run(*command, "--dry-run", "--json").out)
    assert len(server.requests) == 5
    assert numbers["requests_typical"] == 20 <= numbers["requests_at_most"]
    assert numbers["seconds_typical"] == pytest.approx(
        numbers["completion_tokens_typical"] / numbers["tokens_per_second"]
    )
    assert run(*command).code == 0
    assert len(server.requests) == 20


def test_a_pilot_belongs_to_a_dry_run(run: Run, command: tuple[str, ...]) -> None:
    answer = run(*command, "--pilot", "5")
    assert answer.code == 2
    assert "--pilot belongs to --dry-run" in answer.err


def test_another_method_begins_with_what_is_paid_for(
    run: Run, command: tuple[str, ...], server: CompletionsServer
) -> None:
    assert run(*command).code == 0
    asked = len(server.requests)
    more = [item for item in command if item not in ("-o", "screening=4")]
    shepherd = (*more, "--method", "math-shepherd", "-o", "solutions=6", "--into", "other", "--reuse", "--json")
    answer = run(*shepherd)
    assert answer.code == 0, answer.err
    spent = json.loads(answer.out)["spent"]
    assert spent["reused"] >= 20 * 4
    # Four of six solutions are there already: two are asked for.
    fresh = [request for request in server.requests[asked:] if request["n"] == 2]
    assert len(fresh) == 20
    newest = Job.all(Store.open("openr-store"))[0]
    assert len(newest.described()["run"]["reuse"]) == 1


def test_the_help_says_how_to_stop_a_job(run: Run) -> None:
    output = run("label", "--help").out
    for option in ("--max-tokens", "--max-cost", "--max-hours", "--target-first-errors", "--reuse", "--pilot"):
        assert option in output


def test_a_policy_that_does_not_come_to_an_end_is_told_once(run: Run, command: tuple[str, ...]) -> None:
    answer = run(*command, "-o", "max_tokens=2")
    assert answer.code == 0, answer.err
    assert "of the rollouts were cut at 2 tokens" in answer.err
    assert "-o max_tokens=4" in answer.err


def test_the_tokens_of_each_question_have_a_price(run: Run, command: tuple[str, ...]) -> None:
    Path("mine.toml").write_text(PRICE)
    assert run(*command, "--prices", "mine.toml").code == 0
    asked = "select count(*) as n, sum(cost) as cost, any_value(currency) as currency from question_costs"
    (row,) = json.loads(run("sql", "arithmetic", asked, "--json").out)
    (job,) = json.loads(run("sql", "arithmetic", "select cost from jobs", "--json").out)
    assert (row["n"], row["currency"]) == (20, "USD")
    assert row["cost"] == pytest.approx(job["cost"])


def test_gpus_behind_a_server_are_counted_in_hours(run: Run, command: tuple[str, ...]) -> None:
    spent = json.loads(run(*command, "--gpus", "4", "--json").out)["spent"]
    assert spent["gpu_hours"] == pytest.approx(4 * spent["seconds_total"] / 3600)
    assert json.loads(run(*command, "--seed", "1", "--json").out)["spent"]["gpu_hours"] is None
