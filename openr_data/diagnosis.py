"""Checks that the installation, the accelerator, the shipped policy and a store work (`openr-data doctor`)."""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .engine.versions import versions
from .errors import OpenRError
from .grading.cache import GradeCache
from .models import model_entry
from .store import Store
from .store.remote import Place, RemotePath, place
from .types import Verdict

PACKAGES: Final = ("openr-data", "pyarrow", "duckdb", "deltalake", "torch", "transformers", "vllm")

State = Literal["ok", "absent", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `state` is ok, absent (an optional package or device) or problem; `found` is what there is."""

    name: str
    state: State
    found: str


def diagnose(where: str | Path | RemotePath) -> Iterator[Check]:
    """Run every check, for the store at `where`, which need not exist. A check that fails is a result and no error."""
    store = place(where)
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    installed = versions()
    for name in PACKAGES:
        yield Check(name, "ok" if name in installed else "absent", installed.get(name, _how_to_install(name)))
    yield _guarded("accelerator", _accelerator)
    yield _guarded("shipped policy", _shipped_policy)
    yield _guarded("grading", _grading)
    yield _guarded("store", lambda: _store(store))
    if isinstance(store, Path):
        yield _guarded("disk", lambda: ("ok", f"{_megabytes(shutil.disk_usage(_existing(store)).free)} free"))
        yield _guarded("atomic commits", lambda: _hard_links(_existing(store)))


def _guarded(name: str, check: Callable[[], tuple[State, str]]) -> Check:
    try:
        state, finding = check()
    except (OpenRError, OSError) as error:
        return Check(name, "problem", str(error))
    except Exception as error:
        # The other checks run whatever is broken here.
        return Check(name, "problem", f"{type(error).__name__}: {error}")
    return Check(name, state, finding)


def _how_to_install(name: str) -> str:
    extra = {"torch": "models", "transformers": "models", "vllm": "vllm"}.get(name)
    return f"pip install 'openr-data[{extra}]'" if extra else f"pip install {name}"


def _grading() -> tuple[State, str]:
    from .grading import MathGrader

    with closing(MathGrader(cache=GradeCache(None, ""))) as grader:
        grade = grader.grade_now("\\sin 30^\\circ", "\\frac{1}{2}")
    is_correct = grade.verdict is Verdict.CORRECT
    return (
        "ok" if is_correct else "problem",
        f"{grader.version()}: {'its workers compute' if is_correct else grade.reason}",
    )


def _accelerator() -> tuple[State, str]:
    if importlib.util.find_spec("torch") is None:
        return "absent", "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return "ok", torch.cuda.get_device_name(0)
    return "absent", f"none; {os.cpu_count()} CPU cores"


def _shipped_policy() -> tuple[State, str]:
    weights = Path(model_entry("arithmetic").path) / "model.safetensors"
    if not weights.is_file():
        return "problem", f"{weights} is missing. Reinstall openr-data."
    return "ok", _megabytes(weights.stat().st_size)


def _store(store: Place) -> tuple[State, str]:
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return "ok", f"{store} does not exist yet"
    opened = Store.open(store)
    names = opened.names()
    for name in names:
        dataset = opened.dataset(name)
        counts = dataset.view().counts()
        snapshots = dataset.snapshots()
        # Rows that a rollback took away are not lost.
        whole = max((place for place, row in enumerate(snapshots) if row.operation == "rollback"), default=0)
        for index, snapshot in enumerate(snapshots):
            held = dataset.view(snapshot.name).counts()
            lost = [table for table, rows in snapshot.counts.items() if held[table] != rows]
            if lost:
                return "problem", f"{name}@{snapshot.name} has lost rows of {', '.join(lost)}"
            fewer = [table for table, rows in snapshot.counts.items() if counts[table] < rows]
            if fewer and index >= whole:
                return "problem", f"{name} holds fewer rows of {', '.join(fewer)} than its snapshot {snapshot.name}"
    is_writable = not isinstance(store, Path) or os.access(store, os.W_OK)
    return "ok", f"{len(names)} datasets" + ("" if is_writable else ", read-only")


def _hard_links(folder: Path) -> tuple[State, str]:
    """Delta commits by hard link: without it two writers could take the same version."""
    if not os.access(folder, os.W_OK):
        return "problem", f"{folder} is read-only"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".openr-doctor-") as name:
        first = Path(name) / "a"
        first.write_bytes(b"")
        try:
            os.link(first, Path(name) / "b")
        except OSError as error:
            return "problem", f"{folder} has no hard links ({error.strerror}): several writers are unsafe there"
    return "ok", "hard links work"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _megabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
