"""Layers of options: defaults, TOML, key=value; exact errors."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openr_data.config import as_dict, build, identity, later, parse_overrides, read_toml, resolve, to_toml
from openr_data.errors import InputError, UnknownName, UsageError


@dataclass(frozen=True, slots=True)
class Recipe:
    k: int = 8
    share: float = 0.5
    deep: bool = True
    name: str = "x"
    rule: Literal["hard", "soft"] = "hard"
    stop: tuple[str, ...] = ()
    limit: int | None = 3

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError("k is at least 0")


def test_later_layers_win_and_falsy_values_override() -> None:
    built = build(Recipe, {"k": 4, "deep": True}, {"k": 0, "deep": False, "share": 0})
    assert built == Recipe(k=0, deep=False, share=0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("k=3", {"k": 3}), ("deep=false", {"deep": False}), ("share=1", {"share": 1.0}), ("limit=none", {"limit": None}),
     ("stop=a,b", {"stop": ("a", "b")}), ("rule=soft", {"rule": "soft"}), ("name=", {"name": ""})],
)  # fmt: skip
def test_text_becomes_the_type_of_its_field(text: str, expected: dict[str, Any]) -> None:
    assert build(Recipe, parse_overrides([text])) == Recipe(**expected)


def test_an_unknown_key_names_the_near_one() -> None:
    with pytest.raises(UnknownName, match=r"No option of Recipe 'shares'.*Did you mean 'share'"):
        build(Recipe, {"shares": 1})


@pytest.mark.parametrize("layer", [{"k": "many"}, {"k": 1.5}, {"k": True}, {"deep": "perhaps"}, {"name": 3}, {"k": -1}])
def test_a_value_of_the_wrong_type_is_a_usage_error(layer: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(Recipe, layer)


def test_a_closed_set_lists_its_members() -> None:
    with pytest.raises(UnknownName, match="there are: hard, soft"):
        build(Recipe, {"rule": "medium"})


def test_an_override_without_an_equals_sign_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_overrides(["k"])


def test_a_dash_in_a_key_is_an_underscore() -> None:
    assert parse_overrides(["correct-solutions=2"]) == {"correct_solutions": "2"}


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=767, exclude_characters="\x7f")),
)
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)


@given(
    st.dictionaries(NAMES, SCALARS | st.lists(st.integers()), max_size=4), st.dictionaries(NAMES, SCALARS, max_size=4)
)
def test_written_toml_reads_back(flat: dict[str, Any], table: dict[str, Any]) -> None:
    tables = {**flat, "a-table": table}
    assert tomllib.loads(to_toml(tables)) == tables


def test_a_configuration_survives_toml() -> None:
    recipe = Recipe(k=2, stop=("\n\n", '"'), name="a\\b")
    plain = {key: value for key, value in as_dict(recipe).items() if value is not None}
    assert build(Recipe, tomllib.loads(to_toml(plain))) == recipe


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("k = = 3")
    with pytest.raises(InputError, match=r"a\.toml is not TOML.*line 1"):
        read_toml(path)
    with pytest.raises(InputError, match="Cannot read"):
        read_toml(tmp_path / "absent.toml")


@dataclass(frozen=True, slots=True)
class Timing:
    epochs: int = 3
    rate: float = later(0.1, since="2026-01-01")


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    timing: Timing = field(default_factory=Timing)
    options: dict[str, Any] = field(default_factory=dict)
    extra: bool = later(False, since="2026-02-01")


def test_fields_of_a_nested_dataclass_stand_beside_or_in_a_table_of_its_own() -> None:
    layers = [{"name": "a", "timing": {"epochs": "1", "rate": 0.5}}, {"epochs": 2}]
    assert resolve(Whole, layers) == Whole("a", Timing(2, 0.5))
    part = resolve(Whole, [{"name": "a", "options": {"k": "4"}}], parts={"options": Recipe})
    assert part.options == as_dict(Recipe(k=4))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"epoch": 2}, "No option of a run 'epoch'.*Did you mean 'epochs'"),
        ({"timing": {"epoch": 2}}, "No option of a run 'epoch'.*Did you mean 'epochs'"),
        ({"timing": 3}, "No option of a run 'timing'"),
    ],
)
def test_an_unknown_key_of_a_nested_dataclass_names_the_near_one(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        resolve(Whole, [{"name": "a"}, layer], what="option of a run")


def test_a_later_field_is_hashed_where_it_differs_from_its_default() -> None:
    assert identity(Whole("a")) == {"name": "a", "timing": {"epochs": 3}, "options": {}}
    changed = identity(Whole("a", Timing(rate=0.2), extra=True))
    assert changed == {"name": "a", "timing": {"epochs": 3, "rate": 0.2}, "options": {}, "extra": True}
