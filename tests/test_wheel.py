"""The wheel holds the tree, under our name alone, and runs by itself."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = ("labelers", "training", "inference", "catalogs")


@dataclass(frozen=True, slots=True)
class Build:
    """A wheel and what its build printed."""

    wheel: Path
    log: str


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, tracked):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--verbose",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    done = subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return Build(built, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def wheel(build: Build) -> Path:
    return build.wheel


@pytest.mark.slow
def test_the_build_finds_every_package_in_the_list(build: Build) -> None:
    assert "adding 'openr_data/catalogs/queries/" in build.log
    assert "is absent from the `packages` configuration" not in build.log


@pytest.mark.slow
def test_every_module_and_data_file_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        ("openr_data/" if path.parts[0] != "openr_data" else "") + path.as_posix()
        for folder in ("openr_data", *LEAVES)
        for path in (item.relative_to(ROOT) for item in (ROOT / folder).rglob("*"))
        if (ROOT / path).is_file() and "__pycache__" not in path.parts
    }
    assert held == expected


@pytest.mark.slow
def test_the_only_top_level_name_is_ours(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("top_level.txt")]
    assert archive.read(name).decode().split() == ["openr_data"]


@pytest.mark.slow
def test_the_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import openr_data; assert openr_data.__file__.startswith(sys.path[0]), openr_data.__file__\n"
        "assert len(openr_data.__path__) == 1\n"
        "from openr_data.cli import main; sys.argv = ['openr-data', 'label', '--dry-run', '--json']; main()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"method": "adaptive"' in done.stdout
