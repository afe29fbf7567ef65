"""openr-data: process supervision as data.

    from openr_data import Store

    view = Store.open("openr-store").view("arithmetic@main")
    view.sql("select level, count(*) from first_errors group by 1")
    view.to_datasets("records")

Names are imported when they are used, so that `import openr_data` costs nothing.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # The same names as in `_NAMES`, for editors and type checkers.
    from .errors import OpenRError
    from .grading.math.extract import extract_answer
    from .grading.math.grader import MathGrader
    from .jobs.runner import run_label
    from .jobs.start import label, label_async
    from .loading import load
    from .store import Dataset, Snapshot, Store, View
    from .types import (
        Completion,
        Label,
        Labeling,
        LabelSet,
        Node,
        Prefix,
        Question,
        Rollout,
        Sampling,
        Solution,
        StepLabel,
        Verdict,
    )

_NAMES: Final = {
    "Completion": "types",
    "Dataset": "store.dataset",
    "Label": "types",
    "LabelSet": "types",
    "Labeling": "types",
    "MathGrader": "grading.math.grader",
    "Node": "types",
    "OpenRError": "errors",
    "Prefix": "types",
    "Question": "types",
    "Rollout": "types",
    "Sampling": "types",
    "Snapshot": "store.refs",
    "Solution": "types",
    "StepLabel": "types",
    "Store": "store.store",
    "Verdict": "types",
    "View": "store.view",
    "extract_answer": "grading.math.extract",
    "label": "jobs.start",
    "label_async": "jobs.start",
    "load": "loading",
    "run_label": "jobs.runner",
}
__all__ = [
    "Completion",
    "Dataset",
    "Label",
    "LabelSet",
    "Labeling",
    "MathGrader",
    "Node",
    "OpenRError",
    "Prefix",
    "Question",
    "Rollout",
    "Sampling",
    "Snapshot",
    "Solution",
    "StepLabel",
    "Store",
    "Verdict",
    "View",
    "extract_answer",
    "label",
    "label_async",
    "load",
    "run_label",
]

# In a checkout the folders beside this one are subpackages: openr_data.labelers is ../labelers.
# A wheel already has them here (pyproject.toml, package-dir), so there is nothing to add.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "labelers").is_dir():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'openr_data' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
