"""Clusters of answers for votes."""

import asyncio
import random

from openr_data.grading import MathGrader, cluster_by_text
from openr_data.grading.cache import GradeCache
from openr_data.types import Grade, Verdict

ANSWERS = ["1/2", r"\frac12", "0.5", "2", r"\sqrt{4}", "2.0", "x+1", "1+x", "no idea", r"\sin 30^\circ", ""]


def test_equal_answers_meet_in_one_cluster() -> None:
    grader = MathGrader(cache=GradeCache(None, ""))
    assert asyncio.run(grader.same(ANSWERS)) == [[0, 1, 2, 9], [3, 4, 5], [6, 7], [8], [10]]
    grader.close()


def test_clusters_do_not_depend_on_the_order() -> None:
    grader = MathGrader(symbolic=False, cache=GradeCache(None, ""))
    expected = {frozenset(ANSWERS[i] for i in group) for group in asyncio.run(grader.same(ANSWERS))}
    for seed in range(5):
        turned = random.Random(seed).sample(ANSWERS, len(ANSWERS))
        found = {frozenset(turned[i] for i in group) for group in asyncio.run(grader.same(turned))}
        assert found == expected


def test_an_answer_that_is_equal_in_one_direction_alone_joins_nothing() -> None:
    class OneWay(MathGrader):
        async def grade_all(self, pairs):  # type: ignore[no-untyped-def]
            return [Grade(Verdict.CORRECT if pair[0] < pair[1] else Verdict.INCORRECT) for pair in pairs]

    assert asyncio.run(OneWay(cache=GradeCache(None, "")).same(["a b", "c d", "a b"])) == [[0, 2], [1]]


def test_the_text_clusters_stand_beside() -> None:
    assert cluster_by_text(["1/2", "$1/2$", r"\dfrac12", r"\frac12", "0.5"]) == [[0, 1], [2, 3], [4]]


def test_no_answers_make_no_clusters() -> None:
    assert asyncio.run(MathGrader().same([])) == []
    assert cluster_by_text([]) == []


def test_a_unit_counts_where_both_have_one_and_a_chain_never_joins_two_that_differ() -> None:
    grader = MathGrader(symbolic=False, cache=GradeCache(None, ""))

    def same(*answers: str) -> list[list[int]]:
        return asyncio.run(grader.same(answers))

    assert same("5 cm", "5 m") == [[0], [1]]
    assert same("1 m", "100 cm") == [[0, 1]]
    assert same("5 cm", "5") == [[0, 1]]
    assert same("1/2", "50\\%") == [[0, 1]]
    assert same("0.3333333333", "1/3") == [[0, 1]]
    assert same("50", "1/2", "50\\%") == [[0, 2], [1]]
    assert same("5 cm", "5", "5 m") == [[0], [1, 2]]
    assert same("5 m", "5 cm", "5") == [[0, 2], [1]]
