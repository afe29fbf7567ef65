"""Configurations are frozen dataclasses; layers of options (recipe, TOML file, flags, `-o key=value`) override them.

An unknown key is an error that names the closest one; a value must have the type of its field. The falsy values `0` and
`false` override like any other. A field that was added later is declared with `later`: while it has its default it is
left out of the hash of its configuration, so that older jobs keep their ids.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from .errors import InputError, UnknownName, UsageError

T = TypeVar("T")

SINCE: Final = "since"
"""The key in the metadata of a field that was added later, with the date it was added."""


def later(default: T, since: str) -> T:
    """A field that was added on the day `since`; its default changes no earlier result."""
    value: T = dataclasses.field(default=default, metadata={SINCE: since})
    return value


def build(kind: type[T], *layers: Mapping[str, Any]) -> T:
    """An instance of the dataclass `kind` from its defaults and the layers, later ones winning.

    Raises `UnknownName` for a key that is not a field and `UsageError` for a value of the wrong type.
    """
    return resolve(kind, layers)


def resolve(
    kind: type[T], layers: Iterable[Mapping[str, Any]], *, what: str = "", parts: Mapping[str, type] | None = None
) -> T:
    """An instance of the dataclass `kind` from its defaults and layers of options, later ones winning.

    A field that is a dataclass itself takes a table, and its own fields may also stand beside those of `kind`. `parts`
    gives the dataclass of a field that holds plain values of one (`options`). `what` is what an unknown key is called.
    Raises `UnknownName` for an unknown key and `UsageError` for a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    nested = {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])} | dict(parts or {})
    # A key of its own goes before the same key of a part.
    places = {field.name: part for part, type_ in nested.items() for field in dataclasses.fields(type_)}
    places |= dict.fromkeys(names, "")
    called = what or f"option of {kind.__name__}"
    values: dict[str, Any] = {}
    tables: dict[str, list[Mapping[str, Any]]] = {name: [] for name in nested}
    for layer in layers:
        for key, value in layer.items():
            if key in nested and isinstance(value, Mapping):
                tables[key].append(value)
            elif key not in places or key in nested:
                raise UnknownName(called, key, places.keys() - nested.keys())
            elif places[key]:
                tables[places[key]].append({key: value})
            else:
                values[key] = _coerce(value, hints[key], key)
    for name, type_ in nested.items():
        if tables[name]:
            part = resolve(type_, tables[name], what=what)
            values[name] = part if dataclasses.is_dataclass(hints[name]) else as_dict(part)
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
    """`["k=8", "seed=1"]` as a mapping. Raises `UsageError` for an option without `=`."""
    pairs: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
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
    """A configuration as plain values (tuples become lists), as it is written."""
    plain: dict[str, Any] = dataclasses.asdict(config)
    return {key: list(item) if isinstance(item, tuple) else item for key, item in plain.items()}


def identity(config: Any) -> dict[str, Any]:
    """A configuration as plain values, as it is hashed: later fields are left out at their defaults."""
    plain = as_dict(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            plain[field.name] = identity(value)
    return without_later(type(config), plain)


def without_later(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the dataclass `kind` without later fields that have their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind) if SINCE in field.metadata}
    return {name: value for name, value in values.items() if name not in defaults or defaults[name] != value}


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
