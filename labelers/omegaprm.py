"""OmegaPRM: binary search for the first error over a growing tree (arXiv 2406.06592).

One tree a question. A state is a prefix with all rollouts drawn from it; a pool holds the wrong rollouts of
the states with 0 < MC < 1. Each search pops the (state, rollout) with the highest Q + U, halves the rollout
until one step remains between the last good and the first bad prefix, and adds every good prefix on the way
to the tree:

    MC(s)  = correct / graded rollouts                                     (section 3.1)
    Q(s,r) = alpha^(1 - MC(s)) * beta^(len(r) / L), len in tokens          (eq. 2)
    U(s)   = c_puct * sqrt(sum of all N) / (1 + N(s))                      (eq. 3)

Decisions where the paper is silent, and deviations:

1. Pieces are steps, cut at the middle step; a search always ends at a single step. With `split` they are lines,
   sentences or tokens, joined to pieces of at most 1/`pieces` of the average solution (`split.py`), the size at which
   the paper stops its search.
2. The screening rollouts (32) are the root's estimate: nothing is drawn twice.
3. A search continues to the right of a probe with MC = 1, because the answer is still wrong further on. All rollouts
   of the probe are correct, so it adds no candidate.
4. The whole wrong rollout is a terminal state with value 0 and is never sampled from.
5. A rollout is searched once (again only when 8 takes its error back); a prefix reached by two rollouts is one
   state, measured once.
6. N(s) counts only the selections of s; priorities are computed when they are compared.
7. A rollout through a first error that is already located is skipped: it holds no new one.
8. A prefix on the path of a correct rollout counts as good even if its own k rollouts all failed (backward
   certificate). An error located before such a rollout appeared is withdrawn, and its rollout returns to the pool.
9. Truncated or ungradable rollouts count neither as correct nor as wrong; a probe without any other rollout ends the
   search without a location.
10. Complete correct rollouts of the root become label sets too (all steps certified), `correct_solutions`
    of them; the paper leaves them implicit.
11. Given solutions are searched as they are, without screening and without sampling more; a correct one is certified
    by its own answer. A search without a location leaves the steps after the last good prefix unlabelled. Given
    solutions have their own steps, so `split` is refused.
12. With `wave` probes stop at their first success. That makes probes of good prefixes cheap and not those of bad ones,
    so that the cheapest split lies left of the middle (`split_at`). Labels are the same; values are biased (`stopped`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from openr_data.config import later
from openr_data.engine.protocols import Grader, Policy
from openr_data.errors import UsageError
from openr_data.label_rule import certain_labels, located_labels
from openr_data.types import (
    Budget,
    Label,
    Labeling,
    LabelSet,
    Outcome,
    Question,
    Sampling,
    Solution,
    StepLabel,
    Verdict,
)

from .rollouts import Drawn, Evidence, State, Steps, distinct
from .split import LEVELS, SplitPolicy, piece_size, pieces_of, split_metadata


@dataclass(frozen=True, slots=True)
class OmegaPRMConfig:
    """The paper's values. `searches` and `screening` are per question, `k` per probe.

    `split` is where a solution may be split; unless that is at the policy's steps, a piece is at most the `pieces`-th
    part of the average solution long. With `wave` a probe stops at its first success, `wave` rollouts at a time, and
    `split_at` then is best left of the middle; both are 0.5 and "all k at once" in the paper.
    """

    k: int = 8
    searches: int = 100
    screening: int = 32
    alpha: float = 0.5
    beta: float = 0.9
    length: int = 500
    c_puct: float = 0.125
    correct_solutions: int = 4
    split_at: float = later(0.5, since="2026-11-25")
    wave: int = later(0, since="2026-11-25")
    split: Literal["step", "line", "sentence", "token"] = later("step", since="2026-11-25")
    pieces: int = later(16, since="2026-11-25")

    def __post_init__(self) -> None:
        if self.k < 1 or self.screening < 1 or self.pieces < 1 or self.searches < 0 or self.length <= 0:
            raise ValueError("k, screening, pieces and length are at least 1, searches at least 0")
        if not (0 < self.alpha <= 1 and 0 < self.beta <= 1):
            raise ValueError("alpha and beta lie in (0, 1]")
        if not 0 < self.split_at < 1 or self.wave < 0:
            raise ValueError("split_at lies in (0, 1), wave is at least 0")


@dataclass(slots=True, eq=False)
class _Candidate:
    """A wrong rollout that may be searched, and the state it was drawn from."""

    state: State
    drawn: Drawn


@dataclass(frozen=True, slots=True)
class _Located:
    """A first error: `solution[error]` is the first wrong step of a wrong solution."""

    solution: Steps
    error: int
    node_id: str
    candidate: _Candidate


class OmegaPRM:
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "omegaprm"
    config_type = OmegaPRMConfig
    independent_steps = False

    def __init__(self, config: OmegaPRMConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """The worst case, in which every search halves a solution whose steps are single tokens."""
        self._check_given(given)
        if given:
            # Each search counts twice, because a rollout of a later search may withdraw an error once.
            probes = 2 * sum(self._probes(len(item.steps)) for item in given)
            completions = probes * self.config.k
            return Budget(self._requests(probes), completions, completions * self.sampling.max_tokens)
        probes = self.config.searches * self._probes(self.sampling.max_tokens)
        completions = self.config.screening + probes * self.config.k
        return Budget(1 + self._requests(probes), completions, completions * self.sampling.max_tokens)

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Label one question; see the module for the algorithm. Raises `UsageError` for given solutions to split."""
        self._check_given(given)
        if self.config.split != "step":
            policy = SplitPolicy(policy, self.config.split, self.config.pieces)
        evidence = Evidence(question, policy, grader, self.sampling)
        if not grader.can_grade(question):
            return evidence.labeling(Outcome.NO_GOLD)
        if given:
            return await self._label_given(evidence, given)
        root = evidence.state(())
        await evidence.measure(root, self.config.screening)
        if root.teaches_nothing:
            return evidence.labeling(root.teaches_nothing)
        located = await self._search_all(evidence, root)
        located = [item for item in located if item.node_id not in evidence.certified]
        labelled = self._labelled(evidence, root, located)
        return evidence.labeling(Outcome.LABELLED, labelled, len(located))

    def _probes(self, n_steps: int) -> int:
        """The most prefixes that one search probes; each probe leaves the larger part in the worst case."""
        halvings, left = 0, n_steps
        while left > 1:
            first = self._first_part(left)
            left, halvings = max(first, left - first), halvings + 1
        return max(1, halvings)

    def _first_part(self, n_steps: int) -> int:
        """The number of these steps that come before the split."""
        return max(1, int(n_steps * self.config.split_at))

    def _requests(self, probes: int) -> int:
        return probes * math.ceil(self.config.k / self.config.wave) if self.config.wave else probes

    @staticmethod
    def steps_rule(options: Mapping[str, Any], texts: Sequence[str]) -> Callable[[str], tuple[str, ...]] | None:
        """The rule by which a job with these options cut its rollouts of a question into steps.

        `texts` are those it drew from the question alone. None stands for the policy's separator.
        """
        level, pieces = options.get("split"), options.get("pieces")
        if level not in LEVELS or not isinstance(pieces, int):
            return None
        size = piece_size(texts, pieces)
        return lambda text: pieces_of(text, level, size)

    def _check_given(self, given: Sequence[Solution]) -> None:
        if given and self.config.split != "step":
            raise UsageError(
                f"Given solutions are labelled by the steps they have, not by {self.config.split}: leave "
                f"-o split={self.config.split} out, or let the policy sample its own solutions."
            )

    async def _label_given(self, evidence: Evidence, given: Sequence[Solution]) -> Labeling:
        """Label given solutions (deviation 11)."""
        accepted = [await evidence.accept(item) for item in given if item.steps]
        if not accepted:
            return evidence.labeling(Outcome.NO_SOLUTION)
        wrong = [_Candidate(evidence.state(()), drawn) for drawn in accepted if drawn.row.verdict is Verdict.INCORRECT]
        located = {id(item.drawn): await self._search(evidence, item, []) for item in wrong}
        for item in wrong:
            error = located[id(item.drawn)]
            if error is not None and error.node_id in evidence.certified:
                located[id(item.drawn)] = await self._search(evidence, item, [])
        labelled: list[tuple[Solution, LabelSet]] = []
        for drawn in accepted:
            error = located.get(id(drawn))
            labels = certain_labels([node in evidence.certified for node in drawn.path])
            if error is not None and error.node_id not in evidence.certified:
                labels[error.error] = -1
            step_labels = tuple(self._step(evidence, drawn.steps[: i + 1], label) for i, label in enumerate(labels))
            solution = evidence.solution(drawn.steps, drawn)
            labelled.append((solution, LabelSet(solution.solution_id, step_labels)))
        errors = {item.node_id for item in located.values() if item and item.node_id not in evidence.certified}
        decided = errors or any(drawn.row.verdict is Verdict.CORRECT for drawn in accepted)
        return evidence.labeling(Outcome.LABELLED if decided else Outcome.UNDECIDED, labelled, len(errors))

    async def _search_all(self, evidence: Evidence, root: State) -> list[_Located]:
        pool = _candidates(root)
        located: dict[str, _Located] = {}
        for _ in range(self.config.searches):
            for node in [node for node in located if node in evidence.certified]:
                pool.append(located.pop(node).candidate)
            fresh = [item for item in pool if located.keys().isdisjoint(item.drawn.path)]
            if not fresh:
                break
            total = sum(state.visits for state in evidence.states.values())
            scores = [self._priority(item, total) for item in fresh]
            chosen = fresh[scores.index(max(scores))]
            pool.remove(chosen)
            chosen.state.visits += 1
            error = await self._search(evidence, chosen, pool)
            if error is not None:
                located[error.node_id] = error
        return list(located.values())

    def _priority(self, item: _Candidate, visits: int) -> float:
        """Q + U, where `visits` is the sum of N over the tree; the oldest candidate wins a tie."""
        config, value = self.config, item.state.value or 0.0
        quality: float = config.alpha ** (1 - value) * config.beta ** (item.drawn.row.n_tokens / config.length)
        return quality + config.c_puct * math.sqrt(visits) / (1 + item.state.visits)

    async def _search(self, evidence: Evidence, chosen: _Candidate, pool: list[_Candidate]) -> _Located | None:
        """Halve the rollout until one step is left; new states bring their wrong rollouts to the pool."""
        drawn, solution = chosen.drawn, chosen.drawn.solution
        start = good = len(drawn.prefix)
        bad = len(solution)
        evidence.close(solution, Verdict.INCORRECT)
        left = self._probes(len(solution) if drawn.given else self.sampling.max_tokens)
        while True:
            if bad < len(solution) and drawn.path[bad - start - 1] in evidence.certified:
                # A later probe reached the answer through a prefix that a noisy zero had ruled out.
                good, bad = bad, len(solution)
            if bad - good <= 1:
                break
            middle = good + self._first_part(bad - good)
            state = evidence.state(solution[:middle], drawn.path[middle - start - 1])
            terminal = evidence.terminals.get(state.node_id)
            if not state.rollouts and terminal is None:
                if not left:
                    # Certificates keep moving the search across zeros that were noise: the error has no location.
                    return None
                left -= 1
                await self._probe(evidence, state)
                if 0 < (state.value or 0.0) < 1:
                    pool += _candidates(state)
            if evidence.is_certified(state):
                good = middle
            elif state.graded or terminal is Verdict.INCORRECT:
                bad = middle
            else:
                return None
        return _Located(solution, good, drawn.path[bad - start - 1], chosen)

    async def _probe(self, evidence: Evidence, state: State) -> None:
        """k rollouts from a state, all at once or in waves until one is right."""
        if not self.config.wave:
            await evidence.measure(state, self.config.k)
            return
        while len(state.rollouts) < self.config.k and not state.count(Verdict.CORRECT):
            n = min(self.config.wave, self.config.k - len(state.rollouts))
            await evidence.measure(state, n, extend=bool(state.rollouts))

    def _step(self, evidence: Evidence, steps: Steps, label: Label | None) -> StepLabel:
        """The label of the last of these steps, with its counts and provenance."""
        if self.config.wave:
            return evidence.stopped_label(evidence.node_id(steps), label)
        return evidence.step_label(steps, label)

    def _labelled(self, evidence: Evidence, root: State, located: list[_Located]) -> list[tuple[Solution, LabelSet]]:
        labelled: list[tuple[Solution, LabelSet]] = []
        for item in located:
            labels = tuple(
                self._step(evidence, item.solution[: depth + 1], label)
                for depth, label in enumerate(located_labels(len(item.solution), item.error))
            )
            labelled.append(self._label_set(evidence.solution(item.solution, item.candidate.drawn), labels))
        for drawn in distinct(root.rollouts, Verdict.CORRECT)[: self.config.correct_solutions]:
            steps = drawn.solution
            evidence.close(steps, Verdict.CORRECT)
            labels = tuple(self._step(evidence, steps[: depth + 1], 1) for depth in range(len(steps)))
            labelled.append(self._label_set(evidence.solution(steps, drawn), labels))
        return labelled

    def _label_set(self, solution: Solution, labels: tuple[StepLabel, ...]) -> tuple[Solution, LabelSet]:
        """A solution and its labels, with metadata on how to join its steps if these are pieces."""
        if self.config.split == "step":
            return solution, LabelSet(solution.solution_id, labels)
        metadata = split_metadata(self.config.split, self.config.pieces)
        return replace(solution, metadata=metadata), LabelSet(solution.solution_id, labels, metadata)


def _candidates(state: State) -> list[_Candidate]:
    """The distinct wrong rollouts of a state that have at least one step."""
    return [_Candidate(state, drawn) for drawn in distinct(state.rollouts, Verdict.INCORRECT)]
