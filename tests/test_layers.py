"""The folders meet only in the hub, and inside the hub lower layers never import higher ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = {"labelers", "training", "inference", "catalogs"}
FILES = [path for folder in ("openr_data", *sorted(LEAVES)) for path in sorted((ROOT / folder).rglob("*.py"))]
LAYERS = {
    "errors": 0, "types": 0, "ids": 0, "schema": 0, "steps": 0, "labels": 0, "label_rule": 0, "reasons": 0, "relative": 0, "checked_lines": 1,
    "registry": 1, "config": 1, "models": 2, "prm_format": 2, "overlap": 2, "token_trie": 0, "metrics": 3, "store": 3, "grading": 3,
    "engine": 4, "jobs": 5, "exchange": 6, "evaluation": 7, "derivation": 8, "display": 9, "huggingface": 9, "cli": 10,
}  # fmt: skip


def absolute_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def hub_imports(path: Path) -> Iterator[str]:
    """First names below `openr_data` that a hub file imports relatively."""
    package = path.relative_to(ROOT / "openr_data").with_suffix("").parts
    package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = [*base, *(node.module or "").split(".")]
            names = [*filter(None, target)] or [alias.name for alias in node.names]
            yield names[0]


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
def test_a_lower_layer_of_the_hub_imports_no_higher_one(path: Path) -> None:
    own = path.relative_to(ROOT / "openr_data").with_suffix("").parts[0]
    if own in ("__init__", "py"):
        return
    higher = {name for name in hub_imports(path) if LAYERS[name] > LAYERS[own]}
    assert not higher, f"{own} (layer {LAYERS[own]}) imports {sorted(higher)}"


def test_every_package_of_the_tree_is_in_the_explicit_list() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ("openr_data." if path.parts[0] != "openr_data" else "") + ".".join(path.parts)
        for folder in ("openr_data", *LEAVES)
        for path in (item.parent.relative_to(ROOT) for item in (ROOT / folder).rglob("__init__.py"))
    }
    assert found == set(listed)
