"""The backends that one contract is tested on, and how each is opened.

`scripted` has no tokens: what is said of those leaves it out. `openai` speaks to the stand-in server, with the shipped
model behind it; `openai over vllm` to a real server (`OPENR_VLLM_PYTHON` names the Python that has vLLM); `vllm` is
the engine in this process, where vLLM is installed.
"""

import asyncio
import gc
import multiprocessing
import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openr_data.errors import PolicyError
from openr_data.inference.policies.scripted import ScriptedPolicy
from openr_data.inference.policies.server import OpenAIServer
from openr_data.inference.policies.transformers import TransformersPolicy
from openr_data.steps import SEPARATOR
from openr_data.types import Completion, Prefix, Sampling

from ...conftest import four_steps
from ..serving.completions_server import CompletionsServer, _Handler
from ..serving.vllm_process import VllmProcess

MODEL = "arithmetic"
SERVER_PYTHON = os.environ.get("OPENR_VLLM_PYTHON", "")
HANG_UP = 0.02
"""Seconds within which the stand-in server sees that a client is gone."""

QUIET = (
    # vLLM and what it brings warn of each other when they are imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # It leaves its context of ZeroMQ to the garbage collector.
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
)

BACKENDS = [
    pytest.param("scripted"),
    pytest.param("transformers"),
    pytest.param("openai"),
    pytest.param(
        "openai over vllm",
        marks=[pytest.mark.vllm, pytest.mark.skipif(not SERVER_PYTHON, reason="OPENR_VLLM_PYTHON names no Python")],
    ),
    pytest.param("vllm", marks=[pytest.mark.vllm, *QUIET]),
]


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under the contract.

    `under_way` counts the requests it has not ended; `another` opens one more like it; `is_model` says that a real
    model samples tokens.
    """

    name: str
    policy: Any
    under_way: Callable[[], int]
    another: Callable[[], Any]
    is_model: bool = True


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Subject]:
    """The backend of a name at work; logs go to the folder."""
    if name == "scripted":

        def scripted() -> ScriptedPolicy:
            return ScriptedPolicy(four_steps, seconds_per_token=0.001)

        yield Subject(name, scripted(), lambda: 0, scripted, is_model=False)
    elif name == "transformers":
        with closing(transformers_policy()) as policy:
            yield Subject(name, policy, lambda: policy.requests_under_way, transformers_policy)
    elif name == "openai":
        with (
            closing(transformers_policy()) as model,
            closing(ModelServer(model)) as server,
            closing(server_policy(server.url)) as speaker,
        ):
            yield Subject(
                name,
                speaker,
                lambda: speaker.requests_under_way + server.under_way + model.requests_under_way,
                lambda: server_policy(server.url),
            )
    elif name == "openai over vllm":
        process = VllmProcess(SERVER_PYTHON, folder / "server.log")
        try:
            process.start()
            with closing(server_policy(process.url)) as speaker:
                yield Subject(
                    name,
                    speaker,
                    lambda: speaker.requests_under_way + process.running(),
                    lambda: server_policy(process.url),
                )
        finally:
            process.kill()
    else:
        engine = vllm_engine()
        with closing(engine(MODEL)) as here:
            yield Subject(name, here, lambda: here.requests_under_way, lambda: engine(MODEL))
        gc.collect()


def transformers_policy() -> TransformersPolicy:
    return TransformersPolicy(MODEL, device="cpu")


def server_policy(url: str) -> OpenAIServer:
    return OpenAIServer(MODEL, base_url=[url])


def vllm_engine() -> Any:
    """The class of the backend; the test skips where vLLM is missing."""
    pytest.importorskip("vllm")
    from openr_data.inference.policies.vllm import VLLMEngine

    return VLLMEngine


def with_vllm(test: Any) -> Any:
    """A test that needs vLLM in this process."""
    for mark in (pytest.mark.vllm, *QUIET):
        test = mark(test)
    return test


def processes() -> set[int]:
    """The processes of the engines, and those that they started."""
    found: set[int] = set()
    for child in multiprocessing.active_children():
        told = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        found |= {int(child.pid or 0), *map(int, told.read_text().split() if told.exists() else ())}
    return found


def ask(policy: Any, *requests: tuple[Prefix, int, Sampling]) -> list[tuple[Completion, ...]]:
    """The replies to requests that are all sent at once."""

    async def all_at_once() -> Any:
        return await asyncio.gather(*(policy.sample(*request) for request in requests))

    return [tuple(reply) for reply in asyncio.run(all_at_once())]


class ModelServer(CompletionsServer):
    """The stand-in server with a model behind it; a client that hangs up ends its request."""

    def __init__(self, policy: TransformersPolicy) -> None:
        super().__init__(model=MODEL)
        self.policy = policy
        self._server.RequestHandlerClass = _ModelHandler


class _ModelHandler(_Handler):
    def _answer(self, owner: Any, body: dict[str, Any], fault: str) -> None:
        try:
            replies = asyncio.run(self._sample(owner.policy, body))
        except PolicyError as error:
            self._send(400, {"error": {"message": str(error)}})
            return
        if replies is not None:
            self._send(200, _body(replies, body.get("stop", ())))

    async def _sample(self, policy: TransformersPolicy, body: dict[str, Any]) -> Any:
        # A question that holds all of the prompt is written as that prompt.
        prefix = Prefix(body["prompt"].removesuffix(SEPARATOR))
        wanted = {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed")}
        asked = asyncio.ensure_future(
            policy.sample(prefix, body["n"], Sampling(stop=tuple(body.get("stop", ())), **wanted))
        )
        while not asked.done():
            await asyncio.wait({asked}, timeout=HANG_UP)
            if self._hung_up():
                asked.cancel()
                self.close_connection = True
                await asyncio.wait({asked})
                return None
        return asked.result()

    def _hung_up(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""


def _body(replies: tuple[Completion, ...], stop: Sequence[str]) -> dict[str, Any]:
    """What a server answers; the log-probability of a sample is told as that of its first token."""
    choices = [
        {
            "index": index,
            "text": item.text,
            "finish_reason": item.finish_reason,
            # As vLLM reports it: the stop string of the request that ended the sample.
            "stop_reason": stop[0] if item.ended == "stop" else None,
            "logprobs": {"token_logprobs": [item.logprob] + [0.0] * (item.n_tokens - 1)},
        }
        for index, item in enumerate(replies)
    ]
    return {
        "choices": choices,
        "usage": {"prompt_tokens": replies[0].prompt_tokens, "completion_tokens": sum(r.n_tokens for r in replies)},
    }
