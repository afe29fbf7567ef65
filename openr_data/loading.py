"""Loads a labeler, backend, grader or another part by its name, with the type of what it makes.

`registry.load` does the same without types; the core uses it, since it may not know the seams of the floors above.
"""

from pathlib import Path
from typing import Any, Literal, Protocol, overload

from . import registry
from .engine.protocols import Backend, Grader, Labeler, RewardBackend, Search, Source
from .exchange.formats.format import Format
from .jobs.trainer import TrainingRun
from .store import Store
from .types import Sampling


class LabelerType(Protocol):
    """A labeler by its options (an instance of `config_type`) and how it samples."""

    config_type: type

    def __call__(self, config: object, sampling: Sampling, /) -> Labeler: ...


class SearchType(Protocol):
    """A search by its options (an instance of `config_type`) and how it samples."""

    config_type: type

    def __call__(self, config: object, sampling: Sampling, /) -> Search: ...


class PolicyType(Protocol):
    """A backend of policies by a model (a catalog name, a Hub repository or a folder) and its live options."""

    def __call__(self, model: str, /, **live: object) -> Backend: ...


class RewardType(Protocol):
    """A backend of reward models by a model and its options."""

    def __call__(self, model: str, /, **options: object) -> RewardBackend: ...


class SourceType(Protocol):
    """A source of questions."""

    def __call__(self) -> Source: ...


class GraderType(Protocol):
    """A grader with its default limits."""

    def __call__(self) -> Grader: ...


class FormatType(Protocol):
    """A dataset format by its options (an instance of `config_type`), the source and the split of its questions."""

    config_type: type

    def __call__(self, config: object, source: str, split: str, /) -> Format: ...


class TrainerType(Protocol):
    """A trainer by a store, its options (an instance of `config_type`) and the folder of the model."""

    config_type: type

    def __call__(self, store: Store, config: object, out: Path, /) -> TrainingRun: ...


@overload
def load(kind: Literal["labeler"], name: str) -> LabelerType: ...
@overload
def load(kind: Literal["search"], name: str) -> SearchType: ...
@overload
def load(kind: Literal["policy"], name: str) -> PolicyType: ...
@overload
def load(kind: Literal["reward"], name: str) -> RewardType: ...
@overload
def load(kind: Literal["source"], name: str) -> SourceType: ...
@overload
def load(kind: Literal["grader"], name: str) -> GraderType: ...
@overload
def load(kind: Literal["format"], name: str) -> FormatType: ...
@overload
def load(kind: Literal["trainer"], name: str) -> TrainerType: ...


def load(kind: registry.Kind, name: str) -> Any:
    """Import the class called `name`. Raises `UnknownName`, or `MissingDependency` if a package is not installed."""
    return registry.load(kind, name)
