"""`openr-data doctor`: is everything here that a job needs?"""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ..errors import OpenRError
from ..grading.cache import GradeCache
from ..jobs.job import versions
from ..models import model_entry
from ..store import Store
from ..store.remote import Place, place
from ..types import Verdict
from .output import Output, output_options, size

Check = tuple[str, str, str]
"""Name, "ok" | "absent" | "problem", what was found."""


@click.command()
@output_options
@click.pass_obj
def doctor(store: str, /, out: Output) -> None:
    """Check the installation, the accelerator, the shipped policy and the store.

    Exit code 1 where something that is there does not work; an optional package that is absent is fine.
    """
    rows = [{"check": name, "state": state, "found": found} for name, state, found in _checks(place(store))]
    out.rows(rows)
    if any(row["state"] == "problem" for row in rows):
        raise click.exceptions.Exit(1)


def _checks(store: Place) -> Iterator[Check]:
    yield "python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}"
    found = versions()
    for name in ("openr-data", "pyarrow", "duckdb", "deltalake", "torch", "transformers", "vllm"):
        yield name, "ok" if name in found else "absent", found.get(name, _how_to_install(name))
    yield _guarded("accelerator", _accelerator)
    yield _guarded("shipped policy", _shipped_policy)
    yield _guarded("grading", _grading)
    yield _guarded("store", lambda: _store(store))
    if not isinstance(store, Path):
        return
    yield _guarded("disk", lambda: ("ok", f"{size(shutil.disk_usage(_existing(store)).free)} free"))
    yield _guarded("atomic commits", lambda: _hard_links(_existing(store)))


def _guarded(name: str, check: Callable[[], tuple[str, str]]) -> Check:
    try:
        state, found = check()
    except (OpenRError, OSError) as error:
        return name, "problem", str(error)
    except Exception as error:
        # A doctor has to survive whatever is wrong with the patient.
        return name, "problem", f"{type(error).__name__}: {error}"
    return name, state, found


def _how_to_install(name: str) -> str:
    extra = {"torch": "models", "transformers": "models", "vllm": "vllm"}.get(name)
    return f"pip install 'openr-data[{extra}]'" if extra else f"pip install {name}"


def _grading() -> tuple[str, str]:
    from ..grading import MathGrader

    with closing(MathGrader(cache=GradeCache(None, ""))) as grader:
        grade = grader.grade_now("\\sin 30^\\circ", "\\frac{1}{2}")
    found = "its workers compute" if grade.verdict is Verdict.CORRECT else grade.reason
    return "ok" if grade.verdict is Verdict.CORRECT else "problem", f"{grader.version()}: {found}"


def _accelerator() -> tuple[str, str]:
    if importlib.util.find_spec("torch") is None:
        return "absent", "torch is not installed"
    import torch

    if torch.cuda.is_available():
        return "ok", torch.cuda.get_device_name(0)
    return "absent", f"none; {os.cpu_count()} CPU cores"


def _shipped_policy() -> tuple[str, str]:
    folder = Path(model_entry("arithmetic").path)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return "problem", f"{weights} is missing. Reinstall openr-data."
    return "ok", f"{size(weights.stat().st_size)}"


def _store(store: Place) -> tuple[str, str]:
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return "ok", f"{store} does not exist yet"
    opened = Store.open(store)
    names: list[Any] = opened.names()
    for name in names:
        dataset = opened.dataset(name)
        counts = dataset.view().counts()
        snapshots = dataset.snapshots()
        # What a rollback took away is not lost.
        whole = max((i for i, item in enumerate(snapshots) if item.operation == "rollback"), default=0)
        for index, snapshot in enumerate(snapshots):
            held = dataset.view(snapshot.name).counts()
            lost = [table for table, rows in snapshot.counts.items() if held[table] != rows]
            if lost:
                return "problem", f"{name}@{snapshot.name} has lost rows of {', '.join(lost)}"
            lost = [table for table, rows in snapshot.counts.items() if counts[table] < rows]
            if lost and index >= whole:
                return "problem", f"{name} holds fewer rows of {', '.join(lost)} than its snapshot {snapshot.name}"
    is_writable = not isinstance(store, Path) or os.access(store, os.W_OK)
    return "ok", f"{len(names)} datasets" + ("" if is_writable else ", read-only")


def _hard_links(folder: Path) -> tuple[str, str]:
    """Delta commits by hard link: without it two writers could take the same version."""
    if not os.access(folder, os.W_OK):
        return "problem", f"{folder} is read-only"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".openr-doctor-") as name:
        first = Path(name) / "a"
        first.write_bytes(b"")
        try:
            os.link(first, Path(name) / "b")
        except OSError as error:
            return (
                "problem",
                f"{folder} has no hard links ({error.strerror}): several writers are unsafe there",
            )
    return "ok", "hard links work"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
