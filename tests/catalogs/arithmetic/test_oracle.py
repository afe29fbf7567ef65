"""Checks the oracle against cases worked out by hand.

Mia has 14 apples. She buys 3 bags of 6 apples each. She gives half of her apples to Leo.
The plan: 3*6=18, 14+18=32, 32/2=16.
"""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openr_data.catalogs.arithmetic.oracle import Judgement, Reason, first_error, judge
from openr_data.catalogs.arithmetic.problems import Operand, Operation, make_problem, problems

QUESTION = "Mia has 14 apples. She buys 3 bags of 6 apples each. She gives half of her apples to Leo. How many now?"
PLAN = (
    Operation(Operand(3), "*", Operand(6), 18),
    Operation(Operand(14), "+", Operand(18, 0), 32),
    Operation(Operand(32, 1), "/", Operand(2), 16),
)


def judged(*steps: str) -> list[Judgement]:
    return judge(QUESTION, PLAN, steps)


@pytest.mark.parametrize(
    ("step", "label", "reason"),
    [
        ("The bags hold 3*6=18 apples.", 1, Reason.ADVANCES),
        ("The bags hold 3 * 6 = 18 apples.", 1, Reason.ADVANCES),
        ("6 x 3 = 18", 1, Reason.ADVANCES),
        ("3 × 6 = 18", 1, Reason.ADVANCES),
        ("18 = 3*6", 1, Reason.ADVANCES),
        ("So 14+3*6=32.", 1, Reason.ADVANCES),
        ("(14+18)/2=16", 1, Reason.ADVANCES),
        ("14+18=32 and 32/2=16", 1, Reason.ADVANCES),
        ("3*6=18=18", 1, Reason.ADVANCES),
        # A step may be skipped in the head: what is stated is true.
        ("32/2=16 apples are left.", 1, Reason.ADVANCES),
        ("The answer is \\boxed{16}.", 1, Reason.ANSWERS),
        ("\\boxed{\\text{16 apples}}", 1, Reason.ANSWERS),
        ("\\boxed{\\$16}", 1, Reason.ANSWERS),
        ("\\boxed 16", 1, Reason.ANSWERS),
        ("$14 + $18 = $32", 1, Reason.ADVANCES),
        ("\\fbox{32}", -1, Reason.ANSWER),
        ("\\boxed{\\text{32}}", -1, Reason.ANSWER),
        # Neutral: true, but nothing new.
        ("Let us think.", 0, Reason.WORDS),
        ("Mia has 14 apples.", 0, Reason.REPEATS),
        # Wrong result.
        ("3*6=19", -1, Reason.ARITHMETIC),
        ("14+18=32+1", -1, Reason.ARITHMETIC),
        ("14+18=32/2=16", -1, Reason.ARITHMETIC),
        ("3*6=1,800", -1, Reason.ARITHMETIC),
        # Wrong operands: the purchase is forgotten.
        ("14/2=7", -1, Reason.OPERANDS),
        ("3+6=9", -1, Reason.OPERANDS),
        ("18-14=4", -1, Reason.OPERANDS),
        ("2/32=0.0625", -1, Reason.OPERANDS),
        # Right value by luck.
        ("8+8=16", -1, Reason.OPERANDS),
        ("2*9=18", -1, Reason.OPERANDS),
        ("14+16=32", -1, Reason.ARITHMETIC),
        ("16=16", 0, Reason.REPEATS),
        ("7=7", -1, Reason.OPERANDS),
        # Numbers from nowhere, wrong answers, broken equations.
        ("There are 20 apples.", -1, Reason.NUMBER),
        ("3*6=18 of 25 apples", -1, Reason.NUMBER),
        ("\\boxed{17}", -1, Reason.ANSWER),
        ("\\boxed{}", -1, Reason.ANSWER),
        ("\\boxed{seventeen}", -1, Reason.ANSWER),
        ("\\boxed{sixteen}", 1, Reason.ANSWERS),
        ("3*6=", -1, Reason.MALFORMED),
        ("3*6=apples", -1, Reason.MALFORMED),
        ("=18", -1, Reason.MALFORMED),
        ("((3*6=18", -1, Reason.MALFORMED),
        ("3/0=2", -1, Reason.MALFORMED),
    ],
)
def test_one_step_alone(step: str, label: int, reason: Reason) -> None:
    (judgement,) = judged(step)
    assert (judgement.label, judgement.reason) == (label, reason)


def test_a_worked_solution_is_right_throughout() -> None:
    steps = ("The bags hold 3*6=18.", "Now 14+18=32.", "Half is 32/2=16.", "The answer is \\boxed{16}.")
    assert [item.label for item in judged(*steps)] == [1, 1, 1, 1]


def test_a_repeated_step_is_neutral() -> None:
    assert [item.label for item in judged("3*6=18", "3*6=18", "14+18=32")] == [1, 0, 1]


def test_doing_an_operation_twice_is_wrong() -> None:
    assert first_error(judged("3*6=18", "14+18=32", "32+18=50")) == 2


def test_nothing_is_judged_after_the_first_error() -> None:
    judgements = judged("3*6=18", "14+18=33", "33/2=16", "\\boxed{16}")
    assert [item.label for item in judgements] == [1, -1, None, None]
    assert judgements[-1].reason is Reason.AFTER


def test_a_plan_with_the_same_calculation_twice_advances_twice() -> None:
    plan = (
        Operation(Operand(5), "+", Operand(2), 7),
        Operation(Operand(7, 0), "-", Operand(2), 5),
        Operation(Operand(5, 1), "+", Operand(2), 7),
    )
    judgements = judge("5 and 2", plan, ["5+2=7", "7-2=5", "5+2=7", "5+2=7"])
    assert [item.label for item in judgements] == [1, 1, 1, 0]


def test_every_generated_solution_is_right_and_every_spoiled_number_is_found() -> None:
    for problem in islice(problems("train", 11), 300):
        assert {item.label for item in judge(problem.text, problem.plan, problem.solution)} == {1}
        for index, operation in enumerate(problem.plan):
            wrong = operation.equation().replace(f"={operation.result}", f"={operation.result + 1}")
            steps = list(problem.solution)
            steps[index] = steps[index].replace(operation.equation(), wrong)
            assert first_error(judge(problem.text, problem.plan, steps)) == index


@given(st.lists(st.text(alphabet=st.sampled_from("0123456789+-*/=(). ax\\boxed{}÷"), max_size=25), max_size=5))
@settings(max_examples=300)
def test_any_text_gets_one_judgement_a_step(steps: list[str]) -> None:
    problem = make_problem("test", 3, 0, 0)
    judgements = judge(problem.text, problem.plan, steps)
    assert len(judgements) == len(steps)
    error = first_error(judgements)
    if error is not None:
        assert all(item.label is None for item in judgements[error + 1 :])
        assert all(item.label in (0, 1) for item in judgements[:error])


def test_a_runaway_text_is_judged_at_once() -> None:
    assert judged("(" * 5000 + "3*6=18")[0].label == -1
    assert judged("1+" * 20_000 + "1=2")[0].label == -1
    assert judged("1+" * 900 + "1=2")[0].label == -1
    assert judged("3*6=18 " * 250)[0].label == 1
    assert judged("3*6=18 " * 3000)[0].reason is Reason.MALFORMED
    assert judged("9" * 6000)[0].label == -1
    assert judged("\\boxed{1e999999999}")[0].reason is Reason.ANSWER
