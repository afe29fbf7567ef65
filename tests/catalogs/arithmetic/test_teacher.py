"""Checks the teacher: right if nothing is misread, else wrong where the oracle judges so, never in calculations."""

import random
from itertools import islice

from openr_data.catalogs.arithmetic.oracle import Reason, first_error, judge
from openr_data.catalogs.arithmetic.problems import problems
from openr_data.catalogs.arithmetic.teacher import CARELESS, TRAPPED, teach

PROBLEMS = list(islice(problems("train", 5), 600))


def test_the_teacher_never_miscalculates() -> None:
    rng = random.Random(0)
    for problem in PROBLEMS:
        judged = judge(problem.text, problem.plan, teach(problem, rng))
        assert Reason.ARITHMETIC not in {item.reason for item in judged}
        assert Reason.MALFORMED not in {item.reason for item in judged}


def test_it_falls_into_traps_more_often_than_not_and_is_careless_now_and_then() -> None:
    rng = random.Random(0)
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    for problem in PROBLEMS * 3:
        trapped = bool(problem.traps)
        if len(problem.traps) < 2:
            wrong[trapped].append(first_error(judge(problem.text, problem.plan, teach(problem, rng))) is not None)
    share = {trapped: sum(found) / len(found) for trapped, found in wrong.items()}
    assert TRAPPED > 0.5
    assert TRAPPED < share[True] < TRAPPED + 0.2
    assert CARELESS < share[False] < 8 * CARELESS


def test_the_same_seed_gives_the_same_corpus() -> None:
    first = [teach(problem, random.Random(3)) for problem in PROBLEMS[:50]]
    assert first == [teach(problem, random.Random(3)) for problem in PROBLEMS[:50]]
