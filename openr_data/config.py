"""Configurations are frozen dataclasses; TOML tables and `key=value` options override their defaults.

An unknown key is an error that names the near one; a value must have the type of its field. The falsy
values `0` and `false` override like any other.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import InputError, UnknownName, UsageError

T = TypeVar("T")


def build(kind: type[T], *layers: Mapping[str, Any]) -> T:
    """An instance of the dataclass `kind` from its defaults and the layers, later ones winning.

    Raises `UnknownName` for a key that is no field and `UsageError` for a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key not in fields:
                raise UnknownName(f"option of {kind.__name__}", key, fields)
            values[key] = _coerce(value, hints[key], key)
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"{kind.__name__}: {error}") from error


def _coerce(value: Any, hint: Any, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value in allowed:
            return value
        raise UnknownName(f"value for {key}", str(value), [str(item) for item in allowed])
    if origin in (typing.Union, types.UnionType):
        choices = [item for item in typing.get_args(hint) if item is not type(None)]
        if value is None or value == "none":
            return None
        return _coerce(value, choices[0], key)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else list(value)
        return tuple(_coerce(item, typing.get_args(hint)[0], key) for item in items)
    wanted = f"Option {key} expects {getattr(hint, '__name__', hint)}, found {value!r}."
    try:
        if hint is bool:
            words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            return value if isinstance(value, bool) else words[str(value).lower()]
        if hint is int:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            return int(value)
        if hint is float:
            if isinstance(value, bool):
                raise ValueError
            return float(value)
        if hint is str and not isinstance(value, str):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(wanted) from error
    return value


def parse_overrides(options: Iterable[str]) -> dict[str, str]:
    """`["k=8", "seed=1"]` as a mapping. Raises `UsageError` where there is no `=`."""
    pairs: dict[str, str] = {}
    for option in options:
        key, found, value = option.partition("=")
        if not found or not key:
            raise UsageError(f"Option {option!r} is not key=value, for example -o k=8.")
        pairs[key.strip().replace("-", "_")] = value.strip()
    return pairs


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `InputError` with the place of the mistake."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}.") from error


def as_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain values (tuples become lists), as it is hashed and written."""
    found: dict[str, Any] = dataclasses.asdict(config)
    return {key: list(item) if isinstance(item, tuple) else item for key, item in found.items()}


def to_toml(tables: Mapping[str, Any]) -> str:
    """TOML text of scalars, lists of scalars and one level of tables; None is left out."""
    lines: list[str] = []
    nested: list[str] = []
    for key, value in tables.items():
        if isinstance(value, Mapping):
            nested += ["", f"[{key}]"]
            nested += [f"{k} = {_toml(v)}" for k, v in value.items() if v is not None]
        elif value is not None:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines + nested) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    for raw, escaped in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(raw, escaped)
    return f'"{text}"'
