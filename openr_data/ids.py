"""Content hashes: the same thing made twice has the same id, on any machine, in any order.

All ids are blake2b-128 in hex. The parts are length-prefixed, so no two lists of parts collide by
concatenation, and the kind goes into the hash, so a question never shares an id with a node.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def content_hash(kind: str, *parts: str) -> str:
    """32 hex digits over a kind and its parts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind, *parts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def question_id(question: str, answer: str) -> str:
    """The id of a question: its text and its gold answer, outer white space left out."""
    return content_hash("question", question.strip(), answer.strip())


def root_id(question: str) -> str:
    """The id of the empty prefix of the question with this id."""
    return content_hash("node", question)


def child_id(parent: str, step: str) -> str:
    """The id of a prefix, from the id of the prefix without its last step, and that step."""
    return content_hash("node", parent, step)


def prefix_ids(question: str, steps: Iterable[str], start: str | None = None) -> Iterator[str]:
    """The ids of all prefixes, root (or the node `start`) first: one more than there are steps."""
    node = start or root_id(question)
    yield node
    for step in steps:
        node = child_id(node, step)
        yield node


def solution_id(question: str, steps: Iterable[str]) -> str:
    """The id of a process of the question with this id."""
    return content_hash("solution", question, *steps)


def label_id(solution: str, method: str, job: str) -> str:
    """The id of one label set."""
    return content_hash("label", solution, method, job)


def rollout_id(policy: str, node: str, seed: int, index: int, shape: str, text: str) -> str:
    """The id of sample `index` of a request: the same draw in two jobs is one rollout, counted once.

    `shape` names what else the draw depends on: temperature, top_p, token limit.
    """
    return content_hash("rollout", policy, node, str(seed), str(index), shape, text)


def config_id(config: Mapping[str, Any]) -> str:
    """12 hex digits over a resolved configuration: the id of a job."""
    return content_hash("config", json.dumps(config, sort_keys=True, ensure_ascii=True))[:12]


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from names, for example (job seed, question id, node id, first index)."""
    return int(content_hash("seed", *(str(part) for part in parts))[:16], 16) >> 1
