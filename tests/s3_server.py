"""A local S3 in a process of its own; prints its address and ends when its stdin closes.

In the process of the tests it would hang: some calls of delta-rs hold the interpreter while they wait for it.
"""

import logging
import sys
import threading
from typing import Any

from moto.moto_server import threaded_moto_server as moto_threads
from moto.server import ThreadedMotoServer


class OneWriteAtATime(moto_threads.DomainDispatcherApplication):  # type: ignore[misc]
    """moto looks for a key and then writes it: one write at a time makes a conditional put what it is on S3."""

    writing = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return super().__call__(environ, start_response)
        with self.writing:
            return super().__call__(environ, start_response)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto_threads.DomainDispatcherApplication = OneWriteAtATime
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    sys.stdout.write("http://{}:{}\n".format(*server.get_host_and_port()))
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()
