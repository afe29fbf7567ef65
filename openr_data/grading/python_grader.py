"""A function or a class of the user's own as a grader: `python:module:attribute`.

A class is a domain of its own: it has the methods of `Grader` that it needs, `grade` at least. A function
`(answer, gold) -> bool | None | Verdict | Grade`, plain or async, only compares. What neither defines is as in the
grader `string`: a final answer is extracted from the text, and a question needs a gold answer. Answers are grouped by
equal text unless the class has `same`: a function may not accept an answer in the place of a gold answer (unit tests,
a range), so it is never asked to compare two answers.
"""

import asyncio
import hashlib
import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any, Final

from ..errors import UsageError
from ..registry import load
from ..types import FinishReason, Grade, Question, Verdict
from .grader import Extraction, Grader
from .groups import Groups, grouped_by_text

PYTHON: Final = "python:"


class PythonGrader:
    """The grader of a target. None means unknown, and so does an exception of the user's `grade`, which is the reason.

    A plain function runs in a thread, so it may take its time; code that a model wrote belongs in processes of its
    own (`workers.py`). `name` holds a hash of the source, since a changed function is another grader. Raises
    `UsageError` where the target is neither a function nor a class with `grade`.
    """

    def __init__(self, target: str) -> None:
        module, _, attribute = target.removeprefix(PYTHON).partition(":")
        imported = _imported(target, module, attribute)
        self._domain: Any = _made(target, imported) if inspect.isclass(imported) else None
        self._function: Any = imported if self._domain is None else getattr(self._domain, "grade", None)
        if not callable(self._function):
            raise UsageError(
                f"The grader {target!r} is not a function of (answer, gold) and not a class with the method `grade`."
            )
        self._answers: Grader = load("grader", "string")()
        try:
            source = inspect.getsource(imported)
        except (OSError, TypeError):
            source = repr(imported)
        self.name = f"{PYTHON}{module}:{attribute}/{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}"

    def can_grade(self, question: Question) -> bool:
        """As the class decides; else whether the question has a gold answer."""
        return bool(self._method("can_grade")(question))

    def extract(self, text: str, finish_reason: FinishReason, steps: Sequence[str]) -> Extraction:
        """As the class decides; else the final answer of a finished solution."""
        extraction: Extraction = self._method("extract")(text, finish_reason, steps)
        return extraction

    async def grade(self, answer: str, gold: str) -> Grade:
        """What the function returns."""
        try:
            if inspect.iscoroutinefunction(self._function):
                result = await self._function(answer, gold)
            else:
                result = await asyncio.to_thread(self._function, answer, gold)
        except Exception as error:
            return Grade(Verdict.UNKNOWN, f"{type(error).__name__}: {error}")
        return _as_grade(result)

    async def same(self, answers: Sequence[str]) -> Groups:
        """As the class decides; else equal texts."""
        if not hasattr(self._domain, "same"):
            return grouped_by_text(answers)
        groups: Groups = await self._domain.same(answers)
        return groups

    def close(self) -> None:
        """Close the class's object, if it can be closed."""
        self._method("close")()

    def _method(self, name: str) -> Any:
        return getattr(self._domain, name, None) or getattr(self._answers, name)


def _imported(target: str, module: str, attribute: str) -> Any:
    if "" not in sys.path:
        # A module in the current folder can be named; last, so that no file there is taken for a library.
        sys.path.append("")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        # A module of the user's own may fail in any way while it is imported.
        raise UsageError(
            f"No grader {target!r}: {type(error).__name__}: {error}. Write python:MODULE:FUNCTION, with MODULE "
            "importable from here."
        ) from error


def _made(target: str, domain: type) -> Any:
    try:
        return domain()
    except Exception as error:
        raise UsageError(
            f"The class of the grader {target!r} cannot be made without arguments: {type(error).__name__}: {error}."
        ) from error


def _as_grade(result: Any) -> Grade:
    if isinstance(result, Grade):
        return result
    if isinstance(result, Verdict):
        return Grade(result)
    if result is None:
        return Grade(Verdict.UNKNOWN, "the grader does not know")
    if isinstance(result, bool):
        return Grade(Verdict.CORRECT if result else Verdict.INCORRECT)
    return Grade(Verdict.UNKNOWN, f"the grader returned {type(result).__name__}, not a bool")
