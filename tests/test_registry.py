"""Names to things."""

import pytest

from openr_data.errors import MissingDependency, UnknownName
from openr_data.registry import LABELERS, TABLES, Entry, catalog_names, catalog_text, check, load


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_every_registered_name_can_be_loaded_and_has_a_docstring(kind: str, name: str) -> None:
    assert TABLES[kind][name].summary  # type: ignore[index]
    if name == "vllm":
        # In an environment of its own, where tests/inference/policies/test_vllm.py loads it.
        pytest.importorskip("vllm")
    assert load(kind, name).__doc__  # type: ignore[arg-type]


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UnknownName, match="No labeler 'omega-prm'.*Did you mean 'omegaprm'"):
        load("labeler", "omega-prm")
    with pytest.raises(UnknownName):
        check("grader", "none")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "needs_it.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LABELERS, "needy", Entry("needs_it:X", "s", extra="vllm"))  # type: ignore[arg-type]
    with pytest.raises(
        MissingDependency, match=r"needs the package 'not_installed_anywhere'.*pip install 'openr-data\[vllm\]'"
    ):
        load("labeler", "needy")


def test_catalog_files_can_be_read() -> None:
    assert "arithmetic" in catalog_names("recipes", ".toml")
    assert "[omegaprm]" in catalog_text("recipes/arithmetic.toml")
