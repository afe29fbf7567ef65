"""How much a job may spend: each limit stops it, nothing is lost, and the totals of all its runs add up."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openr_data.config import as_dict
from openr_data.engine.prices import Price
from openr_data.errors import PolicyLost, UsageError
from openr_data.huggingface.card import _cost
from openr_data.ids import config_id
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, Status, progress, runner
from openr_data.jobs.limits import Limits
from openr_data.store import Store
from openr_data.store.verify import verify
from openr_data.types import Completion, Prefix, Sampling, Usage
from tests.conftest import four_steps
from tests.jobs.test_runner import CONFIG, QUESTIONS, contents, run

PRICE = Price("scripted", "EUR", "2026-11-05", prompt=100_000, cached=50_000, completion=200_000)
LIMITS = [
    (Limits(max_tokens=1500), r"1,[56]\d\d tokens are paid for \(--max-tokens 1500\)"),
    (Limits(max_cost=150.0), r"15\d\.\d\d are spent \(--max-cost 150\)"),
    (Limits(max_hours=2.0), r"2\.[01]\d hours have passed \(--max-hours 2\)"),
    (Limits(target_first_errors=6), r"\d+ first errors are located \(--target-first-errors 6\)"),
]
SPENT = ("requests", "completions", "prompt_tokens", "cached_tokens", "completion_tokens", "cut_tokens", "cost")


class Told(ScriptedPolicy):
    """A policy that reports the tokens of its prompts."""

    def __init__(self) -> None:
        super().__init__(four_steps)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        await asyncio.sleep(0)
        reply = await super().sample(prefix, n, sampling)
        size = 6 + 3 * len(prefix.steps)
        return [replace(item, prompt_tokens=size, cached_tokens=3 * len(prefix.steps)) for item in reply]


def requests_of(*policies: ScriptedPolicy) -> list[tuple[str, tuple[str, ...]]]:
    return [(prefix.question, prefix.steps) for policy in policies for prefix, _ in policy.asked]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Status, dict[str, list[Any]]]:
    store = Store.open(tmp_path_factory.mktemp("unbroken") / "store", create=True)
    status = run(store, Told(), price=PRICE)
    return status, contents(store)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ScriptedPolicy], None]]:
    """A job whose time passes with its requests: two minutes each."""
    asked: list[ScriptedPolicy] = []
    fake = SimpleNamespace(monotonic=lambda: 120.0 * sum(len(policy.asked) for policy in asked))
    monkeypatch.setattr(runner, "time", fake)
    monkeypatch.setattr(progress, "time", fake)
    return asked.append


# --- what a limit says ------------------------------------------------------------------------------------------------


def test_no_limits_are_never_reached() -> None:
    assert not Limits()
    assert Limits().reached(Usage(10**9, 10**9, 10**12, 0, 10**12), 1e9, 1e9, 10**9) == ""
    Limits().check(price_known=False)


@pytest.mark.parametrize(
    ("limits", "below", "at"),
    [
        (Limits(max_tokens=100), (Usage(prompt_tokens=60, completion_tokens=39), None, 9.0, 9), "100 tokens are paid"),
        (
            Limits(max_reward_tokens=70),
            (Usage(10, 10, 99, 0, 99, reward_tokens=69), None, 9.0, 9),
            "70 tokens of the r",
        ),
        (Limits(max_cost=1.5), (Usage(), 1.49, 9.0, 9), "1.50 are spent"),
        (Limits(max_hours=0.5), (Usage(completion_tokens=9), 9.0, 0.49, 9), "0.50 hours have passed"),
        (Limits(target_first_errors=3), (Usage(completion_tokens=9), 9.0, 9.0, 2), "3 first errors are located"),
    ],
)
def test_a_limit_is_reached_where_it_stands(limits: Limits, below: tuple[Any, ...], at: str) -> None:
    assert limits
    assert limits.reached(*below) == ""
    reached = (Usage(prompt_tokens=60, completion_tokens=40, reward_tokens=70), 1.5, 0.5, 3)
    assert limits.reached(*reached).startswith(at)


def test_a_limit_of_cost_without_a_price_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-cost needs the price of this model"):
        Limits(max_cost=1.0).check(price_known=False)
    Limits(max_cost=1.0).check(price_known=True)
    Limits(max_tokens=1, max_hours=1, target_first_errors=1).check(price_known=False)


def test_a_job_with_a_limit_of_cost_and_no_price_does_not_begin(store: Store) -> None:
    policy = Told()
    with pytest.raises(UsageError, match="--max-cost needs the price of this model"):
        run(store, policy, limits=Limits(max_cost=1.0))
    assert policy.asked == []


# --- what a job does at a limit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limits", "message"), LIMITS, ids=["tokens", "cost", "hours", "first-errors"])
@pytest.mark.parametrize("live", [1, 4])
def test_a_limit_stops_the_job_and_without_it_it_ends_as_an_unbroken_one(
    store: Store,
    unbroken: tuple[Status, dict[str, list[Any]]],
    clock: Callable[[ScriptedPolicy], None],
    limits: Limits,
    message: str,
    live: int,
) -> None:
    whole, tables = unbroken
    first, second = Told(), Told()
    clock(first)
    status = run(store, first, live=live, limits=limits, price=PRICE)
    job = Job.find(store, CONFIG.job_id())
    assert (job.state(), job.result()) == ("stopped", None)
    assert re.fullmatch(message, status.stopped_by), status.stopped_by
    assert 0 < status.done < 12
    assert status.failed == 0
    assert job.failures() == {}
    last = job.last_event()
    assert (last["event"], last["stopped_by"], last["done"]) == ("stopped", status.stopped_by, status.done)
    rows = store.view("d").sql("select count(distinct question_id) from rollouts").column(0)[0].as_py()
    assert rows == status.done, "what is finished is committed"
    assert store.dataset("d").snapshots()[-1].job_id == job.job_id
    status = run(store, second, live=live, price=PRICE)
    assert (status.done, status.stopped_by, job.state()) == (12, "", "done")
    assert contents(store) == tables
    asked = requests_of(first, second)
    assert len(asked) == len(set(asked)) == whole.requests, "something was asked twice"
    assert {name: getattr(status, name) for name in SPENT} == pytest.approx(
        {name: getattr(whole, name) for name in SPENT}
    )


@pytest.mark.parametrize("limit", [1, 100, 777, 2000])
def test_a_job_ends_at_most_the_requests_under_way_beyond_its_limit(store: Store, limit: int) -> None:
    status = run(store, Told(), live=1, limits=Limits(max_tokens=limit))
    tokens = status.prompt_tokens + status.completion_tokens
    # One question at a time sends one request at a time, of which the screening is the largest.
    most = 8 * 20 + 6
    assert limit <= tokens < limit + most


@pytest.mark.parametrize("limits", [LIMITS[0][0], LIMITS[1][0], LIMITS[3][0]], ids=["tokens", "cost", "first-errors"])
def test_a_limit_that_is_reached_already_asks_nothing(store: Store, limits: Limits) -> None:
    first = run(store, Told(), live=1, limits=limits, price=PRICE)
    before = contents(store)
    again = Told()
    status = run(store, again, live=1, limits=limits, price=PRICE)
    assert again.asked == []
    assert (status.done, status.stopped_by) == (first.done, first.stopped_by)
    assert status.requests == first.requests
    assert contents(store) == before
    assert Job.find(store, CONFIG.job_id()).state() == "stopped"


def test_hours_are_those_of_one_run(
    store: Store, unbroken: tuple[Status, dict[str, list[Any]]], clock: Callable[[ScriptedPolicy], None]
) -> None:
    done, policies = 0, []
    for _ in range(20):
        policies.append(Told())
        clock(policies[-1])
        status = run(store, policies[-1], live=1, limits=Limits(max_hours=0.5))
        assert status.done > done or status.done == 12, "every run comes further"
        done = status.done
        if not status.stopped_by:
            break
        assert len(policies[-1].asked) == 15
    assert (status.done, status.stopped_by) == (12, "")
    assert len(policies) > 2
    assert contents(store) == unbroken[1]


def test_a_limit_that_is_not_reached_changes_nothing(
    store: Store, unbroken: tuple[Status, dict[str, list[Any]]]
) -> None:
    far = Limits(max_tokens=10**9, max_cost=1e9, max_hours=1e3, target_first_errors=10**6)
    status = run(store, Told(), limits=far, price=PRICE)
    assert (status.done, status.stopped_by, status.max_cost) == (12, "", 1e9)
    assert Job.find(store, CONFIG.job_id()).state() == "done"
    assert contents(store) == unbroken[1]


def test_a_limit_reached_by_the_last_request_is_no_stop(
    store: Store, unbroken: tuple[Status, dict[str, list[Any]]]
) -> None:
    whole = unbroken[0]
    tokens = whole.prompt_tokens + whole.completion_tokens
    status = run(store, Told(), live=1, limits=Limits(max_tokens=tokens))
    assert (status.done, status.stopped_by) == (12, "")


def test_what_is_under_way_at_the_limit_is_kept(store: Store) -> None:
    class Together(Told):
        """No reply comes before every question has asked."""

        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            reply = await super().sample(prefix, n, sampling)
            while len(self.asked) < 12:
                await asyncio.sleep(0)
            return reply

    policy = Together()
    status = run(store, policy, live=12, limits=Limits(max_tokens=1))
    assert (status.requests, status.cancelled, len(policy.asked)) == (12, 0, 12)
    assert status.done < 12
    assert status.stopped_by.endswith("(--max-tokens 1)")
    second = Told()
    run(store, second)
    asked = requests_of(policy, second)
    assert len(asked) == len(set(asked))


def test_a_limit_and_a_failing_question_are_both_told(store: Store) -> None:
    class OneBad(Told):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            if prefix.question == "Question 0?":
                raise ValueError("cannot read this")
            return await super().sample(prefix, n, sampling)

    status = run(store, OneBad(), live=1, limits=Limits(max_tokens=500))
    assert (status.failed, status.stopped_by.endswith("(--max-tokens 500)")) == (1, True)
    job = Job.find(store, CONFIG.job_id())
    assert (job.state(), list(job.failures())) == ("stopped", [QUESTIONS[0].question_id])


# --- a pilot ----------------------------------------------------------------------------------------------------------


def test_a_pilot_labels_the_first_questions_as_a_part_of_the_job(
    store: Store, unbroken: tuple[Status, dict[str, list[Any]]]
) -> None:
    whole, tables = unbroken
    policies = [Told(), Told(), Told(), Told()]
    job_ids = {item.question_id for item in QUESTIONS[:3]}
    status = run(store, policies[0], first=3)
    job = Job.find(store, CONFIG.job_id())
    assert (status.done, status.total, status.stopped_by) == (3, 12, "the pilot is over")
    assert (job.state(), job.last_event()["stopped_by"]) == ("stopped", "the pilot is over")
    rows = store.view("d").sql("select distinct question_id from rollouts").column(0).to_pylist()
    assert set(rows) == job_ids
    assert run(store, policies[1], first=3).done == 6, "so many more"
    status = run(store, policies[2], first=100)
    assert (status.done, status.stopped_by, job.state()) == (12, "", "done")
    assert contents(store) == tables
    assert len(requests_of(*policies)) == len(set(requests_of(*policies))) == whole.requests
    assert run(store, policies[3], first=3).done == 12
    assert policies[3].asked == []


def test_a_pilot_meets_a_limit_too(store: Store) -> None:
    status = run(store, Told(), live=1, first=3, limits=Limits(max_tokens=1))
    assert status.stopped_by.endswith("(--max-tokens 1)")
    assert status.done == 0


# --- what was spent in all --------------------------------------------------------------------------------------------


class Falls(Told):
    """A policy whose server dies after a number of requests, with others in flight."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.cut = after, 0

    @property
    def gpus(self) -> int:
        return 2

    @property
    def retries(self) -> int:
        return len(self.asked)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        if len(self.asked) >= self.after:
            try:
                await asyncio.sleep(0.02 if len(self.asked) == self.after else 60)
            except asyncio.CancelledError:
                self.cut += 1
                raise
            raise PolicyLost("the server is gone")
        return await super().sample(prefix, n, sampling)


def test_the_totals_of_interrupted_runs_add_up(store: Store, unbroken: tuple[Status, dict[str, list[Any]]]) -> None:
    price = replace(PRICE, gpu_hour=3600.0)
    policies = [Falls(after) for after in (5, 7)]
    job = Job(CONFIG.job_id(), store.jobs_path / CONFIG.job_id())
    for number, policy in enumerate(policies):
        with pytest.raises(PolicyLost):
            run(store, policy, live=4, price=price)
        last = job.last_event()
        assert last["event"] == "error"
        done = policies[: number + 1]
        assert last["cancelled"] == sum(item.cut for item in done) > 0
        assert last["retries"] == sum(len(item.asked) for item in done)
        assert last["requests"] == sum(len(item.asked) for item in done)
    ends = [event for event in job.events() if event["event"] == "error"]
    final = Falls(10**9)
    status = run(store, final, live=4, price=price)
    assert status.seconds_total == pytest.approx(sum(event["seconds"] for event in ends) + status.seconds)
    assert status.seconds_total > status.seconds >= 0
    assert ends[1]["seconds_total"] == pytest.approx(ends[0]["seconds"] + ends[1]["seconds"])
    assert status.cancelled == sum(item.cut for item in policies)
    assert status.retries == sum(len(item.asked) for item in (*policies, final))
    assert status.gpu_hours == pytest.approx(2 * status.seconds_total / 3600)
    whole = unbroken[0]
    assert whole.cost is not None
    assert status.cost == pytest.approx(whole.cost + 2 * status.seconds_total)
    assert contents(store) == unbroken[1]
    assert job.result() is not None
    # A look at a job that is done adds nothing to it.
    again = run(store, Falls(0), price=price)
    assert (again.requests, again.cancelled) == (status.requests, status.cancelled)
    assert Job.find(store, job.job_id).result() == {**job.result(), "snapshot": store.dataset("d").snapshots()[-1].name}  # type: ignore[dict-item]


def sums(store: Store, job_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the totals of the job's own row and the sums of its questions' rows."""
    names = ("requests", "completions", "prompt_tokens", "cached_tokens", "completion_tokens", "cut_tokens", "reused")
    names += ("calls", "located", "truncated")
    view = store.view("d")
    (total,) = view.sql(f"select {', '.join(names)} from jobs where job_id = '{job_id}' and event = 'end'").to_pylist()
    added = ", ".join(f"sum({name}) as {name}" for name in names)
    (parts,) = view.sql(f"select {added} from question_costs where job_id = '{job_id}'").to_pylist()
    return total, parts


def test_the_views_agree_with_the_status_and_with_each_other(store: Store) -> None:
    status = run(store, Told(), price=PRICE)
    total, parts = sums(store, CONFIG.job_id())
    assert total == parts
    assert total["completion_tokens"] > 0
    view = store.view("d")
    (row,) = view.sql("select * from jobs").to_pylist()
    shared = {name: row[name] for name in set(row) & set(status.as_dict())}
    assert {"done", "failed", "labelled", "located", "calls", *SPENT, "retries", "seconds_total", "currency"} <= set(
        shared
    )
    assert shared == {name: status.as_dict()[name] for name in shared}
    assert (row["kind"], row["event"], row["currency"]) == ("label", "end", "EUR")
    questions = view.sql("select * from question_costs").to_pylist()
    assert sorted(item["question_id"] for item in questions) == sorted(item.question_id for item in QUESTIONS)
    drawn = dict(
        tuple(item.values())
        for item in view.sql("select question_id, sum(n_tokens) as n from rollouts group by question_id").to_pylist()
    )
    assert {item["question_id"]: item["completion_tokens"] for item in questions} == drawn
    assert all(item["seconds"] >= 0 and item["calls"] == item["completions"] for item in questions)


def test_the_views_agree_after_stops_and_a_lost_server_too(store: Store) -> None:
    run(store, Told(), live=1, limits=Limits(max_tokens=700))
    with pytest.raises(PolicyLost):
        run(store, Falls(8), live=4)
    run(store, Told(), live=4, first=1)
    status = run(store, Told(), price=PRICE)
    total, parts = sums(store, CONFIG.job_id())
    assert total == parts
    assert {name: total[name] for name in ("requests", "completion_tokens")} == {
        "requests": status.requests,
        "completion_tokens": status.completion_tokens,
    }
    count = store.view("d").sql("select count(*), count(distinct question_id) from question_costs").to_pylist()[0]
    assert list(count.values()) == [12, 12]


def test_a_stopped_job_tells_its_costs_so_far(store: Store) -> None:
    status = run(store, Told(), live=1, first=4, price=PRICE)
    view = store.view("d")
    rows = view.sql("select event, done, completion_tokens, cost from jobs").to_pylist()
    assert rows == [
        {"event": "stop", "done": 4, "completion_tokens": status.completion_tokens, "cost": pytest.approx(status.cost)}
    ]
    rows = view.sql("select sum(completion_tokens) as n, count(*) as questions from question_costs").to_pylist()
    assert rows == [{"n": status.completion_tokens, "questions": 4}]


def test_two_stops_in_one_second_leave_a_sound_dataset(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "now", lambda: "2026-11-05T12:00:00Z")
    for _ in range(2):
        run(store, Told(), live=1, first=1)
    assert list(verify(store.dataset("d"))) == []


def test_the_events_of_a_job_are_still_there_as_they_were_written(store: Store, tmp_path: Path) -> None:
    run(store, Told())
    events = store.view("d").sql("select event from job_events order by event").column(0).to_pylist()
    assert events[0] == "end"
    assert len(events) == 13
    assert all(event.startswith("question:") for event in events[1:])


def test_a_job_that_was_stopped_and_resumed_stands_on_the_card_once_with_its_whole_cost(store: Store) -> None:
    run(store, Told(), limits=Limits(max_tokens=1500))
    status = run(store, Told())
    view = store.view("d")
    assert len(view.arrow("jobs")) == 2
    (line,) = [line for line in "\n".join(_cost(view)).splitlines() if CONFIG.job_id() in line]
    assert f"| {status.calls:,} | {status.tokens:,} |" in line


def test_the_table_of_jobs_is_the_same_as_arrow_and_in_sql(store: Store) -> None:
    status = run(store, Told())
    view = store.view("d")
    (row,) = view.arrow("jobs").to_pylist()
    assert [row] == view.sql("select * from jobs").to_pylist()
    assert (row["event"], row["requests"]) == ("end", status.requests)


def test_a_job_from_before_reuse_keeps_its_id_and_reuse_is_another_job() -> None:
    plain = as_dict(CONFIG)
    assert [plain.pop(name) for name in ("reuse", "given_solutions", "order")] == [False, False, ""]
    assert CONFIG.job_id() == config_id(plain)
    assert CONFIG.changed(reuse=True).job_id() != CONFIG.job_id()


def test_a_job_from_before_an_option_keeps_its_id_and_the_option_makes_another_job() -> None:
    before = CONFIG.changed(options={"k": 8})
    assert before.changed(options={"k": 8, "split": "step", "pieces": 16, "wave": 0, "split_at": 0.5}).job_id() == (
        before.job_id()
    )
    assert before.changed(options={"k": 8, "split": "token"}).job_id() != before.job_id()
    assert before.changed(options={"k": 8, "wave": 2}).job_id() != before.job_id()
