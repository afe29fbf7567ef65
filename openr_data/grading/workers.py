"""Worker processes for graders whose comparisons may hang, eat memory or abort the interpreter.

sympy may loop for hours or crash inside gmpy2 (`20!!!`), and code that a model wrote may do anything. Such comparisons
run in processes watched from here. A comparison that exceeds `seconds` of wall clock costs its worker, which is killed
and replaced in some 30 milliseconds by a fork of a warm server (`fork_server.py`); memory is bounded by the address
space; a worker is replaced after `most_tasks` comparisons, because caches grow. This bounds time and memory and is not
a sandbox: a worker may read files and open connections.

One thread per worker waits for it, so nothing blocks the caller: `submit` works from any thread, and its future can be
awaited inside an event loop. The threads are daemons: a program that ends does not wait for comparisons
whose result is not read.
"""

import atexit
import queue
import threading
import weakref
from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import OpenRError
from ..types import Grade, Verdict
from .cache import GradeCache
from .fork_server import ForkServer, WorkerCommand, WorkerProcess


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one comparison may take. `memory` is in bytes of address space."""

    seconds: float = 3.0
    memory: int = 2 << 30
    most_tasks: int = 1_000
    workers: int = 2


@dataclass(frozen=True, slots=True)
class _Task:
    answer: str
    gold: str
    future: "Future[Grade]"


class Workers:
    """A pool of workers of one command, started at the first comparison. `killed` counts workers that were cut off.

    Close it, or leave that to the end of the process.
    """

    def __init__(
        self, command: WorkerCommand, limits: WorkerLimits | None = None, cache: GradeCache | None = None
    ) -> None:
        self.limits, self._cache = limits or WorkerLimits(), cache or GradeCache(None, "")
        self.killed = 0
        self._command = command
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._closed = False
        for index in range(self.limits.workers):
            name = f"grading-{index}"
            threading.Thread(target=_serve, args=(weakref.ref(self), self._tasks), name=name, daemon=True).start()
        atexit.register(_close, weakref.ref(self))

    def submit(self, answer: str, gold: str) -> "Future[Grade]":
        """Compare in a worker. The grade of a comparison that was cut off is not final: another try may end.

        The future raises `OpenRError` if no worker can be started.
        """
        future: Future[Grade] = Future()
        if self._closed:
            future.set_exception(OpenRError("The grader is closed."))
        else:
            self._tasks.put(_Task(answer, gold, future))
        return future

    def close(self) -> None:
        """End the server and all workers; comparisons that still wait fail."""
        self._closed = True
        for _ in range(self.limits.workers):
            self._tasks.put(None)
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def abandon(self) -> None:
        """Let go of the server in a forked child: it and its workers belong to the parent."""
        self._closed = True
        if self._server is not None:
            self._server.abandon()

    def run(self, task: _Task, worker: WorkerProcess | None) -> WorkerProcess | None:
        """Do one task with this thread's worker, or a new one; return the worker for the next task."""
        if not task.future.set_running_or_notify_cancel():
            return worker
        try:
            remembered = self._cache.get(task.answer, task.gold)
            if remembered is not None:
                grade = Grade(*remembered)
            else:
                grade, worker = self._compare(task, worker)
                if grade.is_final:
                    self._cache.put(task.answer, task.gold, grade.verdict, grade.reason)
        except BaseException as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(grade)
        return worker

    def _compare(self, task: _Task, worker: WorkerProcess | None) -> tuple[Grade, WorkerProcess | None]:
        reason = ""
        for _ in range(2):
            worker = self._worker(worker)
            grade = worker.ask(task.answer, task.gold, self.limits.seconds)
            if grade is not None:
                worker.tasks += 1
                if worker.tasks >= self.limits.most_tasks:
                    worker.kill()
                    worker = None
                return grade, worker
            reason = worker.reason
            served = self._is_served(worker)
            worker.kill()
            worker = None
            if served:
                self.killed += 1
                break
            # The worker died with its server, which is not the fault of this pair: try once more with a new server.
        return Grade(Verdict.UNKNOWN, reason, is_final=False), None

    def _worker(self, worker: WorkerProcess | None) -> WorkerProcess:
        if worker is not None and worker.server is self._server:
            return worker
        with self._lock:
            if self._closed:
                raise OpenRError("The grader is closed.")
            if self._server is None or not self._server.is_alive():
                if self._server is not None:
                    self._server.close()
                self._server = ForkServer(self._command)
            return self._server.fork(self.limits.memory)

    def _is_served(self, worker: WorkerProcess) -> bool:
        with self._lock:
            return self._server is worker.server and worker.server.is_alive()

    def __del__(self) -> None:
        _close(weakref.ref(self))


def _serve(pool: "weakref.ref[Workers]", tasks: "queue.SimpleQueue[_Task | None]") -> None:
    """The life of one thread; it does not keep the pool alive while it waits."""
    worker: WorkerProcess | None = None
    while (task := tasks.get()) is not None:
        workers = pool()
        if workers is None or workers._closed:
            task.future.set_exception(OpenRError("The grader is closed."))
        else:
            worker = workers.run(task, worker)
        del workers


def _close(pool: "weakref.ref[Workers]") -> None:
    workers = pool()
    if workers is not None and not workers._closed:
        workers.close()
