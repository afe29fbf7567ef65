"""The seam of training: a run over a pinned snapshot, and the function that carries it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .job import Job

Progress = Callable[[Mapping[str, float]], None]
"""Receives the figures of an update (`step`, `steps`, `loss`) or of an evaluation (`eval_log_loss` and so on)."""
Stop = Callable[[], bool]
"""Whether the run should write a checkpoint and stop."""


class TrainingRun(Protocol):
    """One run of a trainer. Its job is named after its options and its data, so the same run resumes."""

    job: Job

    def result(self) -> Mapping[str, object] | None:
        """The figures of a run that is done, else None."""
        ...

    def run(self, report: Progress | None = None, stop: Stop = ...) -> Mapping[str, object]:
        """Train from the last checkpoint to the end or until `stop`; return the figures.

        Of several processes only the first one has figures.
        """
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """The figures of a model, empty in a second process of the run. `was_done`: the run was done before."""

    figures: Mapping[str, object]
    was_done: bool = False


def run_training(
    run: TrainingRun,
    *,
    report: Progress | None = None,
    stop: Stop = lambda: False,
    announce: Callable[[Job], None] | None = None,
) -> Trained:
    """Carry out a run from where it stopped, or return the figures of one that is done.

    `announce` receives the job before the training begins. Raises `Interrupted` after `stop`, and what the trainer
    raises for its data or its base model.
    """
    if (figures := run.result()) is not None:
        return Trained(figures, was_done=True)
    if announce is not None:
        announce(run.job)
    return Trained(run.run(report, stop))
