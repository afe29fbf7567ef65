"""Jobs: a folder that says what was asked, what came of it, and how to go on."""

from .job import Job, LabelConfig
from .progress import Status
from .runner import run_label

__all__ = ["Job", "LabelConfig", "Status", "run_label"]
