"""A search as a job of the engine: journaled, resumable and counted like a labeling job, without step labels.

The search is given the question's text and nothing else. What it found is graded here, by the evaluator, and stored as
rollouts and solutions, so that choices, curves and reward models are compared on the same candidates offline.
"""

from collections import Counter
from collections.abc import Sequence

from ..engine.protocols import Grader, Policy, Search
from ..grading.rollout import graded_rollout
from ..ids import root_id, solution_id
from ..types import Budget, Labeling, Node, Outcome, Question, Rollout, Sampling, Solution, Verdict


class SearchLabeler:
    """A search in the place of a labeler: `label` brings graded rollouts and solutions, and no label set."""

    independent_steps = False

    def __init__(self, search: Search, sampling: Sampling) -> None:
        self.search, self.sampling = search, sampling

    @property
    def method(self) -> str:
        """The name of the search."""
        return self.search.method

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """The worst case of one question."""
        return self.search.budget()

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Search, then grade."""
        found = await self.search.solve(question.question, policy)
        rollouts: list[Rollout] = []
        solutions: dict[str, Solution] = {}
        for item in found.candidates:
            row = await graded_rollout(
                item,
                question,
                grader,
                policy=policy.name,
                node_id=root_id(question.question_id),
                steps=(),
                sampling=self.sampling,
                draw=item.draw,
            )
            rollouts.append(row)
            if item.steps:
                name = solution_id(question.question_id, item.steps)
                solutions.setdefault(
                    name,
                    Solution(name, question.question_id, item.steps, row.answer, row.verdict, item.n_tokens),
                )
        verdicts = Counter(row.verdict for row in rollouts)
        graded = verdicts[Verdict.CORRECT] + verdicts[Verdict.INCORRECT]
        root = Node(
            node_id=root_id(question.question_id),
            parent_id=None,
            question_id=question.question_id,
            depth=0,
            step="",
            n_rollouts=graded,
            n_correct=verdicts[Verdict.CORRECT],
            n_unknown=verdicts[Verdict.UNKNOWN],
            certified=bool(verdicts[Verdict.CORRECT]),
            terminal=False,
            verdict=None,
            visits=0,
        )
        outcome = Outcome.LABELLED if solutions else Outcome.NO_SOLUTION
        return Labeling(
            question_id=question.question_id,
            outcome=outcome,
            solutions=tuple(solutions.values()),
            nodes=(root,),
            rollouts=tuple(rollouts),
            calls=found.calls,
            probes=1,
            tokens=found.tokens,
        )
