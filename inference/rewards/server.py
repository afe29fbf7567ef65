"""Step scores of a process reward model on running vLLM servers.

Solutions are laid out and tokenised here, and sent as token ids. A causal model (head lm_pair) is served as any other
(`vllm serve MODEL`), and asked for one token that may be one of two labels, with the log-probabilities of both; token
classifiers (heads classes and scalar) with `--runner pooling`. What is asked for and remembered: `step_requests.py`.

Requests of one question go to one server, whose prefix cache has its steps, unless that server has much more to do than
others. A server that was started with `--enable-prompt-tokens-details` reports what it had in its cache; without it
`tokens_read` counts whole prompts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from openr_data.errors import PolicyLost
from openr_data.models import model_entry

from ..serving.model_files import positions
from ..serving.served_model import DEFAULT_URL, is_whole, served_model
from ..serving.server_pool import OwnServers
from .reader import load_files
from .requested_reward import RequestedReward

MASKED: Final = -9999.0
"""The log-probability that vLLM reports for a token that must not be sampled: JSON has no infinity."""
_ADVICE: Final = "Use vLLM 0.32 or later, or the backend transformers."


class RewardServer(RequestedReward[OwnServers]):
    """A `RewardModel` over running servers of one model, named by `base_url`; close it after use.

    `tokenizer` is the folder or Hub name with the model's tokenizer and config, if the servers use another name.
    `max_requests` bounds the requests under way at each server, `patience` the seconds without any reply before they
    count as lost. The key is read from `OPENAI_API_KEY`. Raises `InputError` where no server answers or it serves
    another model, and for a model whose format is not known or that has another head than its format says.
    """

    live_options: ClassVar[tuple[str, ...]] = ("base_url", "format", "max_requests", "tokenizer")

    def __init__(
        self,
        model: str,
        *,
        base_url: Sequence[str] = (DEFAULT_URL,),
        max_requests: int = 256,
        patience: float = 600.0,
        timeout: float = 900.0,
        tokenizer: str = "",
        format: str = "",
        reuse: bool = True,
    ) -> None:
        entry = model_entry(tokenizer or model)
        hint = (
            ""
            if tokenizer
            else " If the server uses another name, give its files with --tokenizer (--reward-tokenizer)."
        )
        files = load_files(tokenizer or model, entry, format, hint)
        self._served = served_model(model, entry.path, base_url, "as the model")
        is_pair = files.form.head == "lm_pair"
        room = self._served.positions or positions(files.config)
        # The answered token needs room, too.
        room = room - is_pair if room else None
        reader = files.reader(model, entry.revision[:12] or "served", room)
        own = OwnServers(
            "reward model", reader.name, self._served, max_requests=max_requests, patience=patience, timeout=timeout
        )
        super().__init__(reader, own, reuse=reuse)

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return self._own.servers.retries

    @property
    def requests_under_way(self) -> int:
        """Requests that the servers work on now."""
        return self._own.servers.in_flight

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes after `ids`, greedily, and whether it came to its `end`."""
        body = {
            "model": self._served.name,
            "prompt": list(ids),
            "max_tokens": most,
            "temperature": 0,
            "top_p": 1,
            **self._served.plainly,
            "stop_token_ids": [end],
        }
        reply = await self._own.call(lambda: self._own.servers.post("completions", body, is_whole, near))
        choice = (reply.get("choices") or [{}])[0]
        return str(choice.get("text") or ""), choice.get("finish_reason") == "stop"

    async def pair(self, ids: Sequence[int], good: int, bad: int, near: str) -> tuple[float, float, int]:
        """The log-probabilities of two tokens, and how many tokens were read for them."""
        body = {
            "model": self._served.name,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "top_p": 1,
            **self._served.plainly,
            "allowed_token_ids": [good, bad],
            "logprobs": 2,
            # Log-probabilities of the best two, from before the masking, are seldom those of the labels.
            "logprob_token_ids": [good, bad],
            "return_tokens_as_token_ids": True,
        }
        reply = await self._own.servers.post("completions", body, is_whole, near)
        first, second = self._labels(reply, good, bad)
        return first, second, len(ids) - _cached(reply)

    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]:
        """The probabilities of the classes at each token: a server reads all of them each time."""
        body = {
            "model": self._served.name,
            "input": list(ids),
            "task": "token_classify",
            "use_activation": True,
            "encoding_format": "float",
        }
        # Pooling is vLLM's own, beside the routes of OpenAI.
        try:
            reply = await self._own.servers.post("../pooling", body, near=near)
        except PolicyLost as error:
            if "(404" not in str(error):
                raise
            raise PolicyLost(
                f"{error} A token classifier is served with: vllm serve {self._served.name} --runner pooling"
            ) from error
        data = reply.get("data") or [{}]
        return 0, data[0].get("data") or [], len(ids)

    def _labels(self, reply: Mapping[str, Any], good: int, bad: int) -> tuple[float, float]:
        """The log-probabilities of the labels. Raises `PolicyLost`: a server that cannot give them never can."""
        logprobs = ((reply.get("choices") or [{}])[0]).get("logprobs") or {}
        sampled = (logprobs.get("tokens") or [""])[0]
        best = (logprobs.get("top_logprobs") or [{}])[0] or {}
        names = [f"token_id:{good}", f"token_id:{bad}"]
        if not best:
            raise self._cannot("returns no log-probabilities.")
        if not str(sampled).startswith("token_id:"):
            raise self._cannot(f"names tokens not by their ids but as {sampled!r}: it is not a vLLM.")
        if sampled not in names:
            raise self._cannot(f"ignores `allowed_token_ids`: it answers {sampled}, expected {good} or {bad}.")
        for name in names:
            if not isinstance(best.get(name), (int, float)) or best[name] <= MASKED:
                raise self._cannot(
                    f"does not return the log-probability of {name}, one of the two labels. Start it with "
                    "--logprobs-mode processed_logprobs."
                )
        return float(best[names[0]]), float(best[names[1]])

    def _cannot(self, what: str) -> PolicyLost:
        return PolicyLost(f"The server of {self.name} {what} {_ADVICE}")


def _cached(reply: Mapping[str, Any]) -> int:
    """How many tokens of the prompt the server had in its cache; 0 where it does not report that."""
    usage = reply.get("usage") or {}
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
