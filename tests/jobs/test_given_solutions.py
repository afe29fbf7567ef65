"""Labeling solutions that are there, questions in the order of what they can teach, and recipes."""

from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import JobError, UsageError
from openr_data.grading import MathGrader
from openr_data.ids import solution_id
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.jobs import Job, run_label
from openr_data.jobs.estimate import estimate
from openr_data.jobs.plan import plan, resumed
from openr_data.jobs.recipe import Expected, recipe
from openr_data.registry import catalog_names
from openr_data.store import Dataset, Store
from openr_data.store.verify import verify
from tests.conftest import RIGHT, a_question

QUESTIONS = tuple(a_question(f"What is 1, question {index}?") for index in range(4))
BASE: dict[str, Any] = {"source": "d", "policy": "arithmetic", "method": "math-shepherd", "into": "d"}


def given(dataset: Dataset, question: str, steps: list[str], generator: str = "somebody", job: str = "import") -> str:
    name = solution_id(question, steps)
    row = {
        "solution_id": name,
        "question_id": question,
        "steps": steps,
        "n_steps": len(steps),
        "final_answer": None,
        "outcome": None,
        "generator": generator,
        "n_tokens": None,
        "job_id": job,
        "revision": 0,
        "metadata": '{"kept": true}',
    }
    dataset.append("solutions", [row], f"{job}/{name}", 1)
    return name


@pytest.fixture
def dataset(store: Store) -> Dataset:
    made = store.dataset("d", create=True)
    made.add_questions(({name: getattr(q, name) for name in q.__slots__} for q in QUESTIONS), "q", 1)
    first, second = QUESTIONS[0].question_id, QUESTIONS[1].question_id
    given(made, first, [f"right 1 of {QUESTIONS[0].question}", RIGHT])
    given(made, first, [f"wrong 1 of {QUESTIONS[0].question}", "So \\boxed{7}."])
    given(made, second, [f"right 1 of {QUESTIONS[1].question}", "So \\boxed{7}."])
    # The same solution in another job is the same solution.
    given(made, second, [f"right 1 of {QUESTIONS[1].question}", "So \\boxed{7}."], job="again")
    made.snapshot("import", "solutions", "import")
    return made


def test_only_questions_with_solutions_are_labelled_and_each_solution_once(store: Store, dataset: Dataset) -> None:
    made = plan(store, [BASE, {"given_solutions": True}], {"k": "4"})
    assert {q.question_id for q in made.questions} == {q.question_id for q in QUESTIONS[:2]} == set(made.given)
    assert sorted(len(items) for items in made.given.values()) == [1, 2]
    assert {item.generator for items in made.given.values() for item in items} == {"somebody"}
    assert made.budget().completions == 3 * 4
    sampled = plan(store, [BASE], {"k": "4"})
    assert len(sampled.questions) == 4
    assert sampled.given == {}
    assert sampled.config.job_id() != made.config.job_id()


@pytest.mark.parametrize("method", ["math-shepherd", "mips", "omegaprm", "adaptive"])
def test_a_job_over_given_solutions_writes_its_labels_beside_what_was_there(
    store: Store, dataset: Dataset, random_policy: ScriptedPolicy, method: str
) -> None:
    made = plan(store, [BASE, {"given_solutions": True, "method": method}], {})
    job = Job.create(store, made.config, {"policy_revision": random_policy.name, "read": made.read})
    status = run_label(
        job, made.config, made.questions, dataset, made.labeler(), random_policy, MathGrader(), given=made.given
    )
    assert (status.done, status.failed) == (2, 0)
    rows = dataset.view().sql("select * from records order by solution_id").to_pylist()
    assert len(rows) == 3
    assert {(row["generator"], row["completer"], row["method"]) for row in rows} == {
        ("somebody", random_policy.name, method)
    }
    assert all(row["solution_metadata"] == '{"kept": true}' for row in rows)
    outcomes = {tuple(row["steps"]): row["outcome"] for row in rows}
    assert sorted(outcomes.values()) == [False, False, True]
    right = next(row for row in rows if row["outcome"])
    # More than half of the rollouts of a right first step are right, but not of every eight of them.
    assert right["label"] == [1, 1] or (method == "mips" and right["label"][1] == 1)
    wrong = next(row for row in rows if row["steps"][0].startswith("wrong"))
    assert wrong["first_error"] == 0, "from a wrong step of this world no rollout comes back"
    assert list(verify(dataset)) == []


def test_a_resumed_job_has_the_solutions_it_began_with(
    store: Store, dataset: Dataset, random_policy: ScriptedPolicy
) -> None:
    made = plan(store, [BASE, {"given_solutions": True}], {})
    job = Job.create(store, made.config, {"policy_revision": random_policy.name, "read": made.read})
    given(dataset, QUESTIONS[2].question_id, ["new", RIGHT])
    dataset.snapshot("import", "more", "import")
    assert resumed(store, job) == made
    job.path.joinpath("job.toml").write_text(
        job.path.joinpath("job.toml").read_text().replace(f'read = "{made.read}"', 'read = "d@2"')
    )
    with pytest.raises(JobError, match="no longer holds the questions"):
        resumed(store, job)


def test_a_judge_needs_given_solutions_and_a_source_has_none(store: Store, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="judges solutions that are there"):
        plan(store, [BASE, {"method": "judge"}], {})
    with pytest.raises(UsageError, match="source of questions alone"):
        plan(store, [BASE, {"source": "arithmetic", "limit": 2, "given_solutions": True}], {})
    with pytest.raises(UsageError, match="has no questions with solutions of the split dev"):
        plan(store, [BASE, {"given_solutions": True, "split": "dev"}], {})


def test_a_dataset_named_like_a_source_is_meant_where_solutions_are(store: Store) -> None:
    made = store.dataset("arithmetic", create=True)
    made.add_questions(({name: getattr(q, name) for name in q.__slots__} for q in QUESTIONS), "q", 1)
    given(made, QUESTIONS[0].question_id, [RIGHT])
    made.snapshot("import", "solutions", "import")
    found = plan(store, [BASE, {"source": "arithmetic", "given_solutions": True, "into": ""}], {})
    assert (found.read, found.config.into, len(found.questions)) == ("arithmetic@1", "arithmetic", 1)


def test_uncertain_questions_come_first(store: Store, dataset: Dataset) -> None:
    def root(question: str, right: int, wrong: int) -> list[dict[str, Any]]:
        return [
            {
                "rollout_id": f"{question}{i}",
                "question_id": question,
                "node_id": f"n{question}",
                "verdict": "correct" if i < right else "incorrect",
                "policy": "p",
                "job_id": "j",
                "revision": 0,
            }
            for i in range(right + wrong)
        ]

    names = [q.question_id for q in QUESTIONS]
    for index, (right, wrong) in enumerate([(8, 0), (4, 4), (1, 7)]):
        node = {
            "node_id": f"n{names[index]}",
            "question_id": names[index],
            "depth": 0,
            "policy": "p",
            "job_id": "j",
            "n_rollouts": 8,
            "n_correct": right,
            "n_unknown": 0,
            "certified": right > 0,
            "terminal": False,
            "step": "",
            "visits": 0,
            "method": "m",
            "revision": 0,
        }
        dataset.append("nodes", [node], f"n{index}", 1)
        dataset.append("rollouts", root(names[index], right, wrong), f"r{index}", 1)
    dataset.snapshot("label", "roots", "j")
    made = plan(store, [BASE, {"order": "uncertain"}], {})
    # 4 of 8 may go either way; of the fourth nothing is known; 1 of 8; 8 of 8.
    assert [q.question_id for q in made.questions] == [names[1], names[3], names[2], names[0]]
    assert len(plan(store, [BASE, {"order": "uncertain", "limit": 1}], {}).questions) == 1


@pytest.mark.parametrize("name", catalog_names("recipes", ".toml"))
def test_every_recipe_can_be_counted_before_anything_is_there(name: str) -> None:
    found = recipe(name)
    layers = [found.layer] + ([{"limit": 2}] if not found.expected else [])
    made = plan(None, layers, {}, found.expected)
    at_most = estimate(None, made, None).at_most
    assert at_most.completions > 0
    assert at_most.prompt_tokens > at_most.requests
    if found.expected:
        assert len(made.questions) == found.expected.questions
        assert made.read.endswith("(not in this store yet)")
        assert found.needs.startswith("openr-data ")
        assert found.then.startswith("openr-data ")


def test_what_is_expected_gives_way_to_what_is_there(store: Store, dataset: Dataset) -> None:
    made = plan(store, [BASE], {}, Expected(questions=9, question_bytes=10))
    assert (len(made.questions), made.read) == (4, "d@1")


def test_the_judge_recipe_counts_a_critique_a_solution(tmp_path: Path) -> None:
    found = recipe("consensus-72b")
    assert found.expected is not None
    made = plan(None, [found.layer], {}, found.expected)
    assert made.budget().completions == found.expected.questions * found.expected.solutions
