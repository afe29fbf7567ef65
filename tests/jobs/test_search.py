"""A guided search as a job: what it writes, and that it resumes to exactly the rows of an unbroken run."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from openr_data.engine.protocols import Policy, RewardModel
from openr_data.engine.step_sampling import sample_step
from openr_data.errors import JobError, PolicyLost, UsageError
from openr_data.grading import MathGrader
from openr_data.ids import derive_seed
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, SearchConfig, Status, search_runner
from openr_data.jobs.plan import plan, resumed
from openr_data.registry import SEARCHES, Entry
from openr_data.store import Store
from openr_data.store.rows import question_row
from openr_data.store.verify import verify
from openr_data.types import Budget, Candidate, Prefix, Sampling, SearchNode, SearchResult, StepScores
from tests.conftest import a_question, four_steps

QUESTIONS = [a_question(f"Question {i}?") for i in range(5)]
CONFIG = SearchConfig("test", "greedy", "scripted", into="g", reward="prm", reward_revision="moving@1")
TABLES = ("questions", "solutions", "nodes", "rollouts", "labels", "search_nodes")


@dataclass(frozen=True, slots=True)
class GreedyConfig:
    """`width` steps are drawn at a time."""

    width: int = 3


class Greedy:
    """Greedy best-first search over steps: draw `width` next steps, keep the one with the highest score."""

    method = "greedy"
    independent = False
    needs_reward = True
    config_type = GreedyConfig

    def __init__(self, config: GreedyConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    def budget(self) -> Budget:
        return Budget(8, 8 * self.config.width, 8 * self.config.width * self.sampling.max_tokens)

    async def solve(self, question: str, policy: Policy, reward: RewardModel | None = None) -> SearchResult:
        assert reward is not None
        path: tuple[str, ...] = ()
        nodes = [SearchNode(None, "", "kept")]
        parent = calls = tokens = 0
        for depth in range(8):
            sampling = replace(self.sampling, seed=derive_seed(self.sampling.seed, question, depth))
            steps = await sample_step(policy, Prefix(question, path), self.config.width, sampling)
            calls += len(steps)
            tokens += sum(step.n_tokens for step in steps)
            scores = [(await reward.score(question, (*path, step.text)))[-1] for step in steps]
            best = max(range(len(steps)), key=lambda place: (scores[place], -place))
            for place, step in enumerate(steps):
                state = "pruned" if place != best else "kept" if step.ended == "stop" else "ended"
                nodes.append(SearchNode(parent, step.text, state, tokens, scores[place]))  # type: ignore[arg-type]
            parent = len(nodes) - len(steps) + best
            path = (*path, steps[best].text)
            if steps[best].ended != "stop":
                text = policy.separator.join(path)
                candidate = Candidate(text, path, "length" if steps[best].ended == "length" else "stop", tokens)
                return SearchResult((candidate,), calls, tokens, tuple(nodes))
        return SearchResult((), calls, tokens, tuple(nodes))


class Moving:
    """A reward model whose scores are different at every call."""

    threshold = 0.5
    tokens_asked = tokens_read = 0

    def __init__(self, name: str = "moving@1", dies_after: int = 10_000) -> None:
        self.name, self.dies_after, self.calls = name, dies_after, 0
        self.rng = random.Random(7)

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        await asyncio.sleep(0)
        if self.calls >= self.dies_after:
            raise PolicyLost("the reward server is gone")
        self.calls += 1
        return StepScores(tuple(self.rng.random() for _ in steps), len(steps), len(steps))

    def close(self) -> None:
        """It holds nothing."""


def run(store: Store, reward: Moving, policy: ScriptedPolicy | None = None) -> Status:
    policy = policy or ScriptedPolicy(four_steps)
    job = Job.create(store, CONFIG, {"policy_revision": policy.name, "reward_revision": reward.name})
    dataset = store.dataset("g", create=True)
    search = Greedy(GreedyConfig(), CONFIG.sampling())
    runner = search_runner(job, CONFIG, QUESTIONS, dataset, search, policy, MathGrader(), reward=reward, live=1)
    return runner.run()


def contents(store: Store) -> dict[str, list[Any]]:
    view = store.view("g")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in TABLES}


def test_a_guided_search_writes_its_tree_and_solutions_and_no_monte_carlo_evidence(store: Store) -> None:
    status = run(store, Moving())
    counts = store.view("g").counts()
    assert (counts["rollouts"], counts["nodes"], counts["labels"]) == (0, 0, 0)
    assert counts["solutions"] == 5
    assert counts["search_nodes"] > 5 * 4
    assert (status.answered, status.labelled, status.kind) == (5, 0, "search")
    assert status.reward_calls > 0
    rows = store.view("g").sql("select * from search_nodes where state = 'ended'").to_pylist()
    assert {row["verdict"] for row in rows} <= {"correct", "incorrect"}
    assert list(verify(store.dataset("g"))) == []


def test_a_snapshot_of_a_search_job_speaks_of_a_search(store: Store) -> None:
    run(store, Moving())
    snapshot = store.dataset("g").snapshots()[-1]
    assert snapshot.operation == "search"
    assert snapshot.message == "greedy on test: 5 answered, 0 without a solution, 0 failed"
    job = Job.find(store, CONFIG.job_id())
    assert (job.kind(), job.config(), job.state()) == ("search", CONFIG, "done")
    kinds = store.view("g").sql("select distinct kind from job_events").to_pylist()
    assert kinds == [{"kind": "search"}]


@pytest.mark.parametrize("after", [0, 1, 7, 20, 26])
def test_a_search_that_dies_resumes_to_the_rows_of_an_unbroken_run_though_scores_move(
    store: Store, tmp_path: Path, after: int
) -> None:
    unbroken, steady, drawn = Store.open(tmp_path / "unbroken", create=True), Moving(), ScriptedPolicy(four_steps)
    run(unbroken, steady, drawn)
    reward, policy = Moving(dies_after=after), ScriptedPolicy(four_steps)
    with pytest.raises(PolicyLost, match="reward server is gone"):
        run(store, reward, policy)
    assert reward.calls == after
    # From here its scores go on as those of the unbroken run do; a score that is asked again is another one.
    reward.dies_after = 10_000
    run(store, reward, policy)
    assert contents(store) == contents(unbroken)
    assert (reward.calls, len(policy.asked)) == (steady.calls, len(drawn.asked)), "something was asked twice"


def test_another_revision_of_the_reward_model_is_refused(store: Store) -> None:
    with pytest.raises(PolicyLost):
        run(store, Moving(dies_after=3))
    with pytest.raises(JobError, match="began with the reward moving@1, now it is moving@2"):
        run(store, Moving("moving@2"))


def test_a_plan_checks_that_a_search_has_the_reward_model_it_needs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SEARCHES, "greedy", Entry("tests.jobs.test_search:Greedy", "greedy"))  # type: ignore[arg-type]
    dataset = store.dataset("d", create=True)
    dataset.add_questions((question_row(item) for item in QUESTIONS), "q", 1)
    layer = {"source": "d", "policy": "arithmetic", "method": "greedy"}
    with pytest.raises(UsageError, match="guided by a reward model. Name one with --reward"):
        plan(store, [layer], {})
    with pytest.raises(UsageError, match="no reward model takes part"):
        plan(store, [{**layer, "method": "best-of-n", "reward": "prm"}], {})
    made = plan(store, [{**layer, "reward": "prm"}], {"width": "2"})
    assert isinstance(made.config, SearchConfig)
    assert made.config.options == {"width": 2}
    assert made.search() is made.search(), "the search is made once"
    pinned = made.pinned(Moving())
    assert isinstance(pinned.config, SearchConfig)
    assert pinned.config.reward_revision == "moving@1"
    assert pinned.search() is made.search()
    job = Job.create(store, pinned.config, {"read": pinned.read})
    assert resumed(store, job).config == pinned.config
    with pytest.raises(JobError, match="began with the reward model moving@1"):
        resumed(store, job).pinned(Moving("moving@2"))
