"""verl's rows for reinforcement learning: the question as a chat, and the gold answer that a rule compares with.

    {"data_source": "gsm8k", "prompt": [{"role": "user", "content": "Q?"}], "ability": "math",
     "reward_model": {"style": "rule", "ground_truth": "72"}, "extra_info": {"split": "train", "index": 0}}

The format holds questions only, not processes or labels. If `extra_info` holds the plain question and the prompt begins
with it, the rest of the prompt is an instruction and not part of the question; `instruction` names one for other rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...ids import question_id
from ...types import Question
from .conversation import as_messages, messages_of
from .format import BadRow, QuestionGroup, Row, Tally, encode
from .remainder import extras, remainder

_KNOWN = frozenset(("data_source", "prompt", "ability", "reward_model", "extra_info"))


@dataclass(frozen=True, slots=True)
class VerlOptions:
    """`instruction` is removed from the end of a prompt when reading and added there when writing."""

    instruction: str = ""


class VerlFormat:
    """Reads and writes rows with `data_source`, `prompt`, `ability`, `reward_model` and `extra_info`."""

    config_type: ClassVar[type] = VerlOptions
    needs_nodes: ClassVar[bool] = False
    only_questions: ClassVar[bool] = True

    def __init__(self, config: VerlOptions, source: str, split: str) -> None:
        self._config, self._source, self._split = config, source, split

    def read(self, row: Row, tally: Tally) -> Iterator[Question]:
        """Read the question of a row. Raises `BadRow` for a row that is not in this format."""
        turns = messages_of(row, "prompt")
        if turns[-1][0] != "user" or any(role != "system" for role, _ in turns[:-1]):
            raise BadRow("a prompt that is not one user message, with at most system messages before it")
        source, ability, reward = row.get("data_source"), row.get("ability"), row.get("reward_model")
        if not isinstance(source, str) or not isinstance(ability, (str, type(None))):
            raise BadRow("`data_source` or `ability` is not a string")
        gold = reward.get("ground_truth") if isinstance(reward, Mapping) else None
        if not isinstance(reward, Mapping) or not isinstance(gold, str):
            raise BadRow("no text in `ground_truth` of `reward_model`")
        info = row.get("extra_info")
        if info is not None and not isinstance(info, Mapping):
            raise BadRow("`extra_info` is not an object")
        content = turns[-1][1]
        text = self._plain(content, info or {})
        start = content.find(text)
        if not text:
            raise BadRow("no question in the prompt")
        rest = {
            "data_source": source,
            "ability": ability,
            "reward_model": {**reward, "ground_truth": gold if gold != gold.strip() else 0},
            "extra_info": info if info is None else dict(info),
            "system": [content for _, content in turns[:-1]],
            "around": [content[:start], content[start + len(text) :]],
        }
        if more := extras(row, _KNOWN, tally):
            rest["extra"] = more
        try:
            metadata = encode({"verl": rest})
        except (TypeError, ValueError, RecursionError):
            raise BadRow("a value that is not JSON") from None
        yield Question(
            question_id(text, gold),
            text,
            gold.strip(),
            self._source,
            split=self._split or _text(info, "split"),
            level=_text(info, "level"),
            subject=_text(info, "subject"),
            metadata=metadata,
        )

    def _plain(self, content: str, info: Mapping[str, Any]) -> str:
        plain, instruction = _text(info, "question").strip(), self._config.instruction.strip()
        if plain and content.lstrip().startswith(plain):
            return plain
        return content.strip().removesuffix(instruction).strip() if instruction else content.strip()

    def write(self, group: QuestionGroup, tally: Tally) -> Iterator[Row]:
        """Write one row for the question; its processes are counted as lost."""
        question = group.question
        if group.records:
            tally.lose("processes and their labels: the rows hold questions only", len(group.records))
        rest = remainder(question.metadata, "verl")
        if rest:
            yield _as_read(rest, question)
            return
        if not question.answer:
            tally.lose("questions without a gold answer (`ground_truth` is empty)")
        info: dict[str, Any] = {"split": question.split or self._split, "index": int(question.question_id[:12], 16)}
        info |= {name: text for name in ("level", "subject") if (text := getattr(question, name))}
        instruction = self._config.instruction.strip()
        content = f"{question.question}\n{instruction}" if instruction else question.question
        yield {
            "data_source": question.source,
            "prompt": as_messages([("user", content)]),
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": question.answer},
            "extra_info": info,
        }


def _as_read(rest: Mapping[str, Any], question: Question) -> Row:
    before, after = rest["around"]
    gold = rest["reward_model"]["ground_truth"]
    turns = [("system", content) for content in rest["system"]]
    turns.append(("user", before + question.question + after))
    row = {
        "data_source": rest["data_source"],
        "prompt": as_messages(turns),
        "ability": rest["ability"],
        "reward_model": {**rest["reward_model"], "ground_truth": question.answer if gold == 0 else gold},
        "extra_info": rest["extra_info"],
    }
    return {**row, **rest.get("extra", {})}


def _text(row: Mapping[str, Any] | None, name: str) -> str:
    value = row.get(name) if row else None
    return value if isinstance(value, str) else ""
