r"""The labeler `judge`: a language model reads given solutions and names the first wrong step (LLM as a judge).

The critic of ProcessBench (arXiv 2412.06559): the model sees the problem and the solution, each step between
tags with its index from 0, and ends with the index of the earliest wrong one, or -1, in a box. One greedy critique, or
a vote of several (theirs: 8). The labels state correctness as the judge sees it, not whether the answer can be reached,
and need no gold answer; "Lessons" (arXiv 2501.07301) keeps what judge and Monte Carlo labels agree on (`consensus`).

Decisions and deviations:

1. The prompts are in our own words (`catalogs/prompts`): `critique`, and `critique-reasons`, which asks for a line a
   step. Name and hash are the version `prompt`, an option of the labeler, so that a job is pinned to it.
2. Steps are sent as they are. If the text contains something like the tags, other tags are used.
3. The last box after the model's thoughts counts. Anything but an integer from -1 to the last index is a failure to
   parse, and so is a critique cut at its limit: its box may be an intermediate one.
4. The most frequent index wins. A tie is undecided (theirs goes to the index named first), as is a solution without
   any index: it gets no label.
5. Steps before the error are good, the error is bad, the steps after it have no label.
6. `value` is the share of the indexes that are -1 or come after the step: the chance that the prefix it ends has no
   error. So it belongs to a prefix as an MC value does, and never rises along a solution; the chance of a step given
   that those before it are good is the ratio of two of them (the view `relative_progress`). Votes that name an earlier
   step count against it, since they call this prefix bad. A step without a label has no value.
7. Votes are not rollouts: counts are 0. Critiques, votes and failures to parse are kept in the metadata of the labels
   and not as rollouts, whose answers a regrade would compare with the gold answer.
8. With `critique-reasons`, the reason of a step is its line in the first critique that names the elected index, the
   last of several lines. A judged step may have no reason: a critique without lines still counts as a vote. The format
   of stored reasons is that of `openr_data/reasons.py`.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from openr_data.engine.protocols import Grader, Policy
from openr_data.errors import UsageError
from openr_data.grading.math.extract import extract
from openr_data.ids import content_hash, derive_seed, prefix_ids
from openr_data.reasons import told_reasons
from openr_data.registry import catalog_text
from openr_data.types import (
    Budget,
    Completion,
    Label,
    Labeling,
    LabelSet,
    Outcome,
    Prefix,
    Provenance,
    Question,
    Sampling,
    Solution,
    StepLabel,
)

CRITIQUE: Final = "critique"
REASONS: Final = "critique-reasons"
TEMPLATES: Final = {name: catalog_text(f"prompts/{name}.txt").strip() for name in (CRITIQUE, REASONS)}
VERSIONS: Final = {name: f"{name}@{content_hash('prompt', text)[:8]}" for name, text in TEMPLATES.items()}
"""The versions of the prompts: name and 8 hex digits of the text."""
PROMPT: Final = VERSIONS[CRITIQUE]

NO_ERROR: Final = -1
"""The judge's answer for a solution whose steps are all good."""

_FIELD: Final = re.compile(r"\{(question|solution)\}")
_INDEX: Final = re.compile(r"-?[0-9]{1,9}")
_LINE: Final = re.compile(r"^[ \t*_#>-]*\[([0-9]{1,9})\][ \t*_:)]*([^\s*_:)].*)$", re.MULTILINE)
"""The line of a step in a critique, with any marks that a model puts around its index."""


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """`votes` critiques a solution: a single one is greedy, more are drawn at the temperature of the job.

    A critique may take `max_tokens` of the job; reasoning models need thousands. `prompt` is "critique" or
    "critique-reasons", which keeps a reason for each step; it is recorded with its version.
    """

    votes: int = 1
    prompt: str = PROMPT

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ValueError("votes is at least 1")
        if self.prompt not in VERSIONS and self.prompt not in VERSIONS.values():
            raise ValueError(f"this version asks with the prompt {' or '.join(VERSIONS.values())}, not {self.prompt}")
        object.__setattr__(self, "prompt", VERSIONS.get(self.prompt, self.prompt))

    @property
    def template(self) -> str:
        """The name of the prompt, without its version."""
        return self.prompt.partition("@")[0]


class Judge:
    """The labeler. `sampling` gives temperature, limits and the job's seed."""

    method = "judge"
    config_type = JudgeConfig
    independent_steps = False
    needs_given = True
    needs_gold = False

    def __init__(self, config: JudgeConfig, sampling: Sampling) -> None:
        if config.votes > 1 and sampling.temperature == 0:
            raise UsageError(
                f"A vote of {config.votes} at temperature 0 is one critique, {config.votes} times. Give a temperature, "
                "for example -o temperature=1, or ask once with -o votes=1."
            )
        self.config = config
        self.sampling = sampling if config.votes > 1 else replace(sampling, temperature=0.0)

    def budget(self, question: Question, given: Sequence[Solution] = ()) -> Budget:
        """One request per solution, and every critique at its token limit."""
        requests = len(_distinct(given))
        completions = requests * self.config.votes
        return Budget(requests, completions, completions * self.sampling.max_tokens)

    async def label(
        self, question: Question, policy: Policy, grader: Grader, given: Sequence[Solution] = ()
    ) -> Labeling:
        """Label the given solutions of one question, all at once; the grader is not used."""
        solutions = _distinct(given)
        if not solutions:
            return Labeling(question.question_id, Outcome.NO_SOLUTION)
        critiques = await asyncio.gather(*(self._ask(question, policy, item) for item in solutions))
        labels = [_labels(item, texts, self.config) for item, texts in zip(solutions, critiques, strict=True)]
        errors = {item.labels[item.first_error].node_id for item in labels if item.first_error is not None}
        is_decided = any(item.labels[0].label is not None for item in labels)
        return Labeling(
            question_id=question.question_id,
            outcome=Outcome.LABELLED if is_decided else Outcome.UNDECIDED,
            solutions=tuple(solutions),
            labels=tuple(labels),
            calls=sum(map(len, critiques)),
            located=len(errors),
            tokens=sum(item.n_tokens for texts in critiques for item in texts),
        )

    async def _ask(self, question: Question, policy: Policy, solution: Solution) -> Sequence[Completion]:
        seed = derive_seed(self.sampling.seed, question.question_id, solution.solution_id, self.method)
        prefix = Prefix(filled(question.question, solution.steps, self.config.template))
        return await policy.sample(prefix, self.config.votes, replace(self.sampling, seed=seed))


def filled(question: str, steps: Sequence[str], template: str = CRITIQUE) -> str:
    """The prompt for a solution: its texts unchanged, between tags that occur in none of them."""
    tag = "paragraph"
    while any(f"{tag}_" in text for text in (question, *steps)):
        tag = f"solution_{tag}"
    tagged = "\n\n".join(f"<{tag}_{index}>\n{step}\n</{tag}_{index}>" for index, step in enumerate(steps))
    # In one pass, because a text may contain the name of a field.
    return _FIELD.sub(lambda field: question if field[1] == "question" else tagged, TEMPLATES[template])


def named_index(critique: Completion, n_steps: int) -> int | None:
    r"""The index in the last box of a finished critique; None if there is none of a solution of n steps."""
    if critique.finish_reason != "stop":
        return None
    # From the last box on, because two adjacent boxes would be read as one answer.
    _, box, rest = critique.text.rpartition("\\boxed")
    answer = extract(box + rest, ("boxed",)).answer
    if answer is None or not _INDEX.fullmatch(answer):
        return None
    index = int(answer)
    return index if NO_ERROR <= index < n_steps else None


def reasons_in(critique: Completion, n_steps: int) -> dict[int, str]:
    """The lines that a critique has for the steps of a solution of n steps."""
    critique_text = critique.text.rpartition("</think>")[2]
    lines = ((int(index), text.strip(" \t\r*_")) for index, text in _LINE.findall(critique_text))
    # A line that is only the answer is not a reason.
    return {index: text for index, text in lines if index < n_steps and text and not text.startswith("\\boxed")}


def elected(votes: Counter[int]) -> int | None:
    """The most frequent index; None for a tie or without votes."""
    first, second = (*votes.most_common(2), (0, 0), (0, 0))[:2]
    return first[0] if first[1] > second[1] else None


def _labels(solution: Solution, critiques: Sequence[Completion], config: JudgeConfig) -> LabelSet:
    n_steps = len(solution.steps)
    named = [named_index(item, n_steps) for item in critiques]
    votes = Counter(index for index in named if index is not None)
    error = elected(votes)
    nodes = list(prefix_ids(solution.question_id, solution.steps))[1:]
    steps: list[StepLabel] = []
    for place, node in enumerate(nodes):
        label: Label | None = None
        value: float | None = None
        if error is not None and (error == NO_ERROR or place <= error):
            label = -1 if place == error else 1
            value = sum(n for index, n in votes.items() if index == NO_ERROR or index > place) / votes.total()
        steps.append(StepLabel(label, value, 0, 0, Provenance.JUDGED, node))
    judgement = {
        "prompt": config.prompt,
        "votes": {str(index): votes[index] for index in sorted(votes)},
        "unparsed": named.count(None),
        "critiques": [item.text for item in critiques],
    }
    reasons: dict[int, str] = {}
    if config.template == REASONS and error is not None:
        for critique, index in zip(critiques, named, strict=True):
            if index == error:
                reasons = reasons_in(critique, n_steps) | reasons
    judged = [reasons.get(place, "") if step.label is not None else "" for place, step in enumerate(steps)]
    metadata = {"judge": judgement, **told_reasons(judged)}
    return LabelSet(solution.solution_id, tuple(steps), json.dumps(metadata, ensure_ascii=False))


def _distinct(given: Sequence[Solution]) -> list[Solution]:
    """The solutions that have steps, each once."""
    return list({item.solution_id: item for item in given if item.steps}.values())
