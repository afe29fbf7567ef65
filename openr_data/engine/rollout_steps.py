"""How the text of a stored rollout was cut into steps.

Most jobs cut at the separator of their policy. A labeler that cuts otherwise (OmegaPRM with `split`) has a static
method `steps_rule(options, texts)`, which returns the rule of a question from the options of the job and from what it
drew from the question alone.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from ..errors import MissingDependency, UnknownName
from ..ids import root_id
from ..models import catalog
from ..registry import load
from ..steps import SEPARATOR, split_steps
from ..store import View

Row = Mapping[str, Any]
Rule = Callable[[str], tuple[str, ...]]


class StepCuts:
    """The rules of jobs; `options` are those of their labelers, by job id."""

    def __init__(self, options: Mapping[str, Row] | None = None) -> None:
        self._options = options or {}

    @classmethod
    def of(cls, view: View) -> "StepCuts":
        """The rules of the jobs of a snapshot.

        The options of a job that was killed before it wrote them down are read from the metadata of its solutions.
        """
        solutions = view.sql(
            """select job_id, min(metadata) as config from solutions where metadata like '{"split":%' group by job_id"""
        ).to_pylist()
        jobs = view.sql("select job_id, config from jobs where kind = 'label' and config <> ''").to_pylist()
        options: dict[str, Row] = {row["job_id"]: json.loads(row["config"]) for row in solutions}
        return cls(options | {row["job_id"]: json.loads(row["config"]).get("options", {}) for row in jobs})

    def steps_of(
        self, question: str, nodes: Iterable[Row], rollouts: Iterable[Row]
    ) -> Callable[[Row], tuple[str, ...]]:
        """A function that returns the own steps of a rollout of this question; empty where its text was not stored."""
        rules = self._rules(question, nodes, rollouts)

        def steps(row: Row) -> tuple[str, ...]:
            if row["text"] is None:
                return ()
            rule = rules.get(row["job_id"])
            return rule(row["text"]) if rule else split_steps(row["text"], _separator(row["policy"]))

        return steps

    def _rules(self, question: str, nodes: Iterable[Row], rollouts: Iterable[Row]) -> dict[str, Rule]:
        """The rules of the jobs that do not cut at the separator of their policy."""
        if not self._options:
            return {}
        methods = {row["job_id"]: row["method"] for row in nodes if row["job_id"] in self._options}
        texts: dict[str, list[str]] = defaultdict(list)
        root = root_id(question)
        for row in rollouts:
            if row["job_id"] in methods and row["node_id"] == root and row["text"] is not None:
                texts[row["job_id"]].append(row["text"])
        rules: dict[str, Rule] = {}
        for job, written in texts.items():
            make = labeler_attribute(methods[job], "steps_rule")
            if make is not None and (rule := make(self._options[job], written)) is not None:
                rules[job] = rule
        return rules


@cache
def _separator(policy: str) -> str:
    """What stands between two steps of a policy; the model itself need not be installed any more."""
    entry = catalog().get(policy.rpartition("@")[0] or policy)
    return SEPARATOR if entry is None else entry.separator


@cache
def labeler_attribute(method: str, name: str) -> Any:
    """An attribute of the labeler of a method, or None where it has none or is not installed."""
    try:
        return getattr(load("labeler", method), name, None)
    except (UnknownName, MissingDependency):
        return None
