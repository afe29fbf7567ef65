"""The Hub's own client, its failures as sentences."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import HubError

KIND = "dataset"


def hub_api() -> Any:
    """A client for the endpoint of the environment (`HF_ENDPOINT`), with the token of the user."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"), library_name="openr-data")


@contextmanager
def told(repo: str, doing: str) -> Iterator[None]:
    """Raise `HubError`, one sentence with the next command, for whatever the client raises."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HubError:
        raise
    except (HfHubHTTPError, httpx2.HTTPError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise HubError(_sentence(repo, doing, error)) from error


def status_of(error: BaseException | None) -> int:
    """The HTTP status behind an error, or 0."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None and getattr(response, "status_code", None):
            return int(response.status_code)
        # The client stumbles over some answers (a KeyError of its own): then the answer is what came before.
        error = error.__cause__ or (error.__context__ if isinstance(error, KeyError) else None)
    return 0


def _sentence(repo: str, doing: str, error: Exception) -> str:
    status = status_of(error)
    start = f"The Hub did not take {doing} of {repo}" if doing != "reading" else f"The Hub did not give {repo}"
    again = "What was uploaded is kept; run the same command again."
    told = {
        401: "it does not know you (401): set HF_TOKEN, or log in with: hf auth login",
        403: "your token may not do that there (403): use one with write access, or a repository of your own",
        404: "there is no such dataset, or your token may not see it (404): check the name and HF_TOKEN",
        409: "something else is changing the repository (409): run the same command again",
        412: "somebody else committed in between (412): run the same command again",
        429: "too many requests (429): wait some minutes and run the same command again",
    }
    if status in told:
        return f"{start}: {told[status]}."
    if status >= 500:
        return (
            f"{start}: it has a problem of its own ({status}). What was uploaded is kept; run the same command again."
        )
    reason = " ".join(str(error.__cause__ or error).split())[:200].rstrip(".")
    return f"{start}: {reason}. {again}"
