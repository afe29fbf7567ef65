"""The child's side of `fork_server.py`, for a grader written in Python: a server that forks warm workers.

A domain writes a module that calls `main` and passes the module's name to `WorkerCommand.module`:

    if __name__ == "__main__":
        main(judge, warm_up)

`warm_up` imports once what `judge` needs. The server has one thread, so forking is safe; it leads a process group of
its own, so a Ctrl-C of the terminal does not reach it.

`multiprocessing`'s forkserver is not used because it imports the user's main module again in every worker: a
script without `if __name__ == "__main__"` would run twice.
"""

import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from ..types import Grade, Verdict

Judge = Callable[[str, str], Grade]
"""Compares an answer with a gold answer; it may raise, hang, or take the process down."""


def main(judge: Judge, warm_up: Callable[[], None] = lambda: None, failure: str = "the grader failed") -> None:
    """Serve until the parent is gone, then end all workers. `failure` is the reason of a comparison that raised."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, EOFError):
        _serve(socket.socket(fileno=int(sys.argv[-1])), judge, warm_up, failure)
    os.killpg(0, signal.SIGKILL)


def _serve(control: socket.socket, judge: Judge, warm_up: Callable[[], None], failure: str) -> None:
    """Fork a worker for each socket that arrives."""
    warm_up()
    # The kernel reaps workers that end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.sendall(b"ready\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not descriptors:
            break
        process = os.fork()
        if not process:
            control.close()
            _work(socket.socket(fileno=descriptors[0]), int(message), judge, failure)
        os.close(descriptors[0])
        control.sendall(b"%d\n" % process)


def _work(channel: socket.socket, memory: int, judge: Judge, failure: str) -> None:
    """Grade pairs until the channel is closed; never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), channel, channel.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            answer, gold = json.loads(line)
            grade = _judged(judge, answer, gold, failure)
            lines.write(json.dumps([grade.verdict.value, grade.reason, grade.is_final]) + "\n")
            lines.flush()
    os._exit(0)


def _judged(judge: Judge, answer: str, gold: str, failure: str) -> Grade:
    try:
        return judge(answer, gold)
    except MemoryError:
        return Grade(Verdict.UNKNOWN, "the comparison needs too much memory", is_final=False)
    except RecursionError:
        return Grade(Verdict.UNKNOWN, "nested too deeply")
    except Exception as error:
        # A comparison that raises is not a verdict, and the worker can do the next one.
        return Grade(Verdict.UNKNOWN, f"{failure}: {type(error).__name__}", is_final=False)
