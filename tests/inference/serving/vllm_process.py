"""A real vLLM server for tests, in the environment that `make test-vllm` makes; it can be killed and started again."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

POLICY = Path(__file__).parents[3] / "catalogs" / "arithmetic" / "policy"
READY = 400.0


class VllmProcess:
    """`vllm serve` of a model (the arithmetic policy) on a port that stays the same over deaths."""

    def __init__(
        self, python: str, log: Path, model: Path = POLICY, name: str = "arithmetic", options: Sequence[str] = ()
    ) -> None:
        self._python, self._log = python, log
        self._model, self._name, self._options = model, name, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, wait: bool = True) -> None:
        # A prompt that is read in chunks crashes seeded sampling in this CPU build.
        options = ("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill",
                   # What many models bring: a default of the server that a job must not sample from.
                   "--override-generation-config", '{"top_k": 1, "repetition_penalty": 1.5}')  # fmt: skip
        command = [self._python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._model)]
        command += [*options, *self._options]
        command += ["--served-model-name", self._name, "--port", str(self.port), "--host", "127.0.0.1"]
        quiet = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + READY
        while wait and not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"vLLM did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/models", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """kill -9 of the server and its engine."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def running(self) -> int:
        """Requests that the engine works on, as it tells itself."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10.0).text
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))
