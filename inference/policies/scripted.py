"""A policy that follows a script: a tree of steps with exact probabilities, for tests and examples.

A script maps a prefix (the tuple of its steps) to its branches; a prefix without branches is the end of a
solution. An open prefix ends anywhere in the text of some paths, which keep their probabilities relative to
each other. With `exact=True` the n completions of a request are spread over the paths in proportion to their
probabilities (systematic sampling at the quantiles (i + 1/2)/n), so a probability of 1/4 gives exactly 2
of 8; otherwise they are drawn independently from the request's seed. Time is virtual: a completion takes
`seconds_per_token` of the event loop's clock, which `run_virtual` lets jump.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from openr_data.ids import derive_seed
from openr_data.steps import SEPARATOR, join_steps, split_steps
from openr_data.types import Completion, Prefix, Sampling

from .ending import cut_at_stop


@dataclass(frozen=True, slots=True)
class Branch:
    """One possible next step and its probability; the branches of a prefix add up to 1."""

    probability: Fraction
    step: str


Script = Mapping[tuple[str, ...], Sequence[Branch]]
Path = tuple[str, ...]


class ScriptedPolicy:
    """A `Policy` over `script`, or over a function from (question, steps) to branches.

    `asked` records every request in order. Raises `ValueError` for branches that do not add up to 1.
    """

    def __init__(
        self,
        script: Script | Callable[[str, tuple[str, ...]], Sequence[Branch]],
        *,
        exact: bool = False,
        seconds_per_token: float = 0.0,
        name: str = "scripted",
        separator: str = SEPARATOR,
    ) -> None:
        self._script = script
        self._exact = exact
        self._seconds = seconds_per_token
        self._name = name
        self._separator = separator
        self.asked: list[tuple[Prefix, int]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def separator(self) -> str:
        return self._separator

    @property
    def room(self) -> int | None:
        return None

    @property
    def places(self) -> int | None:
        return None

    @property
    def gpus(self) -> int:
        return 0

    @property
    def retries(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to let go."""

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self._separator)

    def branches(self, question: str, steps: tuple[str, ...]) -> Sequence[Branch]:
        """The branches of a prefix; none at the end of a solution."""
        script = self._script
        branches = script(question, steps) if callable(script) else script.get(steps, ())
        if branches and sum(branch.probability for branch in branches) != 1:
            raise ValueError(f"the branches after {steps} do not add up to 1")
        return branches

    def paths(self, prefix: Prefix) -> Iterator[tuple[Fraction, Path]]:
        """All continuations of a closed prefix with their exact probabilities."""
        stack: list[tuple[Fraction, Path]] = [(Fraction(1), ())]
        while stack:
            probability, path = stack.pop()
            branches = self.branches(prefix.question, prefix.steps + path)
            if not branches:
                yield probability, path
            for branch in reversed(branches):
                stack.append((probability * branch.probability, (*path, branch.step)))

    def texts(self, prefix: Prefix) -> list[tuple[Fraction, str]]:
        """All continuations of an open prefix, as the text after it, with their exact probabilities.

        Raises `ValueError` for a prefix that no path of the script begins with.
        """
        written = join_steps(prefix.steps, self._separator)
        endings: list[tuple[Fraction, str]] = []
        stack: list[tuple[Fraction, Path]] = [(Fraction(1), ())]
        while stack:
            probability, path = stack.pop()
            text = join_steps(path, self._separator)
            branches = self.branches(prefix.question, path)
            if not branches and text.startswith(written):
                endings.append((probability, text[len(written) :]))
            for branch in reversed(branches):
                longer = join_steps((*path, branch.step), self._separator)
                if longer.startswith(written) or written.startswith(longer):
                    stack.append((probability * branch.probability, (*path, branch.step)))
        total = sum(probability for probability, _ in endings)
        if not total:
            raise ValueError(f"no path of the script begins with {written!r}")
        return [(probability / total, text) for probability, text in endings]

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n continuations of the prefix; a token is a word."""
        self.asked.append((prefix, n))
        drawn = (self._draw(prefix, sampling, index) for index in range(n))
        if prefix.open:
            texts = self.texts(prefix)
            chosen = _spread(texts, n) if self._exact else [_pick(texts, sampling, index) for index in range(n)]
        else:
            paths = ((probability, join_steps(path, self._separator)) for probability, path in self.paths(prefix))
            chosen = _spread(paths, n) if self._exact else [join_steps(path, self._separator) for path in drawn]
        replies = [_complete(text, sampling) for text in chosen]
        if self._seconds and replies:
            await asyncio.sleep(self._seconds * max(reply.n_tokens for reply in replies))
        return replies

    def _draw(self, prefix: Prefix, sampling: Sampling, index: int) -> Path:
        rng = random.Random(derive_seed(sampling.seed, index))
        path: Path = ()
        while branches := self.branches(prefix.question, prefix.steps + path):
            weights = [float(branch.probability) for branch in branches]
            path = (*path, rng.choices(branches, weights)[0].step)
        return path


def _spread(texts: Iterable[tuple[Fraction, str]], n: int) -> list[str]:
    chosen: list[str] = []
    reached = Fraction(0)
    for probability, text in texts:
        reached += probability
        while len(chosen) < n and Fraction(2 * len(chosen) + 1, 2 * n) < reached:
            chosen.append(text)
    return chosen


def _pick(texts: Sequence[tuple[Fraction, str]], sampling: Sampling, index: int) -> str:
    rng = random.Random(derive_seed(sampling.seed, index))
    return rng.choices([text for _, text in texts], [float(probability) for probability, _ in texts])[0]


def _complete(text: str, sampling: Sampling) -> Completion:
    words = text.split(" ")
    for count in range(1, len(words) + 1) if sampling.stop else ():
        # A word at a time, as a model writes tokens: a stop string beyond the limit is never written.
        stopped = cut_at_stop(" ".join(words[:count]), sampling.stop, ())
        if stopped is not None:
            return Completion(stopped[0], count, stopped[1])
        if count == sampling.max_tokens:
            break
    cut = len(words) > sampling.max_tokens
    text = " ".join(words[: sampling.max_tokens])
    return Completion(text, min(len(words), sampling.max_tokens), "length" if cut else "end")


__all__ = ["SEPARATOR", "Branch", "Script", "ScriptedPolicy"]
