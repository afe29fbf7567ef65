"""A second domain of answers, from the labeling job to the vote: code with unit tests, without a line in the core."""

import asyncio
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest

from openr_data.derivation.regrade import regrade
from openr_data.errors import UnknownName
from openr_data.evaluation.search_candidates import group_answers, read_candidates
from openr_data.evaluation.search_figures import evaluate
from openr_data.grading import load_grader
from openr_data.grading.graders import check_grader
from openr_data.inference.policies.scripted import Branch, ScriptedPolicy
from openr_data.jobs import Job, LabelConfig, SearchConfig, run_label, search_runner
from openr_data.jobs.plan import Plan
from openr_data.steps import SEPARATOR
from openr_data.store import Dataset, Store
from openr_data.store.verify import verify
from openr_data.types import Verdict
from tests.conftest import a_question
from tests.grading.code_domain import CodeGrader

GRADER = "python:tests.grading.code_domain:CodeGrader"
SQUARE = a_question("Write f, which squares a number.", "f(3) == 9\nf(-2) == 4")


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


PROGRAMS = {
    "I multiply.": [
        "def f(x):\n    return x * x",
        "def f(x):  # the same\n    return x*x",
        "def f(x):\n    return x ** 2",
    ],
    "I double.": ["def f(x):\n    return 2 * x", "def f(x): return"],
    "I talk.": [],
}


def programmer(_: str, steps: tuple[str, ...]) -> list[Branch]:
    if not steps:
        return [
            Branch(Fraction(1, 2), "I multiply."),
            Branch(Fraction(1, 4), "I double."),
            Branch(Fraction(1, 4), "I talk."),
        ]
    if len(steps) == 1 and (programs := PROGRAMS[steps[0]]):
        return [Branch(Fraction(1, len(programs)), fenced(program)) for program in programs]
    return []


def run_job(store: Store, method: str, grader: str = GRADER, **options: int) -> tuple[Job, Dataset]:
    kind = SearchConfig if method == "best-of-n" else LabelConfig
    config = kind("test", method, "scripted", into="code", grader=grader, options=options)
    plan = Plan(config, (SQUARE,), "test")
    dataset = store.dataset("code", create=True)
    policy = ScriptedPolicy(programmer, exact=True)
    job = Job.create(store, config, {"policy_revision": policy.name, "read": "test"})
    with closing(plan.grader()) as made:
        if isinstance(config, SearchConfig):
            search_runner(job, config, plan.questions, dataset, plan.search(), policy, made).run()
        else:
            run_label(job, config, plan.questions, dataset, plan.labeler(), policy, made)
    return job, dataset


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return run_job(
        Store.open(tmp_path_factory.mktemp("code") / "store", create=True), "math-shepherd", k=6, solutions=12
    )[1]


def test_a_labeling_job_runs_programs_and_labels_their_steps(labelled: Dataset) -> None:
    rows = labelled.view().sql("select * from steps order by step, label").to_pylist()
    labels = {row["step"]: row["label"] for row in rows}
    assert labels["I multiply."] == 1
    assert labels["I double."] == -1
    assert {labels[fenced(program)] for program in PROGRAMS["I multiply."]} == {1}
    assert {labels[fenced(program)] for program in PROGRAMS["I double."]} == {-1}
    verdicts = (
        labelled.view()
        .sql("select distinct extraction, verdict, reason from rollouts where text like 'I %' order by all")
        .to_pylist()
    )
    assert [tuple(row.values()) for row in verdicts] == [
        ("fenced", "correct", ""),
        ("fenced", "incorrect", ""),
        ("none", "unknown", "no answer in the text"),
    ]
    assert list(verify(labelled)) == []


def test_regrading_with_the_grader_of_the_job_changes_nothing(labelled: Dataset) -> None:
    with closing(load_grader(GRADER)) as grader:
        regrading = regrade(labelled, grader)
    assert regrading.rollouts > 20
    assert not any(regrading.rows.values())


def test_a_vote_counts_programs_of_one_layout_or_another_together(store: Store) -> None:
    job, dataset = run_job(store, "best-of-n", n=12)
    read = read_candidates(dataset.view(), job.job_id, SEPARATOR).questions
    with closing(load_grader(GRADER)) as grader:
        asked = asyncio.run(group_answers(read, grader))
    (searched,) = asked
    groups: dict[int | None, set[str | None]] = {}
    for candidate, group in zip(searched.candidates, searched.group, strict=True):
        groups.setdefault(group, set()).add(candidate.answer)
    multiply, alike, power = PROGRAMS["I multiply."]
    assert sorted(map(sorted, (answers for group, answers in groups.items() if group is not None))) == sorted(
        [sorted([multiply, alike]), [power], *([program] for program in PROGRAMS["I double."])]
    )
    assert evaluate(asked, None).at_n["majority"].mean == 1.0


def test_a_program_that_does_not_end_is_unknown_and_one_that_breaks_is_wrong() -> None:
    with closing(CodeGrader(seconds=2)) as grader:
        endless = asyncio.run(grader.grade("while True: pass", "True"))
        assert (endless.verdict, endless.is_final) == (Verdict.UNKNOWN, False)
        assert endless.reason == "no answer in 2 s"
        assert asyncio.run(grader.grade("raise SystemExit", "True")).verdict is Verdict.INCORRECT
        greedy = asyncio.run(grader.grade("x = bytearray(1 << 40)", "True"))
        assert greedy.reason == "the comparison needs too much memory"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another package that registers the domain."""
    folder = tmp_path / "code_for_openr-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: code-for-openr\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[openr_data]\ngrader.code = tests.grading.code_domain:CodeGrader\n")
    with pytest.raises(UnknownName):
        check_grader("code")
    monkeypatch.syspath_prepend(tmp_path)
    return "code"


def test_another_package_registers_a_domain_by_name(installed: str, store: Store) -> None:
    check_grader(installed)
    _, dataset = run_job(store, "math-shepherd", installed, k=2, solutions=4)
    rows = dataset.view().sql("select distinct grader, verdict from rollouts where answer is not null order by all")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [("code/1", "correct"), ("code/1", "incorrect")]
