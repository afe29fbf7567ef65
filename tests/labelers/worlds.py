"""Policies whose truth is known, and graders that watch: what the tests of the labelers run in.

A token is a step, so that the worst case of a budget (every step a single token) is a case that happens.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openr_data.engine.protocols import Labeler, Policy
from openr_data.grading import FinalAnswerGrader
from openr_data.ids import question_id, solution_id
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.steps import join_steps
from openr_data.types import Completion, Grade, Labeling, LabelSet, Prefix, Question, Sampling, Solution, Verdict

Steps = tuple[str, ...]


def a_question(number: int = 0) -> Question:
    """Question `number`; its answer is a number that its text does not hold."""
    text, answer = f"Q{number}.", f"1{number:03}"
    return Question(question_id(text, answer), text, answer, source="test")


def right(number: int = 0) -> str:
    """The last step of a right solution of question `number`."""
    return f"So \\boxed{{{a_question(number).answer}}}."


def wrong(number: int = 0, which: int = 9) -> str:
    """The last step of a wrong solution of question `number`."""
    return f"So \\boxed{{{which}{number:03}}}."


def given(
    question: Question,
    *steps: str,
    outcome: Verdict = Verdict.INCORRECT,
    answer: str | None = None,
    generator: str = "another model",
) -> Solution:
    """A solution that is there."""
    name = solution_id(question.question_id, steps)
    return Solution(name, question.question_id, steps, answer, outcome, generator=generator)


def said(steps: Sequence[str], limit: int, separator: str = "\n\n") -> Completion:
    """These steps as a completion, cut where there are more of them than tokens."""
    finish = "length" if len(steps) > limit else "end"
    return Completion(separator.join(steps[:limit]), max(1, len(steps[:limit])), finish)


class Watching(FinalAnswerGrader):
    """A grader: equal texts are equal answers. `asked` holds the pairs it saw."""

    name = "equal texts"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def grade(self, answer: str, gold: str) -> Grade:
        self.asked.append((answer, gold))
        await asyncio.sleep(0)
        return Grade(Verdict.CORRECT if answer == gold else Verdict.INCORRECT)


class World(ScriptedPolicy):
    """Solutions of `length` steps; a good step follows a good prefix with the chance `good`, nothing saves a bad one.

    `chances` are those of single questions, by their number. `texts` is in how many ways a step may be written: 1 makes
    all solutions share their prefixes, many none. Every request is kept, with the samples it was answered with.
    """

    def __init__(
        self,
        length: int = 6,
        good: float = 0.8,
        texts: int = 1,
        *,
        chances: Mapping[int, float] | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__({}, name="world")
        self.length, self.good, self.texts, self.seconds = length, good, texts, seconds
        self.chances = chances or {}
        self.seen: list[tuple[Prefix, Sampling, list[Completion]]] = []

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n))
        rng = random.Random(f"{prefix} {n} {sampling.seed}")
        reply = [self.one(prefix, rng, index, sampling.max_tokens) for index in range(n)]
        self.seen.append((prefix, sampling, reply))
        if self.seconds:
            await asyncio.sleep(self.seconds * rng.random())
        return reply

    def one(self, prefix: Prefix, rng: random.Random, index: int, limit: int) -> Completion:
        """Return one sample; the number of the question follows its Q."""
        number = int(prefix.question[1:-1])
        chance = self.chances.get(number, self.good)
        steps: list[str] = []
        is_good = not any("bad" in step for step in prefix.steps)
        for place in range(len(prefix.steps), self.length):
            was_good, is_good = is_good, is_good and rng.random() < chance
            kind = "good" if is_good else "bad" if was_good else "lost"
            way = rng.randrange(self.texts)
            if place < self.length - 1:
                steps.append(f"{kind} {place} of {number}, way {way}.")
            else:
                steps.append(right(number) if is_good else f"{kind}: {wrong(number, 9 if way % 2 else 8)}")
        return said(steps, limit)

    def solution(self, number: int, error: int | None, way: str = "theirs") -> Steps:
        """Make a solution from another source, bad from the step `error` on."""
        last = self.length - 1
        steps = [
            "good" if error is None or place < error else "bad" if place == error else "lost"
            for place in range(self.length)
        ]
        told = [f"{kind} {place} of {number}, way {way}." for place, kind in enumerate(steps[:last])]
        return (*told, right(number) if error is None else f"{steps[last]}: {wrong(number)}")


def true_error(steps: Sequence[str]) -> int | None:
    """The first error of a solution of a world."""
    return next((place for place, step in enumerate(steps) if "bad" in step), None)


class Told(ScriptedPolicy):
    """A policy that returns, for each prefix, its scripted texts in order, and `otherwise` for any other prefix."""

    def __init__(self, texts: Mapping[Steps, Iterable[Sequence[str]]], otherwise: Sequence[str] = ()) -> None:
        super().__init__({}, name="told")
        self.texts = {prefix: list(items) for prefix, items in texts.items()}
        self.otherwise = list(otherwise)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n))
        texts = self.texts.get(prefix.steps, [])
        told = [texts.pop(0) if texts else self.otherwise for _ in range(n)]
        return [said(steps, sampling.max_tokens) for steps in told]


class Anything(ScriptedPolicy):
    """Anything may follow anything: solutions of up to `length` steps over two letters, right by chance."""

    def __init__(self, seed: int, length: int, chance: float, cut: float = 0.0) -> None:
        super().__init__({}, name="anything")
        self.seed, self.length, self.chance, self.cut = seed, length, chance, cut

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.asked.append((prefix, n))
        rng = random.Random(f"{self.seed} {sampling.seed} {prefix}")
        reply = []
        for _ in range(n):
            done = len(prefix.steps)
            total = rng.randint(min(done + 1, self.length), self.length)
            steps = [rng.choice("ab") for _ in range(max(0, total - 1 - done))]
            steps.append(right() if rng.random() < self.chance else wrong(0, rng.choice((8, 9))))
            text = join_steps(steps)
            reply.append(Completion(text, len(steps), "length" if rng.random() < self.cut else "end"))
        return reply


def labelled(
    labeler: Labeler, policy: Policy, solutions: Sequence[Solution] = (), number: int = 0, grader: Any = None
) -> Labeling:
    """Run a labeler on a question and return its labeling."""
    return asyncio.run(labeler.label(a_question(number), policy, grader or Watching(), solutions))


def labelled_all(
    labeler: Labeler, policy: Policy, numbers: Iterable[int], solutions: Mapping[int, Sequence[Solution]] | None = None
) -> list[Labeling]:
    """The labelings of many questions, one after the other in one event loop."""

    async def one_by_one() -> list[Labeling]:
        grader = Watching()
        return [
            await labeler.label(a_question(number), policy, grader, (solutions or {}).get(number, ()))
            for number in numbers
        ]

    return asyncio.run(one_by_one())


def by_solution(labeling: Labeling) -> list[tuple[Solution, LabelSet]]:
    """The labelled solutions, each with its labels."""
    return list(zip(labeling.solutions, labeling.labels, strict=True))


def values(label_set: LabelSet) -> list[int | None]:
    """Return only the labels."""
    return [step.label for step in label_set.labels]
