"""A causal language model on a vLLM engine of this process, for text and for tokens alike.

The engine (`vllm_process.py`) takes token ids and gives whole samples back: one request for the n samples of a prompt,
one message between the threads for each.

Samples are seeded one by one. In float32 a sample so depends on its prompt and its seed but for draws so close that the
order of a sum decides; in half precision its neighbours in the batch can move a token, as on any server.
"""

from typing import Any, Final

from transformers import AutoConfig, AutoTokenizer

from openr_data.errors import InputError
from openr_data.ids import derive_seed
from openr_data.models import ModelEntry, check_template, model_entry, prompt_hash, stop_strings
from openr_data.types import Ended, Sampling

from ..serving.model_files import first_line, place, revision
from ..serving.vllm_process import OwnVLLM, RequestOutputKind, SamplingParams, tokens_input
from .ending import ended_by
from .token_prompt import check_prompt

SEEDS: Final = 2**62
"""Seeds of requests lie below this: vLLM adds the index of a sample, and keeps the sum in 63 bits."""


class VLLMModel:
    """A local or Hub model and its engine; close `own` after use. Options and errors are those of `OwnVLLM`."""

    def __init__(
        self,
        model: str,
        *,
        max_sequences: int | None,
        gpu_memory: float | None,
        tensor_parallel: int,
        **more: Any,
    ) -> None:
        self.entry = model_entry(model)
        self.config, self.tokenizer = _load(self.entry)
        self.name = f"{model}@{revision(self.config, self.entry)}.{prompt_hash(self.entry)}"
        self.own = OwnVLLM(
            "policy",
            self.name,
            self.entry,
            self.config,
            max_sequences=max_sequences,
            gpu_memory=gpu_memory,
            tensor_parallel=tensor_parallel,
            **more,
        )

    async def ask(self, ids: tuple[int, ...], n: int, sampling: Sampling, *, as_tokens: bool = False) -> Any:
        """The answer of the engine to one request, awaited beside it; of greedy samples it holds one.

        For text it reports log-probabilities where they are those of the distribution sampled from, for tokens always.
        Raises `PolicyError` for a bad prompt or a request that is refused, `PolicyLost` without engine.
        """
        check_prompt(ids, self.name, self.own.positions, int(self.config.get_text_config().vocab_size))
        stop = list(stop_strings(self.entry, sampling.stop))
        # vLLM reports the model's own distribution, not one that temperature or top_p have changed.
        is_own = sampling.temperature in (0, 1) and sampling.top_p == 1

        def request() -> SamplingParams:
            return SamplingParams(
                # Greedy samples are all the same, and vLLM refuses to draw several.
                n=n if sampling.temperature else 1,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                # Sample i has the seed plus i: seeds that are near each other would share samples.
                seed=derive_seed(sampling.seed) % SEEDS,
                stop=stop,
                logprobs=0 if is_own or as_tokens else None,
                # A sixth less work for each token than with an object for each.
                flat_logprobs=True,
                # A stop string is looked for in the text.
                detokenize=bool(stop) or not as_tokens,
                skip_special_tokens=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )

        reply = await self.own.ask(lambda engine, number: engine.generate(tokens_input(list(ids)), request(), number))
        if any(sample.finish_reason == "abort" for sample in reply.outputs):
            # The engine ended: a request that this process cancels never gets here.
            raise self.own.gone()
        return reply

    def ended(self, sample: Any) -> Ended:
        """vLLM reports the stop string that ended a sample, and nothing or a token id at the model's own end."""
        if sample.finish_reason == "stop":
            stop = sample.stop_reason
            return ended_by(stop, self.entry.stop) if isinstance(stop, str) else "end"
        return "length" if sample.finish_reason == "length" else "abort"


def _load(entry: ModelEntry) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a model. Raises `InputError`."""
    path, wanted = place(entry)
    try:
        config = AutoConfig.from_pretrained(path, revision=wanted)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=wanted)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {entry.path!r}: {first_line(error)} "
            "Name a folder with a model, a Hub repository, or see: openr-data catalog ls"
        ) from error
    check_template(entry, tokenizer)
    return config, tokenizer
