"""The posterior over the first error, against Bayes by hand."""

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openr_data.labelers.posterior import Chance, FirstError

HAZARDS = st.sampled_from([0.05, 0.25, 0.5, 0.9])
CHANCES = st.builds(Chance, st.sampled_from([1.0, 2.0, 8.0, 30.0]), st.floats(0.02, 0.98))


def beta_chance(a: int, b: int) -> Chance:
    """Beta(a, b) as the module writes it."""
    return Chance(a, a / (a + b))


# --- the chance that a good prefix fails ------------------------------------------------------------------------------


def rising(start: int, n: int) -> Fraction:
    """start (start + 1) … (start + n - 1)."""
    return Fraction(math.prod(range(start, start + n)))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 30))
def test_the_likelihood_of_failures_is_exact(a: int, b: int, n: int) -> None:
    # E[(1 - p)^n] = B(a, b + n) / B(a, b).
    exact = rising(b, n) / rising(a + b, n)
    assert math.exp(beta_chance(a, b).log_failing(n)) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(("shape", "mean"), [(8.0, 0.5), (2.5, 0.1), (8.0, 0.9), (1.5, 0.3)])
@pytest.mark.parametrize("n", [0, 1, 3, 20])
def test_the_likelihood_of_failures_is_the_integral_over_the_chance(shape: float, mean: float, n: int) -> None:
    chance = Chance(shape, mean)
    a, b = shape, chance.beta
    assert a / (a + b) == pytest.approx(mean)
    # In logits the density is smooth everywhere and vanishes at both ends.
    points = [-60 + 0.01 * i for i in range(12_001)]
    logs = [(-math.log1p(math.exp(-x)), -math.log1p(math.exp(x))) for x in points]
    density = [math.exp(a * p + b * q) for p, q in logs]
    failing = sum(d * math.exp(n * q) for d, (_, q) in zip(density, logs, strict=True))
    assert math.exp(chance.log_failing(n)) == pytest.approx(failing / sum(density), rel=1e-6)


@given(CHANCES, st.integers(0, 20), st.integers(0, 20))
def test_failures_add_up(chance: Chance, n: int, more: int) -> None:
    whole = chance.log_failing(n + more)
    assert whole == pytest.approx(chance.log_failing(n) + chance.log_failing(more, seen=n), abs=1e-9)


@given(CHANCES, st.integers(0, 40))
def test_the_next_failure_surprises_less_and_less(chance: Chance, n: int) -> None:
    assert chance.log_failing(1, n) < chance.log_failing(1, n + 1) < 0


@given(st.floats(0.02, 0.97), st.integers(1, 20))
def test_failures_tell_more_where_success_is_common_and_where_chances_are_even(mean: float, n: int) -> None:
    assert Chance(8.0, mean + 0.01).log_failing(n) < Chance(8.0, mean).log_failing(n)
    assume(n > 1)
    assert Chance(30.0, mean).log_failing(n) < Chance(2.0, mean).log_failing(n)


def test_no_failure_says_nothing() -> None:
    assert Chance(8.0, 0.3).log_failing(0) == Chance(8.0, 0.3).log_failing(0, 7) == 0.0


# --- Bayes by hand ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A wrong rollout: drawn at a prefix, along the solution until it leaves it at another (or never: None)."""

    start: int
    leaves: int | None

    def passes(self, prefix: int) -> bool:
        return self.start <= prefix and (self.leaves is None or prefix <= self.leaves)


@dataclass(frozen=True)
class Case:
    """A solution of `n_steps`, the first `good` of them good, and the failures of rollouts along it."""

    n_steps: int
    good: int
    failures: tuple[Failure, ...]

    def counts(self) -> tuple[list[int], list[int]]:
        prefixes = range(self.n_steps)
        passing = [sum(item.passes(m) for item in self.failures) for m in prefixes]
        leaving = [sum(item.leaves == m for item in self.failures) for m in prefixes]
        return passing, leaving

    def posterior(self, chance: Chance, hazard: float) -> FirstError:
        passing, leaving = self.counts()
        return FirstError(self.n_steps, self.good, passing, leaving, chance, hazard)

    def by_hand(self, a: int, b: int, hazard: Fraction) -> list[Fraction]:
        """Every place of the error in turn, from the failures one by one."""
        weights = []
        for error in range(self.good, self.n_steps):
            weight = hazard * (error == self.good) + (1 - hazard) / (self.n_steps - self.good)
            tried = [0] * self.n_steps
            for item in self.failures:
                if item.start > error:
                    # Drawn after the error, so it had to fail.
                    continue
                last_shared = item.leaves if item.leaves is not None and item.leaves < error else error
                if last_shared > self.good:
                    tried[last_shared] += 1
            for n in tried:
                weight *= rising(b, n) / rising(a + b, n)
            weights.append(weight)
        return [weight / sum(weights) for weight in weights]


@st.composite
def cases(draw: st.DrawFn, most_steps: int = 7, most_failures: int = 8) -> Case:
    n_steps = draw(st.integers(1, most_steps))
    good = draw(st.integers(0, n_steps - 1))
    failures = []
    for _ in range(draw(st.integers(0, most_failures))):
        start = draw(st.integers(0, n_steps - 1))
        failures.append(Failure(start, draw(st.none() | st.integers(start, n_steps - 1))))
    return Case(n_steps, good, tuple(failures))


@given(
    cases(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([Fraction(1, 20), Fraction(1, 2), Fraction(9, 10)])
)
@settings(max_examples=300)
def test_the_posterior_is_that_of_bayes(case: Case, a: int, b: int, hazard: Fraction) -> None:
    found = case.posterior(beta_chance(a, b), float(hazard)).p_error
    assert found == pytest.approx([float(p) for p in case.by_hand(a, b, hazard)], abs=1e-9)


@given(cases(12, 40), CHANCES, HAZARDS)
def test_it_sums_to_one_and_falls_from_the_last_good_step_on(case: Case, chance: Chance, hazard: float) -> None:
    found = case.posterior(chance, hazard)
    assert len(found.p_error) == case.n_steps - case.good
    assert math.fsum(found.p_error) == pytest.approx(1.0)
    assert all(0 <= p <= 1 for p in found.p_error)
    # Nothing but a success can make a later step likelier than an earlier one.
    assert found.p_error == sorted(found.p_error, reverse=True)
    assert found.best == (case.good, found.p_error[0])


def test_without_failures_the_hazard_alone_speaks() -> None:
    for hazard, expected in ((0.0, [1 / 3] * 3), (0.25, [0.5, 0.25, 0.25])):
        assert Case(4, 1, ()).posterior(Chance(8.0, 0.5), hazard).p_error == pytest.approx(expected)


def test_what_goes_on_from_the_last_good_prefix_has_no_say() -> None:
    quiet, loud = Case(5, 2, ()), Case(5, 2, (Failure(0, 2), Failure(2, 2), Failure(1, 1)))
    assert loud.posterior(Chance(8.0, 0.5), 0.5).p_error == quiet.posterior(Chance(8.0, 0.5), 0.5).p_error


def test_many_failures_and_many_steps_do_not_underflow() -> None:
    case = Case(400, 0, tuple(Failure(m, m) for m in range(400) for _ in range(8)))
    found = case.posterior(Chance(8.0, 0.98), 0.5)
    assert found.p_error[0] == pytest.approx(1.0, abs=1e-5)
    assert math.fsum(found.p_error) == pytest.approx(1.0)


@given(cases(), CHANCES, HAZARDS, st.data())
def test_a_failure_at_a_prefix_never_makes_an_error_behind_it_likelier(
    case: Case, chance: Chance, hazard: float, data: st.DataObject
) -> None:
    assume(case.n_steps - case.good > 1)
    m = data.draw(st.integers(case.good + 1, case.n_steps - 1))
    leaves = data.draw(st.none() | st.integers(m, case.n_steps - 1))
    more = Case(case.n_steps, case.good, (*case.failures, Failure(m, leaves)))
    behind = m - case.good
    before, after = (item.posterior(chance, hazard).p_error for item in (case, more))
    assert sum(after[behind:]) <= sum(before[behind:]) + 1e-12
    # It is also no evidence about the earlier steps relative to each other.
    for i in range(behind - 1):
        assert after[i] * before[i + 1] == pytest.approx(after[i + 1] * before[i], rel=1e-6, abs=1e-15)


@given(cases(), CHANCES, HAZARDS, st.integers(1, 4))
def test_good_steps_in_front_change_nothing(case: Case, chance: Chance, hazard: float, shift: int) -> None:
    moved = tuple(
        Failure(item.start + shift, None if item.leaves is None else item.leaves + shift) for item in case.failures
    )
    later = Case(case.n_steps + shift, case.good + shift, moved)
    first, second = case.posterior(chance, hazard), later.posterior(chance, hazard)
    assert second.p_error == first.p_error
    assert second.best[0] == first.best[0] + shift
    costs = [float(10 + m) for m in range(case.n_steps)]
    probe, again = first.next_probe(costs, 2), second.next_probe([1.0] * shift + costs, 2)
    assert (probe is None) == (again is None)
    if probe and again:
        assert (again.prefix - shift, again.gain, again.cost) == (probe.prefix, probe.gain, probe.cost)


@given(cases(), CHANCES, HAZARDS)
def test_the_order_of_failures_does_not_matter(case: Case, chance: Chance, hazard: float) -> None:
    turned = Case(case.n_steps, case.good, case.failures[::-1])
    assert turned.posterior(chance, hazard).p_error == case.posterior(chance, hazard).p_error


@pytest.mark.parametrize(("n_steps", "good"), [(3, 3), (3, 4), (0, 0), (3, -1)])
def test_a_solution_without_a_wrong_step_is_refused(n_steps: int, good: int) -> None:
    with pytest.raises(ValueError, match="a wrong solution has a wrong step"):
        FirstError(n_steps, good, [0] * 5, [0] * 5, Chance(8.0, 0.5))


@pytest.mark.parametrize("hazard", [1.0, 1.5, -0.1])
def test_a_hazard_that_is_no_chance_of_going_on_is_refused(hazard: float) -> None:
    with pytest.raises(ValueError, match="hazard"):
        FirstError(3, 0, [0] * 3, [0] * 3, Chance(8.0, 0.5), hazard)


# --- the next probe ---------------------------------------------------------------------------------------------------


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def gain_by_hand(found: FirstError, m: int, wave: int) -> float:
    """The entropy now, less the one expected after `wave` rollouts from prefix m that all fail or do not."""
    failing = math.exp(found.chance.log_failing(wave, found.passing[m]))
    p_fails = [1.0 if found.good + i < m else failing for i in range(len(found.p_error))]
    left = 0.0
    for likelihood in (p_fails, [1 - x for x in p_fails]):
        joint = [p * x for p, x in zip(found.p_error, likelihood, strict=True)]
        if total := sum(joint):
            left += total * entropy([x / total for x in joint])
    return entropy(found.p_error) - left


@given(cases(), CHANCES, HAZARDS, st.integers(1, 8), st.data())
@settings(max_examples=300)
def test_the_next_probe_is_the_one_that_tells_most_for_its_price(
    case: Case, chance: Chance, hazard: float, wave: int, data: st.DataObject
) -> None:
    found = case.posterior(chance, hazard)
    costs = data.draw(st.lists(st.floats(1, 1000), min_size=case.n_steps, max_size=case.n_steps))
    probe = found.next_probe(costs, wave)
    worth = {m: gain_by_hand(found, m, wave) / (wave * costs[m]) for m in range(case.good + 1, case.n_steps)}
    if not worth:
        assert probe is None
        return
    assert probe is not None
    assert case.good < probe.prefix < case.n_steps
    assert probe.cost == wave * costs[probe.prefix]
    assert probe.gain == pytest.approx(gain_by_hand(found, probe.prefix, wave), abs=1e-9)
    assert worth[probe.prefix] >= max(worth.values()) - 1e-9


@given(cases(40, 60), CHANCES, st.sampled_from([0.01, 0.5, 0.99]), st.integers(1, 16))
def test_a_probe_never_costs_knowledge(case: Case, chance: Chance, hazard: float, wave: int) -> None:
    found = case.posterior(chance, hazard)
    probe = found.next_probe([1.0] * case.n_steps, wave)
    if probe is not None:
        assert -1e-9 <= probe.gain <= entropy(found.p_error) + 1e-9


def test_a_dear_prefix_is_left_alone_and_the_cheapest_of_equals_taken() -> None:
    found = Case(6, 0, ()).posterior(Chance(8.0, 0.8), 0.2)
    free = found.next_probe([1.0] * 6)
    assert free is not None
    dear = found.next_probe([1000.0 if m == free.prefix else 1.0 for m in range(6)])
    assert dear is not None
    assert dear.prefix != free.prefix


def test_with_even_chances_and_prices_the_split_is_the_middle_and_moves_right_where_success_is_rare() -> None:
    places = []
    for mean in (0.98, 0.5, 0.1, 0.02):
        probe = Case(16, 0, ()).posterior(Chance(30.0, mean), 1e-6).next_probe([1.0] * 16)
        assert probe is not None
        places.append(probe.prefix)
    assert places[0] == 8
    assert places == sorted(places)
    assert places[-1] > 8


def test_where_the_first_step_is_likelier_the_split_lies_left_of_the_middle() -> None:
    probe = Case(16, 0, ()).posterior(Chance(30.0, 0.98), 0.5).next_probe([1.0] * 16)
    assert probe is not None
    assert probe.prefix < 8


def test_where_nothing_can_be_drawn_nothing_is() -> None:
    found = Case(4, 0, ()).posterior(Chance(8.0, 0.5), 0.2)
    free = found.next_probe([1.0] * 4)
    assert free is not None
    closed = found.next_probe([math.inf if m == free.prefix else 1.0 for m in range(4)])
    assert closed is not None
    assert closed.prefix != free.prefix
    assert found.next_probe([math.inf] * 4) is None


def test_no_probe_where_everything_is_known() -> None:
    assert Case(3, 2, ()).posterior(Chance(8.0, 0.5), 0.5).next_probe([1.0] * 3) is None
    sure = Case(3, 0, tuple(Failure(1, None) for _ in range(2000)))
    assert sure.posterior(Chance(30.0, 0.98), 0.5).next_probe([1.0] * 3) is None


# --- whether a search can end -----------------------------------------------------------------------------------------


@given(cases(), CHANCES, HAZARDS, st.floats(0.5, 0.995), st.integers(0, 40))
@settings(max_examples=300)
def test_who_can_be_sure_is_sure_after_so_many_failures(
    case: Case, chance: Chance, hazard: float, confidence: float, n: int
) -> None:
    found = case.posterior(chance, hazard)
    boundary = case.good + 1
    if len(found.p_error) == 1:
        assert found.can_be_sure(confidence, n)
        return
    after = Case(case.n_steps, case.good, case.failures + (Failure(boundary, boundary),) * n)
    p = after.posterior(chance, hazard).best[1]
    if found.can_be_sure(confidence, n):
        assert p >= confidence - 1e-9
    elif not any(item.passes(boundary) and item.leaves != boundary for item in case.failures):
        # Without rollouts after the boundary the result is exact.
        assert p < confidence + 1e-9


@given(cases(), CHANCES, HAZARDS, st.integers(0, 20))
def test_more_rollouts_and_less_confidence_never_hurt(case: Case, chance: Chance, hazard: float, n: int) -> None:
    found = case.posterior(chance, hazard)
    if found.can_be_sure(0.95, n):
        assert found.can_be_sure(0.95, n + 1)
        assert found.can_be_sure(0.9, n)
    assert found.can_be_sure(found.best[1] - 1e-9, 0)


def test_a_hopeless_question_cannot_be_made_sure() -> None:
    assert not Case(8, 0, ()).posterior(Chance(8.0, 0.02), 0.5).can_be_sure(0.95, 32)
    assert Case(8, 0, ()).posterior(Chance(8.0, 0.6), 0.5).can_be_sure(0.95, 8)
