"""The token policies that one contract is tested on, and how each is opened; `vllm` is the engine in this process."""

import gc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from openr_data.inference.policies.transformers_tokens import TransformersTokens

from .contract import MODEL, QUIET

TOKEN_BACKENDS = [pytest.param("transformers"), pytest.param("vllm", marks=[pytest.mark.vllm, *QUIET])]


@contextmanager
def opened_tokens(name: str) -> Iterator[Any]:
    """The token policy of a name at work on the shipped model, in float32; the test skips where vLLM is missing."""
    if name == "transformers":
        with closing(TransformersTokens(MODEL, device="cpu")) as policy:
            yield policy
        return
    pytest.importorskip("vllm")
    from openr_data.inference.policies.vllm_tokens import VLLMTokens

    with closing(VLLMTokens(MODEL)) as engine:
        yield engine
    # The engine's connections end with the last object that holds it.
    gc.collect()
