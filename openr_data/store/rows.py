"""Values as rows of the tables, and back: the one place that knows both."""

from collections.abc import Mapping
from typing import Any

from ..ids import label_id
from ..types import Labeling, LabelSet, Question, Rollout, Solution, StepLabel, Verdict
from .spool import Rows

OUTCOME = {Verdict.CORRECT: True, Verdict.INCORRECT: False, Verdict.UNKNOWN: None}
"""The verdict of a solution's final answer as the column `outcome` holds it."""

_VERDICT = {value: verdict for verdict, value in OUTCOME.items()}


def question_row(question: Question) -> dict[str, Any]:
    """A row of `questions`."""
    return {name: getattr(question, name) for name in Question.__slots__}


def question_of(row: dict[str, Any]) -> Question:
    """The question of a row; the inverse of `question_row`."""
    return Question(**{name: row[name] for name in Question.__slots__})


def solution_of(row: Mapping[str, Any]) -> Solution:
    """The solution of a row; the inverse of what `labeling_rows` makes of it."""
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


def labeling_rows(labeling: Labeling, job: str, method: str, policy: str, text: bool) -> Rows:
    """All rows that one question brings. Without `text` the rollouts keep counts and answers only."""
    return {
        "solutions": [_solution(item, job, policy) for item in labeling.solutions],
        "nodes": [
            {
                **{name: getattr(node, name) for name in node.__slots__},
                "verdict": node.verdict.value if node.verdict else None,
                "method": method,
                "policy": policy,
                "job_id": job,
                "revision": 0,
            }
            for node in labeling.nodes
        ],
        "rollouts": [_rollout(item, job, policy, text) for item in labeling.rollouts],
        "labels": [_label(item, labeling.question_id, job, method, policy) for item in labeling.labels],
    }


def _solution(solution: Solution, job: str, policy: str) -> dict[str, Any]:
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


def _rollout(rollout: Rollout, job: str, policy: str, text: bool) -> dict[str, Any]:
    return {
        **{name: getattr(rollout, name) for name in rollout.__slots__},
        "verdict": rollout.verdict.value,
        "text": rollout.text if text else None,
        "policy": policy,
        "job_id": job,
        "revision": 0,
    }


def _label(item: LabelSet, question: str, job: str, method: str, policy: str) -> dict[str, Any]:
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


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) else value
