"""What a job is made of, and the id that it has for it."""

import json
from typing import Any

import pytest

from openr_data.errors import UsageError
from openr_data.ids import config_id
from openr_data.jobs import JobConfig, LabelConfig, SearchConfig
from openr_data.jobs.plan import plan
from openr_data.jobs.recipe import recipe
from openr_data.registry import load

BASE: dict[str, Any] = {"source": "arithmetic", "policy": "arithmetic", "limit": 3}

PLANNED: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"method": "adaptive"}, {}, "e20f9be6763d"),
    ({"method": "adaptive", "reuse": True, "seed": 3}, {}, "b76164e2d2ac"),
    ({"method": "adaptive"}, {"wave": "1"}, "0c41a85f9253"),
    ({"method": "omegaprm"}, {}, "8ef21afe2104"),
    ({"method": "omegaprm", "reuse": True, "seed": 3}, {}, "0d55e02643c2"),
    ({"method": "omegaprm"}, {"wave": "2"}, "e3754c532df1"),
    ({"method": "omegaprm"}, {"split": "token", "pieces": "8"}, "e0c336acdc1e"),
    ({"method": "omegaprm"}, {"split_at": "0.3"}, "fab0bda2f798"),
    ({"method": "math-shepherd"}, {}, "8b29e7bcb605"),
    ({"method": "mips"}, {}, "b0b9fb1c6fdd"),
    ({"method": "best-of-n", "into": "arithmetic-search", "split": "test", "limit": 2}, {"n": "4"}, "6666e723fc35"),
    ({"method": "best-of-n", "into": "x"}, {"n": "64", "temperature": "0.6"}, "8d5718bbf904"),
]
"""Layer, overrides, and the id that the job had before kinds of jobs and `later` fields existed."""


@pytest.mark.parametrize(("layer", "overrides", "job_id"), PLANNED)
def test_a_job_keeps_the_id_it_had(layer: dict[str, Any], overrides: dict[str, str], job_id: str) -> None:
    assert plan(None, [BASE, layer], overrides).config.job_id() == job_id


def test_a_job_of_a_recipe_keeps_the_id_it_had() -> None:
    assert plan(None, [recipe("arithmetic").layer, {"method": "adaptive"}], {}).config.job_id() == "32d8c5454e5d"


@pytest.mark.parametrize(
    ("config", "job_id"),
    [
        (LabelConfig("test", "omegaprm", "scripted", into="d", options={"searches": 4}), "7f609baa929c"),
        (LabelConfig("d", "judge", "critic", into="d", given_solutions=True, options={"votes": 2}), "c84fb55b3193"),
        (LabelConfig("d", "adaptive", "p", into="d", order="uncertain"), "c200a0aea498"),
        (
            LabelConfig(
                "t", "omegaprm", "p", options={"k": 8, "split": "step", "pieces": 16, "split_at": 0.5, "wave": 0}
            ),
            "8a025a5c69b3",
        ),
    ],
)
def test_later_fields_count_where_they_differ_from_their_defaults(config: JobConfig, job_id: str) -> None:
    assert config.job_id() == job_id


def test_a_training_run_keeps_the_identity_it_had() -> None:
    pytest.importorskip("transformers")
    kind = load("trainer", "prm").config_type
    assert config_id({"kind": "train", **kind("d@1").identity()}) == "e13f80f585b4"
    reasons = kind("d@1", generative=True, reasons=True, reason_weight=0.5, balance=1.0)
    assert config_id({"kind": "train", **reasons.identity()}) == "032b35a15977"


def test_the_id_of_a_guided_search_contains_model_revision_and_format() -> None:
    guided = SearchConfig("s", "guided", "p", reward="prm", reward_revision="prm@1.abc")
    ids = {
        guided.job_id(),
        guided.changed(reward_revision="prm@2.abc").job_id(),
        guided.changed(reward_format="qwen").job_id(),
        guided.changed(reward="other").job_id(),
        SearchConfig("s", "guided", "p").job_id(),
    }
    assert len(ids) == 5
    with pytest.raises(UsageError, match="depends on the revision of prm"):
        guided.changed(reward_revision="").job_id()
    with pytest.raises(ValueError, match="need a reward model"):
        SearchConfig("s", "guided", "p", reward_format="qwen")


def test_the_description_of_a_configuration_is_json() -> None:
    config = SearchConfig("s", "best-of-n", "p", options={"n": 4})
    assert json.loads(json.dumps(config.options)) == {"n": 4}
    assert (config.kind, LabelConfig("s", "mips", "p").kind) == ("search", "label")
