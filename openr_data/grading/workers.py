"""Workers for the symbolic path: warm, bounded in time and memory, replaceable at any moment.

sympy may loop for hours, eat all memory, or abort the interpreter (gmpy2 on `20!!!`). So it runs in processes that
are watched from here: an answer that is not there after `seconds` of wall clock costs its worker, which is killed and
replaced in some 30 milliseconds by a fork of a warm server; memory is bounded by the address space; a worker is
replaced after `most_tasks` answers, since sympy's caches grow. One thread a worker waits for it, so nothing blocks the
caller: `submit` works from any thread, and its future can be awaited inside an event loop.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ..errors import OpenRError
from ..types import Verdict
from .cache import GradeCache
from .equivalence import Comparison

START_SECONDS: Final = 60.0
"""How long the server may take to import sympy on a busy machine."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one comparison may take. `memory` is in bytes of address space."""

    seconds: float = 3.0
    memory: int = 2 << 30
    most_tasks: int = 1_000
    workers: int = 2


class Workers:
    """A pool of symbolic workers, started when first used; close it, or leave that to the end of the process."""

    def __init__(self, limits: WorkerLimits | None = None, cache: GradeCache | None = None) -> None:
        self.limits, self._cache = limits or WorkerLimits(), cache or GradeCache(None, "")
        self.killed = 0
        self._executor = ThreadPoolExecutor(self.limits.workers, thread_name_prefix="grading")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._closed = False
        atexit.register(self.close)

    def submit(self, answer: str, gold: str) -> "Future[Comparison]":
        """Compare in a worker; the future never raises but on a pool that is closed.

        A comparison that was cut off is not final: another try may end.
        """
        return self._executor.submit(self._remembered, answer, gold)

    def close(self) -> None:
        """End the server and all workers."""
        with self._lock:
            self._closed = True
            if self._server is not None:
                self._server.close()
                self._server = None
        self._executor.shutdown(wait=False, cancel_futures=True)
        atexit.unregister(self.close)

    def _remembered(self, answer: str, gold: str) -> Comparison:
        known = self._cache.get(answer, gold)
        if known is not None:
            return Comparison(*known)
        found = self._compare(answer, gold)
        if found.is_final:
            self._cache.put(answer, gold, found.verdict, found.reason)
        return found

    def _compare(self, answer: str, gold: str) -> Comparison:
        for _ in range(2):
            try:
                worker = self._worker()
            except (OSError, OpenRError) as error:
                return Comparison(Verdict.UNKNOWN, f"no symbolic worker: {error}", is_final=False)
            finding = worker.ask(answer, gold, self.limits.seconds)
            if finding is None and not self._is_served(worker):
                # It went down with its server, for no fault of this pair: once more with a new one.
                self._drop(worker)
                continue
            worker.tasks += 1
            if finding is None or worker.tasks >= self.limits.most_tasks:
                self._drop(worker)
            if finding is None:
                self.killed += 1
                return Comparison(Verdict.UNKNOWN, worker.reason, is_final=False)
            verdict, reason = finding
            return Comparison(Verdict(verdict), reason)
        return Comparison(Verdict.UNKNOWN, worker.reason, is_final=False)

    def _worker(self) -> "_Worker":
        worker: _Worker | None = getattr(self._local, "worker", None)
        if worker is not None and worker.server is self._server:
            return worker
        with self._lock:
            if self._closed:
                raise OpenRError("the grader is closed.")
            if self._server is None or not self._server.is_alive():
                if self._server is not None:
                    self._server.close()
                self._server = _Server()
            worker = self._server.fork(self.limits.memory)
        self._local.worker = worker
        return worker

    def _is_served(self, worker: "_Worker") -> bool:
        with self._lock:
            return self._server is worker.server and worker.server.is_alive()

    def _drop(self, worker: "_Worker") -> None:
        worker.kill()
        self._local.worker = None


class _Server:
    """The process that forks workers."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        paths = os.pathsep.join(item for item in sys.path if item)
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
        command = [sys.executable, "-m", "openr_data.grading.worker", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        theirs.close()
        self._workers: set[_Worker] = set()
        self._control.settimeout(START_SECONDS)
        if self._line() != "ready":
            self.close()
            raise OpenRError("the server of the symbolic workers did not start.")

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def fork(self, memory: int) -> "_Worker":
        """A new warm worker."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"%d" % memory], [theirs.fileno()])
        process = self._line()
        if not process:
            ours.close()
            raise OpenRError("the server of the symbolic workers is gone.")
        worker = _Worker(self, int(process), ours)
        self._workers.add(worker)
        return worker

    def forget(self, worker: "_Worker") -> None:
        """A worker that has ended."""
        self._workers.discard(worker)

    def close(self) -> None:
        """End it; it takes its workers along."""
        self._control.close()
        for worker in self._workers:
            worker.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

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

    def ask(self, answer: str, gold: str, seconds: float) -> tuple[str, str] | None:
        """The finding of the worker, or None (and `reason`) where there is none in time."""
        deadline = time.monotonic() + seconds
        found = b""
        try:
            self._channel.sendall(json.dumps([answer, gold]).encode() + b"\n")
            while not found.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._channel], [], [], left)[0]:
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
        verdict, reason = json.loads(found)
        return verdict, reason

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
