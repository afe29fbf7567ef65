"""Lists what is built in: methods, backends, models, sources, formats, recipes and formats of reward models."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .errors import UnknownName
from .models import catalog as models
from .prm_format import prm_formats
from .registry import TABLES, catalog_names, catalog_text


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A name that a command takes. `kind` is for example labeler, model or recipe; `properties` depend on the kind."""

    name: str
    kind: str
    summary: str
    properties: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Name, kind, summary, then the properties."""
        return {**self.properties, "name": self.name, "kind": self.kind, "summary": self.summary}


def inventory() -> list[BuiltIn]:
    """Everything that is built in, kind by kind."""
    entries = [
        _built_in({"name": name, "kind": kind, **asdict(entry)})
        for kind, table in TABLES.items()
        for name, entry in table.items()
    ]
    for name, model in models().items():
        summary = f"template {model.template}, {model.path}"
        entries.append(_built_in({"name": name, "kind": "model", "summary": summary, **asdict(model)}))
    for folder, kind in (("recipes", "recipe"), ("training", "training recipe")):
        for name in catalog_names(folder, ".toml"):
            options = tomllib.loads(catalog_text(f"{folder}/{name}.toml"))
            entries.append(_built_in({"name": name, "kind": kind, **options}))
    for form in prm_formats().values():
        reads = f"{form.tag!r} after each step" if form.tag else "each step is a turn"
        summary = f"{form.template}, {reads}, {form.head}"
        entries.append(_built_in({**form.as_dict(), "kind": "prm format", "summary": summary}))
    return entries


def built_in(name: str) -> list[BuiltIn]:
    """The entries of one name, of any kind. Raises `UnknownName`."""
    entries = inventory()
    chosen = [entry for entry in entries if entry.name == name]
    if not chosen:
        raise UnknownName("catalog entry", name, {entry.name for entry in entries})
    return chosen


def _built_in(properties: Mapping[str, object]) -> BuiltIn:
    return BuiltIn(str(properties["name"]), str(properties["kind"]), str(properties["summary"]), properties)
