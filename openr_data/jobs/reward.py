"""A reward model by the name of its backend, with the options that a user gave for it."""

from collections.abc import Mapping
from typing import Any

from ..engine.protocols import RewardBackend
from ..errors import UsageError
from ..registry import load


def open_reward(backend: str, model: str, form: str, live: Mapping[str, Any], command: str) -> RewardBackend:
    """The model, to be closed after use; `live` are options that change no score, `form` names its format or is empty.

    Raises `UsageError` for an option that the backend does not have (`command` is whose help tells more), and what the
    backend raises for a model that it cannot open.
    """
    kind = load("reward", backend)
    known = getattr(kind, "live_options", tuple(live))
    options = {**live, **({"format": form} if form else {})}
    for name in options:
        if name not in known:
            raise UsageError(
                f"The backend {backend!r} has no option --{name.replace('_', '-')}. See: openr-data {command} --help"
            )
    reward: RewardBackend = kind(model, **options)
    return reward
