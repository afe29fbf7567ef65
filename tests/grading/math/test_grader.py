"""The grader: memory, workers that may die, threads and loops, the cache on disk. Real processes throughout."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from math_verify import parse, verify

from openr_data.errors import OpenRError
from openr_data.grading import MathGrader
from openr_data.grading.cache import GradeCache
from openr_data.grading.math.grader import symbolic_workers
from openr_data.grading.math.symbolic import judge
from openr_data.grading.workers import WorkerLimits
from openr_data.types import Grade, Verdict

C, I, U = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN  # noqa: E741
NO_CACHE = GradeCache(None, "")
ENDLESS = "\\prod_{i=1}^{10^9} i"


@pytest.fixture(scope="module")
def grader() -> Iterator[MathGrader]:
    made = MathGrader(limits=WorkerLimits(seconds=20), cache=NO_CACHE)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("4", "4.0", C),
        (r"\sin 30^\circ", r"\frac12", C),
        (r"\sin(2x)", r"2\sin x\cos x", C),
        (r"\sin(2x)", r"2\sin x", I),
        (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2", C),
        (r"\log_2 3", r"\frac{\ln 3}{\ln 2}", C),
        (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}", C),
        (r"e^{i\pi}", "-1", C),
        ("2^{n+1}", r"2\cdot2^n", C),
        (r"\sin x\cdot 2", r"\sin 2x", I),
        (r"\sin x\cdot 2", r"2\sin x", C),
        # Math-Verify calls these equal, since they agree to six decimals.
        (r"\sin(10^{-9})", r"\sin(10^{-8})", I),
        (r"\frac{1}{200!\ln 2}", r"\frac{1}{199!\ln 2}", I),
    ],
)
def test_what_the_fast_path_leaves_open_is_computed(
    grader: MathGrader, answer: str, gold: str, verdict: Verdict
) -> None:
    found = grader.grade_now(answer, gold)
    assert found.verdict is verdict, found.reason


@pytest.mark.parametrize(
    ("answer", "gold"),
    [(r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"), (r"\frac{1}{200!}", r"\frac{1}{201!}")],
)
def test_what_math_verify_calls_equal_after_rounding_is_not(answer: str, gold: str) -> None:
    assert bool(verify(parse(f"${gold}$"), parse(f"${answer}$")))
    assert judge(answer, gold)[0] == "incorrect"


def test_the_grader_has_a_version_in_its_name() -> None:
    assert MathGrader.name == "math/2"
    assert "sympy" in MathGrader.version()
    assert "math-verify" in MathGrader.version()


def test_a_batch_grades_each_pair_once_and_keeps_the_order(grader: MathGrader) -> None:
    pairs = [("1", "1.0"), (r"\tan 45^\circ", "1"), ("2", "1"), (r"\tan 45^\circ", "1")] * 500
    outcome = asyncio.run(grader.grade_all(pairs))
    assert [item.verdict for item in outcome[:4]] == [C, C, I, C]
    assert outcome == outcome[:4] * 500


def test_the_event_loop_goes_on_while_a_worker_computes(grader: MathGrader) -> None:
    async def watch() -> int:
        task = asyncio.ensure_future(grader.grade(r"\cos(4x)+\cos(2x)", r"2\cos(3x)\cos(x)"))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert (await task).verdict is C
        return turns

    assert asyncio.run(watch()) > 5


def test_any_thread_may_grade(grader: MathGrader) -> None:
    found: dict[int, Grade] = {}

    def work(index: int) -> None:
        found[index] = grader.grade_now(f"\\sin({index}x)", f"-\\sin(-{index}x)")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item.verdict for item in found.values()} == {C}
    assert len(found) == 8


def test_an_endless_comparison_costs_its_worker_and_nobody_else() -> None:
    grader = MathGrader(limits=WorkerLimits(seconds=4, workers=2), cache=NO_CACHE)
    try:
        assert grader.grade_now(r"\tan 45^\circ", "1").verdict is C

        async def beside() -> tuple[Grade, list[bool]]:
            endless = asyncio.ensure_future(grader.grade(ENDLESS, "\\ln 7"))
            # Let it take its worker first.
            await asyncio.sleep(0)
            graded_before: list[bool] = []
            for index in range(3, 9):
                grade = await grader.grade(f"\\sin({index}x)", f"-\\sin(-{index}x)")
                assert grade.verdict is C, grade
                graded_before.append(not endless.done())
            return await endless, graded_before

        grade, graded_before = asyncio.run(beside())
        assert grade.verdict is U
        assert "no answer in 4 s" in grade.reason
        # The other worker was free all the time; a queue behind the endless one would have waited for its end.
        assert graded_before[0]
        assert grader._workers is not None
        assert grader._workers.killed == 1
        assert grader.grade_now(r"\cos 60^\circ", r"\frac12").verdict is C
    finally:
        grader.close()


def test_a_worker_or_a_server_that_is_killed_is_replaced() -> None:
    workers = symbolic_workers(WorkerLimits(seconds=20, workers=1))
    try:
        assert workers.submit(r"\tan 45^\circ", "1").result().verdict is C
        assert workers._server is not None
        server = workers._server._process.pid
        os.killpg(server, signal.SIGKILL)
        workers._server._process.wait()
        assert workers.submit(r"\sin 90^\circ", "1").result().verdict is C
        assert workers._server._process.pid != server
        worker = subprocess.run(["ps", "-o", "pid=", "--ppid", str(workers._server._process.pid)], capture_output=True)
        os.kill(int(worker.stdout.split()[0]), signal.SIGKILL)
        time.sleep(0.1)
        first = workers.submit(r"\cos 0^\circ", "1").result()
        assert first.verdict is U
        assert "took its worker down" in first.reason
        assert workers.submit(r"\cos 0^\circ", "1").result().verdict is C
    finally:
        workers.close()


def test_memory_is_bounded_and_its_end_is_a_reason() -> None:
    workers = symbolic_workers(WorkerLimits(seconds=20, memory=1 << 28, workers=1))
    try:
        assert workers.submit(r"\tan 45^\circ", "1").result().verdict is C
        assert workers._server is not None
        (worker,) = workers._server._workers
        limits = Path(f"/proc/{worker._process}/limits").read_text()
        assert re.search(rf"Max address space +{1 << 28} +{1 << 28}", limits)
        found = workers.submit("\\sum_{i=1}^{3} 10^{i \\cdot 10^{8}}", "\\ln 2").result()
        assert found.verdict is U
        assert found.reason
    finally:
        workers.close()


def test_workers_are_replaced_after_their_share_of_tasks() -> None:
    workers = symbolic_workers(WorkerLimits(seconds=20, most_tasks=2, workers=1))
    try:
        for index in range(2, 7):
            assert workers.submit(f"\\sin({index}x)", f"\\sin(x\\cdot {index})").result().verdict is C
    finally:
        workers.close()


def test_no_process_is_left_when_the_parent_dies() -> None:
    script = (
        "from openr_data.grading import MathGrader\n"
        "grader = MathGrader()\n"
        "print(grader.grade_now(r'\\tan 45^\\circ', '1').verdict, grader._workers._server._process.pid, flush=True)\n"
        f"grader._workers.submit({ENDLESS!r}, '9'); import time; time.sleep(0.5)\n"
        "import os; os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENR_CACHE": "off"},
        timeout=60,
    )
    verdict, server = done.stdout.split()
    assert verdict == "correct", done.stderr
    for _ in range(50):
        if (
            subprocess.run(["ps", "-o", "stat=", "-g", server], capture_output=True, text=True).stdout.strip("Z \n")
            == ""
        ):
            return
        time.sleep(0.1)
    raise AssertionError("the server or a worker outlived its parent")


def test_verdicts_are_remembered_on_disk_by_version(tmp_path: Path) -> None:
    pair = (r"\sin(3x)", r"-\sin(-3x)")
    first = MathGrader(cache=GradeCache(tmp_path / "grades.sqlite", "v1"))
    assert first.grade_now(*pair).verdict is C
    first.close()
    again = GradeCache(tmp_path / "grades.sqlite", "v1")
    assert again.get(*pair) == (C, "")
    assert GradeCache(tmp_path / "grades.sqlite", "v2").get(*pair) is None
    second = MathGrader(cache=again)
    assert second.grade_now(*pair).verdict is C
    assert second._workers is not None
    assert second._workers._server is None
    second.close()


@pytest.mark.parametrize("content", [b"not a database", b""])
def test_a_cache_that_cannot_be_used_costs_nothing_but_time(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "grades.sqlite"
    path.write_bytes(content)
    cache = GradeCache(path, "v1")
    cache.put("1", "2", I, "")
    assert cache.get("1", "2") in (None, (I, ""))
    blocked = GradeCache(tmp_path / "grades.sqlite" / "below", "v1")
    blocked.put("1", "2", I, "")
    assert blocked.get("1", "2") is None


def test_without_the_symbolic_path_no_process_is_started() -> None:
    grader = MathGrader(symbolic=False, cache=NO_CACHE)
    assert grader.grade_now(r"\tan 45^\circ", "1").verdict is U
    assert grader._workers is None


def test_a_waiter_that_is_cancelled_spoils_the_pair_for_nobody() -> None:
    grader = MathGrader(limits=WorkerLimits(seconds=1.5, workers=1), cache=NO_CACHE)
    assert grader.grade_now(r"\tan 45^\circ", "1").verdict is C

    async def cancel_one() -> Grade:
        # The only worker is busy, so the pair is still waiting when one of its waiters goes.
        busy = asyncio.ensure_future(grader.grade(ENDLESS, "\\ln 7"))
        first, second = (asyncio.ensure_future(grader.grade(r"\sin 30^\circ", r"\frac12")) for _ in range(2))
        await asyncio.sleep(0.2)
        first.cancel()
        await busy
        return await second

    assert asyncio.run(cancel_one()).verdict is C
    grader.close()


def test_a_comparison_that_was_cut_off_is_tried_again() -> None:
    made = MathGrader(limits=WorkerLimits(seconds=0.0, workers=1), cache=NO_CACHE)
    try:
        cut = made.grade_now(r"\tan 45^\circ", "1")
        assert (cut.verdict, cut.is_final) == (U, False)
        assert made._workers is not None
        object.__setattr__(made._workers.limits, "seconds", 20.0)
        assert made.grade_now(r"\tan 45^\circ", "1").verdict is C
    finally:
        made.close()


def test_where_no_process_can_be_started_that_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    made = MathGrader(cache=NO_CACHE)
    with pytest.raises(OpenRError, match="cannot start a process"):
        made.grade_now(r"\tan 45^\circ", "1")
    assert made.grade_now("1", "1.0").verdict is C
    made.close()


def test_a_forked_child_grades_with_workers_of_its_own(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from openr_data.grading import MathGrader\n"
        "grader = MathGrader()\n"
        "print(grader.grade_now(r'\\tan 45^\\circ', '1').verdict, flush=True)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    print(grader.grade_now(r'\\sin 90^\\circ', '1').verdict, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(grader.grade_now(r'\\cos 0^\\circ', '1').verdict, flush=True)\n"
    )
    environment = {**os.environ, "OPENR_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True,
                          env=environment, timeout=60)  # fmt: skip
    assert done.stdout.split() == ["correct"] * 3, done.stderr


def test_a_program_that_ends_does_not_wait_for_comparisons_that_nobody_reads() -> None:
    script = (
        "import atexit\n"
        "from openr_data.grading.math.grader import symbolic_workers\n"
        "futures = []\n"
        # Registered before the pool: called after the pool has ended.
        "atexit.register(lambda: print(sum(f.done() and f.exception() is None for f in futures), 'graded'))\n"
        "workers = symbolic_workers()\n"
        "for n in range(50): futures.append(workers.submit('\\\\prod_{i=1}^{10^9} i', f'\\\\ln {n}'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # Waiting would give each of the 50 its grade, "no answer in 3 s".
    assert int(done.stdout.split()[0]) < 10


def test_many_open_files_do_not_matter(grader: MathGrader) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = [open(os.devnull) for _ in range(1100)]  # noqa: SIM115
    made = MathGrader(cache=NO_CACHE, limits=WorkerLimits(seconds=20))
    try:
        assert made.grade_now(r"\tan 45^\circ", "1").verdict is C
    finally:
        made.close()
        for file in held:
            file.close()


def test_a_file_of_the_current_folder_is_not_taken_for_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sympy.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    made = MathGrader(cache=NO_CACHE, limits=WorkerLimits(seconds=20))
    assert made.grade_now(r"\tan 45^\circ", "1").verdict is C
    made.close()
