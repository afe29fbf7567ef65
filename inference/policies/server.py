"""A policy on any server that speaks the OpenAI completions API: vllm serve, SGLang, llama.cpp, hosted ones.

A prefix is sent as text (template "plain") or, where a chat template writes it, as token ids made here with the model's
own tokenizer: the assistant's turn then goes on where the steps end, whatever the server's chat endpoint makes of a
prefill. The n samples of a prefix are one request. A server that does not take `n`, or does not report the tokens of
each sample, is asked for one sample at a time. Cancelling a request closes its connection, which frees its place.

vLLM reports which stop string ended a sample (`stop_reason`), and so does SGLang (`matched_stop`). Where a server
reports neither, the end of a sample is the model's own if the request had no stop string, and else counts as a stop
string. A search that samples step by step needs a server that reports it: on another one it continues after the end.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from openr_data.errors import InputError, MissingDependency, PolicyError, PolicyLost
from openr_data.ids import derive_seed
from openr_data.models import check_template, encode, model_entry, prompt_hash, render, stop_strings
from openr_data.steps import split_steps
from openr_data.types import Completion, Ended, Prefix, Sampling

from ..serving.served_model import DEFAULT_URL, is_whole, served_model
from ..serving.server_pool import OwnServers
from .ending import ended_by

SEEDS: Final = 2**31
"""Servers take seeds below this."""

_OWN_END: Final = ("eos", "eos_token")
"""What some servers call the end token; "stop" is that or a stop string."""
_REASONS: Final = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang report the stop string that ended a sample."""


class OpenAIServer:
    """A `Policy` over running servers of one model, named by `base_url`; close it after use.

    `max_requests` bounds the requests under way at each server, `patience` the seconds without any reply before they
    count as lost. The key is read from `OPENAI_API_KEY`. Raises `InputError` where no server answers or it serves
    another model.
    """

    live_options: ClassVar[tuple[str, ...]] = ("base_url", "max_requests")

    def __init__(
        self,
        model: str,
        *,
        base_url: Sequence[str] = (DEFAULT_URL,),
        max_requests: int = 256,
        patience: float = 600.0,
        timeout: float = 900.0,
    ) -> None:
        self.entry = model_entry(model)
        self._served = served_model(model, self.entry.path, base_url, "with --policy")
        self._name = f"{model}@{self.entry.revision[:12] or 'served'}.{prompt_hash(self.entry)}"
        self._tokenizer = None if self.entry.template == "plain" else _tokenizer(self.entry.path, self.entry.revision)
        if self._tokenizer is not None:
            check_template(self.entry, self._tokenizer)
        self._reports_tokens = True
        self._own = OwnServers(
            "policy", self._name, self._served, max_requests=max_requests, patience=patience, timeout=timeout
        )
        self._servers = self._own.servers

    @property
    def name(self) -> str:
        return self._name

    @property
    def separator(self) -> str:
        return self.entry.separator

    @property
    def room(self) -> int | None:
        return None

    @property
    def places(self) -> int | None:
        return self._servers.places

    @property
    def gpus(self) -> int:
        return 0

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return self._servers.retries

    @property
    def requests_under_way(self) -> int:
        """Requests that the servers work on now."""
        return self._servers.in_flight

    def steps_of(self, text: str) -> tuple[str, ...]:
        return split_steps(text, self.entry.separator)

    async def sample(self, prefix: Prefix, n: int, sampling: Sampling) -> Sequence[Completion]:
        """n samples of one prefix. Raises `PolicyError` for a request that is refused, `PolicyLost` without servers."""
        if n == 0:
            return ()
        return await self._own.call(lambda: self._answer(prefix, n, sampling))

    def close(self) -> None:
        """Close the connections; requests under way fail with `PolicyLost`."""
        self._own.close()

    def _prompt(self, prefix: Prefix) -> str | list[int]:
        if self._tokenizer is None:
            # Plain text is written without a tokenizer, and the server adds the special tokens.
            return render(prefix, self.entry, _NO_TEMPLATE)
        return encode(prefix, self.entry, self._tokenizer)

    async def _answer(self, prefix: Prefix, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        prompt = self._prompt(prefix)
        if not sampling.temperature:
            # Greedy samples are all the same, and some servers refuse to draw several.
            (reply,) = await self._ask_each(prompt, 1, sampling)
            return (reply,) * n
        return await self._ask_each(prompt, n, sampling)

    async def _ask_each(self, prompt: Any, n: int, sampling: Sampling) -> tuple[Completion, ...]:
        if self._reports_tokens or n == 1:
            replies = await self._ask(prompt, n, sampling, sampling.seed)
            if replies is not None:
                return replies
            self._reports_tokens = False
        seeds = [sampling.seed if n == 1 else derive_seed(sampling.seed, index) for index in range(n)]
        singles = await asyncio.gather(*(self._ask(prompt, 1, sampling, seed) for seed in seeds))
        if any(single is None for single in singles):
            raise PolicyError(
                f"The server of {self._name} reports neither `logprobs` nor `usage`: the tokens of a reply cannot be "
                "counted. Use a server that reports one of them."
            )
        return tuple(item for single in singles if single for item in single)

    async def _ask(self, prompt: Any, n: int, sampling: Sampling, seed: int) -> tuple[Completion, ...] | None:
        """The n samples of one request, or None where the server does not give n, or not their tokens."""
        body: dict[str, Any] = {
            "model": self._served.name,
            "prompt": prompt,
            "n": n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Sample i of a request gets the seed plus i on some servers: seeds near each other would share samples.
            "seed": derive_seed(seed) % SEEDS,
            **self._served.plainly,
        }
        if self._reports_tokens:
            body["logprobs"] = 1
        stop = stop_strings(self.entry, sampling.stop)
        if stop:
            body["stop"] = list(stop)
        try:
            reply = await self._servers.post("completions", body, is_whole)
        except PolicyLost:
            raise
        except PolicyError as error:
            # A server without log-probabilities or without n says so in its own words; asked simply, it may answer.
            if self._reports_tokens and ("logprob" in str(error).lower() or (n > 1 and "`n`" in str(error))):
                return None
            raise
        usage = reply.get("usage") or {}
        choices = sorted(reply.get("choices") or (), key=lambda choice: choice.get("index", 0))
        counts = [_tokens(choice, usage if n == 1 else {}) for choice in choices]
        if len(choices) != n or any(count is None for count in counts):
            return None
        details = usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens")
        is_own = sampling.temperature in (0, 1) and sampling.top_p == 1
        return tuple(
            Completion(
                text=str(choice.get("text") or ""),
                n_tokens=count or 0,
                ended=_ended(choice, self.entry.stop, sampling.stop),
                # Servers report the model's own distribution, not one that temperature or top_p have changed.
                logprob=_logprob(choice) if is_own else None,
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                cached_tokens=None if cached is None else int(cached),
            )
            for choice, count in zip(choices, counts, strict=True)
        )


class _NoTemplate:
    """A tokenizer for text that needs none."""

    chat_template = None

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        raise NotImplementedError


_NO_TEMPLATE: Final = _NoTemplate()


def _tokens(choice: dict[str, Any], usage: dict[str, Any]) -> int | None:
    """How many tokens were sampled: those whose log-probabilities came, else the usage of a single sample."""
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    if logprobs is not None:
        return len(logprobs)
    count = usage.get("completion_tokens")
    return None if count is None else int(count)


def _ended(choice: dict[str, Any], own: Sequence[str], asked: Sequence[str]) -> Ended:
    """Why a sample ended, with the stop strings of the model's entry and those of the request."""
    finish = str(choice.get("finish_reason"))
    if finish == "length":
        return "length"
    if finish in _OWN_END:
        return "end"
    if finish not in ("stop", "stop_sequence"):
        return "abort"
    for name in _REASONS:
        if name in choice:
            stop = choice[name]
            # A token id is that of an end token.
            return ended_by(stop, own) if isinstance(stop, str) else "end"
    # Without a report the own end is sure only where the request had no stop string. Taken for a stop string, a
    # finished solution costs one more request; taken for the end, an unfinished one would be lost.
    return "stop" if set(asked) - set(own) else "end"


def _logprob(choice: dict[str, Any]) -> float | None:
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    return sum(logprobs) if logprobs is not None and None not in logprobs else None


def _tokenizer(path: str, revision: str) -> Any:
    """The model's tokenizer, which writes its chat template."""
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "The chat template of the model needs the package 'transformers', which is not installed. "
            "Install it with: pip install 'openr-data[models]'"
        ) from error
    try:
        return AutoTokenizer.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the tokenizer of {path!r}, which its chat template needs: "
            f"{str(error).strip().splitlines()[0]} Name the model as the Hub does, or a folder that has its tokenizer."
        ) from error
