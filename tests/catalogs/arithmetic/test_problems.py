"""Checks that the generator is reproducible and consistent, and that its splits never overlap."""

from itertools import combinations, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.catalogs.arithmetic.oracle import first_error, judge
from openr_data.catalogs.arithmetic.problems import (
    LEVELS,
    expression,
    make_problem,
    plan_from_json,
    plan_to_json,
    problems,
    split_of,
)
from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.errors import InputError

NAMES = st.tuples(
    st.sampled_from(["train", "test"]), st.sampled_from(sorted(LEVELS)), st.integers(0, 99), st.integers(0, 999)
)


@given(NAMES)
def test_a_name_gives_one_problem_that_keeps_the_bounds_of_its_level(name: tuple[str, int, int, int]) -> None:
    problem = make_problem(*name)  # type: ignore[arg-type]
    assert problem == make_problem(*name)  # type: ignore[arg-type]
    bounds = LEVELS[name[1]]
    low, high = bounds.operations
    assert low <= len(problem.plan) <= high
    assert 2 <= len(problem.solution) == len(problem.plan) + 1 <= 8
    assert all(0 < operation.result <= bounds.largest for operation in problem.plan)
    assert problem.solution[-1].endswith(f"\\boxed{{{problem.answer}}}.")
    assert split_of(problem.plan) == name[0]


@given(NAMES)
def test_the_plan_computes_what_it_says(name: tuple[str, int, int, int]) -> None:
    problem = make_problem(*name)  # type: ignore[arg-type]
    assert eval(expression(problem.plan)) == problem.answer
    for index, operation in enumerate(problem.plan):
        for side in (operation.left, operation.right):
            if side.ref is not None:
                assert side.ref < index
                assert problem.plan[side.ref].result == side.value


@given(NAMES)
def test_every_given_number_stands_in_the_story(name: tuple[str, int, int, int]) -> None:
    problem = make_problem(*name)  # type: ignore[arg-type]
    words = {"2": ("half", "doubles", "twice", "every second", "again"), "3": ("triples",)}
    for operation in problem.plan:
        for side in (operation.left, operation.right):
            if side.ref is None:
                spellings = (str(side.value), *words.get(str(side.value), ()))
                assert any(word in problem.text.lower() for word in spellings), (problem.text, operation)


@given(NAMES)
def test_every_misreading_can_be_calculated_and_leads_to_another_answer(name: tuple[str, int, int, int]) -> None:
    problem = make_problem(*name)  # type: ignore[arg-type]
    assert problem.misread({}) == problem.plan
    for count in range(1, len(problem.traps) + 1):
        for chosen in combinations(problem.traps.items(), count):
            plan = problem.misread(dict(chosen))
            assert plan[-1].result != problem.answer
            steps = problem.write(plan)
            assert steps[-1].endswith(f"\\boxed{{{plan[-1].result}}}.")
            judged = judge(problem.text, problem.plan, steps)
            # The oracle finds the mistake where the first trap is, unless a later number happens to fit the plan.
            assert first_error(judged) is not None
            assert first_error(judged) >= min(dict(chosen))


def test_traps_grow_with_the_level() -> None:
    stream = list(islice(problems("test", 1), 1000))
    shares = [sum(bool(p.traps) for p in stream if p.level == level) / 200 for level in LEVELS]
    assert shares == sorted(shares)
    assert 0.1 < shares[0] < 0.3
    assert 0.6 < shares[-1] < 0.8


def test_plans_survive_json() -> None:
    plan = make_problem("train", 5, 0, 0).plan
    assert plan_from_json(plan_to_json(plan)) == plan


def test_train_and_test_share_no_text_and_no_calculation() -> None:
    train = list(islice(problems("train", 0), 3000))
    test = list(islice(problems("test", 0), 600))
    assert not {p.text for p in train} & {p.text for p in test}
    assert not {expression(p.plan) for p in train} & {expression(p.plan) for p in test}


def test_a_stream_is_distinct_and_goes_round_the_levels() -> None:
    stream = list(islice(problems("test", 3), 500))
    assert len({problem.text for problem in stream}) == 500
    assert {level: sum(p.level == level for p in stream) for level in LEVELS} == pytest.approx(
        dict.fromkeys(LEVELS, 100), abs=5
    )
    assert len({problem.setting for problem in stream}) == 4


def test_the_source_yields_questions_with_their_plan() -> None:
    source = ArithmeticSource()
    first = next(source.read("test", 7))
    assert first == next(source.read("test", 7))
    assert first != next(source.read("test", 8))
    assert (first.source, first.split, first.level) == ("arithmetic", "test", "1")
    with pytest.raises(InputError, match="train and test, not 'dev'"):
        next(source.read("dev"))


def test_the_source_judges_steps() -> None:
    source = ArithmeticSource()
    question = next(source.read("test", 7))
    assert source.judge(question, ["The answer is \\boxed{999}.", "x"]) == [-1, None]
    assert source.judge(question, [f"\\boxed{{{question.answer}}}"]) == [1]


def test_questions_are_the_same_on_every_machine() -> None:
    first = next(ArithmeticSource().read("test", 0))
    assert first.question_id == "f8b2136819083d67ee41775b2f7de352"
