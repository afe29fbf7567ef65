"""Is this answer that answer? The contract that every domain of answers fulfils; `math/` is the first domain.

The names of the mathematical domain can be imported from here too. They are loaded when they are used, so the contract
does not depend on any domain.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from .grader import Extraction, Grader
from .graders import load_grader
from .groups import Groups

if TYPE_CHECKING:
    from .math.cluster import cluster_by_text
    from .math.equivalence import compare, compare_exactly, exact_number
    from .math.extract import extract, extract_answer, extract_finished
    from .math.final_answer_grader import FinalAnswerGrader
    from .math.grader import MathGrader

_MATH: Final = {
    "FinalAnswerGrader": "final_answer_grader",
    "MathGrader": "grader",
    "cluster_by_text": "cluster",
    "compare": "equivalence",
    "compare_exactly": "equivalence",
    "exact_number": "equivalence",
    "extract": "extract",
    "extract_answer": "extract",
    "extract_finished": "extract",
}

__all__ = [
    "Extraction",
    "FinalAnswerGrader",
    "Grader",
    "Groups",
    "MathGrader",
    "cluster_by_text",
    "compare",
    "compare_exactly",
    "exact_number",
    "extract",
    "extract_answer",
    "extract_finished",
    "load_grader",
]


def __getattr__(name: str) -> Any:
    if name not in _MATH:
        raise AttributeError(f"module 'openr_data.grading' has no attribute {name!r}")
    return getattr(importlib.import_module(f".math.{_MATH[name]}", __name__), name)
