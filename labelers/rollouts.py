"""The evidence about one question: prefixes, the rollouts drawn from them, and the facts that follow from those.

`Evidence` is the memory of a labeler. It draws rollouts, grades them, and holds the two exact facts of the
hard definition ("a prefix is good if the gold answer can be reached from it"): a correct completion from a
prefix certifies every earlier prefix, and every prefix of a correct rollout is certified at no cost.
Certified and measured are separate facts. No prefix is measured twice.

A rollout is also a sample from every prefix that it passes through: the continuation of a prefix does not depend on
where the sampling began. `passing` counts them.

`Evidence` is not a `QuestionTree` (`openr_data/trees.py`), which is built once from stored rows: evidence grows while
a labeler runs, is looked up by the steps of a prefix as well as by its id, and counts as `children` only next steps
that were sampled.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final

from openr_data.engine.protocols import Grader, Policy
from openr_data.grading.rollout import graded_rollout
from openr_data.ids import child_id, derive_seed, root_id, solution_id
from openr_data.label_rule import PrefixEvidence, step_label
from openr_data.types import (
    Label,
    Labeling,
    LabelSet,
    Node,
    Outcome,
    Prefix,
    Question,
    Rollout,
    Sampling,
    Solution,
    StepLabel,
    Verdict,
)

Steps = tuple[str, ...]

CHARACTERS: Final = 4
"""Characters per token, to estimate the tokens of a text that were not counted."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A graded rollout: the prefix it continues, its own steps, and its row for the store.

    `path` holds the node ids of the prefixes that end with each of its own steps. `given` is the solution that it
    stands for, if it was not sampled here.
    """

    prefix: Steps
    steps: Steps
    path: tuple[str, ...]
    row: Rollout
    given: Solution | None = None

    @property
    def solution(self) -> Steps:
        """The whole process: prefix and continuation."""
        return self.prefix + self.steps

    @property
    def prefix_node(self) -> str:
        """The node id of the prefix it continues."""
        return self.row.node_id


@dataclass(slots=True, eq=False)
class State:
    """A prefix and its rollouts. `visits` is N(s) of the searches that have one."""

    node_id: str
    steps: Steps
    rollouts: list[Drawn] = field(default_factory=list)
    visits: int = 0
    terminal: Verdict | None = None

    def count(self, verdict: Verdict) -> int:
        """Rollouts from here with this verdict."""
        return sum(drawn.row.verdict is verdict for drawn in self.rollouts)

    @property
    def graded(self) -> int:
        """Rollouts from here that have a verdict."""
        return len(self.rollouts) - self.count(Verdict.UNKNOWN)

    @property
    def value(self) -> float | None:
        """MC(s): the share of correct rollouts among the graded ones, or None without any."""
        return self.count(Verdict.CORRECT) / self.graded if self.graded else None

    @property
    def teaches_nothing(self) -> Outcome | None:
        """Why this state cannot have a first error after it; None if some rollouts are right and some wrong."""
        return {None: Outcome.NO_GRADED, 0.0: Outcome.NO_CORRECT, 1.0: Outcome.NO_WRONG}.get(self.value)


def distinct(rollouts: Sequence[Drawn], verdict: Verdict) -> list[Drawn]:
    """The rollouts of one state that have this verdict and at least one step, each text once."""
    by_steps: dict[Steps, Drawn] = {}
    for drawn in rollouts:
        if drawn.row.verdict is verdict and drawn.steps:
            by_steps.setdefault(drawn.steps, drawn)
    return list(by_steps.values())


class Evidence:
    """Everything drawn for one question in one job, by prefix."""

    def __init__(self, question: Question, policy: Policy, grader: Grader, sampling: Sampling) -> None:
        self.question, self.policy, self.grader, self.sampling = question, policy, grader, sampling
        self.states: dict[str, State] = {}
        root = root_id(question.question_id)
        # The parent, the depth and the last step of every node, so that no prefix is hashed from its beginning twice.
        self._places: dict[str, tuple[str | None, int, str]] = {root: (None, 0, "")}
        self._ids: dict[Steps, str] = {(): root}
        self.proven = PrefixEvidence(lambda node: self._places[node][0])
        self.certified, self.terminals, self.passing = self.proven.certified, self.proven.terminals, self.proven.passing
        self.children: dict[str, dict[str, None]] = defaultdict(dict)
        self.spent: Counter[str] = Counter()
        self.calls = 0
        self.repeated_probes = 0
        self._probed: set[str] = set()

    def node_id(self, steps: Sequence[str]) -> str:
        """The id of a prefix of this question."""
        steps = tuple(steps)
        if steps not in self._ids:
            depth = len(steps) - 1
            while steps[:depth] not in self._ids:
                depth -= 1
            node = self._ids[steps[:depth]]
            for end in range(depth, len(steps)):
                node = self._place(node, end + 1, steps[end])
                self._ids[steps[: end + 1]] = node
        return self._ids[steps]

    def _place(self, parent: str, depth: int, step: str) -> str:
        node = child_id(parent, step)
        self._places.setdefault(node, (parent, depth, step))
        return node

    def state(self, steps: Steps, node: str | None = None) -> State:
        """The state of a prefix (with this id, if the caller has it), made at its first use."""
        node = node or self.node_id(steps)
        if node not in self._places:
            self.node_id(steps)
        if node not in self.states:
            self.states[node] = State(node, steps)
        return self.states[node]

    def is_certified(self, state: State) -> bool:
        """Whether a correct rollout passes through this prefix."""
        return state.node_id in self.certified

    async def measure(self, state: State, k: int, *, extend: bool = False) -> list[Drawn]:
        """Draw k rollouts from a state and grade them; return them.

        With `extend` they are a further wave of one measurement, not a repeated one.
        """
        if state.node_id in self._probed and not extend:
            self.repeated_probes += 1
        self._probed.add(state.node_id)
        question = self.question
        seed = derive_seed(self.sampling.seed, question.question_id, state.node_id, len(state.rollouts))
        completions = await self.policy.sample(
            Prefix(question.question, state.steps), k, replace(self.sampling, seed=seed)
        )
        self.calls += len(completions)
        drawn: list[Drawn] = []
        for index, completion in enumerate(completions):
            # A sample that another job has drawn keeps the rollout id it has there.
            row = await graded_rollout(
                completion,
                question,
                self.grader,
                policy=self.policy.name,
                node_id=state.node_id,
                steps=state.steps,
                sampling=self.sampling,
                draw=completion.draw or (seed, index),
            )
            steps = self.policy.steps_of(completion.text)
            path: list[str] = []
            for depth, step in enumerate(steps, len(state.steps) + 1):
                path.append(self._place(path[-1] if path else state.node_id, depth, step))
            drawn.append(Drawn(state.steps, steps, tuple(path), row))
        state.rollouts += drawn
        for item in drawn:
            self.proven.add(state.node_id, item.path, item.row.verdict)
            for parent, child in itertools.pairwise((state.node_id, *item.path)):
                self.children[parent].setdefault(child)
        return drawn

    async def accept(self, given: Solution) -> Drawn:
        """A solution that was not sampled here, as a rollout from the question. It is graded and not counted.

        Its stored verdict counts, where it has one; else its answer is compared with the gold answer.
        """
        *before, last = given.steps
        answer, verdict, reason = given.final_answer, given.outcome, ""
        if answer is None:
            answer = self.grader.extract(last, "stop", before).answer
        if verdict is Verdict.UNKNOWN and answer is not None:
            verdict = (await self.grader.grade(answer, self.question.answer)).verdict
        path = tuple(self.node_id(given.steps[:depth]) for depth in range(1, len(given.steps) + 1))
        row = Rollout(
            rollout_id="",
            question_id=self.question.question_id,
            node_id=self.node_id(()),
            text="",
            answer=answer,
            extraction="",
            verdict=verdict,
            reason=reason,
            grader=self.grader.name,
            finish_reason="stop",
            n_tokens=given.n_tokens or sum(map(len, given.steps)) // CHARACTERS,
            logprob=None,
            seed=0,
        )
        drawn = Drawn((), given.steps, path, row, given)
        if verdict is not Verdict.UNKNOWN:
            self.terminals[path[-1]] = verdict
            self.close(given.steps, verdict)
        if verdict is Verdict.CORRECT:
            # It is a correct completion of each of its prefixes, by whichever author.
            self.proven.certify(path[-1])
        return drawn

    def close(self, steps: Steps, verdict: Verdict) -> State:
        """The state of a complete solution with this verdict: it is never sampled from."""
        state = self.state(steps)
        state.terminal = verdict
        self.terminals[state.node_id] = verdict
        return state

    def stopped_label(self, node: str, label: Label | None) -> StepLabel:
        """The label of the step that ends this prefix, from all rollouts that pass through it.

        They were drawn until the label was sure, which makes their share a biased value (`Provenance.STOPPED`).
        """
        return step_label(node, self.proven.facts(node, passing=True), label, stopped=True)

    def step_label(self, steps: Steps, label: Label | None) -> StepLabel:
        """The label of the last step of a prefix, with the counts and the provenance it rests on."""
        node = self.node_id(steps)
        return step_label(node, self.proven.facts(node), label)

    def solution(self, steps: Steps, drawn: Drawn) -> Solution:
        """A complete process as a row; its tokens are counted if it was drawn in one piece."""
        if drawn.given is not None:
            return replace(drawn.given, final_answer=drawn.row.answer, outcome=drawn.row.verdict)
        return Solution(
            solution_id=solution_id(self.question.question_id, steps),
            question_id=self.question.question_id,
            steps=steps,
            final_answer=drawn.row.answer,
            outcome=drawn.row.verdict,
            n_tokens=None if drawn.prefix else drawn.row.n_tokens,
        )

    def labeling(
        self,
        outcome: Outcome,
        labelled: Sequence[tuple[Solution, LabelSet]] = (),
        located: int = 0,
    ) -> Labeling:
        """Everything drawn, as the result of the labeler."""
        return Labeling(
            question_id=self.question.question_id,
            outcome=outcome,
            solutions=tuple(solution for solution, _ in labelled),
            labels=tuple(label_set for _, label_set in labelled),
            nodes=tuple(self._nodes({step.node_id for _, label_set in labelled for step in label_set.labels})),
            rollouts=tuple(drawn.row for state in self.states.values() for drawn in state.rollouts),
            calls=self.calls,
            probes=len(self._probed),
            repeated_probes=self.repeated_probes,
            located=located,
            tokens=sum(drawn.row.n_tokens for state in self.states.values() for drawn in state.rollouts),
        )

    def _nodes(self, labelled: Set[str]) -> list[Node]:
        """The evidence about every measured and every certified prefix, the root first.

        A prefix that leads to one of them and is in no label set is added, with counts of zero.
        """
        reached = {*self.states, *self.certified}
        for state in self.states:
            parent = self._places[state][0]
            while parent is not None and parent not in reached and parent not in labelled:
                reached.add(parent)
                parent = self._places[parent][0]
        ordered = sorted(reached, key=lambda node: (self._places[node][1], node))
        return [self._node(self.states.get(node) or State(node, ())) for node in ordered]

    def _node(self, state: State) -> Node:
        parent, depth, step = self._places[state.node_id]
        return Node(
            node_id=state.node_id,
            parent_id=parent,
            question_id=self.question.question_id,
            depth=depth,
            step=step,
            n_rollouts=state.graded,
            n_correct=state.count(Verdict.CORRECT),
            n_unknown=state.count(Verdict.UNKNOWN),
            certified=state.node_id in self.certified,
            terminal=state.terminal is not None,
            verdict=state.terminal,
            visits=state.visits,
        )
