"""A list of messages `{"role": ..., "content": ...}`, as chat models read them."""

from collections.abc import Mapping, Sequence

from .format import BadRow, Row


def messages_of(row: Row, name: str) -> list[tuple[str, str]]:
    """Role and content of each message in a field. Raises `BadRow` for anything else."""
    found = row.get(name)
    if not isinstance(found, (list, tuple)) or not found:
        raise BadRow(f"`{name}` is no list of messages")
    messages = []
    for message in found:
        if not isinstance(message, Mapping) or message.keys() != {"role", "content"}:
            raise BadRow(f"`{name}` is no list of messages with `role` and `content` alone")
        role, content = message["role"], message["content"]
        if not isinstance(role, str) or not isinstance(content, str):
            raise BadRow(f"a message of `{name}` whose role or content is no text")
        messages.append((role, content))
    return messages


def as_messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Messages from pairs of role and content."""
    return [{"role": role, "content": content} for role, content in turns]
