"""Jobs: a folder with what was asked, the state of the work, and the command that resumes it."""

from .config import JobConfig, LabelConfig, SearchConfig
from .job import Job
from .progress import Status
from .runner import Runner, run_label, search_runner

__all__ = [
    "Job", "JobConfig", "LabelConfig", "Runner", "SearchConfig", "Status", "run_label", "search_runner",
]  # fmt: skip
