"""Workers for the symbolic path: warm, bounded in time and memory, replaceable at any moment.

sympy may loop for hours, eat all memory, or abort the interpreter (gmpy2 on `20!!!`). So it runs in processes that
are watched from here: an answer that is not there after `seconds` of wall clock costs its worker, which is killed and
replaced in some 30 milliseconds by a fork of a warm server; memory is bounded by the address space; a worker is
replaced after `most_tasks` answers, since sympy's caches grow. One thread a worker waits for it, so nothing blocks the
caller: `submit` works from any thread, and its future can be awaited inside an event loop. The threads are daemons: a
program that ends does not wait for comparisons that nobody reads.
"""

import atexit
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ..errors import OpenRError
from ..types import Verdict
from .cache import GradeCache
from .math.equivalence import Comparison

START_SECONDS: Final = 60.0
"""How long the server may take to import sympy on a busy machine."""


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
    future: "Future[Comparison]"


class Workers:
    """A pool of symbolic workers, started when first used; close it, or leave that to the end of the process."""

    def __init__(self, limits: WorkerLimits | None = None, cache: GradeCache | None = None) -> None:
        self.limits, self._cache = limits or WorkerLimits(), cache or GradeCache(None, "")
        self.killed = 0
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._closed = False
        for index in range(self.limits.workers):
            name = f"grading-{index}"
            threading.Thread(target=_serve, args=(weakref.ref(self), self._tasks), name=name, daemon=True).start()
        atexit.register(_close, weakref.ref(self))

    def submit(self, answer: str, gold: str) -> "Future[Comparison]":
        """Compare in a worker. A comparison that was cut off is not final: another try may end.

        The future raises `OpenRError` where no worker can be had at all.
        """
        future: Future[Comparison] = Future()
        if self._closed:
            future.set_exception(OpenRError("The grader is closed."))
        else:
            self._tasks.put(_Task(answer, gold, future))
        return future

    def close(self) -> None:
        """End the server and all workers; what is still waiting fails."""
        self._closed = True
        for _ in range(self.limits.workers):
            self._tasks.put(None)
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def abandon(self) -> None:
        """Let go in a forked child: the server and its workers are the parent's."""
        self._closed = True
        if self._server is not None:
            self._server.abandon()

    def run(self, task: _Task, worker: "_Worker | None") -> "_Worker | None":
        """Do one task with this thread's worker (or a new one); return the worker to go on with."""
        if not task.future.set_running_or_notify_cancel():
            return worker
        try:
            known = self._cache.get(task.answer, task.gold)
            if known is not None:
                found = Comparison(*known)
            else:
                found, worker = self._compare(task, worker)
                if found.is_final:
                    self._cache.put(task.answer, task.gold, found.verdict, found.reason)
        except BaseException as error:
            task.future.set_exception(error)
        else:
            task.future.set_result(found)
        return worker

    def _compare(self, task: _Task, worker: "_Worker | None") -> tuple[Comparison, "_Worker | None"]:
        reason = ""
        for _ in range(2):
            worker = self._worker(worker)
            finding = worker.ask(task.answer, task.gold, self.limits.seconds)
            if finding is not None:
                worker.tasks += 1
                verdict, reason, is_final = finding
                if worker.tasks >= self.limits.most_tasks:
                    worker.kill()
                    worker = None
                return Comparison(Verdict(verdict), reason, is_final), worker
            reason = worker.reason
            served = self._is_served(worker)
            worker.kill()
            worker = None
            if served:
                self.killed += 1
                break
            # It went down with its server, for no fault of this pair: once more with a new one.
        return Comparison(Verdict.UNKNOWN, reason, is_final=False), None

    def _worker(self, worker: "_Worker | None") -> "_Worker":
        if worker is not None and worker.server is self._server:
            return worker
        with self._lock:
            if self._closed:
                raise OpenRError("The grader is closed.")
            if self._server is None or not self._server.is_alive():
                if self._server is not None:
                    self._server.close()
                self._server = _Server()
            return self._server.fork(self.limits.memory)

    def _is_served(self, worker: "_Worker") -> bool:
        with self._lock:
            return self._server is worker.server and worker.server.is_alive()

    def __del__(self) -> None:
        _close(weakref.ref(self))


def _serve(pool: "weakref.ref[Workers]", tasks: "queue.SimpleQueue[_Task | None]") -> None:
    """The life of one thread; it does not keep the pool alive while it waits."""
    worker: _Worker | None = None
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


class _Server:
    """The process that forks workers. Raises `OpenRError` where it does not start."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        paths = os.pathsep.join(item or os.getcwd() for item in sys.path)
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
        # -P: a file of the current folder is not taken for a library.
        command = [sys.executable, "-P", "-m", "openr_data.grading.math.worker", str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            self._control.close()
            raise OpenRError(f"The symbolic grader cannot start a process: {error}. Use --grader numeric.") from error
        finally:
            theirs.close()
        self._workers: set[_Worker] = set()
        self._control.settimeout(START_SECONDS)
        if self._line() != "ready":
            self.close()
            raise OpenRError(
                "The symbolic grader did not start: its process ended before it was ready. Check the installation "
                "with: openr-data doctor"
            )

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def fork(self, memory: int) -> "_Worker":
        """A new warm worker. Raises `OpenRError` where the server is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"%d" % memory], [theirs.fileno()])
                process = self._line()
            except OSError:
                process = ""
        if not process:
            ours.close()
            self.close()
            raise OpenRError("The server of the symbolic grader is gone. Run the same command again.")
        worker = _Worker(self, int(process), ours)
        self._workers.add(worker)
        return worker

    def forget(self, worker: "_Worker") -> None:
        """A worker that has ended."""
        self._workers.discard(worker)

    def close(self) -> None:
        """End it; it takes its workers along."""
        self.abandon()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def abandon(self) -> None:
        """Close our ends of all sockets."""
        self._control.close()
        for worker in list(self._workers):
            worker.hang_up()

    def _line(self) -> str:
        found = b""
        try:
            while not found.endswith(b"\n"):
                piece = self._control.recv(64)
                if not piece:
                    return ""
                found += piece
        except TimeoutError:
            return ""
        return found.decode().strip()


class _Worker:
    """One worker process, spoken to by one thread."""

    def __init__(self, server: _Server, process: int, channel: socket.socket) -> None:
        self.server, self.tasks, self.reason, self.dead = server, 0, "", False
        self._process, self._channel = process, channel
        self._channel.setblocking(False)

    def ask(self, answer: str, gold: str, seconds: float) -> tuple[str, str, bool] | None:
        """The finding of the worker, or None (and `reason`) where there is none in time."""
        deadline = time.monotonic() + seconds
        found = b""
        try:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            self._channel.sendall(json.dumps([answer, gold]).encode() + b"\n")
            while not found.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    self.reason = f"no answer in {seconds:g} s"
                    return None
                piece = self._channel.recv(65_536)
                if not piece:
                    raise ConnectionResetError
                found += piece
        except (OSError, ValueError):
            # A ValueError is a channel that was closed while we waited.
            self.reason, self.dead = "the comparison took its worker down", True
            return None
        verdict, reason, is_final = json.loads(found)
        return verdict, reason, is_final

    def kill(self) -> None:
        """End it now. One that is dead already has given its number back: nobody is killed for it."""
        if not self.dead:
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
        self.hang_up()
        self.server.forget(self)

    def hang_up(self) -> None:
        """Close the channel; whoever waits on it is told that the worker is gone."""
        self._channel.close()
