"""Values as rows of the tables, and rows as values: the one place that knows both.

For every value there is a pair: `question_row` and `question_of`, `solution_row` and `solution_of`, and so on;
`x_of(x_row(value))` is the value. A null has one meaning: nothing was stored. A field that may be None is None then; a
field of text is empty, and metadata is the empty JSON object. Nulls come from older schema versions, from rollouts
stored without their text, and from rows that other programs wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..ids import child_id, label_id, root_id
from ..types import (
    Labeling,
    LabelSet,
    Node,
    Provenance,
    Question,
    Record,
    Rollout,
    SearchNode,
    Solution,
    StepLabel,
    Verdict,
)
from .spool import Rows

Row = Mapping[str, Any]

OUTCOME = {Verdict.CORRECT: True, Verdict.INCORRECT: False, Verdict.UNKNOWN: None}
"""The verdict of a solution's final answer as the column `outcome` holds it."""

_VERDICT = {value: verdict for verdict, value in OUTCOME.items()}


def question_row(question: Question) -> dict[str, Any]:
    """A row of `questions`."""
    return {name: getattr(question, name) for name in Question.__slots__}


def question_of(row: Row) -> Question:
    """The question of a row of `questions`."""
    texts = {name: row[name] or "" for name in Question.__slots__ if name != "metadata"}
    return Question(**texts, metadata=row["metadata"] or "{}")


def solution_row(solution: Solution, job: str, policy: str) -> dict[str, Any]:
    """A row of `solutions`; the policy of the job is the generator where the solution names none."""
    return {
        "solution_id": solution.solution_id,
        "question_id": solution.question_id,
        "steps": list(solution.steps),
        "n_steps": len(solution.steps),
        "final_answer": solution.final_answer,
        "outcome": OUTCOME[solution.outcome],
        "generator": solution.generator or policy,
        "n_tokens": solution.n_tokens,
        "job_id": job,
        "revision": 0,
        "metadata": solution.metadata,
    }


def solution_of(row: Row) -> Solution:
    """The solution of a row of `solutions`."""
    return Solution(
        solution_id=row["solution_id"],
        question_id=row["question_id"],
        steps=tuple(row["steps"]),
        final_answer=row["final_answer"],
        outcome=_VERDICT[row["outcome"]],
        n_tokens=row["n_tokens"],
        generator=row["generator"] or "",
        metadata=row["metadata"] or "{}",
    )


def node_row(node: Node, job: str, method: str, policy: str) -> dict[str, Any]:
    """A row of `nodes`."""
    return {
        **{name: getattr(node, name) for name in Node.__slots__},
        "verdict": None if node.verdict is None else node.verdict.value,
        "method": method,
        "policy": policy,
        "job_id": job,
        "revision": 0,
    }


def node_of(row: Row) -> Node:
    """The node of a row of `nodes`."""
    values = {name: row[name] for name in Node.__slots__}
    verdict = None if row["verdict"] is None else Verdict(row["verdict"])
    return Node(**{**values, "step": row["step"] or "", "verdict": verdict})


def rollout_row(rollout: Rollout, job: str, policy: str, text: bool = True) -> dict[str, Any]:
    """A row of `rollouts`; without `text` it keeps the answer and the counts only."""
    return {
        **{name: getattr(rollout, name) for name in Rollout.__slots__},
        "verdict": rollout.verdict.value,
        "text": rollout.text if text else None,
        "policy": policy,
        "job_id": job,
        "revision": 0,
    }


def rollout_of(row: Row) -> Rollout:
    """The rollout of a row of `rollouts`; its text is empty where none was stored."""
    values = {name: row[name] for name in Rollout.__slots__}
    texts = {name: row[name] or "" for name in ("text", "extraction", "reason", "grader")}
    return Rollout(**{**values, **texts, "verdict": Verdict(row["verdict"])})


def label_row(item: LabelSet, question: str, job: str, method: str, policy: str) -> dict[str, Any]:
    """A row of `labels`: one list a field, one entry a step."""
    lists = {name: [_plain(getattr(step, name)) for step in item.labels] for name in StepLabel.__slots__}
    return {
        "label_id": label_id(item.solution_id, method, job),
        "solution_id": item.solution_id,
        "question_id": question,
        "method": method,
        "completer": policy,
        "job_id": job,
        **lists,
        "first_error": item.first_error,
        "revision": 0,
        "metadata": item.metadata,
    }


def label_set_of(row: Row) -> LabelSet:
    """The label set of a row of `labels`. Raises `ValueError` if its lists differ in length."""
    lists = [row[name] for name in StepLabel.__slots__]
    labels = tuple(
        StepLabel(label, value, n_correct, n_rollouts, Provenance(provenance), node)
        for label, value, n_correct, n_rollouts, provenance, node in zip(*lists, strict=True)
    )
    return LabelSet(row["solution_id"], labels, row["metadata"] or "{}")


def record_of(question: Question, row: Row) -> Record:
    """The record of a row of the view `records`. Raises `ValueError` or `TypeError` for a damaged label set."""
    return Record(
        question=question,
        steps=tuple(row["steps"]),
        label=tuple(row["label"]),
        method=row["method"],
        value=tuple(row["value"]),
        n_correct=tuple(row["n_correct"]),
        n_rollouts=tuple(row["n_rollouts"]),
        provenance=tuple(row["provenance"]),
        generator=row["generator"] or "",
        completer=row["completer"] or "",
        final_answer=row["final_answer"],
        outcome=row["outcome"],
        metadata=row["solution_metadata"] or "{}",
        label_metadata=row["label_metadata"] or "{}",
    )


def record_solution(record: Record, solution: str, job: str) -> tuple[Any, ...]:
    """The process of a record as a row of `solutions`: a tuple in the order of the schema, which imports build fast."""
    return (
        solution, record.question.question_id, record.steps, len(record.steps), record.final_answer, record.outcome,
        record.generator, None, job, 0, record.metadata,
    )  # fmt: skip


def record_lists(record: Record) -> tuple[Sequence[float | None], Sequence[int], Sequence[int], Sequence[int]]:
    """Values, correct and graded rollouts, and provenance of a record as `labels` holds them: one entry a step each."""
    n = len(record.steps)
    return (
        record.value or (None,) * n,
        record.n_correct or (0,) * n,
        record.n_rollouts or (0,) * n,
        record.provenance or (int(Provenance.IMPORTED),) * n,
    )


def record_label(
    record: Record, label: str, solution: str, nodes: Sequence[str], job: str, revision: int
) -> tuple[Any, ...]:
    """The label set of a record as a row of `labels`: a tuple in the order of the schema; `nodes` are the prefixes."""
    return (
        label, solution, record.question.question_id, record.method, record.completer, job, record.label,
        *record_lists(record), nodes, record.first_error, revision, record.label_metadata,
    )  # fmt: skip


def labeling_rows(labeling: Labeling, job: str, method: str, policy: str, text: bool) -> Rows:
    """All rows of one question. Without `text` the rollouts keep counts and answers only."""
    return {
        "solutions": [solution_row(item, job, policy) for item in labeling.solutions],
        "nodes": [node_row(item, job, method, policy) for item in labeling.nodes],
        "rollouts": [rollout_row(item, job, policy, text) for item in labeling.rollouts],
        "search_nodes": search_node_rows(labeling.search_nodes, labeling.question_id, method, policy, job),
        "labels": [label_row(item, labeling.question_id, job, method, policy) for item in labeling.labels],
    }


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) else value


def search_node_rows(
    nodes: Sequence[SearchNode], question: str, search: str, policy: str, job: str
) -> list[dict[str, Any]]:
    """The tree of a search as rows of `search_nodes`, in its order; `question` is the id of the question."""
    names: list[str] = []
    depths: list[int] = []
    rows: list[dict[str, Any]] = []
    for place, node in enumerate(nodes):
        parent = None if node.parent is None else names[node.parent]
        names.append(root_id(question) if parent is None else child_id(parent, node.step))
        depths.append(0 if node.parent is None else depths[node.parent] + 1)
        rows.append(
            {
                "node_id": names[-1],
                "parent_id": parent,
                "question_id": question,
                "depth": depths[-1],
                "step": node.step,
                "search": search,
                "path_score": node.path_score,
                "prior": node.prior,
                "visits": node.visits,
                "value": node.value,
                "state": node.state,
                "finish_reason": node.finish_reason,
                "answer": node.answer,
                "verdict": node.verdict.value if node.verdict else None,
                "place": place,
                "tokens_spent": node.tokens_spent,
                "policy": policy,
                "job_id": job,
                "revision": 0,
            }
        )
    return rows


def search_nodes_of(rows: Sequence[Mapping[str, Any]]) -> tuple[SearchNode, ...]:
    """The tree of one question and job from its rows; the inverse of `search_node_rows`."""
    ordered = sorted(rows, key=lambda row: row["place"])
    # Equal paths have one id: the newest node above of that id is the parent.
    newest: dict[str, int] = {}
    nodes: list[SearchNode] = []
    for place, row in enumerate(ordered):
        nodes.append(
            SearchNode(
                parent=None if row["parent_id"] is None else newest[row["parent_id"]],
                step=row["step"],
                state=row["state"],
                tokens_spent=row["tokens_spent"],
                path_score=row["path_score"],
                prior=row["prior"],
                visits=row["visits"],
                value=row["value"],
                finish_reason=row["finish_reason"],
                answer=row["answer"],
                verdict=Verdict(row["verdict"]) if row["verdict"] else None,
            )
        )
        newest[row["node_id"]] = place
    return tuple(nodes)


def score_rows(
    question: str, nodes: Sequence[str], scores: Sequence[float], reward: str, job: str
) -> list[dict[str, Any]]:
    """Step scores as rows of `scores`: one for each of these prefixes of a question, by their ids."""
    return [
        {"node_id": node, "question_id": question, "reward": reward, "score": float(score), "job_id": job}
        for node, score in zip(nodes, scores, strict=True)
    ]
