"""Is this answer that answer? Extract, compare exactly, compute where that is not enough; three-valued and total."""

from .extract import Extraction, extract, extract_answer, extract_finished
from .graders import load_grader
from .math.cluster import cluster, cluster_by_text
from .math.equivalence import compare, compare_exactly, exact_number
from .math.grader import MathGrader

__all__ = [
    "Extraction",
    "MathGrader",
    "cluster",
    "cluster_by_text",
    "compare",
    "compare_exactly",
    "exact_number",
    "extract",
    "extract_answer",
    "extract_finished",
    "load_grader",
]
