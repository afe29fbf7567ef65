"""Converts lists of chat messages `{"role": ..., "content": ...}` to and from pairs."""

from collections.abc import Mapping, Sequence

from .format import BadRow, Row


def messages_of(row: Row, name: str) -> list[tuple[str, str]]:
    """Return the role and content of each message in a field. Raises `BadRow` for anything else."""
    value = row.get(name)
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRow(f"`{name}` is not a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, Mapping) or message.keys() != {"role", "content"}:
            raise BadRow(f"`{name}` is not a list of messages with only `role` and `content`")
        role, content = message["role"], message["content"]
        if not isinstance(role, str) or not isinstance(content, str):
            raise BadRow(f"a message of `{name}` whose role or content is not a string")
        messages.append((role, content))
    return messages


def as_messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Build messages from pairs of role and content."""
    return [{"role": role, "content": content} for role, content in turns]
