"""From what was asked to a job."""

from typing import Any

import pytest

from openr_data.errors import MissingRef, UnknownName, UsageError
from openr_data.jobs import Job
from openr_data.jobs.plan import plan, resumed
from openr_data.jobs.recipe import recipe
from openr_data.store import Store
from openr_data.store.rows import question_row
from tests.conftest import a_question

BASE: dict[str, Any] = {"source": "arithmetic", "policy": "arithmetic", "method": "omegaprm", "limit": 3}


def test_layers_win_in_order_and_overrides_win_over_all() -> None:
    made = plan(
        None,
        [recipe("arithmetic").layer, {"method": "omegaprm", "limit": 2, "seed": 4}],
        {"searches": "3", "temperature": "0.5"},
    )
    assert len(made.questions) == 2
    assert made.config.seed == 4
    assert made.config.options["searches"] == 3
    assert made.config.options["k"] == 8
    assert made.config.temperature == 0.5
    assert made.config.max_tokens == 192, "the limit of the model's entry"
    assert made.config.into == "arithmetic"


def test_options_of_another_method_do_not_reach_this_one() -> None:
    made = plan(None, [recipe("arithmetic").layer, {"method": "math-shepherd", "limit": 1}], {})
    assert made.config.options == {"k": 8, "solutions": 4}


@pytest.mark.parametrize(
    ("layer", "overrides", "message"),
    [
        ({"method": "omega"}, {}, "No labeler 'omega'.*Did you mean 'omegaprm'"),
        ({"source": "arithmetics"}, {}, "No dataset or source 'arithmetics'.*Did you mean 'arithmetic'"),
        ({"backend": "vlm"}, {}, "No policy 'vlm'"),
        ({"grader": "maths"}, {}, "No grader 'maths'.*Did you mean 'math'"),
        ({}, {"searchs": "3"}, "No option of omegaprm 'searchs'.*Did you mean 'searches'"),
        ({"lmit": 3}, {}, "No option of a label job 'lmit'.*Did you mean 'limit'"),
        ({"omegaprn": {"k": 2}}, {}, "No method 'omegaprn'"),
    ],
)
def test_an_unknown_name_is_named_with_the_near_one(
    layer: dict[str, Any], overrides: dict[str, str], message: str
) -> None:
    with pytest.raises(UnknownName, match=message):
        plan(None, [BASE, layer], overrides)


def test_missing_parts_and_endless_sources_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="needs --policy"):
        plan(None, [{"source": "arithmetic", "method": "omegaprm"}], {})
    with pytest.raises(UsageError, match="endless.*--limit"):
        plan(None, [BASE, {"limit": 0}], {})
    with pytest.raises(UsageError, match="expects int"):
        plan(None, [BASE], {"k": "many"})
    with pytest.raises(UsageError, match="--into x, without @"):
        plan(None, [BASE, {"into": "x@1"}], {})


def test_a_dataset_is_read_at_its_newest_snapshot_and_stays_pinned(store: Store) -> None:
    dataset = store.dataset("mine", create=True)
    dataset.add_questions([question_row(a_question(f"Q{i}")) for i in range(3)], "a/q", 1)
    dataset.snapshot("import", "three")
    made = plan(store, [BASE, {"source": "mine", "limit": 0}], {})
    assert made.read == "mine@1"
    assert len(made.questions) == 3
    job = Job.create(store, made.config, {"read": made.read})
    # A labeling into the same dataset makes a snapshot: the same command must still be the same job.
    dataset.snapshot("label", "nothing new")
    assert plan(store, [BASE, {"source": "mine", "limit": 0}], {}).config.job_id() == job.job_id
    dataset.add_questions([question_row(a_question("Q9"))], "b/q", 1)
    dataset.snapshot("import", "one more")
    assert plan(store, [BASE, {"source": "mine", "limit": 0}], {}).config.job_id() != job.job_id
    again = resumed(store, job)
    assert again.config == made.config
    assert [q.question_id for q in again.questions] == [q.question_id for q in made.questions]


def test_a_dataset_can_be_read_at_a_snapshot_and_by_split(store: Store) -> None:
    dataset = store.dataset("mine", create=True)
    dataset.add_questions([question_row(a_question("Q1", split="dev"))], "a/q", 1)
    dataset.snapshot("import", "one")
    dataset.add_questions([question_row(a_question("Q2", split="train"))], "b/q", 1)
    dataset.snapshot("import", "two")
    assert len(plan(store, [BASE, {"source": "mine@1"}], {}).questions) == 1
    chosen = plan(store, [BASE, {"source": "mine", "split": "train"}], {})
    assert [q.question for q in chosen.questions] == ["Q2"]
    with pytest.raises(UsageError, match="has no questions of the split test"):
        plan(store, [BASE, {"source": "mine", "split": "test"}], {})
    with pytest.raises(MissingRef):
        plan(store, [BASE, {"source": "mine@7"}], {})


def test_the_budget_is_the_sum_over_questions() -> None:
    made = plan(None, [BASE], {"searches": "2", "k": "4"})
    budget = made.budget()
    assert budget.completions == 3 * (32 + 2 * 8 * 4), "halving 192 tokens takes 8 probes"
    assert budget.completion_tokens == budget.completions * 192
