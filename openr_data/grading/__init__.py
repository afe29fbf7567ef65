"""Is this answer that answer? Extract, compare exactly, compute where that is not enough; three-valued and total."""

from .cluster import cluster, cluster_by_text
from .equivalence import compare, compare_exactly, exact_number
from .extract import Extraction, extract, extract_answer, extract_finished
from .grader import MathGrader
from .graders import load_grader

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
