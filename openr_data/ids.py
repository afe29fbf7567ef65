"""Content hashes: the same thing made twice has the same id, on any machine, in any order.

All ids are blake2b-128 in hex. Parts are length-prefixed, so that two lists of parts cannot collide by
concatenation. The kind is part of the hash, so that a question never shares an id with a node.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

_CHILD: Final = (4).to_bytes(8, "big") + b"node" + (32).to_bytes(8, "big")
"""The beginning of the hashed data of every prefix but a root: its kind, and the length of its parent's id."""
_SOLUTION: Final = (8).to_bytes(8, "big") + b"solution"


def content_hash(kind: str, *parts: str) -> str:
    """32 hex digits over a kind and its parts."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in (kind, *parts)]
    data = b"".join([len(item).to_bytes(8, "big") + item for item in encoded])
    return blake2b(data, digest_size=16).hexdigest()


def question_id(question: str, answer: str) -> str:
    """The id of a question: its text and its gold answer without outer white space."""
    return content_hash("question", question.strip(), answer.strip())


def root_id(question: str) -> str:
    """The id of the empty prefix of the question with this id."""
    return content_hash("node", question)


def child_id(parent: str, step: str) -> str:
    """The id of a prefix, from its last step and the id of the prefix before that step."""
    return content_hash("node", parent, step)


def prefix_ids(question: str, steps: Iterable[str], start: str | None = None) -> Iterator[str]:
    """The ids of all prefixes, one more than there are steps; the root (or the node `start`) comes first."""
    node = start or root_id(question)
    yield node
    for step in steps:
        # The same as `child_id`, without encoding the constant parts again: an import hashes millions.
        data = step.encode("utf-8", "surrogatepass")
        node = blake2b(_CHILD + node.encode() + len(data).to_bytes(8, "big") + data, digest_size=16).hexdigest()
        yield node


def solution_id(question: str, steps: Iterable[str]) -> str:
    """The id of a process of the question with this id."""
    return content_hash("solution", question, *steps)


def process_ids(question: str, steps: Iterable[str]) -> tuple[str, list[str]]:
    """`solution_id` and, without the root, `prefix_ids` of a process; computing both together takes half the time."""
    node = root_id(question)
    nodes: list[str] = []
    parts: list[bytes] = []
    for step in steps:
        data = step.encode("utf-8", "surrogatepass")
        data = len(data).to_bytes(8, "big") + data
        parts.append(data)
        node = blake2b(_CHILD + node.encode() + data, digest_size=16).hexdigest()
        nodes.append(node)
    asked = question.encode("utf-8", "surrogatepass")
    head = _SOLUTION + len(asked).to_bytes(8, "big") + asked
    return blake2b(head + b"".join(parts), digest_size=16).hexdigest(), nodes


def label_id(solution: str, method: str, job: str) -> str:
    """The id of one label set."""
    return content_hash("label", solution, method, job)


def rollout_id(policy: str, node: str, seed: int, index: int, shape: str, text: str) -> str:
    """The id of sample `index` of a request: the same draw in two jobs is one rollout, counted once.

    `shape` holds what else the draw depends on: temperature, top_p, token limit.
    """
    return content_hash("rollout", policy, node, str(seed), str(index), shape, text)


def config_id(config: Mapping[str, Any]) -> str:
    """12 hex digits over a resolved configuration: the id of a job."""
    return content_hash("config", json.dumps(config, sort_keys=True, ensure_ascii=True))[:12]


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from names, for example (job seed, question id, node id, first index)."""
    return int(content_hash("seed", *(str(part) for part in parts))[:16], 16) >> 1
