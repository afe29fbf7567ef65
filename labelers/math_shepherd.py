"""Math-Shepherd: k rollouts from every prefix of sampled solutions (arXiv 2312.08935).

Each step of a solution is judged by k completions of the prefix that ends with it. Hard estimation calls a step good
if any completion is correct; soft estimation is the share of correct ones. Both are stored: the label is the hard one,
the value the soft one, and any other rule can be derived from the counts without a call.

Decisions and deviations:

1. The completer is the policy itself; for the paper's separate completer, label the solutions of another model
   (`given`).
2. Distinct solutions only, as in the paper; a prefix shared by two of them is measured once.
3. The last step is graded directly: its label is the verdict of the answer, without rollouts.
4. Labels are independent of each other, as in the paper: a good step may follow a bad one.
5. All given solutions are labelled. The last step of one whose answer has no verdict has no label.
6. Truncated or ungradable rollouts count neither way; a step with nothing else has no label.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from openr_data.engine.protocols import Grader, Policy
from openr_data.label_rule import independent_label, step_label
from openr_data.types import Budget, Labeling, LabelSet, Outcome, Question, Sampling, Solution, StepLabel, Verdict

from .rollouts import Evidence, State, Steps


@dataclass(frozen=True, slots=True)
class MathShepherdConfig:
    """The paper's values: `solutions` sampled a question, `k` completions a step."""

    k: int = 8
    solutions: int = 15

    def __post_init__(self) -> None:
        if self.k < 1 or self.solutions < 1:
            raise ValueError("k and solutions are at least 1")


class MathShepherd:
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "math-shepherd"
    config_type = MathShepherdConfig
    independent_steps = True

    def __init__(self, config: MathShepherdConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    @property
    def metadata(self) -> str:
        """The metadata of every label set."""
        return "{}"

    @property
    def threshold(self) -> float | None:
        """A step is good if more than this share of its rollouts is correct; None: if any of them is."""
        return None

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """The worst case: the steps of every solution are single tokens, and no two solutions share any."""
        if given:
            probes = sum(max(0, len(item.steps) - 1) for item in given)
            return Budget(probes, probes * self.config.k, probes * self.config.k * self.sampling.max_tokens)
        probes = self.config.solutions * max(0, self.sampling.max_tokens - 1)
        completions = self.config.solutions + probes * self.config.k
        return Budget(1 + probes, completions, completions * self.sampling.max_tokens)

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Label one question; all prefixes of all its solutions are measured at once."""
        evidence = Evidence(question, policy, grader, self.sampling)
        if not grader.can_grade(question):
            return evidence.labeling(Outcome.NO_GOLD)
        if given:
            accepted = [await evidence.accept(item) for item in given if item.steps]
            solutions = {drawn.solution: drawn for drawn in accepted}
        else:
            sampled = await evidence.measure(evidence.state(()), self.config.solutions)
            solutions = {
                drawn.solution: drawn
                for drawn in reversed(sampled)
                if drawn.row.verdict is not Verdict.UNKNOWN and drawn.steps
            }
        if not solutions:
            return evidence.labeling(Outcome.NO_SOLUTION if given else Outcome.NO_GRADED)
        waiting: dict[str, State] = {}
        for steps, drawn in solutions.items():
            if drawn.row.verdict is not Verdict.UNKNOWN:
                evidence.close(steps, drawn.row.verdict)
        for steps in solutions:
            for depth in range(1, len(steps)):
                state = evidence.state(steps[:depth])
                if state.node_id not in evidence.terminals:
                    waiting[state.node_id] = state
        await asyncio.gather(*(evidence.measure(state, self.config.k) for state in waiting.values()))
        labelled: list[tuple[Solution, LabelSet]] = []
        for steps, drawn in solutions.items():
            labels = tuple(self._step(evidence, steps, depth) for depth in range(1, len(steps) + 1))
            solution = evidence.solution(steps, drawn)
            labelled.append((solution, LabelSet(solution.solution_id, labels, self.metadata)))
        errors = {
            label_set.labels[label_set.first_error].node_id
            for _, label_set in labelled
            if label_set.first_error is not None
        }
        return evidence.labeling(Outcome.LABELLED, labelled, len(errors))

    def _step(self, evidence: Evidence, solution: Steps, depth: int) -> StepLabel:
        """The label of step `depth` (from 1) of a solution: can the gold answer be reached from here?"""
        state = evidence.state(solution[:depth])
        facts = evidence.proven.facts(state.node_id)
        label = independent_label(facts, is_last=depth == len(solution), threshold=self.threshold)
        return step_label(state.node_id, facts, label)
