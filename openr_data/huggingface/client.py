"""Opens the client of the Hugging Face Hub and turns its failures into `HubError`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import HubError

KIND = "dataset"


def hub_api() -> Any:
    """Return a client for the endpoint in `HF_ENDPOINT`, with the user's token."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"), library_name="openr-data")


@contextmanager
def as_hub_error(repo: str, doing: str) -> Iterator[None]:
    """Convert every error of the client into a `HubError`: one sentence with the next command."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HubError:
        raise
    except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise HubError(_sentence(repo, doing, error)) from error


def status_of(error: BaseException | None) -> int:
    """Return the HTTP status that caused an error, or 0."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None and getattr(response, "status_code", None):
            return int(response.status_code)
        # The client raises a KeyError of its own on some error responses; the response is then in the context.
        error = error.__cause__ or (error.__context__ if isinstance(error, KeyError) else None)
    return 0


def _sentence(repo: str, doing: str, error: Exception) -> str:
    status = status_of(error)
    start = f"The Hub rejected {doing} of {repo}" if doing != "reading" else f"The Hub did not return {repo}"
    again = "Uploaded files are kept; run the same command again."
    causes = {
        401: "it does not accept your credentials (401): set HF_TOKEN, or log in with: hf auth login",
        403: "your token does not allow this (403): use one with write access, or a repository of your own",
        404: "there is no such dataset, or your token has no access to it (404): check the name and HF_TOKEN",
        409: "another process is changing the repository (409): run the same command again",
        412: "another commit came in between (412): run the same command again",
        429: "too many requests (429): wait some minutes and run the same command again",
    }
    if status in causes:
        return f"{start}: {causes[status]}."
    if status >= 500:
        return f"{start}: it failed internally ({status}). {again}"
    reason = " ".join(str(error.__cause__ or error).split())[:200].rstrip(".")
    return f"{start}: {reason}. {again}"
