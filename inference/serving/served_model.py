"""A model that running servers of the OpenAI kind offer: at which addresses, under which name, of which make."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from openr_data.errors import InputError

DEFAULT_URL: Final = "http://localhost:8000/v1"

_OWNERS: Final = ("vllm", "sglang")
_PLAINLY: Final = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What these servers would else take from the model's own defaults: a sample then came from another distribution."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """`name` is what the servers at `urls` call it and `key` lets in.

    `plainly` is what a request says to be answered from the model's own distribution; `positions` is how many tokens
    the shortest server takes, where they say so.
    """

    urls: tuple[str, ...]
    key: str
    name: str
    plainly: Mapping[str, Any]
    positions: int | None


@dataclass(frozen=True, slots=True)
class _ServerModel:
    """What one server says of the model."""

    name: str
    owner: str
    positions: int | None


def served_model(model: str, path: str, base_url: Sequence[str], how: str) -> ServedModel:
    """Ask the servers for a model by its name, or by the folder or Hub name that they loaded.

    The key is that of `OPENAI_API_KEY`; `how` says how a user names a model ("with --policy"). Raises `InputError`
    where a server does not answer, serves another model, or calls it otherwise than the others.
    """
    key = os.environ.get("OPENAI_API_KEY", "")
    urls = tuple(_checked(url) for url in base_url)
    models = {url: _ask(url, key, model, path, how) for url in urls}
    names = {item.name: url for url, item in models.items()}
    if len(names) > 1:
        several = ", ".join(f"{name!r} ({url})" for name, url in names.items())
        raise InputError(f"The servers serve {model!r} under several names: {several}. Start them with the same name.")
    (name,) = names
    plainly = _PLAINLY if all(item.owner in _OWNERS for item in models.values()) else {}
    positions = min((item.positions for item in models.values() if item.positions), default=None)
    return ServedModel(urls, key, name, plainly, positions)


def is_whole(reply: Mapping[str, Any]) -> bool:
    """Whether every completion came to its end: a server that is stopping answers with what it has."""
    return all(choice.get("finish_reason") != "abort" for choice in reply.get("choices") or ())


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is not the address of a server; expected for example --base-url {DEFAULT_URL}")
    return url.rstrip("/")


def _ask(url: str, key: str, model: str, path: str, how: str) -> _ServerModel:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(f"{url}/models", headers=headers, timeout=10.0)
        reply.raise_for_status()
        models = {str(item["id"]): item for item in reply.json()["data"]}
    except httpx.HTTPStatusError as error:
        raise InputError(
            f"{url}/models says {error.response.status_code} {error.response.reason_phrase}. Give the address up to "
            "its /v1 with --base-url, and the key in OPENAI_API_KEY."
        ) from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"No server of the OpenAI kind answers at {url} ({reason}). Start one, for example with: vllm serve {path}"
            + ("" if path == model else f" --served-model-name {model}")
        ) from error
    for name, item in models.items():
        if name in (model, path) or item.get("root") == path:
            length = item.get("max_model_len")
            return _ServerModel(name, str(item.get("owned_by") or ""), length if isinstance(length, int) else None)
    raise InputError(
        f"{url} does not serve {model!r} but {', '.join(sorted(models)) or 'nothing'}. Name that {how}, or "
        f"start the server with --served-model-name {model}"
    )
