"""What a prompt of token ids must be for a model to continue it."""

from collections.abc import Sequence

from openr_data.errors import PolicyError


def check_prompt(ids: Sequence[int], name: str, room: int | None, words: int) -> None:
    """Raise `PolicyError` unless the model of this name, `room` positions and `words` tokens can continue the ids."""
    if room is not None and len(ids) >= room:
        raise PolicyError(f"A prompt of {len(ids)} tokens does not fit the {room} positions of {name}.")
    if not ids:
        raise PolicyError(f"A prompt without tokens: {name} needs at least one to continue.")
    unknown = [token for token in (min(ids), max(ids)) if not 0 <= token < words]
    if unknown:
        raise PolicyError(f"A prompt holds the token {unknown[0]}; {name} has the tokens 0 to {words - 1}.")
