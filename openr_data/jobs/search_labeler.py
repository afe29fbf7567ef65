"""A search as a job of the engine: journaled, resumable and counted like a labeling job, without step labels.

The search is given the question's text and nothing else. What it found is graded here, by the evaluator, and stored as
rollouts and solutions, so that choices, curves and reward models are compared on the same candidates offline.
"""

from collections import Counter
from collections.abc import Sequence

from ..engine.protocols import Grader, Policy, Search
from ..grading import extract_finished
from ..ids import rollout_id, root_id, solution_id
from ..types import Budget, Candidate, Grade, Labeling, Node, Outcome, Question, Rollout, Sampling, Solution, Verdict


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
            row = await self._graded(question, item, policy, grader)
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

    async def _graded(self, question: Question, item: Candidate, policy: Policy, grader: Grader) -> Rollout:
        answer = extract_finished(item.text, item.finish_reason, ())
        grade = Grade(Verdict.UNKNOWN, f"cut by {item.finish_reason}")
        if answer.answer is not None and question.answer.strip():
            grade = await grader.grade(answer.answer, question.answer)
        elif answer.answer is not None:
            grade = Grade(Verdict.UNKNOWN, "no gold answer")
        elif item.finish_reason == "stop":
            grade = Grade(Verdict.UNKNOWN, "no answer in the text")
        node, (seed, index) = root_id(question.question_id), item.draw
        shape = f"{self.sampling.temperature} {self.sampling.top_p} {self.sampling.max_tokens}"
        return Rollout(
            rollout_id=rollout_id(policy.name, node, seed, index, shape, item.text),
            question_id=question.question_id,
            node_id=node,
            text=item.text,
            answer=answer.answer,
            extraction=answer.rule,
            verdict=grade.verdict,
            reason=grade.reason,
            grader=grader.name,
            finish_reason=item.finish_reason,
            n_tokens=item.n_tokens,
            logprob=item.logprob,
            seed=seed,
        )
