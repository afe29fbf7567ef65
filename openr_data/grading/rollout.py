"""From a completion to a graded rollout: the one place that decides what a completion answers and whether it is right.

Labelers, searches and `regrade` all come here, so a rollout has the same answer, verdict, reason and id wherever it is
graded.
"""

from collections.abc import Sequence

from ..ids import rollout_id
from ..types import Candidate, Completion, FinishReason, Grade, Question, Rollout, Sampling, Verdict
from .grader import Extraction, Grader


async def graded_rollout(
    completion: Completion | Candidate,
    question: Question,
    grader: Grader,
    *,
    policy: str,
    node_id: str,
    steps: Sequence[str],
    sampling: Sampling,
    draw: tuple[int, int],
) -> Rollout:
    """The rollout of a completion by `policy` that continues `steps`, the prefix with the id `node_id`.

    `draw` is the seed of the request that drew it and its place among the completions of that request.
    """
    extraction, grade = await graded_text(completion.text, completion.finish_reason, steps, question, grader)
    seed, place = draw
    shape = f"{sampling.temperature} {sampling.top_p} {sampling.max_tokens}"
    return Rollout(
        rollout_id=rollout_id(policy, node_id, seed, place, shape, completion.text),
        question_id=question.question_id,
        node_id=node_id,
        text=completion.text,
        answer=extraction.answer,
        extraction=extraction.rule,
        verdict=grade.verdict,
        reason=grade.reason,
        grader=grader.name,
        finish_reason=completion.finish_reason,
        n_tokens=completion.n_tokens,
        logprob=completion.logprob,
        seed=seed,
    )


async def graded_text(
    text: str, finish_reason: FinishReason, steps: Sequence[str], question: Question, grader: Grader
) -> tuple[Extraction, Grade]:
    """What a text that continues `steps` answers, and its grade."""
    extraction = grader.extract(text, finish_reason, steps)
    return extraction, await graded_answer(extraction.answer, finish_reason, question, grader)


async def graded_answer(answer: str | None, finish_reason: FinishReason, question: Question, grader: Grader) -> Grade:
    """The grade of an extracted answer; unknown, with the reason, where there is nothing to compare."""
    if answer is None:
        cut = finish_reason != "stop"
        return Grade(Verdict.UNKNOWN, f"cut by {finish_reason}" if cut else "no answer in the text")
    if not grader.can_grade(question):
        return Grade(Verdict.UNKNOWN, "no gold answer")
    return await grader.grade(answer, question.answer)
