"""MATH-APS in OpenR's flat layout: all prefixes of a question's tree, each with the question in front of it.

    {"question": "Q", "final_answer": "4", "question_id": "7",
     "reasoning_steps": [{"solution_prefix": "Q", "mc_value": 0.5}, {"solution_prefix": "Q\\n\\na", "mc_value": 0.25}]}

A prefix goes on from the longest other prefix of its row that it begins with. What this project writes may hold
`mc_value` null (a prefix that was not measured) and then, or where the value does not tell it, a `label`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from ...ids import question_id
from ...types import Question, Record
from .evidence_tree import entries_of
from .format import BadRow, Group, Row, Tally, decode, text_of
from .prefix_tree import Entry, entry_label, entry_value, records_of
from .remainder import extras

JOINT: Final = "\n\n"
_KNOWN: Final = frozenset(("question", "final_answer", "reasoning_steps"))
_ENTRY: Final = frozenset(("solution_prefix", "mc_value", "label"))


@dataclass(frozen=True, slots=True)
class MathApsOptions:
    """A prefix is good if its MC value is above `threshold`."""

    threshold: float = 0.0


class MathApsFormat:
    """Rows whose `reasoning_steps` are a list of prefixes."""

    config_type: ClassVar[type] = MathApsOptions
    needs_nodes: ClassVar[bool] = True

    def __init__(self, config: MathApsOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """One record a leaf of the tree. Raises `BadRow` for a row that is not in this format."""
        asked, answer, kept = head_of(row, _KNOWN, tally)
        found = row.get("reasoning_steps")
        if not isinstance(found, (list, tuple)):
            raise BadRow("`reasoning_steps` is no list of prefixes")
        texts = []
        for entry in found:
            text = entry.get("solution_prefix") if isinstance(entry, Mapping) else None
            if not isinstance(text, str):
                raise BadRow("a prefix that is no object with a text")
            if not text.startswith(asked):
                raise BadRow("a prefix that does not begin with the question")
            texts.append(text)
        if any(entry.keys() - _ENTRY for entry in found):
            tally.repair("fields of prefixes beyond the format left out")
        entries = [
            Entry(parent, text[len(texts[parent] if parent >= 0 else asked) :], entry_value(entry), entry_label(entry))
            for entry, text, parent in zip(found, texts, parents(texts), strict=True)
        ]
        question = self._question(asked.strip(), answer)
        yield from records_of(entries, question, "math_aps", kept, self._config.threshold, tally)

    def _new_question(self, text: str, answer: str) -> Question:
        return Question(question_id(text, answer), text, answer.strip(), self._source, split=self._split)

    def write(self, group: Group, tally: Tally) -> Iterator[Row]:
        """The rows that were read, and one row for the other records and the nodes of the question."""
        for kept, entries in entries_of(group, "math_aps", JOINT, self._config.threshold, tally, _joiner(group, tally)):
            asked = kept.get("question", group.question.question)
            texts: dict[int, str] = {-1: asked}
            for start in range(len(entries)):
                chain, at = [], start
                while at not in texts:
                    chain.append(at)
                    at = entries[at].parent
                for at in reversed(chain):
                    texts[at] = texts[entries[at].parent] + entries[at].text
            known = [(texts[i], entry) for i, entry in enumerate(entries)]
            if not kept:
                _count_untold([text for text, _ in known], entries, tally)
                known = known[1:] if entries[0].value is None else known
            prefixes = [{"solution_prefix": text, **value_fields(entry)} for text, entry in known]
            yield whole_row(group.question, kept, prefixes)


def _joiner(group: Group, tally: Tally) -> str:
    """What stands between two steps of the new row: what all processes of the question say, else `JOINT`."""
    told = {str(decode(record.metadata).get("joiner", JOINT)) for record in group.records} or {JOINT}
    if len(told) > 1:
        tally.lose("how processes are joined that are written as one tree")
    return told.pop() if len(told) == 1 else JOINT


def parents(texts: Sequence[str]) -> list[int]:
    """The index of the longest other text each text begins with, or -1; of equal texts the first counts."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    above: dict[str, int] = {}
    chain: list[str] = []
    # In sorted order everything that begins with a text follows it at once.
    for text in sorted(first):
        while chain and not text.startswith(chain[-1]):
            chain.pop()
        above[text] = first[chain[-1]] if chain else -1
        chain.append(text)
    return [above[text] for text in texts]


def _count_untold(texts: Sequence[str], entries: Sequence[Entry], tally: Tally) -> None:
    """A step that begins with the text of its sibling will be read as going on from it."""
    found = zip(parents(texts), entries, strict=True)
    if untold := sum(parent != entry.parent for parent, entry in found):
        tally.lose("prefixes whose parent the text does not tell", untold)


def head_of(row: Row, known: frozenset[str], tally: Tally) -> tuple[str, str, dict[str, Any]]:
    """Question and answer as they stand, and what is kept of a row beside its tree."""
    asked, answer = text_of(row, "question"), row.get("final_answer")
    if not isinstance(answer, str):
        raise BadRow("`final_answer` is no text")
    kept: dict[str, Any] = {}
    if asked != asked.strip():
        kept["question"] = asked
    if answer != answer.strip():
        kept["final_answer"] = answer
    if more := extras(row, known, tally):
        kept["extra"] = more
    return asked, answer, kept


def value_fields(entry: Entry) -> dict[str, Any]:
    """The value of an entry and, where that does not tell it, its label."""
    return {"mc_value": entry.value} if entry.label is None else {"mc_value": entry.value, "label": entry.label}


def whole_row(question: Question, kept: Mapping[str, Any], tree: Any) -> Row:
    """A row from what `head_of` kept and a written tree."""
    return {
        "question": kept.get("question", question.question),
        "final_answer": kept.get("final_answer", question.answer),
        "reasoning_steps": tree,
        **kept.get("extra", {}),
    }
