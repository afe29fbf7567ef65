"""Trains the tokenizer of the shipped policy: Qwen2's byte-level BPE, learned on the world, one token per digit.

It has to be exactly a `Qwen2Tokenizer`: `transformers`, and therefore vLLM, rebuild that class for every Qwen2 model
and ignore another split pattern in `tokenizer.json`, which silently gives other tokens. At byte level any text of any
question encodes and decodes (up to Unicode NFC).
"""

from itertools import islice
from typing import Any

from .problems import problems

END = "<|endoftext|>"
RESERVED = ("<|im_start|>", "<|im_end|>", "<|step|>", "<|good|>", "<|bad|>")
"""Tokens reserved for chat turns and for the step tags of process reward models."""

VOCABULARY = 1024
"""An upper bound: the world has fewer distinct words."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% if not loop.last or "
    "message['role'] != 'assistant' %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)


def train_tokenizer(examples: int = 40_000, seed: int = 0) -> Any:
    """Learn the merges on `examples` training problems; return a `transformers.Qwen2Tokenizer`."""
    from transformers import Qwen2Tokenizer

    texts = ("\n\n".join((problem.text, *problem.solution)) for problem in islice(problems("train", seed), examples))
    blank: Any = Qwen2Tokenizer()
    tokenizer = blank.train_new_from_iterator(texts, VOCABULARY, new_special_tokens=list(RESERVED), show_progress=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 1024
    return tokenizer
