"""What a user waits for before anything happens."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "vllm", "datasets", "pandas")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join('loaded ' + name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {line.removeprefix("loaded ") for line in done.stdout.splitlines() if line.startswith("loaded ")}


@pytest.mark.parametrize(
    "code",
    [
        "import openr_data",
        "from openr_data import Store, Question, __all__",
        "import contextlib, sys\nfrom openr_data.cli import main\nsys.argv = ['x', '--help']\n"
        "with contextlib.suppress(SystemExit): main()",
        "import contextlib, sys\nfrom openr_data.cli import main\nsys.argv = ['x', 'label', '--help']\n"
        "with contextlib.suppress(SystemExit): main()",
    ],
    ids=["import", "names", "help", "label-help"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded_after(code) & set(HEAVY)


def test_the_help_of_the_program_loads_no_arrow_and_no_database() -> None:
    code = (
        "import contextlib, sys\nfrom openr_data.cli import main\nsys.argv = ['x', '--help']\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert not loaded_after(code) & {"pyarrow", "duckdb", "deltalake", "polars", "rich"}
