"""Graders by name: those of the registry, and functions or classes of the user's own (`python_grader.py`)."""

from ..registry import check, load
from .grader import Grader
from .python_grader import PYTHON, PythonGrader


def check_grader(name: str) -> None:
    """Raise `UnknownName` or `UsageError` unless there is a grader of this name."""
    if name.startswith(PYTHON):
        PythonGrader(name)
    else:
        check("grader", name)


def load_grader(name: str) -> Grader:
    """The grader of a name: one of the registry, or `python:module:attribute`."""
    grader: Grader = PythonGrader(name) if name.startswith(PYTHON) else load("grader", name)()
    return grader
