"""The evidence of stored rollouts: counts, certificates, terminal verdicts and the labels that follow from them.

The rule is that of the labelers (`label_rule.py`), applied to rows: `regrade` uses it after verdicts have changed.
"""

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..engine.rollout_steps import labeler_attribute
from ..ids import prefix_ids
from ..label_rule import PrefixEvidence, independent_label, labels_to_first_error, step_label
from ..labels import Counts, first_error
from ..store.rows import OUTCOME
from ..trees import QuestionTree, TreeNode
from ..types import Provenance, Verdict

Row = dict[str, Any]

GIVEN: Final = frozenset({Provenance.JUDGED, Provenance.HUMAN, Provenance.IMPORTED})
"""Labels that do not rest on rollouts."""


class StoredEvidence:
    """The evidence of the regraded rollouts of one question in one job."""

    def __init__(self, group: Mapping[str, list[Row]], tree: QuestionTree) -> None:
        self.group, self.tree = group, tree
        self.proven = PrefixEvidence(tree.parent_of)
        self.certified, self.terminals = self.proven.certified, self.proven.terminals
        self.endings: dict[str, Row] = {}
        self._read_rollouts()
        self._keep_what_has_no_text()

    def _read_rollouts(self) -> None:
        for row in self.group["new_rollouts"]:
            path = self.tree.rollouts[row["rollout_id"], row["job_id"]].path
            self.proven.add(row["node_id"], path, Verdict(row["verdict"]))
            if path:
                self.endings.setdefault(path[-1], row)

    def _keep_what_has_no_text(self) -> None:
        """Keep the certificates and terminal verdicts of rollouts that were stored without their text."""
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
        """The solutions with their new answers and outcomes; call it before `relabelled`, which rests on them.

        A solution has the verdict of the rollout that wrote it. If no rollout with a text ends there, `grade` returns
        the verdict of the stored answer.
        """
        rows: list[Row] = []
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
            rows.append({**row, "final_answer": answer, "outcome": OUTCOME[verdict]})
        return rows

    def nodes(self) -> list[Row]:
        """All nodes of the job with their new counts, and the nodes that only a new certificate reaches."""
        rows = [self._counted(row) for row in self.group["nodes"]]
        stored = {row["node_id"] for row in rows}
        for name in sorted(self.certified - stored) if rows else ():
            node = self.tree.nodes.get(name)
            if node is not None and node.parent_id is not None:
                rows.append(_certified_row(node, rows[0]))
        return rows

    def _counted(self, row: Row) -> Row:
        facts = self.proven.facts(row["node_id"])
        terminal = row["verdict"] if facts.terminal is None else facts.terminal.value
        return {
            **row,
            **{name: getattr(facts.counts, name) for name in Counts.__slots__},
            "certified": facts.certified,
            "verdict": terminal if row["terminal"] else None,
        }

    def relabelled(self, row: Row) -> Row:
        """A label set, derived again. One by people, by judges or by an unknown method is returned as it is."""
        independent = _independent(row["method"])
        if independent is None or any(item in GIVEN for item in row["provenance"]):
            return row
        nodes: list[str] = row["node_id"]
        stopped = int(Provenance.STOPPED) in row["provenance"]
        if stopped and any(item["text"] is None for item in self.group["new_rollouts"]):
            # Only the text of a rollout shows which prefixes it passes through.
            return row
        path = [self.proven.facts(node, passing=stopped) for node in nodes]
        labels = labels_to_first_error(path)
        if independent:
            last, threshold = len(nodes) - 1, _threshold(row)
            labels = [
                independent_label(facts, is_last=place == last, threshold=threshold) for place, facts in enumerate(path)
            ]
        if stopped and row["first_error"] is None and -1 in labels and None in row["label"]:
            # The labeler stopped before it was sure, and a changed verdict does not make it surer.
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


def _certified_row(node: TreeNode, like: Row) -> Row:
    """A row of `nodes` for a prefix that is certified and not measured, by the same job as the row `like`."""
    same = {name: like[name] for name in ("question_id", "method", "policy", "job_id")}
    place = {name: getattr(node, name) for name in ("node_id", "parent_id", "depth", "step")}
    nothing = {"n_rollouts": 0, "n_correct": 0, "n_unknown": 0, "visits": 0, "terminal": False, "verdict": None}
    return {**same, **nothing, **place, "certified": True, "revision": None}


def _threshold(row: Row) -> float | None:
    """The share of correct rollouts above which a step is good, from the metadata of a row of `labels`."""
    threshold = json.loads(row.get("metadata") or "{}").get("threshold")
    return float(threshold) if isinstance(threshold, (int, float)) else None


def _float32(value: float) -> float:
    packed: float = struct.unpack("f", struct.pack("f", value))[0]
    return packed


def _independent(method: str) -> bool | None:
    """Whether the labels of a method are independent of each other; None if its labeler does not define it."""
    independent: bool | None = labeler_attribute(method, "independent_steps")
    return independent
