"""The order of the floors, the absence of circles, and the size of rooms, files and names.

`FLOORS` is the one place that orders the core; CONTRIBUTING shows the same line. An import counts wherever it stands:
at the top of a module, inside a function, or under TYPE_CHECKING.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = {"labelers", "training", "inference", "catalogs"}
FILES = [path for folder in ("openr_data", *sorted(LEAVES)) for path in sorted((ROOT / folder).rglob("*.py"))]

FLOORS = (
    "errors types ids schema steps labels label_rule reasons relative token_trie",
    "checked_lines registry config",
    "models prm_format overlap",
    "metrics store grading",
    "engine trees",
    "jobs",
    "exchange inventory diagnosis loading",
    "evaluation",
    "derivation",
    "display huggingface",
    "cli",
)
"""The modules and packages of the core, lowest floor first; one may import those of its own floor and below."""
LAYERS = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}

MAX_LINES = 400
MAX_FILES = 20
LARGE_FOLDERS = {"openr_data/cli", "openr_data/exchange/formats"}


def module_name(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "openr_data" else ("openr_data", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def absolute_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(name: str, package: str, text: str, modules: Set[str]) -> set[str]:
    """The modules that the text of module `name` imports, of those in `modules`."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            target = ".".join([*base, *((node.module or "").split(".") if node.module else [])])
            # `from . import a` names a module, or something that the package itself defines.
            names |= {f"{target}.{item.name}" if f"{target}.{item.name}" in modules else target for item in node.names}
        elif isinstance(node, ast.Constant) and (command := re.fullmatch(r"(\w+):\w+", str(node.value))):
            # Commands are imported by the name that a table gives: "versions:log".
            names.add(f"{package}.{command[1]}")
    return (names & modules) - {name}


def graph() -> dict[str, set[str]]:
    """Module -> the modules it imports, over the core and the leaves."""
    packages = {name: name if path.stem == "__init__" else name.rpartition(".")[0] for name, path in MODULES.items()}
    return {name: imported(name, packages[name], path.read_text(), MODULES.keys()) for name, path in MODULES.items()}


def circles(edges: Mapping[str, Set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (Tarjan's strongly connected components of more than one node)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for target in sorted(edges[node]):
            if target not in order:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], order[target])
        if lowest[node] == order[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return components


def room(module: str) -> str:
    """The first name below `openr_data`: a package or a module of the core, or a leaf."""
    return [*module.split("."), ""][1]


def rooms() -> dict[str, set[str]]:
    """Room -> the other rooms it imports; the package `openr_data` itself is the empty name."""
    edges: dict[str, set[str]] = defaultdict(set)
    for module, targets in graph().items():
        edges[room(module)] |= {room(target) for target in targets} - {room(module)}
    return edges


def crosses(name: str) -> bool:
    head, *rest = name.split(".")
    return head in LEAVES or (head == "openr_data" and bool(rest) and rest[0] in LEAVES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_import_crosses_into_a_leaf(path: Path) -> None:
    crossed = sorted({name for name in absolute_imports(ast.parse(path.read_text())) if crosses(name)})
    assert not crossed, f"{path.relative_to(ROOT)} imports {crossed}: go through openr_data.registry"


@pytest.mark.parametrize(
    ("name", "crossing"),
    [
        ("openr_data.labelers.omegaprm", True),
        ("labelers", True),
        ("inference.policies.scripted", True),
        ("openr_data.types", False),
        ("training_utils", False),
        ("openr_data", False),
    ],
)
def test_a_crossing_is_recognised_under_both_names(name: str, crossing: bool) -> None:
    assert crosses(name) is crossing


@pytest.mark.parametrize(
    "path", sorted((ROOT / "openr_data").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_lower_layer_of_the_core_imports_no_higher_one(path: Path) -> None:
    module = module_name(path)
    own = room(module)
    if not own:
        return
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    targets = {room(name) for name in imported(module, package, path.read_text(), MODULES.keys())} & LAYERS.keys()
    higher = sorted(name for name in targets if LAYERS[name] > LAYERS[own])
    assert not higher, f"{own} (floor {LAYERS[own]}) imports {higher}"


def test_every_room_of_the_core_has_a_floor() -> None:
    assert {room(name) for name in MODULES} - LEAVES - {""} == LAYERS.keys()


def test_contributing_shows_the_order_of_the_floors() -> None:
    line = " < ".join(FLOORS)
    assert f"    {line}\n" in (ROOT / "CONTRIBUTING.md").read_text(), f"CONTRIBUTING.md should show:\n    {line}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(graph()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circles(rooms()) == []


def test_a_circle_is_found_wherever_its_imports_stand() -> None:
    texts = {
        "p.a": "from .b import B",
        "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import c",
        "p.c": "def f():\n    from p.a import A",
        "p.d": "import p.a",
        "p.e": 'TABLE = {"f": ("f:command", "help")}',
        "p.f": "import p.e",
    }
    edges = {name: imported(name, "p", text, texts.keys()) for name, text in texts.items()}
    assert circles(edges) == [["p.a", "p.b", "p.c"], ["p.e", "p.f"]]


def test_every_package_of_the_tree_is_in_the_explicit_list() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    # A folder of data counts too: setuptools warns of one that is not listed.
    packages = {
        ("openr_data." if path.parts[0] != "openr_data" else "") + ".".join(path.parts)
        for folder in ("openr_data", *LEAVES)
        for path in (item.parent.relative_to(ROOT) for item in (ROOT / folder).rglob("*") if item.is_file())
        if "__pycache__" not in path.parts
    }
    assert packages == set(listed)


def test_no_source_file_is_longer_than_400_lines() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, count in lines.items() if count > MAX_LINES} == set()


def test_no_folder_holds_more_than_20_python_files() -> None:
    count: dict[str, int] = defaultdict(int)
    for path in FILES:
        count[path.parent.relative_to(ROOT).as_posix()] += 1
    assert {name for name, files in count.items() if files > MAX_FILES} == LARGE_FOLDERS


def test_no_two_classes_have_one_name() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(path.relative_to(ROOT).as_posix())
    twice = {name: paths for name, paths in files.items() if len(paths) > 1}
    assert not twice, f"classes of one name: {twice}"
