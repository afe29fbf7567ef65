"""The parent's side of a fork server: start it, get warm workers from it, exchange lines with them.

The protocol knows no domain. A command speaks it with the number of an inherited stream socket, the control socket, as
its last argument; `forked_worker.py` implements it for Python:

1. The server leads a process group of its own (`setsid`), loads whatever is slow to load, and writes `ready\\n`.
2. To every message on the control socket that carries one descriptor (SCM_RIGHTS) and a decimal number, the bytes of
   address space of a worker, the server forks a worker that owns the descriptor, and writes its process id and `\\n`.
3. A worker reads a JSON line `[answer, gold]` from its descriptor and writes a JSON line `[verdict, reason, is_final]`
   to it: `"correct"`, `"incorrect"` or `"unknown"`, a text, and whether another try would give the same. It goes on
   until the descriptor is closed, and may be killed at any moment.
4. When the control socket is closed, the server ends itself and all its workers, whatever became of the parent.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from ..errors import OpenRError
from ..types import Grade, Verdict

START_SECONDS: Final = 60.0
"""How long a server may take to get ready on a busy machine."""


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """The command of a server, without its last argument. Errors call it `name`; `advice` is what the user may do."""

    arguments: tuple[str, ...]
    name: str = "grader"
    advice: str = ""

    @classmethod
    def module(cls, module: str, name: str = "grader", advice: str = "") -> Self:
        """A Python module that calls `forked_worker.main`."""
        # -P: a file of the current folder is not taken for a library.
        return cls((sys.executable, "-P", "-m", module), name, advice)


class ForkServer:
    """The process that forks workers. Raises `OpenRError` if it does not start."""

    def __init__(self, command: WorkerCommand) -> None:
        self._command = command
        self._control, theirs = socket.socketpair()
        paths = os.pathsep.join(item or os.getcwd() for item in sys.path)
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
        try:
            self._process = subprocess.Popen(
                [*command.arguments, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            self._control.close()
            message = f"The {command.name} cannot start a process: {error}. {command.advice}"
            raise OpenRError(message.rstrip()) from error
        finally:
            theirs.close()
        self._workers: set[WorkerProcess] = set()
        self._control.settimeout(START_SECONDS)
        if self._line() != "ready":
            self.close()
            raise OpenRError(
                f"The {command.name} did not start: its process ended before it was ready. Check the installation "
                "with: openr-data doctor"
            )

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def fork(self, memory: int) -> "WorkerProcess":
        """A new warm worker. Raises `OpenRError` if the server is gone."""
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
            raise OpenRError(f"The server of the {self._command.name} is gone. Run the same command again.")
        worker = WorkerProcess(self, int(process), ours)
        self._workers.add(worker)
        return worker

    def forget(self, worker: "WorkerProcess") -> None:
        """Drop a worker that has ended."""
        self._workers.discard(worker)

    def close(self) -> None:
        """End the server, which ends its workers."""
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
        received = b""
        try:
            while not received.endswith(b"\n"):
                piece = self._control.recv(64)
                if not piece:
                    return ""
                received += piece
        except TimeoutError:
            return ""
        return received.decode().strip()


class WorkerProcess:
    """One worker process, used by one thread. `tasks` counts its comparisons, `reason` says why the last one failed."""

    def __init__(self, server: ForkServer, process: int, channel: socket.socket) -> None:
        self.server, self.tasks, self.reason, self.dead = server, 0, "", False
        self._process, self._channel = process, channel
        self._channel.setblocking(False)

    def ask(self, answer: str, gold: str, seconds: float) -> Grade | None:
        """The worker's grade, or None, and `reason`, if there is none in time."""
        deadline = time.monotonic() + seconds
        received = b""
        try:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            self._channel.sendall(json.dumps([answer, gold]).encode() + b"\n")
            while not received.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    self.reason = f"no answer in {seconds:g} s"
                    return None
                piece = self._channel.recv(65_536)
                if not piece:
                    raise ConnectionResetError
                received += piece
        except (OSError, ValueError):
            # A ValueError is a channel that was closed while we waited.
            self.reason, self.dead = "the comparison took its worker down", True
            return None
        verdict, reason, is_final = json.loads(received)
        return Grade(Verdict(verdict), reason, is_final)

    def kill(self) -> None:
        """End it now. The process id of a dead worker may belong to another process, so it is not signalled."""
        if not self.dead:
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)
        self.hang_up()
        self.server.forget(self)

    def hang_up(self) -> None:
        """Close the channel; a thread that waits on it sees the worker as gone."""
        self._channel.close()
