"""What every grader promises: any text, no exception, honest unknowns, and groups that are an equivalence."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.grading import Extraction, Grader, Groups, MathGrader, load_grader
from openr_data.grading.cache import GradeCache
from openr_data.grading.rollout import graded_answer, graded_rollout, graded_text
from openr_data.ids import rollout_id, root_id
from openr_data.registry import GRADERS
from openr_data.types import Completion, Grade, Sampling, Verdict
from tests.conftest import a_question

TARGETS = {
    "python-function": "python:tests.grading.test_grader_contract:same_letters",
    "python-class": "python:tests.grading.code_domain:CodeGrader",
}
SYMMETRIC = ("math", "string", "numeric", "choice")
"""Graders whose grade does not depend on which of two answers is the gold one."""

TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="0123456789./,-+=()[]{}\\$ xyabAB%", max_size=20),
    st.sampled_from(
        ["1/2", "0.5", "\\frac{1}{2}", "50\\%", "2", "2.0", "x+1", "1+x", "(A)", "a", "A. two", "1,2", "1, 2", "12", "",
         " ", "x = 1", "[0,1]", "yes", "5 cm", "5", "1 x", "1x", "def f(x): return x", "\\boxed{3}", "\u0000", "\ud800"]
    ),
)  # fmt: skip


def same_letters(answer: str, gold: str) -> bool:
    """A function of a user: equal up to the case."""
    return answer.lower() == gold.lower()


@pytest.fixture(scope="module", params=[*GRADERS, *TARGETS])
def grader(request: pytest.FixtureRequest) -> Iterator[Grader]:
    # Without workers: hypothesis finds pairs that only computer algebra would decide, at a second each.
    made: Grader = (
        MathGrader(symbolic=False, cache=GradeCache(None, ""))
        if request.param == "math"
        else load_grader(TARGETS.get(request.param, request.param))
    )
    yield made
    made.close()


def is_symmetric(grader: Grader) -> bool:
    return grader.name.startswith(tuple(f"{name}/" for name in SYMMETRIC))


def grade(grader: Grader, answer: str, gold: str) -> Grade:
    return asyncio.run(grader.grade(answer, gold))


def same(grader: Grader, answers: Sequence[str]) -> Groups:
    return asyncio.run(grader.same(answers))


@given(text=st.text(max_size=80), before=st.lists(st.text(max_size=20), max_size=2))
def test_any_text_has_an_answer_or_none(grader: Grader, text: str, before: list[str]) -> None:
    for finish_reason in ("stop", "length", "abort"):
        extraction = grader.extract(text, finish_reason, before)
        assert isinstance(extraction, Extraction)
        assert extraction.rule
        assert (extraction.answer is None) == (extraction.rule == "none")
        assert extraction.answer != ""


def test_a_text_that_was_cut_has_no_answer(grader: Grader) -> None:
    text = "The answer is \\boxed{4}.\n\n```python\nprint(4)\n```\nEnd."
    assert grader.extract(text, "stop", ()).answer in ("4", "print(4)")
    assert grader.extract(text, "length", ()).answer is None
    assert grader.extract(text, "abort", ()).answer is None


@settings(max_examples=60)
@given(answer=TEXTS, gold=TEXTS)
def test_any_two_texts_get_a_grade_and_an_unknown_one_has_a_reason(grader: Grader, answer: str, gold: str) -> None:
    found = grade(grader, answer, gold)
    assert isinstance(found, Grade)
    assert bool(found.reason) == (found.verdict is Verdict.UNKNOWN)
    assert grade(grader, answer, gold) == found


@settings(max_examples=60)
@given(answer=TEXTS, gold=TEXTS)
def test_a_symmetric_grade_does_not_depend_on_the_direction(grader: Grader, answer: str, gold: str) -> None:
    if is_symmetric(grader):
        assert grade(grader, answer, gold).verdict is grade(grader, gold, answer).verdict


@settings(max_examples=60)
@given(answers=st.lists(TEXTS, max_size=8), seed=st.integers(0, 99))
def test_groups_are_a_partition_that_does_not_depend_on_the_order(
    grader: Grader, answers: list[str], seed: int
) -> None:
    groups = same(grader, answers)
    assert sorted(place for group in groups for place in group) == list(range(len(answers)))
    assert all(group == sorted(group) for group in groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    order = random.Random(seed).sample(range(len(answers)), len(answers))
    turned = same(grader, [answers[place] for place in order])
    assert {frozenset(order[place] for place in group) for group in turned} == set(map(frozenset, groups))


@given(answer=TEXTS)
def test_an_answer_is_in_the_group_of_its_equal(grader: Grader, answer: str) -> None:
    assert len(same(grader, [answer, answer])) == 1
    assert same(grader, [answer, answer, "17", answer])[0][:2] == [0, 1]


@settings(max_examples=60)
@given(answers=st.lists(TEXTS, min_size=2, max_size=5, unique=True))
def test_groups_agree_with_the_grade(grader: Grader, answers: list[str]) -> None:
    if not is_symmetric(grader):
        return
    groups = same(grader, answers)
    place = {member: number for number, group in enumerate(groups) for member in group}
    for first, second in combinations(range(len(answers)), 2):
        verdict = grade(grader, answers[first], answers[second]).verdict
        if verdict is Verdict.CORRECT:
            # Among others one of the two may be in the group of an answer that the other one differs from.
            assert same(grader, [answers[first], answers[second]]) == [[0, 1]]
        if verdict is Verdict.INCORRECT:
            assert place[first] != place[second]


def test_equal_answers_of_the_domain_vote_together() -> None:
    for name, answers, groups in [
        ("string", ["$1/2$", "1/2", "0.5"], [[0, 1], [2]]),
        ("numeric", ["0.5", "2", "1/2", "x", "$x$"], [[0, 2], [1], [3, 4]]),
        ("choice", ["(b)", "B. two", "A", "none of it", "b"], [[0, 1, 4], [2], [3]]),
        ("openr", ["12", "2", " 12"], [[0, 2], [1]]),
        ("python:tests.grading.test_grader_contract:same_letters", ["a", "A", "a\n"], [[0, 2], [1]]),
    ]:
        assert same(load_grader(name), answers) == groups


def test_a_question_without_a_gold_answer_is_never_wrong(grader: Grader) -> None:
    question = a_question("Q?", answer=" ")
    assert not grader.can_grade(question)
    assert grader.can_grade(a_question("Q?", answer="1"))
    for answer in ("1", "", "x"):
        outcome = asyncio.run(graded_answer(answer, "stop", question, grader))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "no gold answer")


def test_a_completion_without_an_answer_is_unknown_with_its_reason(grader: Grader) -> None:
    question = a_question("Q?", answer="1")
    cut = asyncio.run(graded_text("\\boxed{1}\n```python\n1\n```", "length", (), question, grader))
    assert cut == (Extraction(None, "none"), Grade(Verdict.UNKNOWN, "cut by length"))
    silent = asyncio.run(graded_text("Nothing at all", "stop", (), question, grader))
    assert silent == (Extraction(None, "none"), Grade(Verdict.UNKNOWN, "no answer in the text"))


def test_a_graded_rollout_keeps_the_draw_and_names_its_grader(grader: Grader) -> None:
    question = a_question("Q?", answer="1")
    text = "So \\boxed{1}.\n\n```python\nx = 1\n```"
    completion = Completion(text, 7, "end", logprob=-2.5)
    rollout = asyncio.run(
        graded_rollout(
            completion, question, grader, policy="p", node_id=root_id(question.question_id), steps=(),
            sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=10), draw=(11, 3),
        )
    )  # fmt: skip
    assert rollout.rollout_id == rollout_id("p", rollout.node_id, 11, 3, "0.5 0.9 10", text)
    assert (rollout.grader, rollout.seed, rollout.n_tokens, rollout.logprob) == (grader.name, 11, 7, -2.5)
    assert (rollout.finish_reason, rollout.text) == ("stop", text)
    assert rollout.answer in ("1", "x = 1")
    assert rollout.verdict is not Verdict.UNKNOWN or rollout.reason


def test_a_grader_may_be_closed_twice(grader: Grader) -> None:
    grader.close()
    grader.close()
