"""The Arrow schemas of the tables of a dataset (DESIGN section 4), their keys and their versions.

Three tables hold the facts, four the evidence, two the bookkeeping. Steps and labels are parallel lists
of equal length, never `list<struct>`: that costs 6 to 21 times more to query.

Rows of `rollouts` and counts of `nodes` are independent samples from their prefix and nothing else. What a guided
search kept is selected, so it stands in `search_nodes`.
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

SCHEMA_VERSION: Final = 4
"""2 added `extraction` and `reason` to rollouts, and `revision` to everything that a regrade supersedes.

3 added `metadata` to solutions and labels (fields of an import's source beyond the columns), and `changes` to refs;
from 3 on the name of a data file contains its version. 4 added the tables `scores` and `search_nodes`.
"""

COLUMNS_SINCE: Final = 3
"""Data files of this version and later have all columns of their table."""

_TEXTS: Final = pa.list_(pa.string())


def _schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in fields])


QUESTIONS: Final = _schema(
    ("question_id", pa.string()),
    ("question", pa.string()),
    ("answer", pa.string()),
    ("source", pa.string()),
    ("split", pa.string()),
    ("level", pa.string()),
    ("subject", pa.string()),
    ("metadata", pa.string()),
)
SOLUTIONS: Final = _schema(
    ("solution_id", pa.string()),
    ("question_id", pa.string()),
    ("steps", _TEXTS),
    ("n_steps", pa.int32()),
    ("final_answer", pa.string()),
    ("outcome", pa.bool_()),
    ("generator", pa.string()),
    ("n_tokens", pa.int32()),
    ("job_id", pa.string()),
    ("revision", pa.int32()),
    ("metadata", pa.string()),
)
LABELS: Final = _schema(
    ("label_id", pa.string()),
    ("solution_id", pa.string()),
    ("question_id", pa.string()),
    ("method", pa.string()),
    ("completer", pa.string()),
    ("job_id", pa.string()),
    ("label", pa.list_(pa.int8())),
    ("value", pa.list_(pa.float32())),
    ("n_correct", pa.list_(pa.int32())),
    ("n_rollouts", pa.list_(pa.int32())),
    ("provenance", pa.list_(pa.int8())),
    ("node_id", _TEXTS),
    ("first_error", pa.int16()),
    ("revision", pa.int32()),
    ("metadata", pa.string()),
)
NODES: Final = _schema(
    ("node_id", pa.string()),
    ("parent_id", pa.string()),
    ("question_id", pa.string()),
    ("depth", pa.int32()),
    ("step", pa.string()),
    ("n_rollouts", pa.int32()),
    ("n_correct", pa.int32()),
    ("n_unknown", pa.int32()),
    ("certified", pa.bool_()),
    ("terminal", pa.bool_()),
    ("verdict", pa.string()),
    ("visits", pa.int32()),
    ("method", pa.string()),
    ("policy", pa.string()),
    ("job_id", pa.string()),
    ("revision", pa.int32()),
)
ROLLOUTS: Final = _schema(
    ("rollout_id", pa.string()),
    ("question_id", pa.string()),
    ("node_id", pa.string()),
    ("text", pa.string()),
    ("answer", pa.string()),
    ("extraction", pa.string()),
    ("verdict", pa.string()),
    ("reason", pa.string()),
    ("grader", pa.string()),
    ("finish_reason", pa.string()),
    ("n_tokens", pa.int32()),
    ("logprob", pa.float32()),
    ("seed", pa.int64()),
    ("policy", pa.string()),
    ("job_id", pa.string()),
    ("revision", pa.int32()),
)
SEARCH_NODES: Final = _schema(
    ("node_id", pa.string()),
    ("parent_id", pa.string()),
    ("question_id", pa.string()),
    ("depth", pa.int32()),
    ("step", pa.string()),
    ("search", pa.string()),
    ("path_score", pa.float64()),
    ("prior", pa.float64()),
    ("visits", pa.int32()),
    ("value", pa.float64()),
    ("state", pa.string()),
    ("finish_reason", pa.string()),
    ("answer", pa.string()),
    ("verdict", pa.string()),
    ("place", pa.int32()),
    ("tokens_spent", pa.int64()),
    ("policy", pa.string()),
    ("job_id", pa.string()),
    ("revision", pa.int32()),
)
SCORES: Final = _schema(
    ("node_id", pa.string()),
    ("question_id", pa.string()),
    ("reward", pa.string()),
    ("score", pa.float64()),
    ("job_id", pa.string()),
)
JOBS: Final = _schema(
    ("job_id", pa.string()),
    ("kind", pa.string()),
    ("event", pa.string()),
    ("config", pa.string()),
    ("versions", pa.string()),
    ("totals", pa.string()),
    ("at", pa.string()),
)
REFS: Final = _schema(
    ("name", pa.string()),
    ("kind", pa.string()),
    ("versions", pa.map_(pa.string(), pa.int64())),
    ("digest", pa.string()),
    ("parent", pa.string()),
    ("operation", pa.string()),
    ("message", pa.string()),
    ("counts", pa.map_(pa.string(), pa.int64())),
    ("job_id", pa.string()),
    ("hub_revision", pa.string()),
    ("created_at", pa.string()),
    ("changes", pa.map_(pa.string(), pa.int64())),
)

TABLES: Final[Mapping[str, pa.Schema]] = {
    "questions": QUESTIONS,
    "solutions": SOLUTIONS,
    "nodes": NODES,
    "rollouts": ROLLOUTS,
    "search_nodes": SEARCH_NODES,
    "scores": SCORES,
    "labels": LABELS,
    "jobs": JOBS,
}
"""The tables a snapshot pins, in the order they are written; readers resolve them in reverse."""

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "questions": ("question_id",),
    "solutions": ("solution_id", "job_id"),
    "nodes": ("node_id", "job_id"),
    "rollouts": ("rollout_id", "job_id"),
    "search_nodes": ("node_id", "place", "job_id"),
    "scores": ("node_id", "reward"),
    "labels": ("label_id",),
    "jobs": ("job_id", "event", "at"),
}
"""What makes a row of a table the same row; of several the one with the highest `revision` counts."""

LATER_TABLES: Final = frozenset(("search_nodes", "scores"))
"""Tables that stores of version 1 to 3 lack; an empty one does not count in a digest."""

SHARED: Final = frozenset(("scores",))
"""Tables whose rows belong to no single job: a row that is there already is never written again."""

ADDED: Final[Mapping[str, tuple[str, ...]]] = {"solutions": ("metadata",), "labels": ("metadata",)}
"""Columns that came after digests were first written; empty ones do not count in a digest."""

HASHED: Final[Mapping[str, tuple[str, ...]]] = {
    "questions": ("question", "answer"),
    "solutions": ("steps",),
    "nodes": ("step",),
    "rollouts": ("text",),
    "search_nodes": ("step",),
}
"""Columns that the id of a row is a hash over."""

LABEL_LISTS: Final = ("label", "value", "n_correct", "n_rollouts", "provenance", "node_id")
"""The parallel lists of `labels`: one entry a step."""
