"""Step scores of a process reward model behind running vLLM servers.

Solutions are laid out and tokenised here, and sent as token ids. A causal model (head lm_pair) is served as any other
(`vllm serve MODEL`), and asked for one token that may be one of two labels, with the log-probabilities of both; token
classifiers (heads classes and scalar) with `--runner pooling`. What is asked for and remembered: `step_requests.py`.

Requests of one question go to one server, whose prefix cache has its steps, unless that has much more to do than
others. What a server had in its cache it tells where it was started with `--enable-prompt-tokens-details`; without it
`tokens_read` counts whole prompts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from openr_data.errors import PolicyLost
from openr_data.models import model_entry
from openr_data.reasons import MOST, ReasonedStep
from openr_data.types import StepScores

from ..serving.model_files import positions
from ..serving.served_model import DEFAULT_URL, is_whole, served_model
from ..serving.server_pool import OwnServers
from .reader import RewardReader, load_files
from .reasons import explained
from .step_requests import StepRequests

MASKED: Final = -9999.0
"""What vLLM says of the log-probability of a token that must not be sampled: JSON has no infinity."""
_NOW: Final = "Use the vLLM of now (0.32), or the backend transformers."


class RewardServer:
    """A `RewardModel` over running servers of one model, named by `base_url`; close it after use.

    `tokenizer` is the folder or Hub name with the model's tokenizer and config, where the servers call it otherwise.
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
            "" if tokenizer else " Where a server calls it otherwise, name that with --tokenizer (--reward-tokenizer)."
        )
        files = load_files(tokenizer or model, entry, format, hint)
        self._served = served_model(model, entry.path, base_url, "as the model")
        is_pair = files.form.head == "lm_pair"
        room = self._served.positions or positions(files.config)
        # Where a token has to be answered there has to be room for it.
        room = room - is_pair if room else None
        self._reader: RewardReader = files.reader(model, entry.revision[:12] or "served", room)
        self._own = OwnServers(
            "reward model", self.name, self._served, max_requests=max_requests, patience=patience, timeout=timeout
        )
        self._steps = StepRequests(self._reader, self, reuse=reuse)

    @property
    def name(self) -> str:
        """Model, revision and format."""
        return self._reader.name

    @property
    def threshold(self) -> float:
        """Below it a step counts as wrong."""
        return self._reader.form.threshold

    @property
    def tokens_asked(self) -> int:
        """Tokens of all solutions that were scored."""
        return self._steps.tokens_asked

    @property
    def tokens_read(self) -> int:
        """Tokens that the servers read for them, as far as they tell."""
        return self._steps.tokens_read

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return self._own.servers.retries

    @property
    def requests_under_way(self) -> int:
        """Requests that the servers work on now."""
        return self._own.servers.in_flight

    async def score(self, question: str, steps: Sequence[str]) -> Sequence[float]:
        """P(correct) of every step, `len(scores) == len(steps)`.

        Raises `InputError` for a solution that is empty or longer than the context, `PolicyError` for a request that
        is refused, `PolicyLost` where no server answers any more, none can answer this, or all was closed.
        """
        return (await self.score_steps(question, steps)).scores

    async def score_steps(self, question: str, steps: Sequence[str]) -> StepScores:
        """What `score` returns, with the tokens of this call. Raises what `score` raises."""
        encoded = self._reader.encode(question, steps)
        return await self._own.call(lambda: self._steps.score(question, encoded))

    async def explain(self, question: str, steps: Sequence[str], *, max_tokens: int = MOST) -> tuple[ReasonedStep, ...]:
        """Score, verdict and reason of each step; see `reasons.py`. Raises what `score` raises."""
        return await explained(self, self._reader, question, steps, max_tokens)

    async def write(self, ids: Sequence[int], end: int, most: int, near: str) -> tuple[str, bool]:
        """What the model writes behind `ids`, greedily, and whether it came to its `end`."""
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

    def close(self) -> None:
        """Close the connections; solutions under way fail with `PolicyLost`."""
        self._own.close()

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
            # The best two, told from before the masking, seldom are the labels.
            "logprob_token_ids": [good, bad],
            "return_tokens_as_token_ids": True,
        }
        reply = await self._own.servers.post("completions", body, is_whole, near)
        first, second = self._labels(reply, good, bad)
        return first, second, len(ids) - _cached(reply)

    async def rows(self, ids: Sequence[int], first: int, near: str) -> tuple[int, Any, int]:
        """The probabilities of the classes at each token: served, vLLM reads all of them each time."""
        body = {
            "model": self._served.name,
            "input": list(ids),
            "task": "token_classify",
            "use_activation": True,
            "encoding_format": "float",
        }
        # Pooling is vLLM's own, beside what it has of OpenAI's.
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
        """The log-probabilities of the labels. Raises `PolicyLost`: what a server cannot do it cannot do next time."""
        told = ((reply.get("choices") or [{}])[0]).get("logprobs") or {}
        sampled = (told.get("tokens") or [""])[0]
        found = (told.get("top_logprobs") or [{}])[0] or {}
        names = [f"token_id:{good}", f"token_id:{bad}"]
        if not found:
            raise self._cannot("tells no log-probabilities.")
        if not str(sampled).startswith("token_id:"):
            raise self._cannot(f"tells tokens not by their ids but as {sampled!r}: it is no vLLM.")
        if sampled not in names:
            raise self._cannot(f"ignores `allowed_token_ids`: it says {sampled}, where {good} or {bad} may stand.")
        for name in names:
            if not isinstance(found.get(name), (int, float)) or found[name] <= MASKED:
                raise self._cannot(
                    f"does not tell the log-probability of {name}, one of the two labels. Start it with "
                    "--logprobs-mode processed_logprobs."
                )
        return float(found[names[0]]), float(found[names[1]])

    def _cannot(self, what: str) -> PolicyLost:
        return PolicyLost(f"The server of {self.name} {what} {_NOW}")


def _cached(reply: Mapping[str, Any]) -> int:
    """How many tokens of the prompt the server had in its cache, as far as it tells."""
    usage = reply.get("usage") or {}
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
