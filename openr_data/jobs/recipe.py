"""Recipes of the catalogs: a job's options, and the commands before and after it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import build
from ..registry import catalog_entry
from ..types import Question, Solution, Verdict


@dataclass(frozen=True, slots=True)
class Expected:
    """The approximate content of a dataset that is not in the store yet: counts, and greatest lengths."""

    questions: int
    question_bytes: int
    solutions: int = 0
    solution_bytes: int = 0

    def content(self) -> tuple[list[Question], dict[str, tuple[Solution, ...]]]:
        """Stand-ins to count with: questions, and solutions by question id."""
        text, steps = "?" * self.question_bytes, ("?" * self.solution_bytes,)
        questions = [Question(f"expected-{i}", text, "?", "expected") for i in range(self.questions)]
        solutions = tuple(Solution(f"{i}", "", steps, None, Verdict.UNKNOWN) for i in range(self.solutions))
        return questions, {question.question_id: solutions for question in questions} if solutions else {}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe of the catalogs: a `layer` of options of a job.

    `needs` is the command that brings its questions into the store, `then` the command after it; `expected` is what
    the job will find, so that its cost can be estimated before.
    """

    name: str
    layer: Mapping[str, Any]
    needs: str = ""
    then: str = ""
    expected: Expected | None = None


def recipe(name: str) -> Recipe:
    """A recipe of the catalogs. Raises `UnknownName`."""
    layer = tomllib.loads(catalog_entry("recipe", "recipes", name, ".toml"))
    layer.pop("summary", None)
    expected = layer.pop("expected", None)
    needs, then = layer.pop("needs", ""), layer.pop("then", "")
    return Recipe(name, layer, needs, then, build(Expected, expected) if expected else None)
