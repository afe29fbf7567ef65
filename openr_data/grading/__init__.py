"""Is this answer that answer? Extract, normalise, compare: three-valued and exact, without floats."""

from .equivalence import compare
from .extract import extract_answer
from .grader import MathGrader

__all__ = ["MathGrader", "compare", "extract_answer"]
