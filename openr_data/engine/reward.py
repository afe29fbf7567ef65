"""A reward model by the name of its backend, with the options that a user gave for it."""

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..registry import load
from .protocols import RewardBackend


def open_reward(
    backend: str, model: str, form: str, live: Mapping[str, Any], command: str, flags: Mapping[str, str] | None = None
) -> RewardBackend:
    """The model, to be closed after use; `live` are options that change no score, `form` names its format or is empty.

    Raises `UsageError` for an option that the backend lacks, and what the backend raises for a model that it cannot
    open. The message refers to the help of `command`, and names an option as `flags` does, by default `--option-name`.
    """
    reward: RewardBackend = load("reward", backend)(model, **_options(backend, form, live, command, flags))
    return reward


def check_reward(
    backend: str, model: str, form: str, live: Mapping[str, Any], command: str, flags: Mapping[str, str] | None = None
) -> None:
    """Raise what `open_reward` would, as far as can be known before the weights are loaded.

    A backend without a check of its own is opened and closed: it asks its server what it serves.
    """
    kind = load("reward", backend)
    options = _options(backend, form, live, command, flags)
    if hasattr(kind, "check"):
        kind.check(model, form)
    else:
        kind(model, **options).close()


def _options(
    backend: str, form: str, live: Mapping[str, Any], command: str, flags: Mapping[str, str] | None
) -> dict[str, Any]:
    names = getattr(load("reward", backend), "live_options", tuple(live))
    options = {**live, **({"format": form} if form else {})}
    for name in options:
        if name not in names:
            flag = (flags or {}).get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"The backend {backend!r} has no option {flag}. See: openr-data {command} --help")
    return options
