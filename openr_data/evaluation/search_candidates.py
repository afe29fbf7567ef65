"""The stored candidates of a search job, and their answers in groups of equal ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..grading.grader import Grader
from ..steps import split_steps
from ..store import View, query
from ..store.rows import search_nodes_of
from ..types import Verdict


@dataclass(frozen=True, slots=True)
class SearchCandidate:
    """One candidate of a search; `steps` is empty if its text has none."""

    steps: tuple[str, ...]
    answer: str | None
    is_correct: bool
    is_unknown: bool
    n_tokens: float


@dataclass(frozen=True, slots=True)
class SearchedQuestion:
    """A question with its candidates; `group` has for each candidate the number of its group of equal answers."""

    question_id: str
    question: str
    candidates: tuple[SearchCandidate, ...]
    group: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """The candidates of a job by question; `independent` if they are independent samples of their question."""

    questions: tuple[SearchedQuestion, ...]
    independent: bool


def read_candidates(view: View, job: str, separator: str) -> StoredSearch:
    """The candidates of a search job.

    Those of an independent search are the rollouts from the root of a question, in the order of their ids; those of a
    guided search are the complete paths of its tree, in the order they were found. Raises `InputError` if the job has
    neither.
    """
    rollouts = _of_rollouts(view, job, separator)
    paths = [] if rollouts else _of_trees(view, job)
    if not rollouts and not paths:
        raise InputError(f"The job {job} has no candidates in {view.dataset.name}. Run the same command again.")
    return StoredSearch(tuple(rollouts or paths), independent=bool(rollouts))


def _of_rollouts(view: View, job: str, separator: str) -> list[SearchedQuestion]:
    rows = view.sql(
        "select r.question_id, q.question, r.rollout_id, r.text, r.answer, r.verdict, r.n_tokens "
        f"from rollouts r join questions q using (question_id) where r.job_id = '{query.quoted(job)}' "
        "order by r.question_id, r.rollout_id"
    ).to_pylist()
    candidates: dict[tuple[str, str], list[SearchCandidate]] = {}
    for row in rows:
        steps = split_steps(row["text"] or "", separator)
        candidates.setdefault((row["question_id"], row["question"]), []).append(
            SearchCandidate(
                steps if all(step.strip() for step in steps) else (),
                row["answer"],
                row["verdict"] == "correct",
                row["verdict"] == "unknown",
                row["n_tokens"],
            )
        )
    return [SearchedQuestion(name, text, tuple(items)) for (name, text), items in candidates.items()]


def _of_trees(view: View, job: str) -> list[SearchedQuestion]:
    rows = view.sql(
        f"select n.*, q.question from search_nodes n join questions q using (question_id) "
        f"where n.job_id = '{query.quoted(job)}' order by question_id, place"
    ).to_pylist()
    trees: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rows:
        trees.setdefault((row["question_id"], row["question"]), []).append(row)
    searched: list[SearchedQuestion] = []
    for (name, text), tree in trees.items():
        nodes = search_nodes_of(tree)
        paths: list[tuple[str, ...]] = []
        for node in nodes:
            paths.append(() if node.parent is None else (*paths[node.parent], node.step))
        ended = [(path, node) for path, node in zip(paths, nodes, strict=True) if node.state == "ended"]
        if ended:
            # The price of a candidate is its share of all the search spent, dropped paths included.
            tokens = max(node.tokens_spent for node in nodes) / len(ended)
            candidates = (
                SearchCandidate(
                    path, node.answer, node.verdict is Verdict.CORRECT, node.verdict in (None, Verdict.UNKNOWN), tokens
                )
                for path, node in ended
            )
            searched.append(SearchedQuestion(name, text, tuple(candidates)))
    return searched


async def group_answers(questions: Sequence[SearchedQuestion], grader: Grader) -> list[SearchedQuestion]:
    """The questions with their answers in the groups that the grader calls the same."""
    grouped: list[SearchedQuestion] = []
    for item in questions:
        answered = [place for place, candidate in enumerate(item.candidates) if candidate.answer is not None]
        answers = [candidate.answer for candidate in item.candidates if candidate.answer is not None]
        group: list[int | None] = [None] * len(item.candidates)
        for number, members in enumerate(await grader.same(answers)):
            for member in members:
                group[answered[member]] = number
        grouped.append(SearchedQuestion(item.question_id, item.question, item.candidates, tuple(group)))
    return grouped
