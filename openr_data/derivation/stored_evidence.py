"""What the rollouts of a question say, read back from its rows: counts, certificates, terminal verdicts, labels.

The same derivation that the labelers make while they draw (`labelers/rollouts.py`), from what they have stored:
`regrade` uses it after the verdicts have changed.
"""

import itertools
import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from ..errors import MissingDependency, UnknownName
from ..ids import prefix_ids, root_id
from ..label_rule import PrefixEvidence, independent_label, labels_to_first_error, step_label
from ..labels import Counts, first_error
from ..models import catalog
from ..registry import load
from ..steps import SEPARATOR, split_steps
from ..store.rows import OUTCOME
from ..types import Provenance, Verdict

Row = dict[str, Any]

GIVEN: Final = frozenset({Provenance.JUDGED, Provenance.HUMAN, Provenance.IMPORTED})
"""Labels that no rollout stands behind."""


class Trie:
    """The prefixes of some questions: of every known node its parent and its last step.

    `options` are those of the labelers, by job: how a job cut its rollouts into steps may stand there.
    """

    def __init__(self, rows: Mapping[str, list[Row]], options: Mapping[str, Row] | None = None) -> None:
        self._rules = _steps_rules(rows, options or {})
        self.parents: dict[str, str | None] = {row["node_id"]: row["parent_id"] for row in rows["nodes"]}
        self.steps: dict[str, str] = {row["node_id"]: row["step"] for row in rows["nodes"] if row["parent_id"]}
        for row in rows["rollouts"]:
            for step, (parent, child) in self.path(row):
                self.parents.setdefault(child, parent)
                self.steps.setdefault(child, step)
        for label in rows["labels"]:
            for parent, child in itertools.pairwise([root_id(label["question_id"]), *label["node_id"]]):
                self.parents.setdefault(child, parent)

    def path(self, rollout: Row) -> list[tuple[str, tuple[str, str]]]:
        """The steps of a rollout, each with the nodes before and behind it; empty where it left no text."""
        if rollout["text"] is None:
            return []
        rule = self._rules.get((rollout["question_id"], rollout["job_id"]))
        steps = rule(rollout["text"]) if rule else split_steps(rollout["text"], _separator(rollout["policy"]))
        nodes = prefix_ids(rollout["question_id"], steps, rollout["node_id"])
        return list(zip(steps, itertools.pairwise(nodes), strict=True))

    def above(self, node: str) -> Iterable[str]:
        """A node and those above it, as far as they are known."""
        climbing: str | None = node
        while climbing is not None:
            yield climbing
            climbing = self.parents.get(climbing)

    def prefix(self, node: str) -> tuple[str, ...]:
        """The steps that lead to a node."""
        return tuple(reversed([self.steps[item] for item in self.above(node) if item in self.steps]))


class StoredEvidence:
    """What the regraded rollouts of one question in one job say: counts, certificates, terminal verdicts."""

    def __init__(self, group: Mapping[str, list[Row]], trie: Trie) -> None:
        self.group, self.trie = group, trie
        self.proven = PrefixEvidence(trie.parents.get)
        self.certified, self.terminals = self.proven.certified, self.proven.terminals
        self.endings: dict[str, Row] = {}
        self._read_rollouts()
        self._keep_what_has_no_text()

    def _read_rollouts(self) -> None:
        for row in self.group["new_rollouts"]:
            path = [child for _, (_, child) in self.trie.path(row)]
            self.proven.add(row["node_id"], path, Verdict(row["verdict"]))
            if path:
                self.endings.setdefault(path[-1], row)

    def _keep_what_has_no_text(self) -> None:
        """Certificates and terminal verdicts whose rollouts left no text."""
        before = {row["rollout_id"]: row["verdict"] for row in self.group["rollouts"]}
        new = self.group["new_rollouts"]
        if all(row["text"] is not None for row in new):
            return
        lost = any(before[row["rollout_id"]] == Verdict.CORRECT and row["verdict"] != Verdict.CORRECT for row in new)
        for row in self.group["nodes"]:
            if row["certified"] and not lost:
                self.certified.add(row["node_id"])
            if row["terminal"] and row["verdict"] is not None and not lost:
                self.terminals.setdefault(row["node_id"], Verdict(row["verdict"]))

    def solutions(self, grade: Callable[[str], Verdict]) -> list[Row]:
        """The solutions with their new answers and outcomes; asked before the labels, which stand on them.

        A solution is as good as the rollout that wrote it; `grade` gives the verdict of a stored answer where no
        rollout with a text ends there.
        """
        found: list[Row] = []
        for row in self.group["solutions"]:
            *_, end = prefix_ids(row["question_id"], row["steps"])
            ending = self.endings.get(end)
            if ending is not None:
                verdict, answer = Verdict(ending["verdict"]), ending["answer"]
            else:
                answer = row["final_answer"]
                verdict = Verdict.UNKNOWN if answer is None else grade(answer)
                if verdict is not Verdict.UNKNOWN:
                    self.terminals.setdefault(end, verdict)
                if verdict is Verdict.CORRECT:
                    self.proven.certify(end)
            found.append({**row, "final_answer": answer, "outcome": OUTCOME[verdict]})
        return found

    def nodes(self) -> list[Row]:
        """All nodes of the job with their new counts, and those that a new certificate brings."""
        found = [self._counted(row) for row in self.group["nodes"]]
        known = {row["node_id"] for row in found}
        if found:
            found += [self._made(node, found[0]) for node in sorted(self.certified - known) if node in self.trie.steps]
        return found

    def _counted(self, row: Row) -> Row:
        facts = self.proven.facts(row["node_id"])
        terminal = row["verdict"] if facts.terminal is None else facts.terminal.value
        return {
            **row,
            **{name: getattr(facts.counts, name) for name in Counts.__slots__},
            "certified": facts.certified,
            "verdict": terminal if row["terminal"] else None,
        }

    def _made(self, node: str, like: Row) -> Row:
        depth = sum(1 for _ in self.trie.above(node)) - 1
        same = {name: like[name] for name in ("question_id", "method", "policy", "job_id")}
        nothing = {"n_rollouts": 0, "n_correct": 0, "n_unknown": 0, "visits": 0, "terminal": False, "verdict": None}
        place = {"node_id": node, "parent_id": self.trie.parents[node], "depth": depth, "step": self.trie.steps[node]}
        return {**same, **nothing, **place, "certified": True, "revision": None}

    def relabelled(self, row: Row) -> Row:
        """A label set, derived again; one that people or judges gave, or an unknown method, is as it was."""
        independent = _independent(row["method"])
        if independent is None or any(item in GIVEN for item in row["provenance"]):
            return row
        nodes: list[str] = row["node_id"]
        stopped = int(Provenance.STOPPED) in row["provenance"]
        if stopped and any(item["text"] is None for item in self.group["new_rollouts"]):
            # Which prefixes a rollout runs through stood in its text alone.
            return row
        path = [self.proven.facts(node, passing=stopped) for node in nodes]
        labels = labels_to_first_error(path)
        if independent:
            last, threshold = len(nodes) - 1, _threshold(row)
            labels = [
                independent_label(facts, is_last=place == last, threshold=threshold) for place, facts in enumerate(path)
            ]
        if stopped and row["first_error"] is None and -1 in labels and None in row["label"]:
            # It stopped before it was sure: a failure more or less makes it no surer.
            labels[labels.index(-1)] = None
        steps = [
            step_label(node, facts, label, stopped=stopped)
            for node, facts, label in zip(nodes, path, labels, strict=True)
        ]
        return {
            **row,
            "label": labels,
            "value": [None if step.value is None else _float32(step.value) for step in steps],
            "n_correct": [step.n_correct for step in steps],
            "n_rollouts": [step.n_rollouts for step in steps],
            "provenance": [int(step.provenance) for step in steps],
            "first_error": first_error(labels),
        }


def _threshold(row: Row) -> float | None:
    """The share of right rollouts above which the labels of a row call a step good, as the row itself says it."""
    found = json.loads(row.get("metadata") or "{}").get("threshold")
    return float(found) if isinstance(found, (int, float)) else None


def _float32(value: float) -> float:
    packed: float = struct.unpack("f", struct.pack("f", value))[0]
    return packed


def _steps_rules(
    rows: Mapping[str, list[Row]], options: Mapping[str, Row]
) -> dict[tuple[str, str], Callable[[str], tuple[str, ...]]]:
    """How jobs cut the texts of a question where that was not at the policy's separator, by question and job."""
    methods = {row["job_id"]: row["method"] for row in rows["nodes"] if row["job_id"] in options}
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows["rollouts"]:
        of_root = row["node_id"] == root_id(row["question_id"])
        if row["job_id"] in methods and of_root and row["text"] is not None:
            texts[row["question_id"], row["job_id"]].append(row["text"])
    found = {}
    for (question, job), written in texts.items():
        make = _told_by(methods[job], "steps_rule")
        if make is not None and (rule := make(options[job], written)) is not None:
            found[question, job] = rule
    return found


@cache
def _separator(policy: str) -> str:
    """Between two steps of a policy; the model itself need not be there any more."""
    entry = catalog().get(policy.rpartition("@")[0] or policy)
    return SEPARATOR if entry is None else entry.separator


def _independent(method: str) -> bool | None:
    """Whether the labels of a method are independent of each other; None for a method that does not say."""
    found: bool | None = _told_by(method, "independent_steps")
    return found


@cache
def _told_by(method: str, name: str) -> Any:
    """What the labeler of a method says of itself, or None."""
    try:
        return getattr(load("labeler", method), name, None)
    except (UnknownName, MissingDependency):
        return None
