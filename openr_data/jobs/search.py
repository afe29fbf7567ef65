"""A search as a job of the engine: journaled, resumable and counted like a labeling job, without step labels.

The search is given the question's text and nothing else. Its candidates are graded here, by the evaluator, and stored,
so that choices, curves and reward models are compared on the same candidates offline. Independent candidates are
rollouts of the root; a guided search selects its candidates, so they stand in `search_nodes` and `solutions` alone and
never in Monte Carlo evidence.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..engine.protocols import Grader, Policy, RewardModel, Search
from ..grading.rollout import graded_rollout
from ..ids import root_id, solution_id
from ..types import Labeling, Node, Outcome, Question, Rollout, Sampling, SearchNode, Solution, Verdict
from .config import SEARCH


class SearchWork:
    """The work of a search job: search with the job's policy and reward model, then grade the candidates.

    `sampling` is that of the job: the ids of its rollouts depend on it.
    """

    kind = SEARCH

    def __init__(self, search: Search, sampling: Sampling) -> None:
        self.search, self.sampling = search, sampling

    @property
    def method(self) -> str:
        """The name of the search."""
        return self.search.method

    async def result(self, question: Question, policy: Policy, reward: RewardModel | None, grader: Grader) -> Labeling:
        """Only candidates that are independent samples become rollouts and counts."""
        result = await self.search.solve(question.question, policy, reward)
        rollouts: list[Rollout] = []
        solutions: dict[str, Solution] = {}
        for candidate in result.candidates:
            rollout = await graded_rollout(
                candidate,
                question,
                grader,
                policy=policy.name,
                node_id=root_id(question.question_id),
                steps=(),
                sampling=self.sampling,
                draw=candidate.draw,
            )
            rollouts.append(rollout)
            if candidate.steps:
                name = solution_id(question.question_id, candidate.steps)
                solutions.setdefault(
                    name,
                    Solution(
                        name,
                        question.question_id,
                        candidate.steps,
                        rollout.answer,
                        rollout.verdict,
                        candidate.n_tokens,
                    ),
                )
        is_independent = self.search.independent
        graded = {item.steps: row for item, row in zip(result.candidates, rollouts, strict=True)}
        return Labeling(
            question_id=question.question_id,
            outcome=Outcome.ANSWERED if solutions else Outcome.NO_SOLUTION,
            solutions=tuple(solutions.values()),
            nodes=(_root(question, rollouts),) if is_independent else (),
            rollouts=tuple(rollouts) if is_independent else (),
            search_nodes=_graded_nodes(result.nodes, graded),
            calls=result.calls,
            probes=1,
            tokens=result.tokens,
        )


def _root(question: Question, rollouts: Sequence[Rollout]) -> Node:
    """The root of a question with the counts of its rollouts."""
    verdicts = Counter(row.verdict for row in rollouts)
    return Node(
        node_id=root_id(question.question_id),
        parent_id=None,
        question_id=question.question_id,
        depth=0,
        step="",
        n_rollouts=verdicts[Verdict.CORRECT] + verdicts[Verdict.INCORRECT],
        n_correct=verdicts[Verdict.CORRECT],
        n_unknown=verdicts[Verdict.UNKNOWN],
        certified=bool(verdicts[Verdict.CORRECT]),
        terminal=False,
        verdict=None,
        visits=0,
    )


def _graded_nodes(nodes: Sequence[SearchNode], graded: Mapping[tuple[str, ...], Rollout]) -> tuple[SearchNode, ...]:
    """The tree with the answer and the verdict of each complete path that is a candidate, by its steps."""
    paths: list[tuple[str, ...]] = []
    rows: list[SearchNode] = []
    for node in nodes:
        paths.append(() if node.parent is None else (*paths[node.parent], node.step))
        row = graded.get(paths[-1]) if node.state == "ended" else None
        if row is not None:
            node = replace(node, answer=row.answer, verdict=row.verdict, finish_reason=row.finish_reason)
        rows.append(node)
    return tuple(rows)
