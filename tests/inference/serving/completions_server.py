"""A server of the OpenAI kind for tests: real HTTP, counted words as its model, and faults on demand.

It answers a prompt with words drawn from the prompt and the seed, so that a reply depends on its request alone. What
goes wrong is a list of faults, taken one a request: "429", "500", "cut" (half a body), "reset" (no answer), "slow",
"abort" (what a server that is told to end says of what it has).
"""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


class CompletionsServer:
    """`requests` holds the bodies of all requests that were answered, `paths` where they went.

    `card` is what it says of its model beside name, folder and owner; `reports` goes into every choice.
    """

    def __init__(
        self, *, model: str = "m", owner: str = "", port: int = 0, has_logprobs: bool = True, most_n: int = 1_000
    ) -> None:
        self.model, self.owner, self.has_logprobs, self.most_n = model, owner, has_logprobs, most_n
        self.faults: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.card: dict[str, Any] = {}
        self.reports: dict[str, Any] = {}
        self.seconds = 0.0
        self.under_way = self.most_under_way = self.cancelled = 0
        self.most_at_once = 10_000
        self.key = self.poison = ""
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """Die: no new connections, and those that are open are cut."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        with self.lock:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a real server answers: `n` choices, the tokens of each, the usage."""
        choices = []
        for index in range(min(body["n"], self.most_n)):
            digest = hashlib.blake2b(f"{body['prompt']}|{body['seed']}|{index}".encode()).digest()
            if body["temperature"] == 0:
                digest = hashlib.blake2b(str(body["prompt"]).encode()).digest()
            words = [WORDS[byte % 8] for byte in digest[: 3 + digest[-1] % 5]][: body["max_tokens"]]
            cut = len(words) == body["max_tokens"]
            logprobs = {"token_logprobs": [-0.5] * len(words)} if self.has_logprobs and "logprobs" in body else None
            reason = "length" if cut else "stop"
            choice = {"index": index, "text": " ".join(words), "finish_reason": reason, "logprobs": logprobs}
            choices.append(choice | self.reports)
        total = sum(len(choice["text"].split()) for choice in choices)
        usage = {"prompt_tokens": len(str(body["prompt"]).split()), "completion_tokens": total}
        return {"choices": choices[::-1], "usage": usage}


@contextmanager
def serving(**options: Any) -> Iterator[CompletionsServer]:
    server = CompletionsServer(**options)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    owner: CompletionsServer
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        with self.server.owner.lock:
            self.server.owner.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.owner.lock:
            self.server.owner.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        owner = self.server.owner
        if owner.key and self.headers.get("Authorization") != f"Bearer {owner.key}":
            self._send(401, {"error": {"message": "no key"}})
        elif self.path == "/v1/models":
            told = {"id": owner.model, "root": "/models/m", "owned_by": owner.owner, **owner.card}
            self._send(200, {"data": [told]})
        else:
            self._send(404, {"error": {"message": "nothing here"}})

    def do_POST(self) -> None:
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with owner.lock:
            fault = owner.faults.pop(0) if owner.faults else ""
            owner.under_way += 1
            owner.most_under_way = max(owner.most_under_way, owner.under_way)
            if owner.poison and owner.poison in body["prompt"]:
                fault = "reset"
            if owner.under_way > owner.most_at_once:
                fault = fault or "429"
        try:
            self._answer(owner, body, fault)
        finally:
            with owner.lock:
                owner.under_way -= 1

    def _answer(self, owner: CompletionsServer, body: dict[str, Any], fault: str) -> None:
        if fault.isdigit():
            self._send(int(fault), {"error": {"message": "try later" if fault == "429" else "not this"}})
            return
        if fault == "reset":
            self.close_connection = True
            self.connection.close()
            return
        if fault == "slow":
            time.sleep(0.3)
        if owner.seconds and self._left_within(owner.seconds):
            owner.cancelled += 1
            return
        reply = owner.answer(body)
        if fault == "abort":
            for choice in reply["choices"]:
                choice.update(text=choice["text"][:2], finish_reason="abort")
            self._send(200, reply)
            return
        data = json.dumps(reply).encode()
        if fault == "cut":
            self._head(200, len(data))
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        with owner.lock:
            owner.requests.append(body)
            owner.paths.append(self.path)
        self._head(200, len(data))
        self.wfile.write(data)

    def _left_within(self, seconds: float) -> bool:
        """Whether the client hung up while the model was at work."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(None)

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._head(status, len(data))
        self.wfile.write(data)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
