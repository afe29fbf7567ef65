"""The versions of what shaped a result."""

import importlib.metadata
import platform
from typing import Final

PACKAGES: Final = ("openr-data", "pyarrow", "duckdb", "deltalake", "torch", "transformers", "accelerate", "vllm")


def versions() -> dict[str, str]:
    """The versions of the packages that shape a result; those that are not installed are left out."""
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return numbers
