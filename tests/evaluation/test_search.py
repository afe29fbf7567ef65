"""A search as a job, and what its stored candidates say offline."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from openr_data.derivation.regrade import regrade
from openr_data.engine.protocols import Policy, RewardModel
from openr_data.errors import InputError
from openr_data.evaluation.search_candidates import SearchCandidate, SearchedQuestion, group_answers, read_candidates
from openr_data.evaluation.search_figures import evaluate
from openr_data.grading import MathGrader
from openr_data.grading.math.text_graders import ChoiceGrader
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.inference.searches.best_of_n import BestOfN, BestOfNConfig
from openr_data.jobs import Job, SearchConfig, search_runner
from openr_data.jobs.plan import plan
from openr_data.jobs.search import SearchWork
from openr_data.steps import SEPARATOR
from openr_data.store import Dataset, Store
from openr_data.store.rows import search_node_rows, search_nodes_of
from openr_data.store.verify import verify
from openr_data.types import (
    Budget,
    Candidate,
    Labeling,
    Outcome,
    Prefix,
    Question,
    Sampling,
    SearchNode,
    SearchResult,
    Verdict,
)
from tests.conftest import a_question, four_steps

QUESTIONS = [a_question(f"Question {i}?") for i in range(6)]


def search(n: int = 8, seed: int = 0) -> BestOfN:
    return BestOfN(BestOfNConfig(n=n), Sampling(seed=seed))


def graded(question: Question, policy: ScriptedPolicy) -> Labeling:
    return asyncio.run(SearchWork(search(), Sampling()).result(question, policy, None, MathGrader()))


def run_search(store: Store, n: int = 8, live: int = 256) -> tuple[Job, Dataset, ScriptedPolicy]:
    config = SearchConfig(source="test", method="best-of-n", policy="scripted", into="s", options={"n": n})
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    dataset = store.dataset("s", create=True)
    search_runner(job, config, QUESTIONS, dataset, search(n), policy, MathGrader(), live=live).run()
    return job, dataset, policy


def test_what_a_search_found_is_graded_and_stored_without_labels(store: Store) -> None:
    _, dataset, policy = run_search(store)
    view = dataset.view()
    assert view.counts()["labels"] == 0
    assert view.counts()["rollouts"] == 6 * 8
    assert len(policy.asked) == 6
    verdicts = view.sql("select verdict, count(*) as n from rollouts group by 1 order by 1").to_pylist()
    assert {row["verdict"] for row in verdicts} == {"correct", "incorrect"}
    roots = view.sql("select n_rollouts, n_correct from nodes where depth = 0").to_pylist()
    assert len(roots) == 6
    assert sum(row["n_correct"] for row in roots) == next(r["n"] for r in verdicts if r["verdict"] == "correct")
    # Each distinct solution is there once, with the verdict of its answer.
    distinct = view.sql("select count(distinct (question_id, text)) as n from rollouts")["n"][0].as_py()
    assert view.counts()["solutions"] == distinct
    assert list(verify(dataset)) == []


def test_a_search_gives_the_same_rows_at_any_concurrency(store: Store, tmp_path: Path) -> None:
    _, one, _ = run_search(store, live=1)
    _, many, _ = run_search(Store.open(tmp_path / "other", create=True))
    ask = "select rollout_id, text, verdict from rollouts order by 1"
    assert one.view().sql(ask).to_pylist() == many.view().sql(ask).to_pylist()


def test_a_candidate_without_an_answer_or_a_question_without_gold_has_no_verdict() -> None:
    question = a_question("Q?")
    silent = graded(question, ScriptedPolicy({(): [], ("x",): []}))
    assert {row.verdict for row in silent.rollouts} == {Verdict.UNKNOWN}
    assert {row.reason for row in silent.rollouts} == {"no answer in the text"}
    no_gold = graded(a_question("Q?", answer=""), ScriptedPolicy(four_steps))
    assert {row.reason for row in no_gold.rollouts} == {"no gold answer"}
    assert no_gold.outcome is Outcome.ANSWERED


def test_a_plan_takes_a_search_for_a_method(store: Store) -> None:
    dataset = store.dataset("d", create=True)
    dataset.add_questions(({name: getattr(q, name) for name in q.__slots__} for q in QUESTIONS), "q", 1)
    made = plan(store, [{"source": "d", "policy": "arithmetic", "method": "best-of-n"}], {"n": "4"})
    assert made.search().method == "best-of-n"
    assert made.budget().completions == 6 * 4


def test_the_candidates_are_read_back_and_their_answers_grouped(store: Store) -> None:
    job, dataset, _ = run_search(store)
    read = read_candidates(dataset.view(), job.job_id, SEPARATOR)
    assert read.independent
    assert [len(item.candidates) for item in read.questions] == [8] * 6
    asked = asyncio.run(group_answers(read.questions, MathGrader()))
    for item in asked:
        for one, first in zip(item.candidates, item.group, strict=True):
            for other, second in zip(item.candidates, item.group, strict=True):
                assert (first == second) == (one.answer == other.answer)
    with pytest.raises(InputError, match="has no candidates in s"):
        read_candidates(dataset.view(), "0" * 12, SEPARATOR)


class Guided:
    """A guided search in small: of two drawn solutions it keeps the one whose text sorts first, twice over."""

    method = "guided"
    independent = False

    def budget(self) -> Budget:
        return Budget(1, 2, 2_000)

    async def solve(self, question: str, policy: Policy, reward: RewardModel | None = None) -> SearchResult:
        drawn = await policy.sample(Prefix(question), 2, Sampling(seed=5))
        nodes = [SearchNode(None, "", "kept")]
        candidates: list[Candidate] = []
        for state, item in zip(("ended", "pruned"), sorted(drawn, key=lambda item: item.text), strict=True):
            steps = policy.steps_of(item.text)
            parent = 0
            for place, step in enumerate(steps):
                last = place == len(steps) - 1
                nodes.append(SearchNode(parent, step, state if last else "kept", len(nodes) * 10, 0.5, -0.1, 2, 0.25))
                parent = len(nodes) - 1
            if state == "ended":
                candidates.append(Candidate(item.text, steps, item.finish_reason, item.n_tokens))
        return SearchResult(tuple(candidates), 2, sum(item.n_tokens for item in drawn), tuple(nodes))


def run_guided(store: Store) -> tuple[Job, Dataset]:
    config = SearchConfig(source="test", method="guided", policy="scripted", into="g")
    policy = ScriptedPolicy(four_steps)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    dataset = store.dataset("g", create=True)
    search_runner(job, config, QUESTIONS, dataset, Guided(), policy, MathGrader()).run()
    return job, dataset


def test_rollouts_and_counts_of_nodes_are_independent_samples_only(store: Store) -> None:
    job, dataset = run_guided(store)
    view = dataset.view()
    counts = view.counts()
    # What a guided search kept is selected: it is no evidence of how often the policy is right.
    assert (counts["rollouts"], counts["nodes"]) == (0, 0)
    assert view.sql("select * from prefixes").num_rows == 0
    assert counts["solutions"] == 6
    assert counts["search_nodes"] > 12
    ended = view.sql("select * from search_nodes where state = 'ended' order by question_id, place").to_pylist()
    assert len(ended) == 6
    assert {row["verdict"] for row in ended} <= {"correct", "incorrect"}
    assert {(row["search"], row["job_id"], row["finish_reason"]) for row in ended} == {("guided", job.job_id, "stop")}
    outcomes = view.sql("select question_id, outcome, final_answer from solutions order by 1").to_pylist()
    assert [(row["verdict"] == "correct", row["answer"]) for row in ended] == [
        (row["outcome"], row["final_answer"]) for row in outcomes
    ]
    assert list(verify(dataset)) == []
    # An independent search on the same questions is evidence.
    _, independent, _ = run_search(store)
    assert independent.view().counts()["search_nodes"] == 0
    assert independent.view().counts()["rollouts"] == 48


def test_a_tree_is_read_back_as_it_was_written(store: Store) -> None:
    _, dataset = run_guided(store)
    rows = dataset.view().sql("select * from search_nodes order by place").to_pylist()
    for question in {row["question_id"] for row in rows}:
        own = [row for row in rows if row["question_id"] == question]
        nodes = search_nodes_of(own)
        again = search_node_rows(nodes, question, "guided", own[0]["policy"], own[0]["job_id"])
        assert again == own


def test_a_guided_search_is_evaluated_at_its_actual_number_of_candidates(store: Store) -> None:
    job, dataset = run_guided(store)
    stored = read_candidates(dataset.view(), job.job_id, SEPARATOR)
    assert not stored.independent
    grouped = asyncio.run(group_answers(stored.questions, MathGrader()))
    two = replace(grouped[0], candidates=grouped[0].candidates * 2, group=grouped[0].group * 2)
    figures = evaluate([two, *grouped[1:]], None, independent=False)
    assert figures.ks == (2,)
    right = sum(item.candidates[0].is_correct for item in grouped) / 6
    assert figures.at_n["majority"].mean == figures.at_n["oracle"].mean == pytest.approx(right)
    # A path that the search dropped is no candidate, and its tokens are part of the price.
    spent = dataset.view().sql("select max(tokens_spent) as n from search_nodes group by question_id")["n"].to_pylist()
    assert sum(item.candidates[0].n_tokens for item in grouped) == sum(spent)


def test_a_regrade_reaches_the_verdicts_of_a_guided_search(store: Store) -> None:
    _, dataset = run_guided(store)
    before = (
        dataset.view().sql("select node_id, verdict from search_nodes where state = 'ended' order by 1").to_pylist()
    )
    regraded = regrade(dataset, ChoiceGrader())
    assert (
        regraded.rows["search_nodes"]
        == regraded.rows["solutions"]
        == sum(row["verdict"] == "correct" for row in before)
        > 0
    )
    after = dataset.view().sql("select node_id, verdict from search_nodes where state = 'ended' order by 1").to_pylist()
    assert before != after
    assert dataset.view().counts()["search_nodes"] == len(dataset.view().arrow("search_nodes"))
    assert list(verify(dataset)) == []
    assert regrade(dataset, MathGrader()).rows["search_nodes"] == regraded.rows["search_nodes"]
    restored = (
        dataset.view().sql("select node_id, verdict from search_nodes where state = 'ended' order by 1").to_pylist()
    )
    assert restored == before


def sampled(answer: str | None, right: bool, step: str = "") -> SearchCandidate:
    return SearchCandidate((step or f"The answer is {answer}.",), answer, right, answer is None, 10)


def asked(*items: tuple[str | None, bool], name: str = "q") -> SearchedQuestion:
    answers = [answer for answer, _ in items]
    names = sorted({answer for answer in answers if answer is not None})
    group = tuple(None if answer is None else names.index(answer) for answer in answers)
    return SearchedQuestion(name, "?", tuple(sampled(*item) for item in items), group)


TWO_WRONG = asked(("1", False), ("1", False), ("2", True), (None, False))
SCORES = {
    ("q", ("The answer is 1.",)): (0.1,),
    ("q", ("The answer is 2.",)): (0.9,),
}


def test_a_reward_model_outvotes_the_majority_where_it_is_right() -> None:
    figures = evaluate([TWO_WRONG], SCORES)
    at = {name: end.mean for name, end in figures.at_n.items()}
    assert at["majority"] == 0
    assert at["oracle"] == 1
    assert at["random"] == 0.25
    assert at["min-vote"] == at["last-max"] == at["product-vote"] == at["mean-max"] == 1
    assert figures.over_majority["min-vote"].mean == 1
    assert figures.n == 4
    assert figures.ks == (1, 2, 3, 4)
    assert figures.curves["oracle"] == pytest.approx((0.25, 0.5, 0.75, 1.0))
    assert (figures.unknown, figures.without_answer, figures.tokens, figures.groups) == (0.25, 0.25, 10, 2)


def test_without_scores_the_majority_alone_is_told() -> None:
    figures = evaluate([TWO_WRONG], None)
    assert set(figures.at_n) == {"majority", "oracle", "random"}
    assert figures.over_majority == {}
    assert figures.best == "majority"


def test_a_candidate_without_a_score_is_counted_and_never_chosen() -> None:
    figures = evaluate([TWO_WRONG], {("q", ("The answer is 1.",)): (0.1,)})
    assert figures.unscored == 1
    assert figures.at_n["min-vote"].mean == 0
    # The majority needs no score.
    assert figures.at_n["majority"].mean == 0


def test_differences_are_paired_by_question() -> None:
    right = asked(("2", True), ("2", True), ("1", False), ("1", True), name="r")
    scores = {**SCORES, ("r", ("The answer is 1.",)): (0.5,), ("r", ("The answer is 2.",)): (0.9,)}
    figures = evaluate([TWO_WRONG, right], scores)
    assert figures.over_majority["min-vote"].mean == pytest.approx(
        figures.at_n["min-vote"].mean - figures.at_n["majority"].mean
    )


def test_a_search_that_is_not_over_is_told() -> None:
    with pytest.raises(InputError, match="between 1 and 4 candidates"):
        evaluate([TWO_WRONG, asked(("1", True), name="r")], None)


def test_many_candidates_have_points_at_powers_of_two_and_the_last() -> None:
    many = asked(*[("1", True)] * 70)
    figures = evaluate([many], None)
    assert figures.ks == (1, 2, 4, 8, 16, 32, 64, 70)
    assert figures.curves["majority"] == pytest.approx((1.0,) * 8)


def test_figures_as_a_dictionary_hold_the_cost_of_every_point() -> None:
    told = evaluate([TWO_WRONG], SCORES).as_dict()
    assert told["tokens_at_k"] == [10, 20, 30, 40]
    assert told["selection_gap"] == 0
    assert {row["rule"] for row in told["rules"]} >= {"majority", "oracle", "random", "min-vote"}
