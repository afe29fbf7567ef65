"""MATH-APS in OpenR's flat layout: all prefixes of a question's tree, each preceded by the question.

    {"question": "Q", "final_answer": "4", "question_id": "7",
     "reasoning_steps": [{"solution_prefix": "Q", "mc_value": 0.5}, {"solution_prefix": "Q\\n\\na", "mc_value": 0.25}]}

The parent of a prefix is the longest other prefix of its row that it begins with. Rows written by this project may have
a null `mc_value` (the prefix was not measured). A prefix has a `label` if its value does not determine it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from ...ids import question_id
from ...types import Question, Record
from .evidence_tree import entries_of
from .format import BadRow, QuestionGroup, Row, Tally, decode, text_of
from .prefix_tree import PrefixEntry, entry_label, entry_value, records_of
from .remainder import extras

JOINT: Final = "\n\n"
_KNOWN: Final = frozenset(("question", "final_answer", "reasoning_steps"))
_ENTRY: Final = frozenset(("solution_prefix", "mc_value", "label"))


@dataclass(frozen=True, slots=True)
class MathApsOptions:
    """A prefix is good if its MC value is above `threshold`."""

    threshold: float = 0.0


class MathApsFormat:
    """Reads and writes rows whose `reasoning_steps` are a list of prefixes."""

    config_type: ClassVar[type] = MathApsOptions
    needs_nodes: ClassVar[bool] = True

    def __init__(self, config: MathApsOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split
        self._question = lru_cache(1024)(self._new_question)

    def read(self, row: Row, tally: Tally) -> Iterator[Question | Record]:
        """Read one record per leaf of the tree. Raises `BadRow` for a row that is not in this format."""
        prompt, answer, rest = head_of(row, _KNOWN, tally)
        prefixes = row.get("reasoning_steps")
        if not isinstance(prefixes, (list, tuple)):
            raise BadRow("`reasoning_steps` is not a list of prefixes")
        texts = []
        for entry in prefixes:
            text = entry.get("solution_prefix") if isinstance(entry, Mapping) else None
            if not isinstance(text, str):
                raise BadRow("a prefix that is not an object with a text")
            if not text.startswith(prompt):
                raise BadRow("a prefix that does not begin with the question")
            texts.append(text)
        if any(entry.keys() - _ENTRY for entry in prefixes):
            tally.repair("fields of prefixes beyond the format left out")
        entries = [
            PrefixEntry(
                parent, text[len(texts[parent] if parent >= 0 else prompt) :], entry_value(entry), entry_label(entry)
            )
            for entry, text, parent in zip(prefixes, texts, parents(texts), strict=True)
        ]
        question = self._question(prompt.strip(), answer)
        yield from records_of(entries, question, "math_aps", rest, self._config.threshold, tally)

    def _new_question(self, text: str, answer: str) -> Question:
        return Question(question_id(text, answer), text, answer.strip(), self._source, split=self._split)

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write the rows as they were read, and one row for the other records and the nodes of the question."""
        for rest, entries in entries_of(group, "math_aps", JOINT, self._config.threshold, tally, _joiner(group, tally)):
            prompt = rest.get("question", group.question.question)
            texts: dict[int, str] = {-1: prompt}
            for start in range(len(entries)):
                chain, at = [], start
                while at not in texts:
                    chain.append(at)
                    at = entries[at].parent
                for at in reversed(chain):
                    texts[at] = texts[entries[at].parent] + entries[at].text
            texts_and_entries = [(texts[i], entry) for i, entry in enumerate(entries)]
            if not rest:
                _count_wrong_parents([text for text, _ in texts_and_entries], entries, tally)
                texts_and_entries = texts_and_entries[1:] if entries[0].value is None else texts_and_entries
            prefixes = [{"solution_prefix": text, **value_fields(entry)} for text, entry in texts_and_entries]
            yield whole_row(group.question, rest, prefixes)


def _joiner(group: QuestionGroup, tally: Tally) -> str:
    """Return the text between two steps of the new row: the processes' common joiner, else `JOINT`."""
    joiners = {str(decode(record.metadata).get("joiner", JOINT)) for record in group.records} or {JOINT}
    if len(joiners) > 1:
        tally.lose("how the steps of processes in one tree are joined")
    return joiners.pop() if len(joiners) == 1 else JOINT


def parents(texts: Sequence[str]) -> list[int]:
    """Return, for each text, the index of the longest other text it begins with, or -1; equal texts share the first."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    above: dict[str, int] = {}
    chain: list[str] = []
    # In sorted order, all texts that begin with a text follow it directly.
    for text in sorted(first):
        while chain and not text.startswith(chain[-1]):
            chain.pop()
        above[text] = first[chain[-1]] if chain else -1
        chain.append(text)
    return [above[text] for text in texts]


def _count_wrong_parents(texts: Sequence[str], entries: Sequence[PrefixEntry], tally: Tally) -> None:
    """Count steps that begin with the text of a sibling: a reader will take them for its continuation."""
    pairs = zip(parents(texts), entries, strict=True)
    if wrong := sum(parent != entry.parent for parent, entry in pairs):
        tally.lose("prefixes whose parent the text does not show", wrong)


def head_of(row: Row, known: frozenset[str], tally: Tally) -> tuple[str, str, dict[str, Any]]:
    """Return question and answer unchanged, and what must be stored of a row besides its tree."""
    prompt, answer = text_of(row, "question"), row.get("final_answer")
    if not isinstance(answer, str):
        raise BadRow("`final_answer` is not a string")
    rest: dict[str, Any] = {}
    if prompt != prompt.strip():
        rest["question"] = prompt
    if answer != answer.strip():
        rest["final_answer"] = answer
    if more := extras(row, known, tally):
        rest["extra"] = more
    return prompt, answer, rest


def value_fields(entry: PrefixEntry) -> dict[str, Any]:
    """Return the value of an entry and, if it has one, its explicit label."""
    return {"mc_value": entry.value} if entry.label is None else {"mc_value": entry.value, "label": entry.label}


def whole_row(question: Question, rest: Mapping[str, Any], tree: Any) -> Row:
    """Build a row from what `head_of` stored and a written tree."""
    return {
        "question": rest.get("question", question.question),
        "final_answer": rest.get("final_answer", question.answer),
        "reasoning_steps": tree,
        **rest.get("extra", {}),
    }
