"""What a user waits for before anything happens."""

import subprocess
import sys
from pathlib import Path

import pytest

from openr_data.store import Store
from openr_data.store.rows import question_row
from openr_data.types import Question

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


def test_a_look_at_a_store_loads_no_pandas(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    dataset = store.dataset("d", create=True)
    dataset.add_questions([question_row(Question("0" * 32, "How many?", "1", "mine"))], "a", 1)
    dataset.snapshot("test", "one question")
    code = (
        "from openr_data.store import Store\n"
        f"view = Store.open({str(store.path)!r}).view('d@1')\n"
        "assert view.sql('select * from questions').num_rows == view.arrow('questions').num_rows == 1"
    )
    assert not loaded_after(code) & set(HEAVY)
