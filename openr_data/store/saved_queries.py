"""Ready queries: SQL files of the catalogs, whose first line is a comment that says what the query answers."""

from typing import Final

from ..registry import catalog_entry, catalog_names

FOLDER: Final = "queries"
SUFFIX: Final = ".sql"


def saved_query(name: str) -> str:
    """The text of a ready query. Raises `UnknownName`."""
    return catalog_entry("ready query", FOLDER, name, SUFFIX)


def saved_queries() -> dict[str, str]:
    """What each ready query answers, by name, in order."""
    return {
        name: saved_query(name).partition("\n")[0].removeprefix("--").strip() for name in catalog_names(FOLDER, SUFFIX)
    }
