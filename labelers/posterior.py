"""The posterior over the first error of a wrong solution, and the probe that informs most about it per token.

A solution has M steps, and the first `good` of them are good. The first error e is one of the later steps (0-based);
prefix m holds the steps before step m. A priori the error is the first step that no correct rollout has taken with
probability `hazard`, and otherwise any of the later steps with equal probability. From a good prefix the policy
succeeds with an unknown chance p, modelled as Beta(a, b): `shape` is a, and b follows from the mean that the question
shows elsewhere. The likelihood of n failures at a good prefix is then

    L(n) = E[(1 - p)^n] = prod over i < n of (b + i) / (a + b + i)

and from a bad prefix every rollout fails. Given e, a failure counts at the last good prefix that it shares with the
solution: at the prefix where it leaves the solution, or at prefix e if it goes on. That a failure goes on from the
last certified prefix is not evidence. A success at prefix m proves e >= m. The next probe is the one with the greatest
expected loss of entropy per expected token. The usual rules of thumb follow from this: splits at the most informative
prefix, more rollouts if success is rare, a second probe at the boundary before it is accepted, and no rollout at a
prefix whose value is certain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chance:
    """Beta(a, b) over the chance of success from a good prefix, with a = `shape` and this mean."""

    shape: float
    mean: float

    @property
    def beta(self) -> float:
        """b of the distribution."""
        return self.shape * (1 - self.mean) / self.mean

    def log_failing(self, n: int, seen: int = 0) -> float:
        """log P(n more failures | `seen` failures at a good prefix)."""
        a, b = self.shape, self.beta
        return sum(math.log((b + i) / (a + b + i)) for i in range(seen, seen + n))


@dataclass(frozen=True, slots=True)
class Probe:
    """A prefix to draw from, with the expected information (nats) and the expected cost (tokens)."""

    prefix: int
    gain: float
    cost: float


class FirstError:
    """The posterior over the first error among the steps `good` … M - 1.

    For good <= m < M, `passing[m]` counts the failures that begin at prefix m or pass through it, and `leaving[m]`
    those of them whose next step differs from the solution's.
    """

    def __init__(
        self,
        n_steps: int,
        good: int,
        passing: Sequence[int],
        leaving: Sequence[int],
        chance: Chance,
        hazard: float = 0.5,
    ) -> None:
        if not 0 <= good < n_steps:
            raise ValueError(f"{good} good steps of {n_steps}: a wrong solution has a wrong step")
        if not 0 <= hazard < 1:
            raise ValueError("hazard lies in [0, 1)")
        self.n_steps, self.good, self.passing, self.chance = n_steps, good, passing, chance
        anywhere = (1 - hazard) / (n_steps - good)
        logs, log = [math.log(hazard + anywhere)], math.log(anywhere)
        for m in range(good + 1, n_steps):
            logs.append(log + chance.log_failing(passing[m]))
            log += chance.log_failing(leaving[m])
        highest = max(logs)
        weights = [math.exp(item - highest) for item in logs]
        total = sum(weights)
        self.p_error = [weight / total for weight in weights]
        """The probability of each step from `good` on; it sums to 1."""

    @property
    def best(self) -> tuple[int, float]:
        """The most likely first error, and how likely it is."""
        p = max(self.p_error)
        return self.good + self.p_error.index(p), p

    def can_be_sure(self, confidence: float, n: int) -> bool:
        """Whether n more failures after the next step would make it the first error with this confidence."""
        if len(self.p_error) == 1:
            return True
        left = (1 - self.p_error[0]) * math.exp(self.chance.log_failing(n, self.passing[self.good + 1]))
        return left <= (1 - confidence) / confidence * self.p_error[0]

    def next_probe(self, costs: Sequence[float], wave: int = 1) -> Probe | None:
        """The prefix from which `wave` rollouts give the most expected information per token.

        `costs[m]` is the cost of one rollout from prefix m in tokens, infinite if none can be drawn there. Returns None
        if every step but one is ruled out, or nothing can be drawn.
        """
        p = self.p_error
        entropies = [x * math.log(x) if x > 0 else 0.0 for x in p]
        now = -sum(entropies)
        after, h_after = 1.0, sum(entropies)
        best: Probe | None = None
        for i in range(len(p) - 1):
            # Prefix m = good + i + 1 is good if the error comes after its last step, step m - 1.
            m = self.good + i + 1
            after, h_after = after - p[i], h_after - entropies[i]
            if after <= 1e-12:
                break
            before, h_before = 1.0 - after, -now - h_after
            failing = math.exp(self.chance.log_failing(wave, self.passing[m]))
            fail = before + after * failing
            success = max(after * (1 - failing), 0.0)
            scale = failing / fail
            after_fail = -(h_before - before * math.log(fail)) / fail
            after_fail -= scale * (h_after + after * math.log(scale))
            after_success = math.log(after) - h_after / after
            gain = now - fail * after_fail - success * after_success
            cost = wave * costs[m]
            if cost < math.inf and (best is None or gain / cost > best.gain / best.cost):
                best = Probe(m, gain, cost)
        return best
