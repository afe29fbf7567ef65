"""The other graders, for comparison and for other domains, and how a grader is found by name.

Each is a class with `name` (its version in it) and `grade`, and stands in the registry; `python:module:function`
makes a grader of any function of (answer, gold).
"""

import asyncio
import hashlib
import importlib
import inspect
import re
import sys
from typing import Any, Final

from ..errors import UsageError
from ..registry import check, load
from ..types import Grade, Verdict
from .math.equivalence import exact_number
from .math.tokens import tokens

CORRECT: Final = Grade(Verdict.CORRECT)
INCORRECT: Final = Grade(Verdict.INCORRECT)

PYTHON: Final = "python:"


class StringGrader:
    """Equal text, once spacing, dollar signs and double names of LaTeX commands are left out; never unknown."""

    name = "string/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """Correct or incorrect."""
        return CORRECT if tokens(answer) == tokens(gold) else INCORRECT


class NumericGrader:
    """Equal rational numbers; a unit is passed over; unknown where one side is no number."""

    name = "numeric/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade by exact value."""
        left, right = exact_number(answer), exact_number(gold)
        if left is None or right is None:
            return Grade(Verdict.UNKNOWN, f"the {'answer' if left is None else 'gold answer'} is no number")
        return CORRECT if left == right else INCORRECT


class ChoiceGrader:
    """The letter of a multiple-choice option, A to Z, in either case, bare or in brackets, first in its text."""

    name = "choice/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """The grade by letter."""
        left, right = _letter(answer), _letter(gold)
        if left is None or right is None:
            return Grade(Verdict.UNKNOWN, f"the {'answer' if left is None else 'gold answer'} names no option")
        return CORRECT if left == right else INCORRECT


class OpenRGrader:
    """OpenR's rule, for comparison: the gold answer is a part of the answer's text.

    It accepts 12 for gold 2 and -3 for gold 3; an empty gold answer, which it would find everywhere, is unknown.
    """

    name = "openr/1"

    async def grade(self, answer: str, gold: str) -> Grade:
        """Correct or incorrect by substring."""
        if not gold.strip():
            return Grade(Verdict.UNKNOWN, "the gold answer is empty")
        return CORRECT if gold.strip() in answer else INCORRECT


class PythonGrader:
    """A function `(answer, gold) -> bool | None | Verdict | Grade`, plain or async, as a grader.

    None means unknown. A plain function runs in a thread, so it may take its time (unit tests, a checker of proofs).
    `name` holds a hash of its source: a changed function is another grader. Raises `UsageError` where there is no
    such function; what the function itself raises becomes unknown, with the reason.
    """

    def __init__(self, target: str) -> None:
        module, _, attribute = target.removeprefix(PYTHON).partition(":")
        if "" not in sys.path:
            # The module beside which the user stands; last, so that no file there is taken for a library.
            sys.path.append("")
        try:
            function: Any = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            # A module of the user's own may fail in any way while it is imported.
            raise UsageError(
                f"No grader {target!r}: {type(error).__name__}: {error}. Write python:MODULE:FUNCTION, with MODULE "
                "importable from here."
            ) from error
        if not callable(function):
            raise UsageError(f"The grader {target!r} is no function of (answer, gold).")
        self._function = function
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError):
            source = repr(function)
        self.name = f"{PYTHON}{module}:{attribute}/{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}"

    async def grade(self, answer: str, gold: str) -> Grade:
        """What the function says."""
        try:
            if inspect.iscoroutinefunction(self._function):
                found = await self._function(answer, gold)
            else:
                found = await asyncio.to_thread(self._function, answer, gold)
        except Exception as error:
            return Grade(Verdict.UNKNOWN, f"{type(error).__name__}: {error}")
        return _as_grade(found)


def check_grader(name: str) -> None:
    """Raise `UnknownName` or `UsageError` where there is no such grader."""
    if name.startswith(PYTHON):
        PythonGrader(name)
    else:
        check("grader", name)


def load_grader(name: str) -> Any:
    """The grader of a name: one of the registry, or `python:module:function`."""
    return PythonGrader(name) if name.startswith(PYTHON) else load("grader", name)()


def _letter(text: str) -> str | None:
    match = re.match(r"[\s$*(\[{]*(?:\\text\{|\\mathrm\{|\\textbf\{)?[\s(]*([A-Za-z])(?![A-Za-z])", text)
    return match[1].upper() if match else None


def _as_grade(found: Any) -> Grade:
    if isinstance(found, Grade):
        return found
    if isinstance(found, Verdict):
        return Grade(found)
    if found is None:
        return Grade(Verdict.UNKNOWN, "the grader does not know")
    if isinstance(found, bool):
        return CORRECT if found else INCORRECT
    return Grade(Verdict.UNKNOWN, f"the grader returned {type(found).__name__}, not a bool")
