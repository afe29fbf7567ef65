"""The other side of `workers.py`: a server that forks warm workers, and what a worker does.

    python -m openr_data.grading.math.worker FD

The server imports sympy once, then forks a worker for every socket it is sent over the control socket `FD`; a
worker answers one JSON line with another until its socket is closed. The server has one thread, so forking is
safe; it leads a process group of its own, so a Ctrl-C of the terminal does not reach it, and it ends itself and all
workers when the control socket is closed, whatever became of the parent.

`multiprocessing`'s forkserver is not used because it imports the user's main module again in every worker: a
script without `if __name__ == "__main__"` would run twice.
"""

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any


def serve(control: socket.socket) -> None:
    """Fork a worker for each socket that arrives; end with the parent."""
    from . import symbolic

    symbolic.warm_up()
    # Workers that end are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.sendall(b"ready\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not descriptors:
            break
        process = os.fork()
        if not process:
            control.close()
            work(socket.socket(fileno=descriptors[0]), int(message))
        os.close(descriptors[0])
        control.sendall(b"%d\n" % process)


def work(channel: socket.socket, memory: int) -> None:
    """Answer pairs until the channel is closed; never returns."""
    from . import symbolic

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), channel, channel.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            answer, gold = json.loads(line)
            lines.write(json.dumps(_judged(symbolic.judge, answer, gold)) + "\n")
            lines.flush()
    os._exit(0)


def _judged(judge: Any, answer: str, gold: str) -> tuple[str, str, bool]:
    """(verdict, reason, whether it is final)."""
    try:
        return (*judge(answer, gold), True)
    except MemoryError:
        return "unknown", "the comparison needs too much memory", False
    except RecursionError:
        return "unknown", "nested too deeply", True
    except Exception as error:
        # Parsers of LaTeX fail in every way there is: that is no verdict, and no reason to die.
        return "unknown", f"the symbolic path failed: {type(error).__name__}", False


def main() -> None:
    """Lead a group, serve, and take the group along at the end."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, EOFError):
        serve(socket.socket(fileno=int(sys.argv[1])))
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
