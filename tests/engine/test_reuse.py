"""Checks that samples of earlier jobs come first, each of them once, and keep the job that drew them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openr_data.engine.accounts import Account
from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import JournaledPolicy
from openr_data.engine.request_keys import question_key, request_key, stem_key
from openr_data.engine.reuse import Rollouts, beyond
from openr_data.errors import BudgetReached, PolicyLost
from openr_data.grading import MathGrader
from openr_data.ids import derive_seed
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, Status, run_label
from openr_data.jobs.limits import Limits
from openr_data.labelers.math_shepherd import MathShepherd, MathShepherdConfig
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.store import Store
from openr_data.types import Completion, Prefix, Question, Sampling, Usage
from tests.conftest import a_question, four_steps

SAMPLING = Sampling(temperature=0.7, max_tokens=50)
ROOT = Prefix("q")
WHO = question_key("Q")


class Drawing(ScriptedPolicy):
    """A policy whose samples contain the seed and the index of their draw; `seen` holds the received requests."""

    def __init__(self, name: str = "model") -> None:
        super().__init__({}, name=name)
        self.seen: list[tuple[int, int]] = []

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.seen.append((n, sampling.seed))
        await asyncio.sleep(0)
        where = "/".join((prefix.question, *prefix.steps))
        return [Completion(f"{where} {sampling.seed}:{index}", 2, "end", -1.0, 5, 1) for index in range(n)]


@contextmanager
def job(
    folder: Path, name: str, donors: Iterable[str] = (), backend: ScriptedPolicy | None = None
) -> Iterator[JournaledPolicy]:
    """The policy of a job that begins with what the donors have drawn."""
    journal = Journal(folder / name)
    rollouts = Rollouts([folder / donor for donor in donors], {WHO})
    try:
        yield JournaledPolicy(backend or Drawing(), journal, rollouts)
    finally:
        journal.close()
        rollouts.close()


Ask = tuple[int, int] | tuple[int, int, Prefix] | tuple[int, int, Prefix, Sampling]


def draw(policy: JournaledPolicy, *asks: Ask, question: str = "Q") -> tuple[list[tuple[Completion, ...]], Account]:
    """The replies to requests (n, seed, prefix, sampling) of one question, one after the other."""

    async def main() -> tuple[list[tuple[Completion, ...]], Account]:
        with policy.account(question, 1) as account:
            replies = []
            for n, seed, *more in asks:
                prefix, sampling = (*more, *(ROOT, SAMPLING)[len(more) :])
                replies.append(tuple(await policy.sample(prefix, n, replace(sampling, seed=seed))))
            return replies, account

    return asyncio.run(main())


def drawn(path: Path, name: str, *asks: Ask) -> None:
    """A donor: a job that has asked so."""
    with job(path, name) as policy:
        draw(policy, *asks)


def texts(reply: Iterable[Completion]) -> list[str]:
    return [item.text for item in reply]


def test_what_was_drawn_before_comes_first_and_only_the_rest_is_asked(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (3, 1))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (reply,), account = draw(policy, (8, 77))
        assert texts(reply[:3]) == ["q 1:0", "q 1:1", "q 1:2"]
        ((n, seed),) = backend.seen
        # Samples drawn beyond them carry the seed of their actual draw.
        assert [item.draw for item in reply] == [(1, 0), (1, 1), (1, 2), *((seed, index) for index in range(5))]
        assert [item.reused for item in reply] == [True] * 3 + [False] * 5
        assert n == 5
        assert texts(reply[3:]) == [f"q {seed}:{index}" for index in range(5)]
        assert account.usage == policy.paid == Usage(1, 5, 5, 1, 10, reused=3)


def test_where_enough_was_drawn_nothing_is_asked(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (8, 1))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (reply,), account = draw(policy, (5, 77))
        assert texts(reply) == [f"q 1:{index}" for index in range(5)]
        assert backend.seen == []
        assert account.usage == policy.paid == Usage(reused=5)


def test_reused_samples_need_no_budget_and_new_ones_do(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (4, 1))
    with job(tmp_path, "new", ["old"]) as policy:
        policy.stop("over")
        assert len(draw(policy, (4, 77))[0][0]) == 4
        with pytest.raises(BudgetReached, match="over"):
            draw(policy, (5, 78))


@pytest.mark.parametrize("n", [1, 4, 6])
def test_what_is_asked_beyond_cannot_repeat_what_is_there(tmp_path: Path, n: int) -> None:
    """A job with the same seed as the donor requests the donor's samples first."""
    drawn(tmp_path, "old", (4, 1))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (reply, second), _ = draw(policy, (n, 1), (6, 2))
    taken_from = {1: {2}, 4: set(), 6: {1}}[n]
    assert not {seed for _, seed in backend.seen} & taken_from, "a request that took some asks with another seed"
    everything = texts([*reply, *second])
    assert len(set(everything)) == len(everything) == n + 6


def test_a_second_request_of_a_prefix_goes_on_where_the_first_one_ended(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (4, 1), (3, 2))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (one, two, three), account = draw(policy, (2, 10), (4, 11), (2, 12))
    assert texts(one) == ["q 1:0", "q 1:1"]
    assert texts(two) == ["q 1:2", "q 1:3", "q 2:0", "q 2:1"]
    assert texts(three)[0] == "q 2:2"
    assert [n for n, _ in backend.seen] == [1]
    assert account.usage.reused == 7


def test_prefixes_are_kept_apart(tmp_path: Path) -> None:
    step = Prefix("q", ("a",))
    drawn(tmp_path, "old", (2, 1), (3, 2, step))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (root, deeper, other), _ = draw(policy, (2, 10), (3, 11, step), (2, 12, Prefix("q", ("b",))))
    assert texts(root) == ["q 1:0", "q 1:1"]
    assert texts(deeper) == ["q/a 2:0", "q/a 2:1", "q/a 2:2"]
    assert texts(other) == ["q/b 12:0", "q/b 12:1"]
    assert [item.draw for item in other] == [None, None]


@pytest.mark.parametrize(
    "other",
    [
        replace(SAMPLING, temperature=0.8),
        replace(SAMPLING, top_p=0.9),
        replace(SAMPLING, max_tokens=51),
        replace(SAMPLING, stop=("\n",)),
    ],
)
def test_samples_of_another_shape_are_not_mixed_in(tmp_path: Path, other: Sampling) -> None:
    drawn(tmp_path, "old", (4, 1, ROOT, other))
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (reply, same), _ = draw(policy, (2, 10), (2, 11, ROOT, other))
    assert texts(reply) == ["q 10:0", "q 10:1"]
    assert texts(same) == ["q 1:0", "q 1:1"]


def test_samples_of_another_policy_or_question_are_not_mixed_in(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (4, 1))
    other = Drawing("another model")
    with job(tmp_path, "new", ["old"], other) as policy:
        assert texts(draw(policy, (2, 10))[0][0]) == ["q 10:0", "q 10:1"]
    with job(tmp_path, "newer", ["old"]) as policy:
        # The same text under another id is another question (another gold answer).
        assert texts(draw(policy, (2, 10), question="Q2")[0][0]) == ["q 10:0", "q 10:1"]


def test_only_the_questions_that_are_wanted_take_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "old")
    stem = stem_key("model", ROOT, SAMPLING)
    for number in range(50):
        reply = (Completion(str(number), 1, "end"),)
        journal.put(request_key(stem, 1, number), stem, question_key(str(number % 10)), number, reply)
    journal.close()
    rollouts = Rollouts([tmp_path / "old"], {question_key("3"), question_key("7")})
    assert len(rollouts) == 2
    assert texts(rollouts.take(question_key("3"), stem, 1, 9)) == ["13", "23", "33", "43"]
    assert rollouts.take(question_key("4"), stem, 0, 9) == ()
    rollouts.close()


# --- several donors ---------------------------------------------------------------------------------------------------


def test_two_donors_follow_each_other_and_give_each_draw_once(tmp_path: Path) -> None:
    drawn(tmp_path, "one", (3, 1), (2, 2))
    drawn(tmp_path, "two", (3, 1), (2, 3))
    backend = Drawing()
    with job(tmp_path, "new", ["one", "two"], backend) as policy:
        (reply,), _ = draw(policy, (9, 10))
    assert texts(reply[:7]) == ["q 1:0", "q 1:1", "q 1:2", "q 2:0", "q 2:1", "q 3:0", "q 3:1"]
    assert [n for n, _ in backend.seen] == [2]
    with job(tmp_path, "newer", ["two", "one"]) as policy:
        (reply,), _ = draw(policy, (7, 10))
    assert texts(reply) == ["q 1:0", "q 1:1", "q 1:2", "q 3:0", "q 3:1", "q 2:0", "q 2:1"]


def test_what_a_donor_had_reused_itself_is_the_sample_of_its_own_donor(tmp_path: Path) -> None:
    drawn(tmp_path, "one", (3, 1))
    with job(tmp_path, "two", ["one"]) as policy:
        (second,), _ = draw(policy, (5, 2))
    draws = [item.draw for item in second]
    assert draws[:3] == [(1, 0), (1, 1), (1, 2)]
    for donors in (["one", "two"], ["two", "one"], ["two"]):
        backend = Drawing()
        with job(tmp_path, "-".join(donors), donors, backend) as policy:
            (reply,), account = draw(policy, (6, 3))
        assert texts(reply[:5]) == texts(second), donors
        assert [item.draw for item in reply[:5]] == draws, donors
        assert [n for n, _ in backend.seen] == [1]
        assert account.usage.reused == 5


def test_a_job_can_begin_with_a_chain_of_jobs(tmp_path: Path) -> None:
    names = ["0", "1", "2", "3"]
    for number, name in enumerate(names):
        with job(tmp_path, name, names[:number]) as policy:
            (reply,), account = draw(policy, (2 * (number + 1), 100 + number))
            assert account.usage.reused == 2 * number
    assert len(set(texts(reply))) == 8


def test_a_donor_without_a_journal_is_nothing(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (2, 1))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "noise").write_bytes(b"no journal at all" * 20)
    with job(tmp_path, "new", ["missing", "empty", "noise", "old"]) as policy:
        (reply,), _ = draw(policy, (3, 10))
    assert texts(reply[:2]) == ["q 1:0", "q 1:1"]
    assert not (tmp_path / "missing").exists()


def test_a_damaged_donor_gives_what_can_be_read(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (2, 1), (2, 2), (2, 3))
    whole = (tmp_path / "old").read_bytes()
    (tmp_path / "old").write_bytes(whole[:-3])
    backend = Drawing()
    with job(tmp_path, "new", ["old"], backend) as policy:
        (reply,), _ = draw(policy, (6, 10))
    assert texts(reply[:4]) == ["q 1:0", "q 1:1", "q 2:0", "q 2:1"]
    assert [n for n, _ in backend.seen] == [2]
    assert (tmp_path / "old").read_bytes() == whole[:-3], "a donor is only read"


def test_a_donor_that_is_running_gives_what_it_had_when_the_job_began(tmp_path: Path) -> None:
    with job(tmp_path, "old") as donor:
        draw(donor, (2, 1))
        backend = Drawing()
        with job(tmp_path, "new", ["old"], backend) as policy:
            draw(donor, (2, 2), (2, 3))
            (reply,), _ = draw(policy, (6, 10))
        assert texts(reply[:2]) == ["q 1:0", "q 1:1"]
        assert [n for n, _ in backend.seen] == [4]


def test_samples_that_were_aborted_are_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "old")
    stem = stem_key("model", ROOT, SAMPLING)
    reply = (Completion("a", 1, "end"), Completion("b", 1, "abort"), Completion("c", 1, "length"))
    journal.put(request_key(stem, 3, 1), stem, WHO, 1, reply)
    journal.close()
    with job(tmp_path, "new", ["old"]) as policy:
        (got,), _ = draw(policy, (2, 10))
    assert [(item.text, item.draw) for item in got] == [("a", (1, 0)), ("c", (1, 2))]


# --- a job that is resumed --------------------------------------------------------------------------------------------


def test_a_resumed_job_takes_the_same_samples(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (4, 1), (3, 2))
    with job(tmp_path, "whole", ["old"]) as policy:
        expected, account = draw(policy, (2, 10), (4, 11), (3, 12))
        cost = policy.paid
    for stops in range(4):
        name = f"after {stops}"
        with job(tmp_path, name, ["old"]) as policy:
            draw(policy, *[(2, 10), (4, 11), (3, 12)][:stops])
        backend = Drawing()
        with job(tmp_path, name, ["old"], backend) as policy:
            again, resumed = draw(policy, (2, 10), (4, 11), (3, 12))
            assert [[(item.text, item.draw) for item in reply] for reply in again] == [
                [(item.text, item.draw) for item in reply] for reply in expected
            ]
            assert policy.paid == cost
            assert resumed.usage == account.usage
            assert resumed.taken == account.taken


def test_a_request_that_failed_leaves_its_samples_to_the_next(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (2, 1))

    class Once(Drawing):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            reply = await super().sample(prefix, n, sampling)
            if len(self.seen) == 1:
                raise ValueError("once")
            return reply

    async def main(policy: JournaledPolicy) -> Sequence[Completion]:
        with policy.account("Q", 1):
            with pytest.raises(ValueError, match="once"):
                await policy.sample(ROOT, 3, SAMPLING)
            return await policy.sample(ROOT, 3, SAMPLING)

    with job(tmp_path, "new", ["old"], Once()) as policy:
        reply = asyncio.run(main(policy))
    assert texts(reply[:2]) == ["q 1:0", "q 1:1"]


def test_two_requests_of_one_prefix_at_once_do_not_take_the_same_samples(tmp_path: Path) -> None:
    drawn(tmp_path, "old", (4, 1))

    async def main(policy: JournaledPolicy) -> list[Completion]:
        with policy.account("Q", 1):
            replies = await asyncio.gather(*(policy.sample(ROOT, 6, replace(SAMPLING, seed=s)) for s in (10, 11)))
        return [item for reply in replies for item in reply]

    with job(tmp_path, "new", ["old"]) as policy:
        everything = asyncio.run(main(policy))
    assert len({item.text for item in everything}) == 12
    assert sum(item.reused for item in everything) == 4


def test_the_seed_beyond_is_another_for_every_number_of_reused_samples() -> None:
    seeds = {beyond(replace(SAMPLING, seed=seed), n).seed for seed in range(20) for n in range(1, 20)}
    assert len(seeds) == 20 * 19
    assert not seeds & set(range(20))
    assert beyond(SAMPLING, 3) == replace(SAMPLING, seed=derive_seed(SAMPLING.seed, "beyond", 3))


# --- whole jobs -------------------------------------------------------------------------------------------------------

QUESTIONS = [a_question(f"Question {number}?") for number in range(6)]
SCREENED = LabelConfig(source="test", method="omegaprm", policy="scripted", into="d", options={"searches": 2})


def label(
    store: Store,
    policy: ScriptedPolicy,
    config: LabelConfig,
    donors: Sequence[str] = (),
    questions: Sequence[Question] = QUESTIONS,
    **more: Any,
) -> Status:
    sampling = Sampling(seed=config.seed)
    labeler: Any = MathShepherd(MathShepherdConfig(k=3, solutions=6), sampling)
    if config.method == "omegaprm":
        labeler = OmegaPRM(OmegaPRMConfig(**{"screening": 8, "k": 4, **config.options}), sampling)
    dataset = store.dataset(config.into, create=True)
    run: dict[str, Any] = {"policy_revision": policy.name}
    if donors:
        run["reuse"] = list(donors)
    made = Job.create(store, config, run)
    return run_label(made, config, questions, dataset, labeler, policy, MathGrader(), **more)


def rollouts_of(store: Store, job_id: str) -> dict[str, dict[str, Any]]:
    rows = store.view("d").sql(f"select * from rollouts where job_id = '{job_id}'").to_pylist()
    return {row["rollout_id"]: row for row in rows}


LARGER = replace(SCREENED, seed=5, reuse=True, options={"searches": 2, "screening": 12, "k": 4})
OTHER = replace(SCREENED, seed=5, reuse=True, method="math-shepherd", options={})


@pytest.mark.parametrize("config", [LARGER, OTHER], ids=["larger k", "other method"])
def test_a_reused_sample_stays_the_rollout_it_was_in_the_other_job(store: Store, config: LabelConfig) -> None:
    """Another seed: what the two jobs share then is what was reused."""
    first = label(store, ScriptedPolicy(four_steps), SCREENED)
    old = rollouts_of(store, SCREENED.job_id())
    policy = ScriptedPolicy(four_steps)
    status = label(store, policy, config, [SCREENED.job_id()])
    new = rollouts_of(store, config.job_id())
    shared = set(old) & set(new)
    assert len(shared) == status.reused >= len(QUESTIONS) * min(8, 6)
    assert status.completions == sum(n for _, n in policy.asked) == status.calls - status.reused
    assert len(new) == status.calls, "no two samples of a job are the same rollout"
    for name in shared:
        assert {**new[name], "job_id": ""} == {**old[name], "job_id": ""}
    asked_at_the_root = [n for prefix, n in policy.asked if not prefix.steps]
    assert asked_at_the_root == ([4] * len(QUESTIONS) if config is LARGER else [])
    # The sums per question are equal.
    view = store.view("d")
    (costs,) = view.sql(
        "select sum(reused) as reused, sum(completions) as completions, sum(calls) as calls "
        f"from question_costs where job_id = '{config.job_id()}'"
    ).to_pylist()
    assert costs == {"reused": status.reused, "completions": status.completions, "calls": status.calls}
    # Pooled over both jobs every rollout counts once.
    both = view.sql("select count(distinct rollout_id) from rollouts").column(0)[0].as_py()
    assert both == first.calls + status.completions


def test_a_stopped_and_resumed_job_that_reuses_ends_as_an_unbroken_one(store: Store, tmp_path: Path) -> None:
    class Goes(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            await asyncio.sleep(0)
            if len(self.asked) == 3:
                raise PolicyLost("gone")
            return await super().sample(prefix, n, sampling)

    label(store, ScriptedPolicy(four_steps), SCREENED)
    unbroken = Store.open(tmp_path / "unbroken", create=True)
    label(unbroken, ScriptedPolicy(four_steps), SCREENED)
    whole = label(unbroken, ScriptedPolicy(four_steps), LARGER, [SCREENED.job_id()])
    assert whole.requests >= 8
    with pytest.raises(PolicyLost):
        label(store, Goes(four_steps), LARGER, [SCREENED.job_id()], live=3)
    label(store, ScriptedPolicy(four_steps), LARGER, live=1, limits=Limits(max_tokens=200))
    status = label(store, ScriptedPolicy(four_steps), LARGER, [SCREENED.job_id()])
    assert rollouts_of(store, LARGER.job_id()) == rollouts_of(unbroken, LARGER.job_id())
    assert (status.reused, status.completions, status.requests) == (whole.reused, whole.completions, whole.requests)
    for table in ("labels", "nodes", "solutions"):
        here, there = (sorted(map(repr, s.view("d").arrow(table).to_pylist())) for s in (store, unbroken))
        assert here == there


def test_a_job_that_does_not_reuse_asks_for_everything_itself(store: Store) -> None:
    label(store, ScriptedPolicy(four_steps), SCREENED)
    config = replace(LARGER, reuse=False)
    status = label(store, ScriptedPolicy(four_steps), config)
    assert (status.reused, status.completions) == (0, status.calls)
    assert config.job_id() != LARGER.job_id()


def test_a_job_without_reuse_keeps_the_id_it_had_before_there_was_any() -> None:
    assert LabelConfig(source="s", method="omegaprm", policy="p").job_id() == "0ce8ba14ddb3"


def test_a_donor_that_has_never_asked_is_nothing_to_a_job(store: Store) -> None:
    status = label(store, ScriptedPolicy(four_steps), LARGER, ["000000000000"])
    assert (status.done, status.reused) == (len(QUESTIONS), 0)
