"""OmegaPRM that splits inside of steps: what it locates, what it writes, and that a regrade reads the same pieces."""

import asyncio
import json
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import pytest

from openr_data.catalogs.arithmetic.source import ArithmeticSource
from openr_data.derivation.regrade import regrade
from openr_data.errors import UsageError
from openr_data.grading import FinalAnswerGrader, MathGrader
from openr_data.ids import prefix_ids
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, run_label, runner
from openr_data.jobs.plan import Plan
from openr_data.labelers.omegaprm import OmegaPRM, OmegaPRMConfig
from openr_data.labelers.split import LEVELS, Level, split_text
from openr_data.steps import join_steps, split_steps
from openr_data.store import Dataset, Store
from openr_data.store.verify import verify
from openr_data.types import Completion, Grade, Labeling, Prefix, Question, Sampling, Solution, Verdict
from tests.conftest import RIGHT, a_question

HALF = Fraction(1, 2)
BAD = "We add. Two and two is 5. So we go on."
GOOD = "We add. Two and two is 4. So we go on."
WORLD = {
    (): [Branch(HALF, GOOD), Branch(HALF, BAD)],
    (GOOD,): [Branch(Fraction(1), RIGHT)],
    (BAD,): [Branch(Fraction(1), "The answer is \\boxed{5}.")],
}
QUESTIONS = tuple(a_question(f"What is 1, question {index}?") for index in range(5))


def sentences(question: str, steps: tuple[str, ...]) -> list[Branch]:
    """A random world of two steps, each of two lines and three sentences that may go wrong in the second one."""
    if len(steps) == 2:
        good = not any("fails" in step for step in steps)
        return [Branch(Fraction(1), RIGHT if good else "So \\boxed{7}.")]
    if len(steps) == 3:
        return []
    place = f"{len(steps) + 1} of {question.rstrip('?')}"
    return [
        Branch(Fraction(3, 4), f"Here is step {place}. It holds that 3.5 < 4.\nOn we go."),
        Branch(Fraction(1, 4), f"Here is step {place}. It fails, as 3.5 > 4.\nOn we go."),
    ]


def label(policy: Any, question: Question | None = None, **options: Any) -> Labeling:
    labeler = OmegaPRM(OmegaPRMConfig(**options), Sampling())
    return asyncio.run(labeler.label(question or a_question(), policy, MathGrader()))


@pytest.mark.parametrize(
    ("split", "located"),
    [
        ("step", BAD),
        ("line", BAD + "\n\n"),
        ("sentence", " Two and two is 5."),
        ("token", " 5"),
    ],
)
def test_the_error_is_located_to_the_piece_of_its_level(split: str, located: str) -> None:
    labeling = label(ScriptedPolicy(WORLD, exact=True), screening=8, split=split, pieces=1_000)
    assert labeling.located == 1
    solution, labels = labeling.solutions[0], labeling.labels[0]
    assert labels.first_error is not None
    assert solution.steps[labels.first_error] == located
    before = len(solution.steps[: labels.first_error])
    assert [step.label for step in labels.labels] == [1] * before + [-1] + [None] * (len(solution.steps) - before - 1)
    assert (labels.labels[before].n_correct, labels.labels[before].n_rollouts) == (0, 8)


@pytest.mark.parametrize("split", LEVELS)
@pytest.mark.parametrize("pieces", [2, 16])
def test_pieces_join_to_what_was_written_and_say_how(split: Level, pieces: int) -> None:
    labeling = label(ScriptedPolicy(sentences), screening=8, searches=6, split=split, pieces=pieces)
    texts = {rollout.text for rollout in labeling.rollouts}
    roots = [item.text for item in labeling.rollouts if item.node_id == next(prefix_ids(a_question().question_id, ()))]
    size = sum(map(len, roots)) / len(roots) / pieces
    assert labeling.located == 1
    assert len(labeling.solutions) >= 2
    for solution, labels in zip(labeling.solutions, labeling.labels, strict=True):
        for metadata in (solution.metadata, labels.metadata):
            assert json.loads(metadata) == {"split": split, "joiner": "", "pieces": pieces}
        text = "".join(solution.steps)
        assert any(text.endswith(end) for end in texts)
        assert split_steps(text)[-1] in (RIGHT, "So \\boxed{7}.")
        assert [node.node_id for node in labels.labels] == list(prefix_ids(solution.question_id, solution.steps))[1:]
        if labels.first_error is not None:
            located = solution.steps[labels.first_error]
            assert len(located) <= size or located in split_text(text, split)


def test_a_prefix_of_pieces_is_asked_for_as_an_open_one_and_none_twice() -> None:
    policy = ScriptedPolicy(sentences)
    labeling = label(policy, screening=8, searches=6, split="token")
    (root, _), *others = policy.asked
    assert root == Prefix(a_question().question)
    assert others
    assert all(prefix.open and len(prefix.steps) == 1 for prefix, _ in others)
    assert len({prefix for prefix, _ in others}) == len(others)
    assert labeling.repeated_probes == 0


def test_steps_are_the_default_and_say_nothing() -> None:
    policy = ScriptedPolicy(sentences)
    labeling = label(policy, screening=8, searches=6)
    assert not any(prefix.open for prefix, _ in policy.asked)
    assert {item.metadata for item in (*labeling.solutions, *labeling.labels)} == {"{}"}
    assert labeling == label(ScriptedPolicy(sentences), screening=8, searches=6, split="step", pieces=3)


def test_given_solutions_have_their_steps() -> None:
    question = a_question()
    given = [Solution("s", question.question_id, ("a", RIGHT), "1", Verdict.CORRECT)]
    labeler = OmegaPRM(OmegaPRMConfig(split="sentence"), Sampling())
    with pytest.raises(UsageError, match="not by sentence: leave -o split=sentence out"):
        labeler.budget(question, given)
    with pytest.raises(UsageError, match="not by sentence"):
        asyncio.run(labeler.label(question, ScriptedPolicy(WORLD), MathGrader(), given))
    with pytest.raises(ValueError, match="pieces"):
        OmegaPRMConfig(pieces=0)


# --- what is stored ---------------------------------------------------------------------------------------------------


class Strict(FinalAnswerGrader):
    """Accepts nothing."""

    name = "strict/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        return Grade(Verdict.INCORRECT)


def stored(store: Store, split: str, grader: Any = None, policy: Any = None, **changes: Any) -> Dataset:
    options = {"k": 4, "searches": 6, "screening": 8, "split": split, "pieces": 12}
    config = LabelConfig("test", "omegaprm", "scripted", into="data", options=options).changed(**changes)
    plan = Plan(config, QUESTIONS, "test")
    dataset = store.dataset("data", create=True)
    policy = policy or ScriptedPolicy(sentences)
    job = Job.create(store, config, {"policy_revision": policy.name})
    run_label(job, config, QUESTIONS, dataset, plan.labeler(), policy, grader or MathGrader())
    return dataset


def content(dataset: Dataset, *without: str) -> dict[str, list[dict[str, Any]]]:
    return {
        table: sorted(
            ({name: value for name, value in row.items() if name not in without} for row in rows),
            key=lambda row: [row[name] for name in row if name.endswith("_id") and isinstance(row[name], str)],
        )
        for table in ("solutions", "nodes", "rollouts", "labels")
        if (rows := dataset.view().arrow(table).to_pylist())
    }


@pytest.mark.parametrize("split", LEVELS)
@pytest.mark.parametrize("text", [True, False])
def test_a_dataset_of_pieces_is_whole_and_the_same_grader_changes_nothing(store: Store, split: str, text: bool) -> None:
    dataset = stored(store, split, rollout_text=text)
    assert list(verify(dataset)) == []
    before = content(dataset)
    regraded = regrade(dataset, MathGrader())
    assert regraded.rollouts > 100
    assert not any(regraded.rows.values())
    assert content(dataset) == before


def test_there_and_back_again_is_where_a_dataset_of_several_levels_was(store: Store) -> None:
    for split in ("step", *LEVELS):
        dataset = stored(store, split)
    before = content(dataset, "revision")
    assert regrade(dataset, Strict()).changed["correct", "incorrect"] > 100
    assert dataset.view().sql("select count(*) as n from nodes where certified").to_pylist() == [{"n": 0}]
    regrade(dataset, MathGrader())
    assert content(dataset, "revision") == before
    assert list(verify(dataset)) == []


def test_a_wrong_answer_that_another_grader_accepts_certifies_pieces(store: Store) -> None:
    class Lenient(Strict):
        name = "lenient/1"

        async def grade(self, answer: str, gold: str) -> Grade:
            return Grade(Verdict.CORRECT)

    dataset = stored(store, "sentence")
    regrade(dataset, Lenient())
    steps = dataset.view().sql("select distinct step from nodes where certified and depth > 0")["step"].to_pylist()
    # Pieces of rollouts of which no node was stored while they were wrong; none is a step of the policy.
    assert any("fails" in step for step in steps)
    assert not any("On we go." in step and "Here" in step for step in steps)
    assert dataset.view().sql("select count(*) as n from labels where first_error is not null").to_pylist() == [
        {"n": 0}
    ]


def test_a_job_that_was_killed_before_it_told_its_options_is_regraded_by_what_its_solutions_say(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "conclude", lambda *_: None)
    dataset = stored(store, "sentence")
    assert dataset.view().sql("select count(*) as n from jobs").to_pylist() == [{"n": 0}]
    assert not any(regrade(dataset, MathGrader()).rows.values())


def test_questions_without_a_label_set_are_regraded_by_pieces_too(store: Store) -> None:
    class Right(ScriptedPolicy):
        async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
            return [Completion(f"We add. It is 1.\n\n{RIGHT}", 4, "end")] * n

    dataset = stored(store, "sentence", policy=Right({}))
    assert dataset.view().sql("select count(*) as n from labels").to_pylist() == [{"n": 0}]
    assert not any(regrade(dataset, MathGrader()).rows.values())


# --- the built-in policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["sentence", "token"])
def test_most_errors_of_the_built_in_policy_lie_where_the_oracle_has_them(split: str) -> None:
    """In the step that the oracle calls wrong, or right before it."""
    transformers_local = pytest.importorskip("openr_data.inference.policies.transformers")
    policy = transformers_local.TransformersPolicy("arithmetic", device="cpu")
    source = ArithmeticSource()
    labeler = OmegaPRM(OmegaPRMConfig(screening=16, searches=8, split=split), Sampling(max_tokens=192))

    async def all_at_once() -> list[tuple[Question, Labeling]]:
        questions = list(islice(source.read(split="test"), 8))
        return list(
            zip(
                questions,
                await asyncio.gather(*(labeler.label(q, policy, MathGrader()) for q in questions)),
                strict=True,
            )
        )

    try:
        labelled = asyncio.run(all_at_once())
    finally:
        policy.close()
    hits: list[bool] = []
    for question, labeling in labelled:
        for solution, labels in zip(labeling.solutions, labeling.labels, strict=True):
            if labels.first_error is None:
                continue
            steps = split_steps("".join(solution.steps))
            truth = source.judge(question, steps)
            wrong = truth.index(-1) if -1 in truth else len(steps)
            start = len("".join(solution.steps[: labels.first_error]))
            end = start + len(solution.steps[labels.first_error].rstrip())
            begins = len(join_steps(steps[: max(0, wrong - 1)]))
            hits.append(begins < end and start < len(join_steps(steps[: wrong + 1])))
    assert len(hits) > 20
    assert sum(hits) / len(hits) > 0.75
