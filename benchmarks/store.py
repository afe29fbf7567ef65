"""Compares the store with bare Parquet: writing, reading, SQL, labeling traffic, look-ups, time travel, diff.

    python benchmarks/store.py                       all parts, 1,000,000 records (about 10 minutes, 6 GB of disk)
    python benchmarks/store.py --records 100000 --parts bulk,sql

Each line gives a figure, its peer (measured in the same run), their ratio and the bar. Times are CPU seconds of this
process if the line says so, else the best wall time of a few repetitions.
"""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openr_data.schema import LABELS, QUESTIONS, SOLUTIONS, TABLES
from openr_data.store import Dataset, Store, diff, maintenance, refs
from openr_data.store.spool import Spool

STEPS, PER_QUESTION = 6, 30
WORDS = (
    "the cost of apples is then we add number total per week she buys sells boxes each with more hours so it has first "
    "second half double minus plus equals therefore angle side area circle sum product factor root value answer x y"
).split()
SQL = {
    "label balance": "select label, count(*) as n from (select unnest(label) as label from labels) group by 1",
    "first errors": "select first_error, count(*) as n from labels group by 1",
    "mean value by level": (
        "select level, avg(value) as v from (select q.level, unnest(l.value) as value from labels l "
        "join questions q using (question_id)) group by 1"
    ),
    "hard questions": (
        "select question_id, avg(list_avg(value)) as v from labels group by 1 order by v, question_id limit 100"
    ),
    "text of uncertain steps": (
        "select s.solution_id, s.steps[1] as step from labels l join solutions s using (question_id, solution_id, "
        "job_id) where l.value[1] between 0.3 and 0.4 and l.first_error = 5 order by 1 limit 200"
    ),
}
results: list[dict[str, Any]] = []


def report(name: str, figure: float, unit: str, peer: float | None, bar: str, holds: bool) -> None:
    """Print one line and add one entry to the results."""
    ratio = f"  ratio {figure / peer:.2f} (peer {peer:.3g} {unit})" if peer else ""
    print(f"{'ok  ' if holds else 'MISS'} {name}: {figure:,.3g} {unit}{ratio}  bar {bar}", flush=True)
    results.append({"name": name, "figure": figure, "unit": unit, "peer": peer, "bar": bar, "holds": holds})


def cpu() -> float:
    """Return the CPU seconds of this process over all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the CPU and wall seconds of one call."""
    wall, used = time.perf_counter(), cpu()
    work()
    return cpu() - used, time.perf_counter() - wall


def make(records: int) -> dict[str, pa.Table]:
    """Generate questions, solutions with six steps of about 80 characters, and one label set per solution."""
    chance = random.Random(0)
    pool = pa.array([" ".join(chance.choices(WORDS, k=14)) for _ in range(20_000)])
    n, many = records, max(records // PER_QUESTION, 1)
    numbers = pa.array([chance.randrange(20_000) for _ in range(n * STEPS)], pa.int32())
    steps = pc.binary_join_element_wise(pool.take(numbers), pc.cast(pa.array(range(n * STEPS)), pa.string()), " ")
    offsets = pa.array(range(0, n * STEPS + 1, STEPS), pa.int32())

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, values)

    def names(kind: str, count: int) -> list[str]:
        return [hashlib.blake2b(f"{kind}{i}".encode(), digest_size=16).hexdigest() for i in range(count)]

    questions = names("q", many)
    of = [questions[chance.randrange(many)] for _ in range(n)]
    correct = pa.array([chance.randrange(9) for _ in range(n * STEPS)], pa.int32())
    label = pc.if_else(pc.greater(correct, 0), 1, -1).cast(pa.int8())
    first = pa.array([chance.randrange(7) for _ in range(n)], pa.int16())
    solution = names("s", n)
    zero, text = pa.array([0] * n, pa.int32()), pa.array(["{}"] * n)
    job = pa.array(["bench"] * n)
    tables = {
        "questions": [questions, pool.take(pa.array([i % 20_000 for i in range(many)])), ["42"] * many,
                      ["bench"] * many, ["train"] * many, [str(i % 5 + 1) for i in range(many)], [""] * many,
                      ["{}"] * many],
        "solutions": [solution, of, lists(steps), pa.array([STEPS] * n, pa.int32()), ["42"] * n,
                      pa.array([i % 2 == 0 for i in range(n)]), ["model"] * n, zero, job, zero, text],
        "labels": [names("l", n), solution, of, ["omegaprm"] * n, ["model"] * n, job, lists(label),
                   lists(pc.divide(correct.cast(pa.float32()), 8.0).cast(pa.float32())), lists(correct),
                   lists(pa.array([8] * (n * STEPS), pa.int32())), lists(pa.array([0] * (n * STEPS), pa.int8())),
                   lists(pc.cast(pa.array(range(n * STEPS)), pa.string())),
                   pc.if_else(pc.equal(first, 6), pa.scalar(None, pa.int16()), first), zero, text],
    }  # fmt: skip
    schemas = {"questions": QUESTIONS, "solutions": SOLUTIONS, "labels": LABELS}
    return {
        name: pa.Table.from_arrays(
            [column if isinstance(column, pa.Array) else pa.array(column) for column in columns], schemas[name].names
        ).cast(schemas[name])
        for name, columns in tables.items()
    }


def bulk(folder: Path, data: dict[str, pa.Table]) -> Dataset:
    """Write everything at once and read everything."""
    plain = folder / "plain"
    plain.mkdir()
    dataset = Store.open(folder / "store", create=True).dataset("bench", create=True)

    def ours() -> None:
        for name, table in data.items():
            dataset.append(name, table, f"bench/{name}", 1)

    def peers() -> None:
        for name, table in data.items():
            pq.write_table(table, plain / f"{name}.parquet", compression="zstd")

    peer, _ = spent(peers)
    used, _ = spent(ours)
    report("bulk write", used, "CPU s", peer, "≤ 1.5", used <= 1.5 * peer)

    def read(files: Callable[[str], list[str]]) -> None:
        for name in data:
            rows = sum(pq.read_table(file).num_rows for file in files(name))
            assert rows == data[name].num_rows

    view = dataset.view()
    read(view.files)
    peer = min(spent(lambda: read(lambda name: [str(plain / f"{name}.parquet")]))[0] for _ in range(3))
    used = min(spent(lambda: read(dataset.view().files))[0] for _ in range(3))
    report("full read of the files", used, "CPU s", peer, "≤ 1.5", used <= 1.5 * peer)
    used = min(spent(lambda: [dataset.view().arrow(name) for name in data])[0] for _ in range(3))
    report("full read through the view, as Arrow", used, "CPU s", peer, "≤ 1.5", used <= 1.5 * peer)
    used, wall = spent(lambda: dataset.snapshot("bench", "all"))
    print(f"     snapshot with its digest: {used:.2f} CPU s, {wall:.2f} s", flush=True)
    return dataset


def sql(folder: Path, dataset: Dataset) -> None:
    """Run five queries, with the same text, on the store and on bare Parquet."""
    maintenance.compact(dataset)
    plain = folder / "plain"
    for name, query in SQL.items():
        ours, bare = [], []
        for _ in range(5):
            start, used = time.perf_counter(), cpu()
            connection = duckdb.connect()
            for table in ("questions", "solutions", "labels"):
                connection.execute(f"create view {table} as select * from '{plain}/{table}.parquet'")
            expected = connection.sql(query).to_arrow_table()
            bare.append((cpu() - used, time.perf_counter() - start))
            start, used = time.perf_counter(), cpu()
            rows = dataset.view().sql(query)
            ours.append((cpu() - used, time.perf_counter() - start))
            key = [(column, "ascending") for column in expected.column_names]
            if "avg" not in query:
                assert rows.sort_by(key).to_pylist() == expected.sort_by(key).to_pylist(), name
        figure, peer = min(o[1] for o in ours) * 1000, min(b[1] for b in bare) * 1000
        report(f"sql, {name}", figure, "ms", peer, "≤ 1.2", figure <= 1.2 * peer)
    plan = str(dataset.view().sql("explain select label, count(*) from steps group by 1").to_pylist())
    print(f"     a label-only query reads the text of steps: {'steps' in plan.replace('n_steps', '')}", flush=True)


def lookups(dataset: Dataset) -> None:
    """Look up all solutions of one question, and its records with their labels."""
    questions = dataset.view().sql("select question_id from questions using sample 20 (reservoir, 1)")[0].to_pylist()
    open_view = dataset.view()
    open_view.sql("select * from records limit 1")
    for name, table, view in (
        ("all solutions of one question, view opened for it", "solutions", None),
        ("all records of one question, view opened for it", "records", None),
        ("all records of one question, view already open", "records", open_view),
    ):
        times = []
        for question in questions:
            start = time.perf_counter()
            rows = (view or dataset.view()).sql(f"select * from {table} where question_id = '{question}'").num_rows
            times.append((time.perf_counter() - start) * 1000)
            assert rows > 0
        middle = sorted(times)[len(times) // 2]
        report(f"{name}, median", middle, "ms", None, "≤ 50", middle <= 50)


def differences(dataset: Dataset) -> None:
    """Diff two snapshots of all labels, before and after a compaction, and with some relabelled."""
    view = dataset.view()
    old = dataset.snapshots()[-1].name
    sample = view.sql("select * from labels using sample 1000 (reservoir, 1)")
    changed = sample.set_column(
        sample.column_names.index("revision"), "revision", pa.array([1] * sample.num_rows, pa.int32())
    ).set_column(
        sample.column_names.index("n_correct"),
        "n_correct",
        pa.array([[0] * STEPS] * sample.num_rows, pa.list_(pa.int32())),
    )
    dataset.append("labels", changed, "bench/relabel", 1)
    start = time.perf_counter()
    difference = diff.diff(dataset.view(old), dataset.view())
    seconds = time.perf_counter() - start
    assert difference.tables["labels"].changed == sample.num_rows
    report("diff of two snapshots, 1,000 sets relabelled", seconds, "s", None, "≤ 3", seconds <= 3)
    before = dataset.view()
    maintenance.compact(dataset)
    start = time.perf_counter()
    assert not diff.diff(before, dataset.view())
    seconds = time.perf_counter() - start
    report("diff of two snapshots that share no file", seconds, "s", None, "≤ 3", seconds <= 3)


def versions(folder: Path) -> None:
    """Open a tag and read the first row with 1,000 snapshots in the log."""
    dataset = Store.open(folder / "many", create=True).dataset("d", create=True)
    data = make(30)
    for name, table in data.items():
        dataset.append(name, table, f"a/{name}", 1)
    first = dataset.snapshot("bench", "the first")
    for number in range(1000):
        row = data["solutions"].slice(number % 30, 1)
        row = row.set_column(0, "solution_id", pa.array([f"{number:032x}"]))
        dataset.append("solutions", row, "more", number + 1)
        maintenance.tidy(dataset)
        # Written as `snapshot` does, but without the digest, which is not part of the measurement.
        made = replace(first, name=str(number + 2), parent=str(number + 1), versions=dataset.view().versions)
        refs.write(dataset.path / "refs", made)
    dataset.tag("v1", "500")
    code = (
        "import time; from openr_data.store import Store; import duckdb, deltalake, pyarrow.parquet\n"
        "took = []\n"
        "for _ in range(3):\n"
        f"    start = time.perf_counter(); view = Store.open({str(folder / 'many')!r}).view('d@v1')\n"
        "    row = view.sql('select * from records limit 1').to_pylist()\n"
        "    took.append(time.perf_counter() - start)\n"
        "assert len(row) == 1; print(*took)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first_call, *later = map(float, done.stdout.split())
    name = "open NAME@tag and read a record, 1,000 snapshots"
    report(f"{name}, the first time in a process", first_call * 1000, "ms", None, "≤ 200", first_call <= 0.2)
    report(name, min(later) * 1000, "ms", None, "≤ 200", min(later) <= 0.2)


def _worker(folder: str, number: int, units: int, ready: Any, queue: Any) -> None:
    dataset = Store.open(Path(folder) / "traffic").dataset("d")
    data = make(100)
    solutions, labels = data["solutions"].to_pylist(), data["labels"].to_pylist()
    spool = Spool(Path(folder) / f"spool{number}", dataset, f"w{number}/w0")
    ready.wait()
    start = time.perf_counter()
    waited = 0.0
    for unit in range(units):
        for row, label in zip(solutions, labels, strict=True):
            name = f"{number:02x}{unit:08x}{row['solution_id'][10:]}"
            row["solution_id"] = label["solution_id"] = name
            label["label_id"] = "f" + name[1:]
        spool.add(f"{number}-{unit}", {}, {"solutions": solutions, "labels": labels})
    acknowledged = time.perf_counter() - start
    spool.close()
    queue.put((acknowledged, time.perf_counter() - start, waited))


def traffic(folder: Path) -> None:
    """Let four workers acknowledge units of 100 solutions, until all of them are visible."""
    dataset = Store.open(folder / "traffic", create=True).dataset("d", create=True)
    dataset.append("questions", make(100)["questions"], "q", 1)
    context = multiprocessing.get_context("spawn")
    units, ready, queue = 150, context.Barrier(5), context.Queue()
    workers = [context.Process(target=_worker, args=(str(folder), n, units, ready, queue)) for n in range(4)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    times = [queue.get() for _ in workers]
    visible = time.perf_counter() - start
    for worker in workers:
        worker.join()
    total = 4 * units * 100
    assert dataset.view().counts()["solutions"] == total
    rate = total / max(acknowledged for acknowledged, *_ in times)
    report("solutions acknowledged, 4 workers", rate, "1/s", None, "≥ 20,000", rate >= 20_000)
    report("solutions visible, 4 workers", total / visible, "1/s", None, "≥ 10,000", total / visible >= 10_000)


def commits(folder: Path) -> None:
    """Run a query after 1,000 commits of 100 solutions, and again on the compacted table."""
    dataset = Store.open(folder / "commits", create=True).dataset("d", create=True)
    data = make(100_000)
    dataset.append("questions", data["questions"], "q", 1)
    spool = Spool(folder / "commits-spool", dataset, "a/w0")
    solutions, labels = data["solutions"], data["labels"]
    for number in range(1000):
        rows = {name: table.slice(number * 100, 100).to_pylist() for name, table in
                (("solutions", solutions), ("labels", labels))}  # fmt: skip
        spool.add(str(number), {}, rows)
        spool.flush()
    spool.close()
    query = SQL["first errors"]

    def best() -> float:
        return min(spent(lambda: dataset.view().sql(query))[1] for _ in range(7)) * 1000

    files = len(dataset.view().files("labels"))
    figure = best()
    maintenance.compact(dataset)
    peer = best()
    report(f"query after 1,000 commits ({files} files)", figure, "ms", peer, "≤ 1.5", figure <= 1.5 * peer)


def imports(folder: Path) -> None:
    """Import a file like Math-Shepherd's, with 444,655 rows."""
    file = folder / "shepherd.jsonl"
    chance = random.Random(0)
    with file.open("w", encoding="utf-8") as out:
        for i in range(444_655):
            asked = " ".join(random.Random(i // 15).choices(WORDS, k=25))
            n = max(1, min(12, int(chance.gauss(6, 2))))
            steps = [
                f"Step {j + 1}: {' '.join(chance.choices(WORDS, k=12))} <<{i}*{j}={i * j}>>{i * j}." for j in range(n)
            ]
            steps[-1] += f" The answer is: {i}"
            bad = chance.randint(0, n)
            first = f"{asked} {i // 15}? " + "\n".join(f"{step} ки" for step in steps)
            second = f"{asked} {i // 15}? " + "\n".join(f"{s} {'+' if j < bad else '-'}" for j, s in enumerate(steps))
            out.write(json.dumps({"input": first, "label": second, "task": "GSM8K"}, ensure_ascii=False) + "\n")
    command = [sys.executable, "-m", "openr_data.cli", "--store", str(folder / "imported"), "import", "ms", str(file)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    report("import of 444,655 rows", 444_655 / seconds, "rows/s", None, "≥ 20,000", 444_655 / seconds >= 20_000)
    report("peak memory of the import (largest child so far)", peak, "GiB", None, "≤ 1", peak <= 1)


@contextmanager
def scratch(where: str | None) -> Iterator[Path]:
    """Yield a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="openr-bench-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--parts", default="imports,traffic,commits,versions,bulk,sql,lookups,diff")
    parser.add_argument("--folder", default=None, help="where to work (default: the temporary folder)")
    chosen = parser.parse_args()
    parts = set(chosen.parts.split(","))
    assert len(TABLES) == 8
    with scratch(chosen.folder) as folder:
        for name, part in (("imports", imports), ("traffic", traffic), ("commits", commits), ("versions", versions)):
            if name in parts:
                part(folder)
        if parts & {"bulk", "sql", "lookups", "diff"}:
            dataset = bulk(folder, make(chosen.records))
            if parts & {"sql", "lookups"}:
                sql(folder, dataset)
            if "lookups" in parts:
                lookups(dataset)
            if "diff" in parts:
                differences(dataset)
    out = Path(__file__).parent / "results" / "store.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
