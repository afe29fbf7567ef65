"""Runs many processes on one dataset with kill -9 during spooling and committing, and looks for lost or double rows.

    python benchmarks/store_crash.py [--kills 100] [--writers 8] [--commits 50]

Part 1: writers commit, readers read and a compactor compacts, all at once; every commit must be there exactly once, and
a reader must never see a label without its solution. Part 2: workers acknowledge units through a spool and are killed
at random moments; every acknowledged unit must be in the tables exactly once after a last clean start. The exit code is
1 if one of these fails.
"""

import argparse
import collections
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from openr_data.store import Store, maintenance
from openr_data.store.spool import Spool


def solution(name: str) -> dict[str, Any]:
    """Make a solution of one question."""
    return {"solution_id": name, "question_id": name[:4], "steps": [f"step of {name}"], "n_steps": 1, "job_id": "j",
            "final_answer": "1", "outcome": True, "generator": "g", "n_tokens": 1, "revision": 0}  # fmt: skip


def label(name: str) -> dict[str, Any]:
    """Make the label set of that solution."""
    return {"label_id": f"l{name}", "solution_id": name, "question_id": name[:4], "method": "m", "completer": "g",
            "job_id": "j", "label": [1], "value": [1.0], "n_correct": [8], "n_rollouts": [8], "provenance": [0],
            "node_id": ["n"], "first_error": None, "revision": 0}  # fmt: skip


def write(folder: str, worker: int, commits: int) -> None:
    """Commit solutions and their labels."""
    dataset = Store.open(folder).dataset("d")
    for seq in range(1, commits + 1):
        names = [f"{worker}-{seq}-{i}" for i in range(20)]
        dataset.append("solutions", [solution(name) for name in names], f"w{worker}/solutions", seq)
        dataset.append("labels", [label(name) for name in names], f"w{worker}/labels", seq)


def read(folder: str, stop: Any, queue: Any) -> None:
    """Read the newest state until `stop` is set; count the reads that saw an invalid state."""
    dataset = Store.open(folder).dataset("d")
    reads = wrong = 0
    while not stop.is_set():
        view = dataset.view()
        orphans = view.sql("select count(*) as n from labels anti join solutions using (solution_id)")["n"][0].as_py()
        doubled = view.sql("select count(*) - count(distinct label_id) as n from labels")["n"][0].as_py()
        reads, wrong = reads + 1, wrong + int(bool(orphans or doubled))
    queue.put(("reader", reads, wrong))


def compact(folder: str, stop: Any, queue: Any) -> None:
    """Compact repeatedly until `stop` is set."""
    dataset = Store.open(folder).dataset("d")
    done = lost = 0
    while not stop.is_set():
        try:
            done += len(maintenance.compact(dataset))
        except Exception as error:
            lost += 1
            print("  compactor:", str(error)[:150])
        time.sleep(0.2)
    queue.put(("compactor", done, lost))


def together(folder: Path, writers: int, commits: int) -> bool:
    """Run part 1; return whether it passed."""
    dataset = Store.open(folder, create=True).dataset("d", create=True)
    context = multiprocessing.get_context("spawn")
    stop, queue = context.Event(), context.Queue()
    others = [context.Process(target=read, args=(str(folder), stop, queue)) for _ in range(4)]
    others.append(context.Process(target=compact, args=(str(folder), stop, queue)))
    work = [context.Process(target=write, args=(str(folder), n, commits)) for n in range(writers)]
    start = time.monotonic()
    for process in (*others, *work):
        process.start()
    for process in work:
        process.join()
    seconds = time.monotonic() - start
    stop.set()
    counted = [queue.get(timeout=120) for _ in others]
    for process in others:
        process.join()
    expected = {f"l{n}-{seq}-{i}" for n in range(writers) for seq in range(1, commits + 1) for i in range(20)}
    copies = collections.Counter(dataset.view().sql("select label_id from labels").column(0).to_pylist())
    lost, doubled = len(expected - set(copies)), sum(count > 1 for count in copies.values())
    dead = [process.exitcode for process in work if process.exitcode]
    print(f"{writers} writers x {commits} commits of two tables, 4 readers, 1 compactor: {seconds:.1f} s; lost {lost}, "
          f"doubled {doubled}, failed writers {len(dead)}; (role, done, wrong): {counted}")  # fmt: skip
    seen = any(wrong for role, _, wrong in counted if role == "reader")
    return not (lost or doubled or dead or seen)


def worker(folder: str, name: str) -> None:
    """Acknowledge units until killed; print each on stdout after it is stored safely."""
    dataset = Store.open(Path(folder) / "store").dataset("d")
    spool = Spool(Path(folder) / f"spool-{name}", dataset, f"{name}/w0", max_seconds=0.05)
    number = len(spool.finished)
    while True:
        unit = f"{name}{number:06d}"
        names = [f"{unit}-{i}" for i in range(10)]
        spool.add(unit, {}, {"solutions": list(map(solution, names)), "labels": list(map(label, names))})
        os.write(1, f"{unit}\n".encode())
        number += 1


def kills(folder: Path, count: int, workers: int = 4) -> bool:
    """Run part 2; return whether it passed."""
    dataset = Store.open(folder / "store", create=True).dataset("d", create=True)
    chance, acknowledged, killed = random.Random(0), set[str](), 0
    command = [sys.executable, __file__, "--worker", str(folder)]
    while killed < count:
        running = [subprocess.Popen([*command, chr(97 + n)], stdout=subprocess.PIPE) for n in range(workers)]
        time.sleep(1.5 + chance.random() * 2)
        for process in running:
            process.send_signal(signal.SIGKILL)
            killed += 1
        for process in running:
            out = process.communicate()[0].decode()
            acknowledged.update(line for line in out.split("\n")[:-1])
    for n in range(workers):
        Spool(folder / f"spool-{chr(97 + n)}", dataset, f"{chr(97 + n)}/w0").close()
    view = dataset.view()
    copies = collections.Counter(view.sql("select label_id from labels").column(0).to_pylist())
    missing = [unit for unit in acknowledged for i in range(10) if copies[f"l{unit}-{i}"] == 0]
    doubled = [name for name, times in copies.items() if times > 1]
    half = view.sql("select count(*) as n from labels anti join solutions using (solution_id)")["n"][0].as_py()
    print(f"{killed} kills of {workers} workers: {len(acknowledged):,} units acknowledged; missing {len(missing)}, "
          f"doubled {len(doubled)}, labels without solution {half}, files {len(view.files('labels'))}")  # fmt: skip
    return bool(acknowledged) and not (missing or doubled or half)


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--commits", type=int, default=50)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    with tempfile.TemporaryDirectory() as scratch:
        first = together(Path(scratch) / "together", options.writers, options.commits)
        second = kills(Path(scratch), options.kills)
    sys.exit(0 if first and second else 1)


if __name__ == "__main__":
    main()
