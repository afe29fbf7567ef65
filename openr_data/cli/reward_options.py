"""How a reward model is run: the options that every command over one has."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """`backend` runs the model, `format` is how it reads steps ("": as its files name it).

    `live` are the options of the backend that were given; they change no score. `flags` are their names on the command
    line.
    """

    backend: str
    format: str
    live: dict[str, Any]
    flags: dict[str, str]


def reward_options(prefix: str = "") -> Callable[[F], F]:
    """Give a command the options of a reward model; it receives `reward_run: RewardOptions`.

    With the prefix "reward-" they stand beside those of a policy: `--reward-backend`, `--reward-url` and so on.
    """
    names = {name: f"--{prefix}{name.replace('_', '-')}" for name in ("format", "backend", "tokenizer", "device")}
    names["base_url"] = f"--{prefix or 'base-'}url"

    def decorate(function: F) -> F:
        @click.option(
            names["format"],
            "reward_format",
            default="",
            metavar="NAME",
            help="How the reward model reads steps, if its files do not name it.",
        )
        @click.option(
            names["backend"],
            "reward_backend",
            default="transformers",
            show_default=True,
            help="What runs the reward model: transformers, vllm (both in this process), openai (a running server).",
        )
        @click.option(
            names["base_url"],
            "reward_url",
            multiple=True,
            metavar="URL",
            help="openai: a server of the reward model, again for more of the same.",
        )
        @click.option(
            names["tokenizer"],
            "reward_tokenizer",
            metavar="NAME",
            help="openai: its folder or Hub name, if it is served under another.",
        )
        @click.option(names["device"], "reward_device", help="transformers: cpu, cuda or auto (the default).")
        @functools.wraps(function)
        def wrapped(
            *args: Any,
            reward_format: str,
            reward_backend: str,
            reward_url: tuple[str, ...],
            reward_tokenizer: str | None,
            reward_device: str | None,
            **options: Any,
        ) -> Any:
            given = {"base_url": list(reward_url), "tokenizer": reward_tokenizer, "device": reward_device}
            live = {name: value for name, value in given.items() if value}
            return function(*args, reward_run=RewardOptions(reward_backend, reward_format, live, names), **options)

        return wrapped  # type: ignore[return-value]

    return decorate
