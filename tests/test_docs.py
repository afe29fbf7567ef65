"""Every command that the README shows is run, in order, in one folder; every command has its place there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openr_data.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PIECES = re.findall(r"^(##+ [^\n]+)$|^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def blocks_by_section() -> dict[str, list[tuple[str, str]]]:
    """The code blocks of the README, by the heading that they stand under."""
    sections: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for title, kind, text in PIECES:
        if title:
            heading = title.lstrip("# ")
        else:
            sections.setdefault(heading, []).append((kind, text))
    return sections


FIRST = ("One minute", "Label your own questions")
"""The sections that every reader has run: each group begins with a copy of the store that they leave."""
GROUPS: dict[str, tuple[str, ...]] = {
    "train": ("Train a reward model", "Verdicts and reasons", "Better answers"),
    "cost": ("What it costs", "Stop, resume, inspect"),
    "methods": (
        "Methods", "Which method is better, and what did it cost", "Judges and consensus", "Is this answer that answer?",
        "Datasets", "Query", "Versions", "Formats", "The Hub",
    ),
    "world": ("The arithmetic world", "When something is wrong"),
}  # fmt: skip
"""What is run in one folder, in the order of the README; the longest first."""
OUTSIDE = ("make ",)
"""`make` targets are checked to exist; CI runs them."""


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) | set(re.findall(r"`make ([a-z-]+)`", README))
    assert {"demo", "test"} <= shown <= targets


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"openr-data {name}" in README


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("*.md")))
def test_no_document_points_to_a_file_that_is_not_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:openr_data|labelers|inference|catalogs|training|tests|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or "mine" in path, path


def run_blocks(sections: tuple[str, ...], folder: Path) -> int:
    """Run the blocks of some sections in a folder; how many there were."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment.pop("OPENR_STORE", None)
    ran = 0
    for section in sections:
        for kind, block in blocks_by_section()[section]:
            if kind == "python":
                command = [sys.executable, "-c", block]
            else:
                lines = [line for line in block.splitlines() if not line.startswith(OUTSIDE)]
                command = ["sh", "-eu", "-c", "\n".join(lines)]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
            ran += 1
    return ran


@pytest.fixture(scope="session")
def after_the_first_sections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the sections that every reader begins with have been run. Copy it."""
    folder = tmp_path_factory.mktemp("first")
    assert run_blocks(FIRST, folder) >= 3
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", [pytest.param(name, marks=pytest.mark.xdist_group(f"readme-{name}")) for name in GROUPS]
)
def test_every_command_of_the_readme_runs(after_the_first_sections: Path, tmp_path: Path, group: str) -> None:
    folder = tmp_path / "here"
    shutil.copytree(after_the_first_sections, folder)
    assert run_blocks(GROUPS[group], folder) >= 2


def test_every_section_with_commands_is_run_once() -> None:
    assert sorted([*FIRST, *(name for group in GROUPS.values() for name in group)]) == sorted(blocks_by_section())
    assert "first_error" in README
