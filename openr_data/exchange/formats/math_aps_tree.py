"""MATH-APS in OpenR's tree layout: the question is the root, and each node has its new text and its MC value.

    {"question": "Q", "final_answer": "4", "question_id": "7",
     "reasoning_steps": {"text": "Q", "mc_value": 0.5, "children": [{"text": "a", "mc_value": 0.25, "children": []}]}}

Rows written by this project may have a null `mc_value` (the prefix was not measured). A node has a `label` if its value
does not determine it.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final

from ...ids import question_id
from ...types import Question, Record
from .evidence_tree import entries_of
from .format import BadRow, QuestionGroup, Row, Tally
from .math_aps import MathApsOptions, head_of, value_fields, whole_row
from .prefix_tree import PrefixEntry, entry_label, entry_value, records_of

_KNOWN: Final = frozenset(("question", "final_answer", "reasoning_steps"))
_NODE: Final = frozenset(("text", "mc_value", "children", "label"))


class MathApsTreeFormat:
    """Reads and writes rows whose `reasoning_steps` are a tree."""

    config_type: ClassVar[type] = MathApsOptions
    needs_nodes: ClassVar[bool] = True

    def __init__(self, config: MathApsOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """Read one record per leaf of the tree. Raises `BadRow` for a row that is not in this format."""
        prompt, answer, rest = head_of(row, _KNOWN, tally)
        root = row.get("reasoning_steps")
        entries: list[PrefixEntry] = []
        open_ones: list[tuple[int, object]] = [(-1, root)]
        while open_ones:
            parent, node = open_ones.pop()
            if not isinstance(node, Mapping) or not isinstance(node.get("text"), str):
                raise BadRow("a node that is not an object with a text")
            children = node.get("children")
            if not isinstance(children, (list, tuple)):
                raise BadRow("`children` of a node is not a list")
            if node.keys() - _NODE:
                tally.repair("fields of nodes beyond the format left out")
            open_ones += [(len(entries), child) for child in reversed(children)]
            entries.append(PrefixEntry(parent, node["text"] if entries else "", entry_value(node), entry_label(node)))
        if isinstance(root, Mapping) and root["text"] != prompt:
            rest["root"] = root["text"]
        question = self._question(prompt.strip(), answer)
        yield from records_of(entries, question, "math_aps_tree", rest, self._config.threshold, tally)

    def _new_question(self, text: str, answer: str) -> Question:
        return Question(question_id(text, answer), text, answer.strip(), self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write the rows as they were read, and one row for the other records and the nodes of the question."""
        for rest, entries in entries_of(group, "math_aps_tree", "", self._config.threshold, tally):
            prompt = rest.get("question", group.question.question)
            nodes: list[dict[str, Any]] = []
            for entry in entries:
                text = entry.text if nodes else rest.get("root", prompt)
                nodes.append({"text": text, **value_fields(entry), "children": []})
                if entry.parent >= 0:
                    nodes[entry.parent]["children"].append(nodes[-1])
            yield whole_row(group.question, rest, nodes[0])
