"""Checks one contract over all registered labelers, independent of their method.

A labeler that needs given solutions (`needs_given`) has tests of its own. Each of the others samples once, and once
labels what it is given.
"""

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openr_data.config import build
from openr_data.engine.journal import Journal
from openr_data.engine.journaled_policy import JournaledPolicy
from openr_data.engine.protocols import Labeler
from openr_data.engine.scheduler import Done, run
from openr_data.errors import PolicyError
from openr_data.ids import child_id, prefix_ids
from openr_data.labelers import rollouts
from openr_data.registry import LABELERS, load
from openr_data.steps import SEPARATOR, join_steps, split_steps
from openr_data.types import (
    Completion,
    Labeling,
    LabelSet,
    Outcome,
    Prefix,
    Provenance,
    Question,
    Sampling,
    Solution,
    StepLabel,
    Verdict,
)
from tests.virtual_clock import run_virtual

from .worlds import Watching, World, a_question, by_solution, given, labelled, labelled_all, right, said, values, wrong

SMALL: dict[str, dict[str, Any]] = {
    "omegaprm": {"k": 4, "searches": 4, "screening": 8},
    "omegaprm stop": {"k": 4, "searches": 4, "screening": 8, "wave": 2, "split_at": 0.4},
    "adaptive": {"searches": 4, "most": 12},
    "math-shepherd": {"k": 3, "solutions": 3},
    "mips": {"k": 3, "solutions": 3},
}
"""Options that keep a question small, also of variants of a labeler; one that is not named here runs with its own."""

SAMPLE = [name for name in LABELERS if not getattr(load("labeler", name), "needs_given", False)]
NAMES = [*SAMPLE, "omegaprm stop"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A labeler under the contract, sampling or with given solutions."""

    name: str
    is_given: bool

    @property
    def kind(self) -> Any:
        return load("labeler", self.name.partition(" ")[0])

    def make(self, max_tokens: int = 6, seed: int = 0, **options: Any) -> Labeler:
        kind = self.kind
        config = build(kind.config_type, {**SMALL.get(self.name, {}), **options})
        labeler: Labeler = kind(config, Sampling(max_tokens=max_tokens, seed=seed))
        return labeler

    @property
    def has_first_errors(self) -> bool:
        """Whether its labels are good, then bad, then none, and not each for itself."""
        return not self.kind.independent_steps

    def solutions(self, number: int, length: int = 6) -> tuple[Solution, ...]:
        """Make given solutions of a question: wrong ones that share steps with each other and the world, and a right one."""
        if not self.is_given:
            return ()
        world, question = World(length), a_question(number)
        return (
            given(question, *world.solution(number, 2, "0")),
            given(question, *world.solution(number, length - 1, "0"), outcome=Verdict.UNKNOWN),
            given(question, *world.solution(number, 0)),
            given(question, *world.solution(number, None, "0"), outcome=Verdict.UNKNOWN),
        )


@pytest.fixture(params=[(name, mode) for name in NAMES for mode in ("sampled", "given")], ids=": ".join)
def subject(request: pytest.FixtureRequest) -> Subject:
    name, mode = request.param
    return Subject(name, mode == "given")


@pytest.fixture(params=NAMES)
def with_given(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param, True)


@pytest.fixture(params=NAMES)
def sampling(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param, False)


def test_the_contract_covers_every_labeler_that_samples() -> None:
    assert set(SAMPLE) >= {"omegaprm", "adaptive", "math-shepherd", "mips"}
    assert set(SAMPLE) <= set(LABELERS)


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("texts", [1, 2, 50])
def test_it_ends_within_its_budget(subject: Subject, good: float, texts: int) -> None:
    labeler = subject.make()
    for number in range(12):
        policy, solutions = World(6, good, texts), subject.solutions(number)
        labeling = labelled(labeler, policy, solutions, number)
        budget = labeler.budget(a_question(number), solutions)
        tokens = sum(item.n_tokens for _, _, reply in policy.seen for item in reply)
        assert len(policy.asked) <= budget.requests
        assert sum(n for _, n in policy.asked) <= budget.completions
        assert tokens <= budget.completion_tokens
        # Its own counts equal what the policy has seen.
        assert (labeling.calls, labeling.tokens) == (sum(n for _, n in policy.asked), tokens)
        assert labeling.calls == len(labeling.rollouts)


def test_no_prefix_is_probed_twice_and_no_sample_drawn_twice(subject: Subject) -> None:
    for number in range(12):
        policy = World()
        labeling = labelled(subject.make(), policy, subject.solutions(number), number)
        assert labeling.repeated_probes == 0
        assert labeling.probes == len({prefix.steps for prefix, _ in policy.asked})
        drawn = [(prefix.steps, sampling.seed) for prefix, sampling, _ in policy.seen]
        assert len(set(drawn)) == len(drawn)
        assert len({item.rollout_id for item in labeling.rollouts}) == len(labeling.rollouts)


# --- the same, again --------------------------------------------------------------------------------------------------


def test_the_same_question_gives_the_same_labeling(subject: Subject) -> None:
    first, second, other = (
        [labelled(subject.make(seed=seed), World(texts=2), subject.solutions(n), n) for n in range(5)]
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


@contextmanager
def journaled(path: Path, backend: World) -> Iterator[JournaledPolicy]:
    journal = Journal(path)
    try:
        yield JournaledPolicy(backend, journal)
    finally:
        journal.close()


async def run_all(
    subject: Subject, policy: JournaledPolicy, numbers: Sequence[int], live: int
) -> dict[int, list[Labeling]]:
    """The labelings of all questions as a job makes them, by the number of the question."""
    labeler, grader = subject.make(), Watching()
    found: dict[int, list[Labeling]] = {}

    async def work(item: tuple[int, int]) -> Labeling:
        age, number = item
        with policy.account(a_question(number).question_id, age):
            return await labeler.label(a_question(number), policy, grader, subject.solutions(number))

    async for item in run(list(enumerate(numbers)), work, live, admission=policy.admission):
        assert isinstance(item, Done), item
        found.setdefault(item.question[1], []).append(item.result)
    return found


NUMBERS = [*range(20), 3, 17]
"""20 questions, two of them twice."""


def test_the_result_depends_neither_on_concurrency_nor_on_the_order_of_replies(
    subject: Subject, tmp_path: Path
) -> None:
    alone = {
        number: labelled(subject.make(), World(texts=2), subject.solutions(number), number) for number in range(20)
    }
    paid = set()
    for live in (1, 16, 256):
        backend = World(texts=2, seconds=10)
        with journaled(tmp_path / str(live), backend) as policy:
            found, _ = run_virtual(run_all(subject, policy, NUMBERS, live))
            assert found == {number: [alone[number]] * NUMBERS.count(number) for number in range(20)}
            # A question that comes twice is paid for once.
            assert len({(prefix, sampling.seed) for prefix, sampling, _ in backend.seen}) == len(backend.seen)
            paid.add((policy.paid.requests, policy.paid.completions, policy.paid.completion_tokens))
    assert len(paid) == 1


class Gone(World):
    """A policy that cannot be asked."""

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        raise PolicyError("gone")


def test_a_replay_asks_the_policy_nothing_and_gives_the_same_labeling(subject: Subject, tmp_path: Path) -> None:
    with journaled(tmp_path / "journal", World(texts=2)) as policy:
        before = asyncio.run(run_all(subject, policy, NUMBERS, 16))
        paid = dataclasses.replace(policy.paid)
    with journaled(tmp_path / "journal", Gone()) as policy:
        assert asyncio.run(run_all(subject, policy, NUMBERS, 16)) == before
        assert policy.paid == paid


# --- what counts ------------------------------------------------------------------------------------------------------


class Cut(World):
    """Every `every`-th sample is cut at its limit, with a wrong result in a box just before."""

    def __init__(self, every: int, **options: Any) -> None:
        super().__init__(**options)
        self.every = every

    def one(self, prefix: Prefix, rng: Any, index: int, limit: int) -> Completion:
        whole = super().one(prefix, rng, index, limit)
        if index % self.every:
            return whole
        *steps, _ = (*split_steps(whole.text), "")
        number = int(prefix.question[1:-1])
        return Completion(join_steps([*steps, f"So far {wrong(number)}"]), whole.n_tokens, "length")


def rests_on_a_wrong_answer(policy: World, steps: Sequence[str], number: int) -> bool:
    """Report whether a finished sample after or through this prefix has reached a wrong answer."""
    return any(
        sample.finish_reason == "stop"
        and right(number) not in sample.text
        and (*prefix.steps, *split_steps(sample.text))[: len(steps)] == tuple(steps)
        for prefix, _, reply in policy.seen
        for sample in reply
    )


@pytest.mark.parametrize("texts", [1, 2])
def test_truncated_rollouts_are_never_wrong(subject: Subject, texts: int) -> None:
    bad = 0
    for number in range(20):
        policy = Cut(2, texts=texts)
        labeling = labelled(subject.make(), policy, subject.solutions(number), number)
        for rollout in labeling.rollouts:
            assert (rollout.finish_reason == "length") == (rollout.verdict is Verdict.UNKNOWN)
        for node in labeling.nodes:
            drawn = [rollout for rollout in labeling.rollouts if rollout.node_id == node.node_id]
            assert node.n_unknown == sum(rollout.finish_reason == "length" for rollout in drawn)
            assert node.n_rollouts == len(drawn) - node.n_unknown
        for solution, label_set in by_solution(labeling):
            for place, step in enumerate(label_set.labels):
                if step.label == -1:
                    bad += 1
                    is_whole = place == len(solution.steps) - 1 and solution.outcome is Verdict.INCORRECT
                    assert is_whole or rests_on_a_wrong_answer(policy, solution.steps[: place + 1], number)
    assert bad > 0


def test_where_all_rollouts_are_truncated_no_step_is_bad_for_them(subject: Subject) -> None:
    for number in range(5):
        labeling = labelled(subject.make(), Cut(1), subject.solutions(number), number)
        if not subject.is_given:
            assert (labeling.outcome, labeling.labels) == (Outcome.NO_GRADED, ())
        for solution, label_set in by_solution(labeling):
            *before, last = values(label_set)
            assert -1 not in before
            assert last != -1 or solution.outcome is Verdict.INCORRECT


def test_a_labeler_sees_one_question_and_the_policy_no_answer(subject: Subject, tmp_path: Path) -> None:
    seen: list[tuple[Question, list[tuple[str, str]]]] = []
    backend = World(texts=2, seconds=10)

    async def work(number: int) -> Labeling:
        grader = Watching()
        seen.append((a_question(number), grader.asked))
        return await subject.make().label(a_question(number), policy, grader, subject.solutions(number))

    async def main() -> list[Labeling]:
        return [item.result async for item in run(range(12), work, 12) if isinstance(item, Done)]

    with journaled(tmp_path / "journal", backend) as policy:
        labelings, _ = run_virtual(main())
    assert len(labelings) == 12
    for question, asked in seen:
        assert asked
        number = int(question.question[1:-1])
        assert {gold for _, gold in asked} == {question.answer}
        assert {answer[-3:] for answer, _ in asked} == {f"{number:03}"}
    for prefix, _ in backend.asked:
        number = int(prefix.question[1:-1])
        assert a_question(number).answer not in join_steps((prefix.question, *prefix.steps))
        assert all(f" of {number}," in step for step in prefix.steps)
    for labeling in labelings:
        assert {item.question_id for item in labeling.solutions} <= {labeling.question_id}
        assert {item.question_id for item in labeling.rollouts} == {labeling.question_id}


# --- the shape of a labeling ------------------------------------------------------------------------------------------


def check_shape(subject: Subject, labeling: Labeling) -> None:
    """All that holds of a labeling of any method."""
    name = labeling.question_id
    nodes = {node.node_id: node for node in labeling.nodes}
    assert len(nodes) == len(labeling.nodes)
    assert len(labeling.labels) == len(labeling.solutions)
    for node in labeling.nodes:
        assert 0 <= node.n_correct <= node.n_rollouts
        assert node.terminal == (node.verdict is not None)
        assert node.parent_id is None if node.depth == 0 else node.parent_id != node.node_id
    errors = set()
    for solution, label_set in by_solution(labeling):
        assert label_set.solution_id == solution.solution_id
        assert [step.node_id for step in label_set.labels] == list(prefix_ids(name, solution.steps))[1:]
        for step in label_set.labels:
            check_step(step)
        if label_set.first_error is not None:
            errors.add(label_set.labels[label_set.first_error].node_id)
        if subject.has_first_errors:
            check_first_error(label_set, {node for node, item in nodes.items() if item.certified})
            assert label_set.first_error is None or solution.outcome is Verdict.INCORRECT
    assert labeling.located == len(errors)


def check_step(step: StepLabel) -> None:
    assert 0 <= step.n_correct <= step.n_rollouts
    if step.n_rollouts:
        assert step.value == pytest.approx(step.n_correct / step.n_rollouts)
    else:
        assert step.value in (None, 0.0, 1.0)
    if step.provenance in (Provenance.MEASURED, Provenance.STOPPED):
        assert step.n_rollouts
    if step.label is None:
        assert step.provenance is not Provenance.CERTIFIED


def check_first_error(label_set: LabelSet, certified: set[str]) -> None:
    found = values(label_set)
    error = label_set.first_error
    end = found.index(None) if None in found and error is None else len(found) if error is None else error
    assert found[:end] == [1] * end, "a step before the first error is not good"
    assert {step.node_id for step in label_set.labels[:end]} <= certified, "good, but nothing right runs through it"
    if error is not None:
        assert found[error + 1 :] == [None] * (len(found) - error - 1), "something is said behind the first error"
        bad = label_set.labels[error]
        assert bad.node_id not in certified, "bad, but something right runs through it"
        assert (bad.n_correct, bad.value or 0.0) == (0, 0.0)
    else:
        assert set(found[end:]) <= {None}


@pytest.mark.parametrize("texts", [1, 2, 50])
def test_labels_counts_and_ids_are_consistent(subject: Subject, texts: int) -> None:
    outcomes = Counter[Outcome]()
    for number in range(20):
        world = World(6, 0.8, texts)
        labeling = labelled(subject.make(), world, subject.solutions(number), number)
        outcomes[labeling.outcome] += 1
        check_shape(subject, labeling)
        assert (labeling.outcome is Outcome.LABELLED) >= bool(labeling.located)
    assert outcomes[Outcome.LABELLED] > 10


def test_given_solutions_keep_their_ids_their_order_and_who_wrote_them(with_given: Subject) -> None:
    solutions = with_given.solutions(1)
    labeling = labelled(with_given.make(), World(), solutions, 1)
    assert [item.solution_id for item in labeling.solutions] == [item.solution_id for item in solutions]
    assert {item.generator for item in labeling.solutions} == {"another model"}
    assert [item.outcome for item in labeling.solutions] == [Verdict.INCORRECT] * 3 + [Verdict.CORRECT]
    assert labeling.solutions[1].final_answer == "9001"


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_a_question_without_gold_costs_nothing(subject: Subject, answer: str) -> None:
    policy, grader = World(), Watching()
    question = dataclasses.replace(a_question(), answer=answer)
    labeling = asyncio.run(subject.make().label(question, policy, grader, subject.solutions(0)))
    assert labeling == Labeling(question.question_id, Outcome.NO_GOLD)
    assert (policy.asked, grader.asked) == ([], [])


def test_given_solutions_without_steps_cost_nothing(with_given: Subject) -> None:
    policy = World()
    empty = given(a_question())
    labeling = labelled(with_given.make(), policy, [empty, empty])
    assert (labeling.outcome, labeling.solutions, policy.asked) == (Outcome.NO_SOLUTION, (), [])
    assert with_given.make().budget(a_question(), [empty]).completions >= 0
    # Beside others they are passed over.
    whole = given(a_question(), "good", wrong())
    assert [item.steps for item in labelled(with_given.make(), World(2), [empty, whole]).solutions] == [whole.steps]


@pytest.mark.parametrize(("outcome", "label"), [(Verdict.INCORRECT, -1), (Verdict.CORRECT, 1)])
def test_a_given_solution_of_one_step_is_its_outcome(with_given: Subject, outcome: Verdict, label: int) -> None:
    policy = World(1)
    one = given(a_question(), "Because I say so.", outcome=outcome)
    labeling = labelled(with_given.make(), policy, [one])
    assert [values(item) for item in labeling.labels] == [[label]]
    check_shape(with_given, labeling)
    assert all(not prefix.steps for prefix, _ in policy.asked)


class Endless(World):
    """Says the same step again and again, until it is cut."""

    def one(self, prefix: Prefix, rng: Any, index: int, limit: int) -> Completion:
        return said([f"And again. {wrong()}"] * (limit + 1), limit)


def test_a_policy_that_repeats_itself_endlessly_labels_nothing(subject: Subject) -> None:
    policy = Endless()
    labeling = labelled(subject.make(max_tokens=100), policy, subject.solutions(0))
    budget = subject.make(max_tokens=100).budget(a_question(), subject.solutions(0))
    assert sum(n for _, n in policy.asked) <= budget.completions
    assert labeling.tokens == 100 * labeling.calls <= budget.completion_tokens
    if subject.is_given:
        # The metadata of the solutions are unchanged.
        assert all(-1 not in values(item)[:-1] for item in labeling.labels)
    else:
        assert (labeling.outcome, labeling.labels) == (Outcome.NO_GRADED, ())


def test_a_step_that_stands_in_a_solution_twice_is_two_prefixes(with_given: Subject) -> None:
    again = given(a_question(), *["again"] * 5, wrong())
    labeling = labelled(with_given.make(), World(6, 0.0), [again])
    check_shape(with_given, labeling)
    assert len({step.node_id for step in labeling.labels[0].labels}) == 6


class Split(World):
    """A policy whose steps end with its own mark; its formulas hold blank lines."""

    @property
    def separator(self) -> str:
        return "<step>"

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, "<step>")

    def one(self, prefix: Prefix, rng: Any, index: int, limit: int) -> Completion:
        whole = super().one(prefix, rng, index, limit)
        steps = [f"\\begin{{aligned}}a &= b\n\nc &= d\\end{{aligned}} {step}" for step in split_steps(whole.text)]
        return Completion("<step>".join(steps), whole.n_tokens, whole.ended)


class Lines(Split):
    """The same formulas, cut where all others cut: a blank line inside of a formula parts two steps."""

    @property
    def separator(self) -> str:
        return SEPARATOR

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text)

    def one(self, prefix: Prefix, rng: Any, index: int, limit: int) -> Completion:
        whole = super().one(prefix, rng, index, limit)
        return dataclasses.replace(whole, text=whole.text.replace("<step>", "\n\n"))


@pytest.mark.parametrize(("kind", "separator"), [(Split, "<step>"), (Lines, "\n\n")])
def test_steps_are_what_the_policy_says_and_join_to_its_text(
    sampling: Subject, kind: type[World], separator: str
) -> None:
    labelled_solutions = 0
    for number in range(6):
        policy = kind(6, 0.8)
        labeling = labelled(sampling.make(max_tokens=20), policy, (), number)
        check_shape(sampling, labeling)
        texts = [separator.join((*prefix.steps, sample.text)) for prefix, _, reply in policy.seen for sample in reply]
        for solution in labeling.solutions:
            labelled_solutions += 1
            # Nothing is lost, whatever the formulas hold.
            assert separator.join(solution.steps) in texts
            assert solution.steps == policy.steps_of(separator.join(solution.steps))
            assert len(solution.steps) == 6 if kind is Split else len(solution.steps) > 6
    assert labelled_solutions > 6


def test_a_policy_that_always_succeeds(subject: Subject) -> None:
    labeling = labelled(subject.make(), World(6, 1.0), subject.solutions(0))
    check_shape(subject, labeling)
    for solution, label_set in by_solution(labeling):
        # A wrong solution is wrong where it ends, if everything before can still be saved.
        assert values(label_set)[:2] == ([1, 1] if solution.steps[0].startswith("good") else values(label_set)[:2])
        assert (label_set.first_error is None) == (solution.outcome is Verdict.CORRECT)
    if not subject.is_given and subject.has_first_errors:
        assert (labeling.outcome, labeling.labels) == (Outcome.NO_WRONG, ())


def test_a_policy_that_never_succeeds(sampling: Subject) -> None:
    labeling = labelled(sampling.make(), World(6, 0.0))
    check_shape(sampling, labeling)
    if sampling.has_first_errors:
        assert (labeling.outcome, labeling.labels) == (Outcome.NO_CORRECT, ())
    assert not any(step.label == 1 for item in labeling.labels for step in item.labels)


def test_the_same_given_solution_twice_is_labelled_as_one(with_given: Subject) -> None:
    once = with_given.solutions(2)
    policies = [World(), World()]
    first = labelled(with_given.make(), policies[0], once, 2)
    second = labelled(with_given.make(), policies[1], (*once, *once), 2)
    labels = {item.solution_id: item for item in first.labels}
    assert {item.solution_id for item in second.labels} == set(labels)
    assert all(item == labels[item.solution_id] for item in second.labels)
    assert policies[0].asked == policies[1].asked


@pytest.mark.parametrize("good", [0.0, 0.5, 1.0])
def test_a_right_given_solution_ends_well(with_given: Subject, good: float) -> None:
    for outcome in (Verdict.CORRECT, Verdict.UNKNOWN):
        solution = given(a_question(), *World().solution(0, None), outcome=outcome)
        policy = World(6, good)
        labeling = labelled(with_given.make(), policy, [solution])
        check_shape(with_given, labeling)
        (found,) = labeling.labels
        assert labeling.outcome is Outcome.LABELLED
        assert (found.labels[-1].label, found.labels[-1].value) == (1, 1.0)
        if with_given.has_first_errors:
            assert (values(found), policy.asked) == ([1] * 6, [])
        elif good == 1.0:
            assert values(found) == [1] * 6


def test_a_given_solution_whose_outcome_is_unknown_has_no_verdict_at_its_end(with_given: Subject) -> None:
    unknown = given(a_question(), "good 0", "good 1", "It may be anything", outcome=Verdict.UNKNOWN)
    for good in (0.0, 1.0):
        labeling = labelled(with_given.make(), World(3, good), [unknown])
        check_shape(with_given, labeling)
        assert labeling.solutions[0].outcome is Verdict.UNKNOWN
        assert labeling.labels[0].labels[-1].label is None
        if with_given.has_first_errors:
            assert labeling.outcome is Outcome.UNDECIDED
            assert -1 not in values(labeling.labels[0])


@pytest.mark.parametrize("stored", [Verdict.CORRECT, Verdict.INCORRECT])
def test_a_stored_outcome_counts_also_where_the_answer_says_otherwise(with_given: Subject, stored: Verdict) -> None:
    """Somebody has graded it, perhaps with a better grader: it is not graded again."""
    steps = World().solution(0, 3 if stored is Verdict.CORRECT else None)
    grader = Watching()
    labeling = labelled(with_given.make(), World(6, 0.0), [given(a_question(), *steps, outcome=stored)], 0, grader)
    check_shape(with_given, labeling)
    assert labeling.solutions[0].outcome is stored
    assert labeling.labels[0].labels[-1].label in ((1,) if stored is Verdict.CORRECT else (-1, None))
    assert len(grader.asked) == len(labeling.rollouts)


# --- long solutions ---------------------------------------------------------------------------------------------------

LONG = 400
SHORT_WORK: dict[str, dict[str, Any]] = {
    "math-shepherd": {"k": 2, "solutions": 1},
    "mips": {"k": 2, "solutions": 1},
    "omegaprm": {"searches": 4, "screening": 8, "k": 4},
    "adaptive": {"searches": 4},
}


def cost_of_a_step(subject: Subject, length: int, runs: int) -> float:
    """CPU seconds for each step that is drawn or labelled, the least of some runs."""
    costs: list[float] = []
    for _ in range(runs):
        labeler = subject.make(max_tokens=length, **SHORT_WORK.get(subject.name, {}))
        solutions = subject.solutions(0, length)[1:2]
        policy = World(length, 0.998 ** (LONG / length))
        began = time.thread_time()
        labeling = labelled(labeler, policy, solutions)
        steps = labeling.tokens + sum(len(item.labels) for item in labeling.labels)
        costs.append((time.thread_time() - began) / steps)
        check_shape(subject, labeling)
        assert {len(item.labels) for item in labeling.labels} == {length}
    return min(costs)


def test_solutions_of_400_steps_end_in_reasonable_time(subject: Subject) -> None:
    # Measured: it is the same. Work that looks at the whole solution for every step would cost 8 times as much.
    assert cost_of_a_step(subject, LONG, 1) < 4 * cost_of_a_step(subject, LONG // 8, 3)


def hashed_steps(subject: Subject, length: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """How many prefixes are hashed for each step that is drawn or labelled."""
    hashed = 0

    def counted(parent: str, step: str) -> str:
        nonlocal hashed
        hashed += 1
        return child_id(parent, step)

    with monkeypatch.context() as patch:
        patch.setattr(rollouts, "child_id", counted)
        labeler = subject.make(max_tokens=length, **SHORT_WORK.get(subject.name, {}))
        policy = World(length, 0.5 ** (1 / length), 50)
        (labeling,) = labelled_all(labeler, policy, [4])
    assert labeling.labels
    assert hashed
    return hashed / (labeling.tokens + sum(len(item.labels) for item in labeling.labels))


def test_the_work_behind_a_step_does_not_grow_with_the_length_of_its_solution(
    sampling: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = (hashed_steps(sampling, length, monkeypatch) for length in (20, 160))
    assert long < 2 * short
