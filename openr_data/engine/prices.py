"""The cost of a job where a price is known. Without a price there is no cost: prices are not guessed."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..config import build, read_toml
from ..errors import InputError
from ..registry import catalog_text
from ..types import Usage

MILLION: Final = 1_000_000
CATALOG: Final = "prices.toml"


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a policy: per million tokens, or per hour of a GPU. `host` "" means any server.

    A reward model has no price by tokens: it runs on GPUs whose hours are paid for.
    """

    model: str
    currency: str
    as_of: str
    host: str = ""
    prompt: float = 0.0
    cached: float | None = None
    completion: float = 0.0
    gpu_hour: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.prompt, self.cached or 0.0, self.completion, self.gpu_hour)
        if min(numbers) < 0 or not all(map(math.isfinite, numbers)):
            raise ValueError("a price is a number and not negative")

    def cost(self, usage: Usage, gpu_hours: float) -> float:
        """The cost of these tokens and hours."""
        cached = usage.cached_tokens or 0
        per_cached = self.prompt if self.cached is None else self.cached
        tokens = (usage.prompt_tokens - cached) * self.prompt + cached * per_cached
        return (tokens + usage.completion_tokens * self.completion) / MILLION + gpu_hours * self.gpu_hour


def find_price(model: str, urls: Sequence[str], files: Sequence[Path]) -> Price | None:
    """The price of a model on some servers: the first one that fits, from the user's files before the catalog.

    Raises `InputError` for a file that is not a list of prices.
    """
    hosts = {_host(url) for url in urls}
    tables = [(str(file), read_toml(file)) for file in files]
    for where, table in (*tables, (CATALOG, _catalog())):
        for price in _prices(where, table):
            if price.model == model and (not price.host or hosts == {price.host.lower()}):
                return price
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        # Not an address: the backend raises the error.
        return ""


def _catalog() -> dict[str, Any]:
    return tomllib.loads(catalog_text(CATALOG))


def _prices(where: str, table: dict[str, Any]) -> list[Price]:
    entries = table.get("price", [])
    if not isinstance(entries, list) or set(table) - {"price"} or not all(isinstance(item, dict) for item in entries):
        raise InputError(f"{where} is not a list of prices: expected tables [[price]] with model, currency and as_of.")
    prices = []
    for item in entries:
        missing = [name for name in ("model", "currency", "as_of") if not item.get(name)]
        if missing:
            raise InputError(f"{where}: a price lacks {', '.join(missing)}.")
        prices.append(build(Price, {name: str(item[name]) if name == "as_of" else item[name] for name in item}))
    return prices
