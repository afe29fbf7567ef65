"""Kills a labeling job (kill -9) at random moments, resumes it, and compares the tables with an unbroken run.

    python benchmarks/kill.py [--trials 20] [--questions 10]

Each trial starts the job in a store of its own, kills it at a random moment within the duration of the unbroken run,
and runs the same command to its end. It compares all rows of questions, solutions, nodes, rollouts and labels. Prints
one line per trial; the exit code is 1 if a table differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from openr_data.store import Store

FACTS = ("questions", "solutions", "nodes", "rollouts", "labels")


def contents(folder: Path) -> dict[str, list[str]]:
    """Return all rows of the facts and the evidence in a fixed order."""
    view = Store.open(folder / "openr-store").view("arithmetic")
    return {name: sorted(map(repr, view.arrow(name).to_pylist())) for name in FACTS}


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description="kill -9 and resume")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    job = [sys.executable, "-m", "openr_data.cli", "label", "--limit", str(options.questions), "-o", "searches=4"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def finish(folder: Path) -> None:
        subprocess.run(job, cwd=folder, env=environment, check=True, capture_output=True)

    with tempfile.TemporaryDirectory() as scratch:
        unbroken = Path(scratch) / "unbroken"
        unbroken.mkdir()
        started = time.monotonic()
        finish(unbroken)
        seconds = time.monotonic() - started
        expected = contents(unbroken)
        print(f"unbroken: {seconds:.1f} s, {sum(map(len, expected.values())):,} rows")
        equal = 0
        for trial in range(options.trials):
            folder = Path(scratch) / str(trial)
            folder.mkdir()
            moment = rng.uniform(0.1, 1.0) * seconds
            with subprocess.Popen(job, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as process:
                time.sleep(moment)
                process.send_signal(signal.SIGKILL)
            finish(folder)
            same = contents(folder) == expected
            equal += same
            print(f"trial {trial + 1}: killed after {moment:.1f} s: {'equal' if same else 'DIFFERENT'}", flush=True)
    print(f"{equal} of {options.trials} equal")
    sys.exit(equal != options.trials)


if __name__ == "__main__":
    main()
