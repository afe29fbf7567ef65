"""A user's editor sees a type for everything in the public API: nothing there is `Any`."""

import inspect
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from mypy import api

import openr_data

ROOT = Path(__file__).parents[1]
ANY = re.compile(r"\bAny\b")
COROUTINE = "typing.Coroutine[Any, Any, "
"""What mypy calls the result of every `async def`."""
# These libraries ship no types, so that mypy takes every name of theirs for Any. Their names suffice here.
STUBS = {
    "pyarrow/__init__.pyi": "from typing import Any\nclass Table: ...\ndef __getattr__(name: str) -> Any: ...\n",
    "datasets/__init__.pyi": "from typing import Any\nclass Dataset: ...\ndef __getattr__(name: str) -> Any: ...\n",
}


def revealed() -> Iterator[str]:
    """Every expression of the public API: its names, and the public attributes of its classes."""
    for name in openr_data.__all__:
        yield f"openr_data.{name}"
        value = getattr(openr_data, name)
        if inspect.isclass(value) and not issubclass(value, Enum):
            ours = {each for kind in value.__mro__ if kind.__module__.startswith("openr_data") for each in vars(kind)}
            yield from (f"an[openr_data.{name}]().{each}" for each in sorted(ours) if not each.startswith("_"))


def types_of(expressions: list[str], folder: Path) -> dict[str, str]:
    """What mypy says of each expression. `an[T]()` is a value of type T."""
    source = ["import openr_data", "class an[T]:", "    def __new__(cls) -> T: ...  # type: ignore"]
    lines = {}
    for number, expression in enumerate(expressions):
        if expression.startswith("an["):
            kind, attribute = re.fullmatch(r"an\[(.+?)\]\(\)\.(\w+)", expression).groups()  # type: ignore[union-attr]
            source.append(f"def f{number}(value: {kind}) -> None: reveal_type(value.{attribute})")
        else:
            source.append(f"reveal_type({expression})")
        lines[len(source)] = expression
    (folder / "api.py").write_text("\n".join(source))
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\nignore_missing_imports = true\nfollow_imports = silent\n")
    out, error, _ = api.run([
        "--config-file", str(folder / "mypy.ini"), "--cache-dir", str(ROOT / ".mypy_cache" / "api"),
        "--no-error-summary", str(folder / "api.py"),
    ])  # fmt: skip
    assert not error
    notes = re.findall(r'^[^\n]*api\.py:(\d+): note: Revealed type is "(.*)"$', out, re.MULTILINE)
    return {lines[int(number)]: text for number, text in notes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("api")
    for name, text in STUBS.items():
        (folder / "stubs" / name).parent.mkdir(parents=True)
        (folder / "stubs" / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", os.pathsep.join((str(ROOT), str(folder / "stubs"))))
        yield folder


def test_nothing_in_the_public_api_is_any(folder: Path) -> None:
    expressions = list(revealed())
    types = types_of(expressions, folder)
    assert types.keys() == set(expressions)
    untyped = {expression: text for expression, text in types.items() if ANY.search(text.replace(COROUTINE, ""))}
    assert not untyped, "\n".join(f"{expression}: {text}" for expression, text in untyped.items())


def test_a_name_without_a_type_is_noticed(folder: Path) -> None:
    (folder / "untyped.py").write_text("def __getattr__(name: str): ...\n")
    assert ANY.search(types_of(["__import__('untyped').name"], folder).popitem()[1])
