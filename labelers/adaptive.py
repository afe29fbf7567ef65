"""Locates the first error of every wrong rollout to a requested confidence, at the lowest token cost.

This labeler (`adaptive`) is our own. OmegaPRM spends k rollouts on every prefix its binary search visits;
Math-Shepherd spends k on every prefix. Adaptive holds a posterior over the place of the first error (`posterior.py`),
draws small waves from the prefix that promises the most information per token, and stops when one place is more
likely than `confidence`:

1. Screening works in waves: the root gets `screening` rollouts, and as many again, up to `screening_most`, while none
   is correct. A question without correct or without wrong rollouts is screened out at that cost.
2. A success anywhere certifies every prefix on its path (backward certificates, free positives).
3. A failure is evidence at every prefix on its path, for every solution that shares the prefix: no paid rollout is
   drawn again.
4. The number of failures that make a zero depends on the chance of success that good steps leave in this question
   (`_mean`): few if success is common, many if it is rare, so that a false zero has at most the probability
   1 - `confidence`. `benchmarks/label_quality.py` checks this against truth.
5. A search that `most` rollouts cannot decide does not begin, or ends without a location; certain labels stay.
6. The wrong rollout whose error is closest to the confidence comes first. A rollout through an error that is already
   located is skipped, and an error is withdrawn when a later success passes through it (as in OmegaPRM).
7. `expand` rollouts are drawn from the last good prefix before an error: there the policy errs again in other ways,
   the rollouts are short, and they show how likely success is.
8. Hard labels follow the definition ("can the answer be reached from here"). Values are shares of rollouts that were
   stopped early, which biases them: their provenance is `stopped`. Use Math-Shepherd or MiPS for soft labels.
9. Given solutions are searched in their order. The root is screened only for the chance of success, and no rollouts
   are drawn to find more errors.
"""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

from openr_data.engine.protocols import Grader, Policy
from openr_data.label_rule import certain_labels, located_labels
from openr_data.types import Budget, Labeling, LabelSet, Outcome, Question, Sampling, Solution, Verdict

from .posterior import Chance, FirstError
from .rollouts import Drawn, Evidence, State, distinct


@dataclass(frozen=True, slots=True)
class AdaptiveConfig:
    """`searches` bounds the first errors of a question, `most` the rollouts of one search, drawn `wave` at a time.

    `shape` and `hazard` belong to the posterior (`posterior.py`); `hazard` holds if all rollouts repeat each other.
    `pull` is the number of rollouts that the mean chance of the question weighs beside those of a prefix, `overhead`
    the cost of a rollout in tokens beside its own.
    """

    confidence: float = 0.95
    searches: int = 20
    screening: int = 16
    screening_most: int = 32
    expand: int = 8
    wave: int = 2
    most: int = 32
    shape: float = 16.0
    hazard: float = 0.8
    pull: float = 4.0
    overhead: float = 4.0
    correct_solutions: int = 4

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ValueError("confidence lies in [0.5, 1)")
        if min(self.screening, self.wave) < 1 or self.most < self.wave:
            raise ValueError("screening and wave are at least 1, most is at least wave")
        if min(self.searches, self.expand, self.correct_solutions) < 0:
            raise ValueError("searches, expand and correct_solutions are at least 0")
        if not 0 <= self.hazard < 1:
            raise ValueError("hazard lies in [0, 1)")
        if self.screening_most < self.screening or self.shape <= 0 or self.pull <= 0 or self.overhead < 0:
            raise ValueError("screening_most is at least screening, shape and pull are above 0, overhead is at least 0")


@dataclass(frozen=True, slots=True)
class _WrongRollout:
    """A wrong rollout and the first step of it that is bad (0-based), or None if it is not located."""

    drawn: Drawn
    error: int | None


class Adaptive:
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "adaptive"
    config_type = AdaptiveConfig
    independent_steps = False

    def __init__(self, config: AdaptiveConfig, sampling: Sampling) -> None:
        self.config, self.sampling = config, sampling

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """The worst case: no search reaches the confidence."""
        config = self.config
        searches = len(given) if given else config.searches
        waves = math.ceil(config.most / config.wave)
        expansions = 0 if given else searches
        rollouts = config.screening_most + searches * waves * config.wave + expansions * config.expand
        requests = math.ceil(config.screening_most / config.screening) + searches * waves + expansions
        return Budget(requests, rollouts, rollouts * self.sampling.max_tokens)

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Label one question; see the module for the algorithm."""
        evidence = Evidence(question, policy, grader, self.sampling)
        if not grader.can_grade(question):
            return evidence.labeling(Outcome.NO_GOLD)
        if given:
            return await self._label_given(evidence, given)
        root = evidence.state(())
        await self._screen(evidence, root)
        if root.teaches_nothing:
            return evidence.labeling(root.teaches_nothing)
        located = await self._search_all(evidence, root)
        labelled = [_labels(evidence, item) for item in located]
        for drawn in distinct(root.rollouts, Verdict.CORRECT)[: self.config.correct_solutions]:
            evidence.close(drawn.solution, Verdict.CORRECT)
            labelled.append(_labels(evidence, _WrongRollout(drawn, None)))
        return evidence.labeling(Outcome.LABELLED, labelled, len(located))

    async def _screen(self, evidence: Evidence, root: State) -> None:
        """Draw waves from the root until a rollout is correct, at most `screening_most` rollouts."""
        config = self.config
        while len(root.rollouts) < config.screening_most and not root.count(Verdict.CORRECT):
            n = min(config.screening, config.screening_most - len(root.rollouts))
            await evidence.measure(root, n, extend=bool(root.rollouts))

    async def _label_given(self, evidence: Evidence, given: Sequence[Solution]) -> Labeling:
        """Label given solutions; the root is screened only for the mean chance of success."""
        accepted = [await evidence.accept(item) for item in given if item.steps]
        if not accepted:
            return evidence.labeling(Outcome.NO_SOLUTION)
        if any(drawn.row.verdict is Verdict.INCORRECT for drawn in accepted):
            await self._screen(evidence, evidence.state(()))
        searched = [
            _WrongRollout(
                drawn, await self._search(evidence, drawn, []) if drawn.row.verdict is Verdict.INCORRECT else None
            )
            for drawn in accepted
        ]
        # A later search may reach the answer through a step that an earlier one had ruled out. The loop ends, because
        # a solution has fewer doubtful steps each time.
        while (place := _ruled_out(evidence, searched)) is not None:
            drawn = searched[place].drawn
            searched[place] = _WrongRollout(drawn, await self._search(evidence, drawn, []))
        errors = {item.drawn.path[item.error] for item in searched if item.error is not None}
        outcome = Outcome.LABELLED
        if not errors and not any(drawn.row.verdict is Verdict.CORRECT for drawn in accepted):
            outcome = Outcome.UNDECIDED
        return evidence.labeling(outcome, [_labels(evidence, item) for item in searched], len(errors))

    async def _search_all(self, evidence: Evidence, root: State) -> list[_WrongRollout]:
        pool = distinct(root.rollouts, Verdict.INCORRECT)
        located: dict[str, _WrongRollout] = {}
        for _ in range(self.config.searches):
            for node in [node for node in located if node in evidence.certified]:
                pool.insert(0, located.pop(node).drawn)
            chosen = self._nearest(evidence, [item for item in pool if _is_open(evidence, item, located.keys())])
            if chosen is None:
                break
            pool.remove(chosen)
            evidence.close(chosen.solution, Verdict.INCORRECT)
            error = await self._search(evidence, chosen, pool)
            if error is None:
                continue
            located[chosen.path[error - len(chosen.prefix)]] = _WrongRollout(chosen, error)
            # A prefix where the policy erred once is the cheapest place to find its next error.
            before = evidence.state(chosen.solution[:error])
            if self.config.expand and not before.rollouts:
                pool += distinct(await evidence.measure(before, self.config.expand), Verdict.INCORRECT)
        return [item for node, item in located.items() if node not in evidence.certified]

    def _nearest(self, evidence: Evidence, candidates: Sequence[Drawn]) -> Drawn | None:
        """The candidate with the most certain first error; of several the oldest."""
        best, highest = None, -1.0
        for drawn in candidates:
            belief = self._belief(evidence, _nodes(evidence, drawn))
            p = belief.best[1] if belief else 0.0
            if p > highest:
                best, highest = drawn, p
        return best

    async def _search(self, evidence: Evidence, drawn: Drawn, pool: list[Drawn]) -> int | None:
        """The first error of a wrong solution, or None if `most` rollouts do not decide it.

        New candidates join the pool.
        """
        config, solution = self.config, drawn.solution
        nodes = _nodes(evidence, drawn)
        costs = _costs(drawn, config.overhead)
        for place, node in enumerate(nodes[:-1]):
            if node in evidence.terminals:
                # Another solution ends here, so that nothing can be sampled.
                costs[place] = math.inf
        while True:
            spent = evidence.spent[nodes[-1]]
            belief = self._belief(evidence, nodes, drawn.given is not None)
            if belief is None:
                return None
            error, p = belief.best
            if p >= config.confidence:
                return error
            probe = belief.next_probe(costs, config.wave)
            left = config.most - spent
            if probe is None or left < config.wave or not belief.can_be_sure(config.confidence, left):
                return None
            state = evidence.state(solution[: probe.prefix], nodes[probe.prefix])
            fresh = await evidence.measure(state, config.wave, extend=bool(state.rollouts))
            evidence.spent[nodes[-1]] += config.wave
            pool += distinct(fresh, Verdict.INCORRECT)

    def _belief(self, evidence: Evidence, nodes: Sequence[str], given: bool = False) -> FirstError | None:
        """The posterior over the first error of a wrong solution; `nodes` are its prefixes, the root first.

        None if the whole solution is certified, which contradicts its own verdict.
        """
        n_steps = len(nodes) - 1
        good = max((depth for depth, node in enumerate(nodes) if node in evidence.certified), default=0)
        if good >= n_steps:
            return None
        passing = [evidence.passing[node][Verdict.INCORRECT] for node in nodes]
        begun = [evidence.states[node].count(Verdict.INCORRECT) if node in evidence.states else 0 for node in nodes]
        # Rollouts that pass through the next prefix, but were not drawn there, followed the solution.
        leaving = [passing[m] - (passing[m + 1] - begun[m + 1]) for m in range(n_steps)]
        # Few successes leave the chance uncertain, so that the prior is wide.
        successes = sum(state.count(Verdict.CORRECT) for state in evidence.states.values())
        chance = Chance(min(self.config.shape, 1 + successes), self._mean(evidence, nodes[0], nodes[good]))
        # A given solution has another author, so that rollouts may never take its steps, correct or not.
        hazard = 0.0 if given else self.config.hazard * (1 + _repeated(evidence, nodes[good])) / 2
        return FirstError(n_steps, good, passing, leaving, chance, hazard)

    def _mean(self, evidence: Evidence, root: str, good: str) -> float:
        """The mean chance of success after the last good prefix, if its next step is good.

        It combines the shares of correct rollouts at the root, at that prefix, and after those of its next steps that
        led to the answer (the chance that a good step leaves), each pulled towards the one before.
        """
        whole = evidence.passing[root]
        mean = (whole[Verdict.CORRECT] + 1) / (whole[Verdict.CORRECT] + whole[Verdict.INCORRECT] + 2)
        here = [good] if good != root else []
        children = [child for child in evidence.children[good] if child in evidence.certified]
        for nodes in (here, children):
            right, n = _beside_the_first(evidence, nodes)
            mean = (right + self.config.pull * mean) / (n + self.config.pull)
        return min(0.98, mean)


def _beside_the_first(evidence: Evidence, nodes: Sequence[str]) -> tuple[int, int]:
    """Correct and graded rollouts through good prefixes, leaving out one correct rollout per prefix.

    That rollout is what proved the prefix good, so counting it would bias the rate upwards.
    """
    right = n = 0
    for node in nodes:
        counts = evidence.passing[node]
        beside = max(0, counts[Verdict.CORRECT] - 1)
        right += beside
        n += beside + counts[Verdict.INCORRECT]
    return right, n


def _repeated(evidence: Evidence, node: str) -> float:
    """The degree to which rollouts from a prefix repeat each other in their next step, from 0 (never) to 1 (always).

    If they never do, a step that no correct rollout has taken is not suspicious.
    """
    n = evidence.passing[node].total()
    return 1 - len(evidence.children[node]) / n if n else 0.0


def _ruled_out(evidence: Evidence, searched: Sequence[_WrongRollout]) -> int | None:
    """The place of a located error that a correct rollout has passed through since."""
    for place, item in enumerate(searched):
        if item.error is not None and item.drawn.path[item.error] in evidence.certified:
            return place
    return None


def _nodes(evidence: Evidence, drawn: Drawn) -> tuple[str, ...]:
    """The ids of all prefixes of a solution, the root first."""
    return (
        *(evidence.node_id(drawn.prefix[:depth]) for depth in range(len(drawn.prefix))),
        drawn.row.node_id,
        *drawn.path,
    )


def _is_open(evidence: Evidence, drawn: Drawn, located: Set[str]) -> bool:
    """Whether a wrong rollout begins at a good prefix and passes through no located error."""
    return (not drawn.prefix or drawn.row.node_id in evidence.certified) and located.isdisjoint(drawn.path)


def _labels(evidence: Evidence, item: _WrongRollout) -> tuple[Solution, LabelSet]:
    """Label the steps good up to the error and bad there; without a location, good as far as they are certified."""
    drawn = item.drawn
    nodes = _nodes(evidence, drawn)[1:]
    labels = certain_labels([node in evidence.certified for node in nodes])
    if item.error is not None:
        labels = located_labels(len(nodes), item.error)
    step_labels = tuple(evidence.stopped_label(node, label) for node, label in zip(nodes, labels, strict=True))
    solution = evidence.solution(drawn.solution, drawn)
    return solution, LabelSet(solution.solution_id, step_labels)


def _costs(drawn: Drawn, overhead: float) -> list[float]:
    """The expected tokens of a rollout from each prefix of a solution, estimated from the lengths of its steps."""
    lengths = [len(step) + 2 for step in drawn.solution]
    own = sum(lengths[len(drawn.prefix) :])
    per_character = drawn.row.n_tokens / own if own else 1.0
    costs, rest = [], float(sum(lengths))
    for length in lengths:
        costs.append(overhead + rest * per_character)
        rest -= length
    return costs
