"""Reads the questions that a reward model was trained on or chosen by, from its folder or its Hub repository."""

from pathlib import Path

from ..errors import InputError
from ..models import model_entry
from ..overlap import SEEN_FILE, read_fingerprints


def seen_questions(model: str, *, is_local: bool = True) -> frozenset[str] | None:
    """Their fingerprints; None for a model without a list of them, as most are.

    `is_local`: its name is that of a folder or a Hub repository; the name of a served model may be neither. Raises
    `InputError` for a file that cannot be read.
    """
    entry = model_entry(model)
    folder = Path(entry.path).expanduser()
    if folder.is_dir():
        path: Path | None = folder / SEEN_FILE
    else:
        path = _of_hub(entry.path, entry.revision) if is_local else None
    if path is None or not path.is_file():
        return None
    try:
        return read_fingerprints(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Without it, questions in common are not counted."
        ) from error


def seen_note(count: int, total: int, where: str) -> str:
    """The note about questions in common."""
    return (
        f"{count:,} of the {total:,} questions of {where} are among those that the model was trained on or chosen by: "
        "its figures flatter there."
    )


def _of_hub(name: str, revision: str) -> Path | None:
    """The file of a repository whose model is in the cache; the Hub is asked about no other."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = revision or None
    try:
        if not isinstance(try_to_load_from_cache(name, "config.json", revision=wanted), str):
            return None
        return Path(hf_hub_download(name, SEEN_FILE, revision=wanted))
    except (HfHubHTTPError, HFValidationError, OSError):
        # The repository has no such file, or the Hub cannot be reached.
        return None
