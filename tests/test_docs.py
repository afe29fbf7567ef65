"""Every command that the README shows is run, in order, in one folder; every command has its place there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openr_data.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
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


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment.pop("OPENR_STORE", None)
    ran = 0
    for kind, block in BLOCKS:
        if kind == "python":
            command = [sys.executable, "-c", block]
        else:
            lines = [line for line in block.splitlines() if not line.startswith(OUTSIDE)]
            command = ["sh", "-eu", "-c", "\n".join(lines)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 6
    assert "first_error" in README
