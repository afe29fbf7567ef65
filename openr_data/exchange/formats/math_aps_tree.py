"""MATH-APS in OpenR's tree layout: the question at the root, each node with its new text and its MC value.

    {"question": "Q", "final_answer": "4", "question_id": "7",
     "reasoning_steps": {"text": "Q", "mc_value": 0.5, "children": [{"text": "a", "mc_value": 0.25, "children": []}]}}

What this project writes may hold `mc_value` null (a prefix that was not measured) and then, or where the value does
not tell it, a `label`.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final

from ...ids import question_id
from ...types import Question, Record
from .evidence_tree import entries_of
from .format import BadRow, Group, Row, Tally
from .math_aps import MathApsOptions, head_of, value_fields, whole_row
from .prefix_tree import Entry, entry_label, entry_value, records_of

_KNOWN: Final = frozenset(("question", "final_answer", "reasoning_steps"))
_NODE: Final = frozenset(("text", "mc_value", "children", "label"))


class MathApsTreeFormat:
    """Rows whose `reasoning_steps` are a tree."""

    config_type: ClassVar[type] = MathApsOptions
    needs_nodes: ClassVar[bool] = True

    def __init__(self, config: MathApsOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """One record a leaf of the tree. Raises `BadRow` for a row that is not in this format."""
        asked, answer, kept = head_of(row, _KNOWN, tally)
        root = row.get("reasoning_steps")
        entries: list[Entry] = []
        open_ones: list[tuple[int, object]] = [(-1, root)]
        while open_ones:
            parent, node = open_ones.pop()
            if not isinstance(node, Mapping) or not isinstance(node.get("text"), str):
                raise BadRow("a node that is no object with a text")
            children = node.get("children")
            if not isinstance(children, (list, tuple)):
                raise BadRow("`children` of a node is no list")
            if node.keys() - _NODE:
                tally.repair("fields of nodes beyond the format left out")
            open_ones += [(len(entries), child) for child in reversed(children)]
            entries.append(Entry(parent, node["text"] if entries else "", entry_value(node), entry_label(node)))
        if isinstance(root, Mapping) and root["text"] != asked:
            kept["root"] = root["text"]
        question = self._question(asked.strip(), answer)
        yield from records_of(entries, question, "math_aps_tree", kept, self._config.threshold, tally)

    def _new_question(self, text: str, answer: str) -> Question:
        return Question(question_id(text, answer), text, answer.strip(), self._source, split=self._split)

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """The rows that were read, and one row for the other records and the nodes of the question."""
        for kept, entries in entries_of(group, "math_aps_tree", "", self._config.threshold, tally):
            asked = kept.get("question", group.question.question)
            nodes: list[dict[str, Any]] = []
            for entry in entries:
                text = entry.text if nodes else kept.get("root", asked)
                nodes.append({"text": text, **value_fields(entry), "children": []})
                if entry.parent >= 0:
                    nodes[entry.parent]["children"].append(nodes[-1])
            yield whole_row(group.question, kept, nodes[0])
