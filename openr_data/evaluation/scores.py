"""Scores the solutions that have no step scores yet; the memory of a job folder for solutions of files.

Solutions of a dataset keep their scores in its table `scores` (`score_table.py`). Solutions of a file are in no
store, so their scores are kept in the folder of the job that evaluated them:

    <store>/jobs/<job_id>/scores/part-00001.parquet    case, scores

A case is a question and the steps of one solution. Parts are written whole and never changed, so a kill loses at most
the scores since the last one: those of some thousand cases, or of some seconds of a slow model.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ..engine.protocols import RewardModel
from ..errors import InputError, PolicyError, PolicyLost, StoreError
from ..ids import content_hash
from ..store.storage import storage_error, sync

PART: Final = 2_000
"""Cases of a part."""
PART_SECONDS: Final = 30.0
"""A part is written after that many seconds, however few cases it has."""
AT_ONCE: Final = 512
"""Cases that are scored at a time."""

_SCHEMA: Final = pa.schema({"case": pa.string(), "scores": pa.list_(pa.float64())})

Case = tuple[str, Sequence[str]]
"""A question and the steps of a solution."""
ScoringReport = Callable[[int, int], None]
"""Called with the number of solutions that are scored and of all."""


@dataclass(frozen=True, slots=True)
class Process:
    """The steps of a solution of a stored question."""

    question_id: str
    question: str
    steps: tuple[str, ...]


class ScoreKeeper(Protocol):
    """Where step scores are kept. `known` has them by `case_id`; a score that was added is safe after `flush`."""

    @property
    def known(self) -> Mapping[str, tuple[float, ...]]: ...

    def add(self, case: str, scores: Sequence[float]) -> object: ...

    def flush(self) -> None: ...


def case_id(question: str, steps: Sequence[str]) -> str:
    """32 hex digits over a case."""
    return content_hash("case", question, *steps)


class ScoreStore:
    """The scores of one reward model in the folder of a job. Raises `StoreError` if a part cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "scores"
        self.known: dict[str, tuple[float, ...]] = {}
        self._fresh: dict[str, tuple[float, ...]] = {}
        self._parts = 0
        self._written = time.monotonic()
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                rows = pq.read_table(path, schema=_SCHEMA)
            except (OSError, pa.ArrowInvalid) as error:
                raise StoreError(f"The scores {path} are damaged. Remove the file and run the same command.") from error
            self.known.update(zip(rows["case"].to_pylist(), map(tuple, rows["scores"].to_pylist()), strict=True))
            self._parts = max(self._parts, int(path.stem.removeprefix("part-")))

    def add(self, case: str, scores: Sequence[float]) -> None:
        """Keep the scores of a case; a part is written every few thousand cases or seconds."""
        self.known[case] = self._fresh[case] = tuple(scores)
        if len(self._fresh) >= PART or time.monotonic() - self._written > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the cases that are in no part yet."""
        if not self._fresh:
            return
        path = self.folder / f"part-{self._parts + 1:05}.parquet"
        rows = pa.table(
            {"case": list(self._fresh), "scores": [list(item) for item in self._fresh.values()]}, schema=_SCHEMA
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, path.with_suffix(".part"))
            sync(path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
            sync(self.folder)
        except OSError as error:
            raise storage_error(path, error) from error
        self._parts += 1
        self._fresh = {}
        self._written = time.monotonic()


async def score_all(
    reward: RewardModel, cases: Iterable[Case], memory: ScoreKeeper, report: ScoringReport | None = None
) -> Mapping[str, str]:
    """Score the cases that `memory` lacks; return why others can never be scored (`InputError`), by case.

    However it ends, every score that was received is kept. Raises `PolicyLost` when the model is gone, and
    `PolicyError` at the end if requests failed that may succeed another time.
    """
    waiting = {case_id(question, steps): (question, steps) for question, steps in cases}
    total = len(waiting)
    waiting = {name: case for name, case in waiting.items() if name not in memory.known}
    failures: dict[str, str] = {}
    refused: list[PolicyError] = []
    left = iter(waiting.items())
    done = total - len(waiting)

    async def work() -> None:
        nonlocal done
        for name, (question, steps) in left:
            try:
                scores = await reward.score(question, steps)
            except PolicyLost:
                raise
            except InputError as error:
                failures[name] = str(error)
            except PolicyError as error:
                refused.append(error)
            else:
                if len(scores) != len(steps) or not all(0 <= score <= 1 for score in scores):
                    raise PolicyError(
                        f"The reward model gives {list(scores)} for {len(steps)} steps, not a number from 0 to 1 for "
                        f"each: {question[:60]!r}."
                    )
                memory.add(name, scores)
            done += 1
            if report is not None:
                report(done, total)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(waiting))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        memory.flush()
    if refused:
        raise PolicyError(
            f"{len(refused):,} of {total:,} solutions were not scored, for example: {refused[0]} The same command "
            "tries them again."
        )
    return failures
