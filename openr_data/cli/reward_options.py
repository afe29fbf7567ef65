"""How a reward model is run: the options that every command over one has, whatever it asks of it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """`backend` runs the model, `format` says how it reads steps ("": as it says itself).

    `live` are options of the backend that change no score; what was not given is left out.
    """

    backend: str
    format: str
    live: dict[str, Any]


def reward_options(function: F) -> F:
    """Give a command the options of a reward model; it receives `running: RewardOptions`."""

    @click.option(
        "--format", "form", default="", metavar="NAME", help="How the model reads steps, if it does not say so."
    )
    @click.option(
        "--backend",
        default="transformers",
        show_default=True,
        help="What runs the model: transformers, vllm (both in this process), openai (a running server).",
    )
    @click.option("--base-url", multiple=True, metavar="URL", help="openai: a server, again for more of the same.")
    @click.option("--tokenizer", metavar="NAME", help="openai: its folder or Hub name, if it is served under another.")
    @click.option("--device", help="transformers: cpu, cuda or auto (the default).")
    @functools.wraps(function)
    def wrapped(
        *args: Any,
        form: str,
        backend: str,
        base_url: tuple[str, ...],
        tokenizer: str | None,
        device: str | None,
        **options: Any,
    ) -> Any:
        live: dict[str, Any] = {"base_url": list(base_url), "tokenizer": tokenizer, "device": device}
        running = RewardOptions(backend, form, {name: value for name, value in live.items() if value})
        return function(*args, running=running, **options)

    return wrapped  # type: ignore[return-value]
